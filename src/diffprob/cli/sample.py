"""Draw images from a run. Image i depends on the seed + i alone, not on how many are drawn with it.

With --from, drawing starts from an image instead of pure noise: noise is added to it once for each time of --at, and -n
images are drawn from each noisy image, p(x_0 | x_t). With --reconstruct, DDIM encodes the image and decodes it again.
"""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.base.errors import InputError
from diffprob.cli import gallery, output
from diffprob.cli.options import ONE_IMAGE, add_drawing, add_resize, sampling
from diffprob.cli.parser import add_device, add_dry_run, share, whole
from diffprob.cli.progress import TERMINAL
from diffprob.cli.text import how

EXAMPLES = (
    "diffprob sample mnist                                   # 64 digits in 50 evaluations, into samples.png",
    "diffprob sample mnist --steps 8                         # a sampler and a grid that suit 8 evaluations",
    'diffprob sample runs/x -n 16 --sampler "Ancestral()" --steps 1000 --variance "UnitData()"   # DDPM as published',
    'diffprob sample runs/x --sampler "DDIM(eta=0.5)" --grid "Karras(rho=7)" --steps 20 --progressive',
    "diffprob sample runs/x -n 10000 --out samples.npz       # arrays images, seeds, metadata",
    "diffprob sample runs/x -n 100 --seed 7 --out pictures/  # one PNG an image, its seed in the name",
    "diffprob sample mnist_labels --label 7 --guidance 0.5   # sevens, and clearer ones than without guidance",
    'diffprob sample runs/captioned_digits --caption "two small sevens" "a large three" --guidance 1',
    "diffprob sample mnist --from path/to/mnist:0 --at 0.25 0.5 0.75   # 8 images from each x_t, which they share",
    "diffprob sample mnist --from seven.png --reconstruct              # up to the noise and back, by DDIM",
)

ROWS = 8  # images that a progression follows
COUNT, COUNT_FROM = 64, 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, how and of what to draw, and where the images go."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of a packaged run (diffprob show runs)")
    add_drawing(parser, None)
    parser.add_argument(
        "-n",
        type=whole(1),
        metavar="N",
        help=f"how many images (default {COUNT}; with --from {COUNT_FROM} for each time)",
    )
    parser.add_argument(
        "--out",
        default="samples.png",
        metavar="PATH",
        help="x.png (a grid), x.npz (arrays) or a folder of PNGs (default samples.png)",
    )
    parser.add_argument(
        "--progressive",
        action="store_true",
        help="also write a picture of how the predicted images change along the chain",
    )
    parser.add_argument(
        "--from", dest="source", metavar="IMAGE", help=f"start from this image with noise added: {ONE_IMAGE}"
    )
    parser.add_argument(
        "--at",
        nargs="+",
        type=share,
        metavar="T",
        help="with --from: add noise up to these times, in (0, 1] (default 0.25 0.5 0.75)",
    )
    parser.add_argument(
        "--reconstruct",
        action="store_true",
        help="with --from: encode the image by DDIM up to --at (default 1), and decode it",
    )
    add_resize(parser)
    add_device(parser)
    add_dry_run(parser, "check everything and say what would be done, without drawing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Draw and write; the result says everything that decided the images."""
    from diffprob.reporting import artifacts
    from diffprob.runs.folder import Run
    from diffprob.tasks.sample import SampleRequest, draw_sample, prepare_sample

    if args.source is not None:
        return _from_image(args)
    if args.at is not None or args.reconstruct or args.resize:
        option = "--reconstruct" if args.reconstruct else "--resize" if args.resize else "--at"
        raise InputError(f"{option} goes with --from IMAGE, {ONE_IMAGE}")
    kind = output.kind_of(args.out)
    if kind == "folder":
        gallery.check(args.out)
    run = Run.open(args.run)
    request = SampleRequest(sampling=sampling(args, args.n or COUNT), progressive=ROWS if args.progressive else 0)
    prepared = prepare_sample(run, request, TERMINAL)
    beside = output.beside(args.out, kind) if args.progressive else None
    if args.dry_run:
        return {**prepared.to_json(), "out": args.out, "progression": None, "dry_run": True}
    samples = draw_sample(prepared, TERMINAL)
    progression = None if beside is None else artifacts.progression_png(samples.frames, run.space.levels, samples.times)
    gallery.write_samples(kind, args.out, samples, run.space.levels, progression)
    if beside is not None and progression is not None and kind != "folder":
        output.write_file(beside, progression)
    written = {"out": args.out, "progression": None if beside is None else str(beside)}
    return {**samples.to_json(), **written, "dry_run": False}


def _from_image(args: argparse.Namespace) -> dict[str, Any]:
    """``--from``: images from one x_t for each time; or with ``--reconstruct`` up by DDIM and down again."""
    from diffprob.runs.folder import Run
    from diffprob.tasks import editing
    from diffprob.tasks.rows import draw_rows

    if args.progressive or (args.reconstruct and args.n is not None):
        option = "--progressive" if args.progressive else "-n"
        why = "--reconstruct exclude each other: there is one way up and one down"
        raise InputError(f"{option} and {why if args.reconstruct else '--from exclude each other'}")
    kind, run = output.no_folder(args.out), Run.open(args.run)
    if args.reconstruct:
        at, drawing = tuple(args.at or editing.AT_LATENT), sampling(args, 1)
        backwards = editing.ReconstructRequest(image=args.source, at=at, sampling=drawing, resize=args.resize)
        prepared = editing.prepare_reconstruct(run, backwards, TERMINAL)
    else:
        at, drawing = tuple(args.at or editing.AT), sampling(args, args.n or COUNT_FROM)
        onwards = editing.SampleFromRequest(image=args.source, at=at, sampling=drawing, resize=args.resize)
        prepared = editing.prepare_sample_from(run, onwards, TERMINAL)
    if args.dry_run:
        return {**prepared.to_json(), "out": args.out, "dry_run": True}
    rows = draw_rows(prepared, TERMINAL)
    output.write_rows(kind, args.out, rows)
    return {**rows.to_json(), "out": args.out, "dry_run": False}


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    what = "would draw" if result["dry_run"] else "drew"
    if "rmse" in result:
        what = "would take" if result["dry_run"] else "took"
        way = f"{result['from']} up to t = {_times(result)} and back"
        yield f"{what} {way}, by {result['run']} (step {result['step']:,})"
    elif "from" in result:
        drawn = f"{result['n']} images from {result['from']} at each t of {_times(result)}"
        yield f"{what} {drawn}, of {result['run']} (step {result['step']:,}), seeds {result['seeds']}"
    else:
        yield f"{what} {result['n']} images of {result['run']} (step {result['step']:,}), seeds {result['seeds']}"
    yield from how(result)
    if result.get("rmse"):
        values = ", ".join(f"{value:.2f}" for value in result["rmse"])
        yield f"root of the mean squared difference: {values} grey levels"
    written = (result["out"], result.get("progression"))
    yield ("would write " if result["dry_run"] else "wrote ") + " and ".join(path for path in written if path)


def _times(result: dict[str, Any]) -> str:
    return ", ".join(f"{t:g}" for t in result["at"])
