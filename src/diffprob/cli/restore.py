"""Restore images with what a run knows of images like them: take noise out, fill in what is missing, enlarge.

Without --mask or --box the images have white noise of --noise grey levels of their own scale (25 of 255, say), or of as
much as is estimated for each of them, and are replaced by E[image|noisy image], which has the least expected squared
error and takes one evaluation; with --draw by a draw of p(image|noisy image), which is sharp where the mean is smooth.
It goes down from the noise of the image, and makes that part of --steps (200) which lies below.
Files cut noise off at black and white; what was cut is drawn first, which takes 2 evaluations more, or 5 if the noise
is estimated.

With --mask (white pixels are missing) or --box the missing pixels are drawn, given the others, by DDIM(eta=1.0) unless
told otherwise: guided towards them, for two to three times the cost of plain samples, or by RePaint for 1 + K times. A
run that was trained to be told smaller images (`diffprob train digits_enlarged`) enlarges IMAGES of that size; larger
ones it makes small first, and says how near it comes to them. Image i has the seed N + i.
"""

import argparse
import math
from collections.abc import Iterator
from typing import Any

from diffprob.cli import flawed
from diffprob.cli.given import KINDS, read
from diffprob.cli.options import add_drawing, sampling
from diffprob.cli.parser import add_device, add_dry_run, whole
from diffprob.cli.progress import TERMINAL, say
from diffprob.cli.restoring import GUIDED, METHODS, REPAINT, restore

EXAMPLES = (
    "diffprob restore mnist noisy/ --noise 50                        # PNGs of the same names in restored/, and a grid",
    "diffprob restore mnist noisy.png --noise 50 --draw --out drawn  # sharp, in the place of the smooth mean",
    "diffprob restore mnist path/to/mnist -n 100 --add-noise 50      # try it: how near does it come to clean images?",
    "diffprob restore mnist digits/ --mask hole.png --average 8      # white pixels of hole.png are missing",
    "diffprob restore mnist path/to/mnist -n 16 --box 8,8,12,12 --method repaint --jumps 5",
    "diffprob restore runs/digits_enlarged digits                    # 8x8 made 4x4, and enlarged again",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of a packaged run (diffprob show runs)")
    parser.add_argument("images", metavar="IMAGES", help=KINDS)
    parser.add_argument("--out", default="restored", metavar="DIR", help="a new or empty folder (restored)")
    parser.add_argument("-n", type=whole(1), metavar="N", help="only the first N images")
    parser.add_argument("--noise", type=grey, metavar="STD", help="of the noise, in grey levels (estimated)")
    parser.add_argument("--draw", action="store_true", help="draw from the posterior in the place of its mean")
    parser.add_argument("--mask", metavar="PATH", help="pictures of what is missing, in white: one, or one an image")
    parser.add_argument("--box", metavar="TOP,LEFT,HEIGHT,WIDTH", help="a box that is missing, in pixels")
    parser.add_argument("--method", choices=METHODS, help=f"how missing pixels are drawn ({METHODS[0]})")
    parser.add_argument(
        "--jumps", type=whole(0), metavar="K", help=f"of {REPAINT}: repetitions of each step ({flawed.JUMPS})"
    )
    parser.add_argument(
        "--average", type=whole(1), metavar="K", help="the mean of K draws of missing pixels, or of enlarged images (1)"
    )
    parser.add_argument(
        "--add-noise", type=grey, metavar="STD", help="IMAGES are clean: add so much noise first, as a file holds it"
    )
    parser.add_argument("--clean", metavar="DATA", help="the images without flaw, to say how near the restored come")
    add_drawing(parser, None)
    add_device(parser)
    add_dry_run(parser, "check everything and say what would be done, without restoring")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Restore and write; the result says everything that decided the images."""
    from diffprob.base.rng import Rng
    from diffprob.cli import outcome
    from diffprob.runs.folder import Run
    from diffprob.tasks.compute import choose_device
    from diffprob.tasks.plan import plan_sampling

    outcome.check_out(args.out)
    found = Run.open(args.run)
    kind = flawed.kind_of(args, found)
    given = read(args.images, found, args.n)
    args.n, device = len(given.pixels), choose_device(args.device)
    rng = Rng.of(args.seed, args.n, device=device)
    flaw, clean = flawed.READ[kind](args, found, given, rng)
    choice = plan_sampling(found, sampling(args), TERMINAL, True, flaw.told(found, device))
    facts = {**choice.facts, "flaw": kind, **given.facts, "levels": given.levels, **flaw.facts()}
    if args.clean is not None and clean is not None:
        facts |= clean.facts_as("clean")
    right = None if clean is None else clean.pixels
    if args.method == GUIDED and choice.sampler.order is not None:
        say(
            f"note: {choice.sampler!r} is deterministic: guided chains tend to fall out of the data; DPMppSDE(2) do not"
        )
    result = {**facts, "run": found.place, "out": args.out, "evaluations": None}
    if args.dry_run:
        return {**result, "network_calls": flaw.calls(choice), "stds": [], "psnr": None, "dry_run": True}
    images, stds, calls = restore(flaw, choice, rng)
    told = {"stds": stds, "psnr": None if right is None else outcome.compared(flaw, images, right)}
    outcome.write(args.out, flaw, images, right, {**facts, **told})
    return {**result, **told, "network_calls": calls, "dry_run": False}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    from diffprob.cli.text import how

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


def grey(text: str) -> float:
    """The type of an option that takes a number of grey levels above 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number of grey levels, got {text!r}") from None
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be above 0 and finite, got {text}")
    return value
