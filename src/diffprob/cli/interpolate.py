"""Interpolate two images: noise is added to both up to --at, x_t and x_t' are mixed, and the mixture is decoded.

The mixture is (1 - l) x_t + l x_t' for evenly spaced l from 0 to 1; the noise of the chains down is the same for all l.
The more noise, the less of the images is left and the more the model decides. With --latent both images are taken up by
DDIM instead, mixed along the great circle, and decoded by DDIM.
"""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.base.errors import InputError
from diffprob.cli import between
from diffprob.cli.options import add_drawing
from diffprob.cli.parser import add_device, add_dry_run, share, whole
from diffprob.cli.progress import Progress
from diffprob.cli.sample import how

EXAMPLES = (
    "diffprob interpolate mnist path/to/mnist:0 path/to/mnist:1              # from t = 0.5, into interpolation.png",
    "diffprob interpolate mnist a.png b.png --at 0.25 0.5 0.75 --points 11   # one row a time",
    "diffprob interpolate digits digits:3 digits:14 --latent --steps 100     # between DDIM latents at t = 1",
    "diffprob interpolate runs/x a.png b.png --noise independent --out between.npz",
)

NOISES = ("shared", "independent", "rescaled")  # those of `diffprob.sampling.between`, which imports torch
AT, AT_LATENT = (0.5,), (1.0,)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of a packaged run (diffprob show runs)")
    parser.add_argument("first", metavar="A", help=between.IMAGE)
    parser.add_argument("second", metavar="B", help="the other image")
    parser.add_argument(
        "--at", nargs="+", type=share, metavar="T", help="times, in (0, 1], one row each (0.5; with --latent 1)"
    )
    parser.add_argument("--points", type=whole(2), default=9, metavar="N", help="values of l, ends included (9)")
    parser.add_argument(
        "--noise",
        choices=NOISES,
        help="one noise for both images (shared); one each, or one each and divided by its length (rescaled)",
    )
    parser.add_argument("--latent", action="store_true", help="mix the latents that DDIM finds for the images")
    add_drawing(parser, None)
    parser.add_argument("--out", default="interpolation.png", metavar="PATH", help="x.png (a grid) or x.npz")
    add_device(parser)
    add_dry_run(parser, "check everything and say what would be done, without drawing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Mix, decode and write; the result says everything that decided the images."""
    import numpy as np

    from diffprob.base.rng import Rng
    from diffprob.runs.folder import Run
    from diffprob.tasks.drawing import counted

    if args.latent and args.noise is not None:
        raise InputError("--noise and --latent exclude each other: latents are found, not drawn")
    kind, found, args.n = between.no_folder(args.out), Run.open(args.run), 1
    ends = [between.read_image(args.first, "A", found), between.read_image(args.second, "B", found)]
    if args.latent:
        between.only_ddim(args, "--latent")
    rows = between.prepare_rows(args, found, args.at or (AT_LATENT if args.latent else AT))
    total = rows.calls(args.points, 2 if args.latent else 0)
    noise = None if args.latent else args.noise or "shared"
    facts = {**rows.choice.facts, "points": args.points, "noise": noise}
    for name, text, image in zip("ab", (args.first, args.second), ends, strict=True):
        facts |= between.source_facts(name, text, image)
    facts |= {"latent": args.latent, "rmse": None}
    result = {**facts, "run": found.place, "network_calls": total, "out": args.out}
    if not args.dry_run:
        rng = Rng.of(args.seed, 1, device=rows.device)
        with Progress("interpolate", total, "network call") as progress, counted(rows.choice.model, progress.update):
            mixtures = [_row(rows, ends, t, args.points, noise, rng) for t in rows.at]
        drawn = [np.concatenate([ends[0], mixture, ends[1]]) for mixture in mixtures]
        result["network_calls"] = progress.done
        facts["rmse"] = result["rmse"] = [
            [between.rmse(row[0], row[1]), between.rmse(row[-1], row[-2])] for row in drawn
        ]
        between.write_rows(kind, args.out, drawn, rng, found.space.levels, facts)
    return {**result, "dry_run": args.dry_run}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    dry = result["dry_run"]
    times = ", ".join(f"{t:g}" for t in result["at"])
    mixture = "DDIM latents" if result["latent"] else f"{result['noise']} noise"
    yield (
        f"{'would mix' if dry else 'mixed'} {result['a']} and {result['b']} at t = {times} in {result['points']} points"
        f" ({mixture}), decoded by {result['run']} (step {result['step']:,}), seed {result['seeds']}"
    )
    yield from how(result)
    if result["rmse"]:
        said = "; ".join(f"{a:.2f} and {b:.2f}" for a, b in result["rmse"])
        yield f"from the images to the ends of each row, root of the mean squared difference: {said} grey levels"
    yield f"{'would write' if dry else 'wrote'} {result['out']}"


def _row(rows: between.Rows, ends: list[Any], t: float, points: int, noise: str | None, rng: Any) -> Any:
    """Grey levels from near the first image to near the second, uint8 (points, C, H, W)."""
    import torch

    from diffprob.sampling.between import mixed, slerp

    weights = torch.linspace(0, 1, points, dtype=torch.float64)
    x0, y0 = (rows.to_model(levels) for levels in ends)
    if noise is None:
        latents = rows.encode(torch.cat([x0, y0]), t)
        between_them = slerp(latents[:1], latents[1:], weights)
    else:
        between_them = mixed(rows.choice.model.process, x0, y0, t, weights, rng, noise)
    # One seed for the whole row, so that it changes as evenly as the mixtures do.
    return rows.decode(between_them, t, rng.select(torch.zeros(points, dtype=torch.long, device=rows.device)))
