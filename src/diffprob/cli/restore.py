"""Restore images with what a run knows of images like them: take noise out, fill in what is missing, enlarge.

Without --mask or --box the images have white noise of --noise grey levels of their own scale (25 of 255, say), or of as
much as is estimated for each of them, and are replaced by E[image|noisy image], which has the least expected squared
error and takes one evaluation; with --draw by a draw of p(image|noisy image), which is sharp where the mean is smooth.
It goes down from the noise of the image, and makes that part of --steps (200) which lies below.
Files cut noise off at black and white; what was cut is drawn first, which takes 2 evaluations more, or 5 if the noise
is estimated.

With --mask (white pixels are missing) or --box the missing pixels are drawn, given the others, by DDIM(eta=1.0) unless
chosen otherwise: guided towards them, for two to three times the cost of plain samples, or by RePaint for 1 + K times.
A run that enlarges images (`diffprob train digits_superresolution` trains one) takes IMAGES of its small size; larger
ones it makes small first, and says how near it comes to them. Image i has the seed N + i.
"""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError
from diffprob.cli import gallery
from diffprob.cli.options import add_drawing, sampling
from diffprob.cli.parser import add_device, add_dry_run, grey_levels, whole
from diffprob.cli.progress import TERMINAL
from diffprob.cli.text import how

if TYPE_CHECKING:
    from diffprob.runs.folder import Run
    from diffprob.tasks.degradations import Degradation

EXAMPLES = (
    "diffprob restore mnist noisy/ --noise 50                        # PNGs of the same names in restored/, and a grid",
    "diffprob restore mnist noisy.png --noise 50 --draw --out drawn  # sharp, in the place of the smooth mean",
    "diffprob restore mnist path/to/mnist -n 100 --add-noise 50      # try it: how near does it come to clean images?",
    "diffprob restore mnist digits/ --mask hole.png --average 8      # white pixels of hole.png are missing",
    "diffprob restore mnist path/to/mnist -n 16 --box 8,8,12,12 --method repaint --jumps 5",
    "diffprob restore runs/digits_superresolution digits                    # 8x8 made 4x4, and enlarged again",
)

