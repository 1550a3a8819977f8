"""Interpolate two images: noise is added to both up to --at, x_t and x_t' are mixed, and the mixture is decoded.

The mixture is (1 - l) x_t + l x_t' for evenly spaced l from 0 to 1; the noise of the chains down is the same for all l.
The more noise, the less of the images is left and the more the model decides. With --latent both images are taken up by
DDIM instead, mixed along the great circle, and decoded by DDIM.
"""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.cli import output
from diffprob.cli.options import ONE_IMAGE, add_drawing, add_resize, sampling
from diffprob.cli.parser import add_device, add_dry_run, share, whole
from diffprob.cli.progress import TERMINAL
from diffprob.cli.text import how

EXAMPLES = (
    "diffprob interpolate mnist path/to/mnist:0 path/to/mnist:1              # from t = 0.5, into interpolation.png",
    "diffprob interpolate mnist a.png b.png --at 0.25 0.5 0.75 --points 11   # one row a time",
    "diffprob interpolate digits digits:3 digits:14 --latent --steps 100     # between DDIM latents at t = 1",
    "diffprob interpolate runs/x a.png b.png --noise independent --out between.npz",
)

NOISES = ("shared", "independent", "rescaled")  # those of `diffprob.sampling.between`, which imports torch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, the images to go between, how many steps, and how they are drawn."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of a packaged run (diffprob show runs)")
    parser.add_argument("first", metavar="A", help=f"one image: {ONE_IMAGE}")
    parser.add_argument("second", metavar="B", help="the other image")
    parser.add_argument(
        "--at",
        nargs="+",
        type=share,
        metavar="T",
        help="times up to which noise is added, in (0, 1], a row for each (default 0.5; with --latent 1)",
    )
    parser.add_argument(
        "--points", type=whole(2), default=9, metavar="N", help="how many mixtures, the ends included (default 9)"
    )
    parser.add_argument(
        "--noise",
        choices=NOISES,
        help="one noise for both images (shared, the default), one for each (independent), or one for each and the "
        "mixture's scaled back to full strength (rescaled)",
    )
    parser.add_argument("--latent", action="store_true", help="encode both images by DDIM and mix the latents")
    add_drawing(parser, None)
    add_resize(parser)
    parser.add_argument(
        "--out", default="interpolation.png", metavar="PATH", help="x.png (a grid) or x.npz (default interpolation.png)"
    )
    add_device(parser)
    add_dry_run(parser, "check everything and say what would be done, without drawing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Mix, decode and write; the result says everything that decided the images."""
    from diffprob.runs.folder import Run
    from diffprob.tasks.editing import InterpolateRequest, prepare_interpolate
    from diffprob.tasks.rows import draw_rows

    kind, run = output.no_folder(args.out), Run.open(args.run)
    request = InterpolateRequest(
        first=args.first,
        second=args.second,
        at=None if args.at is None else tuple(args.at),
        points=args.points,
        noise=args.noise,
        latent=args.latent,
        sampling=sampling(args, 1),
        resize=args.resize,
    )
    prepared = prepare_interpolate(run, request, TERMINAL)
    if args.dry_run:
        return {**prepared.to_json(), "out": args.out, "dry_run": True}
    rows = draw_rows(prepared, TERMINAL)
    output.write_rows(kind, args.out, rows)
    return {**rows.to_json(), "out": args.out, "dry_run": False}


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    dry = result["dry_run"]
    times = ", ".join(f"{t:g}" for t in result["at"])
    mixture = "DDIM latents" if result["latent"] else f"{result['noise']} noise"
    yield (
        f"{'would mix' if dry else 'mixed'} {result['a']} and {result['b']} at t = {times} in {result['points']} points"
        f" ({mixture}), decoded by {result['run']} (step {result['step']:,}), seed {result['seeds']}"
    )
    yield from how(result)
    if result["rmse"]:
        errors = "; ".join(f"{a:.2f} and {b:.2f}" for a, b in result["rmse"])
        yield f"from the images to the ends of each row, root of the mean squared difference: {errors} grey levels"
    yield f"{'would write' if dry else 'wrote'} {result['out']}"