KINDS = "a picture, a folder of pictures, or any other data that --data takes (of its test split, where it has one)"
GUIDED, REPAINT = METHODS = ("guided", "repaint")  # those of `diffprob.tasks.degradations`, which imports torch
JUMPS = 5
# The options that not every flaw takes.
TAKES = {
    "noise": ("noise", "draw", "add_noise", "clean"),
    "missing": ("mask", "box", "method", "jumps", "average", "clean"),
    "small": ("average", "clean"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, the damaged images, what was done to them, and how they are drawn."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of a packaged run (diffprob show runs)")
    parser.add_argument("images", metavar="IMAGES", help=KINDS)
    parser.add_argument("--out", default="restored", metavar="DIR", help="a new or empty folder (default restored)")
    parser.add_argument("-n", type=whole(1), metavar="N", help="only the first N images")
    parser.add_argument(
        "--noise",
        type=grey_levels,
        metavar="STD",
        help="standard deviation of the noise, in grey levels (default: estimated for each image)",
    )
    parser.add_argument("--draw", action="store_true", help="draw from the posterior instead of taking its mean")
    parser.add_argument(
        "--mask", metavar="PATH", help="a picture whose white pixels are missing, or a folder with one for each image"
    )
    parser.add_argument(
        "--box", metavar="TOP,LEFT,HEIGHT,WIDTH", help="a box that is missing in every image, in pixels"
    )
    parser.add_argument("--method", choices=METHODS, help=f"how missing pixels are drawn (default {METHODS[0]})")
    parser.add_argument(
        "--jumps", type=whole(0), metavar="K", help=f"{REPAINT}: repetitions of each step (default {JUMPS})"
    )
    parser.add_argument(
        "--average",
        type=whole(1),
        metavar="K",
        help="take the mean of K draws of missing pixels, or of enlarged images (default 1)",
    )
    parser.add_argument(
        "--add-noise",
        type=grey_levels,
        metavar="STD",
        help="to try it out on clean IMAGES: add noise of so many grey levels first, cut off at black and white",
    )
    parser.add_argument(
        "--clean", metavar="DATA", help="the undamaged images, to measure how near the restored ones come"
    )
    add_drawing(parser, None, "50, or 1000 with Ancestral; without --mask and --box 200")
    add_device(parser)
    add_dry_run(parser, "check everything and say what would be done, without restoring")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Restore and write; the result says everything that decided the images."""
    from diffprob.runs.folder import Run
    from diffprob.tasks.picture_folders import save_restored
    from diffprob.tasks.restoration import RestoreRequest, make_restored, prepare_restore

    gallery.check_new(args.out)
    run = Run.open(args.run)
    request = RestoreRequest(
        images=args.images,
        degradation=_degradation(args, run),
        clean=args.clean,
        n=args.n,
        sampling=sampling(args, 1),
    )
    prepared = prepare_restore(run, request, TERMINAL)
    if args.dry_run:
        return {**prepared.to_json(), "out": args.out, "dry_run": True}
    restored = make_restored(prepared, TERMINAL)
    save_restored(args.out, restored)
    return {**restored.to_json(), "out": args.out, "dry_run": False}


def _degradation(args: argparse.Namespace, run: "Run") -> "Degradation":
    """What the options say is wrong with the images.

    Raises:
        InputError: options that do not go together.
    """
    from diffprob.conditions.low_resolution import LowResolution
    from diffprob.tasks.degradations import Denoise, Inpaint, SuperResolve

    if isinstance(run.recipe.condition, LowResolution):
        kind, meant = "small", f"{run.name}, which enlarges images"
    elif args.mask is not None or args.box is not None:
        kind, meant = "missing", "--mask" if args.mask is not None else "--box"
    else:
        kind, meant = "noise", "noise (neither --mask nor --box is given)"
    for option in {name for names in TAKES.values() for name in names} - set(TAKES[kind]):
        if getattr(args, option) not in (None, False):
            raise InputError(f"--{option.replace('_', '-')} does not go with {meant}")
    for one, other in (("mask", "box"), ("add_noise", "noise")):
        if getattr(args, one) is not None and getattr(args, other) is not None:
            raise InputError(f"--{one.replace('_', '-')} and --{other} exclude each other")
    if args.method == GUIDED and args.jumps is not None:
        raise InputError(f"--jumps goes with --method {REPAINT}")
    average = args.average or 1
    if kind == "small":
        return SuperResolve(average=average)
    if kind == "noise":
        return Denoise(noise=args.noise, draw=args.draw, add_noise=args.add_noise)
    box = None if args.box is None else _box(args.box)
    return Inpaint(mask=args.mask, box=box, method=args.method, jumps=args.jumps, average=average)


def _box(text: str) -> tuple[int, int, int, int]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise InputError(f"--box {text}: TOP,LEFT,HEIGHT,WIDTH in pixels would be right, such as 8,8,12,12")
    top, left, high, wide = map(int, parts)
    return top, left, high, wide


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    dry, kind = result["dry_run"], result["flaw"]
    doing = {"noise": "take the noise out of", "missing": "fill in", "small": "enlarge"}[kind]
    done = {"noise": "took the noise out of", "missing": "filled in", "small": "enlarged"}[kind]
    what = f"would {doing}" if dry else done
    yield f"{what} {result['n']} images of {result['images']}, by {result['run']} (step {result['step']:,})"
    if kind == "noise":
        yield _noise(result)
    if result["method"] == "mean":
        calls = "" if dry else f": {result['network_calls']:,} network calls"
        yield f"the mean of the posterior, on {result['device']} in {result['precision']}{calls}"
    else:
        averaged = "" if result["average"] == 1 else f", the mean of {result['average']} draws"
        yield f"method {result['method']}, seeds {result['seeds']}{averaged}"
        yield from how(result)
    if result["psnr"] is not None:
        where = " of the missing pixels" if kind == "missing" else ""
        yield f"peak signal-to-noise ratio{where}, {result['n']} images:"
        for name, (mean, error) in result["psnr"].items():
            value = "infinite" if mean is None else f"{mean:.2f} dB"
            yield f"  {name:<9} {value}" + ("" if error is None else f", standard error {error:.2f}")
    grid = f"{result['out'].rstrip('/')}.png"
    yield f"{'would write' if dry else 'wrote'} {result['n']} pictures in {result['out']} and them together in {grid}"


def _noise(result: dict[str, Any]) -> str:
    stds, most = sorted(result["stds"]), result["levels"] - 1
    if result["noise"] is not None:
        return f"noise of {result['noise']:g} of {most} grey levels"
    if not stds:
        return "noise estimated for each image"
    if len(stds) == 1:
        return f"noise estimated at {stds[0]:.1f} of {most} grey levels"
    middle = f"{stds[len(stds) // 2]:.1f} in the middle"
    return f"noise estimated at {stds[0]:.1f} to {stds[-1]:.1f} of {most} grey levels, {middle}"
