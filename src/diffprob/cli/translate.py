"""Turn images of one kind into images of a run's kind that look like them: shirts into dresses of the same pose.

egsde adds noise to the image up to --start and draws from there, steered away from what is particular to the source's
kind (--realistic, in the features of a classifier that `diffprob recognise RUN SOURCE TARGET` trains) and towards its
coarse content (--faithful, what is left at 1/--factor of the size). sdedit is the same without steering. invert takes
the image up to the noise by DDIM as one of its own kind (--source-model, or labels) and down as one of RUN's:
on shirts and dresses it did best.
Image i has the seed N + i.
"""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError
from diffprob.cli.options import add_drawing, add_resize, sampling
from diffprob.cli.parser import add_device, add_dry_run, share, whole
from diffprob.cli.progress import TERMINAL, Progress, say
from diffprob.cli.translating import (
    EGSDE,
    IMAGES,
    INVERT,
    METHODS,
    SDEDIT,
    Energies,
    Way,
    check_folder,
    read,
    source_model,
    write,
)

if TYPE_CHECKING:
    from diffprob.data.images import Images
    from diffprob.runs.folder import Run

EXAMPLES = (
    "diffprob recognise runs/dresses pictures/shirts pictures/dresses",
    "diffprob translate runs/dresses pictures/shirts --recogniser runs/dresses-recogniser --out translated",
    "diffprob translate runs/dresses pictures/shirts --method sdedit --start 0.6 --out rougher -n 16",
    "diffprob translate runs/dresses pictures/shirts --method invert --source-model fashion --out inverted",
    "diffprob translate mnist_labels path/to/mnist -n 32 --method invert --label 8 --out eights   # from their labels",
)

# What suits images of 28x28 (docs/results/translation.md); EGSDE has 500, 2, 32 and 0.5 at 256x256.
REALISTIC, FAITHFUL, FACTOR, START, STEPS = 100.0, 2.0, 4, 0.6, 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("run", metavar="RUN", help="of the kind wanted: a run's folder, or the name of a packaged run")
    parser.add_argument("source", metavar="SOURCE", help='the images: a folder, a file, "digits" or "hf:NAME"')
    parser.add_argument("--out", required=True, metavar="FOLDER", help="a new or empty folder")
    parser.add_argument("--method", choices=METHODS, default=METHODS[0], help=f"how ({METHODS[0]})")
    parser.add_argument("--recogniser", metavar="REC", help="egsde: the run that `diffprob recognise` trained")
    parser.add_argument("--realistic", type=_weight, metavar="W", help=f"egsde: away from the source ({REALISTIC:g})")
    parser.add_argument("--faithful", type=_weight, metavar="W", help=f"egsde: keep what is coarse ({FAITHFUL:g})")
    parser.add_argument("--factor", type=whole(1), metavar="N", help=f"egsde: coarse is at 1/N of the size ({FACTOR})")
    parser.add_argument("--start", type=share, metavar="T", help=f"noise up to this t in (0, 1] ({START:g}; invert: 1)")
    parser.add_argument("--repeats", type=whole(1), metavar="K", help="egsde, sdedit: again with each result (1)")
    parser.add_argument("--source-model", metavar="RUN", help="invert: a run of the source's kind (RUN itself)")
    parser.add_argument("--from-label", metavar="L", help="invert: what all the images are (the labels they have)")
    parser.add_argument("--split", choices=("auto", "train", "test", "all"), default="auto", help="auto: test, or all")
    parser.add_argument("-n", type=whole(1), metavar="N", help="only the first N images")
    add_resize(parser)
    add_drawing(parser, None, f"{STEPS} in all, of which --start is the share that is left")
    add_device(parser)
    add_dry_run(parser, "check everything and say what would be done, without translating")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Translate and write; the result says everything that decided the images."""
    import numpy as np
    import torch

    from diffprob.base.rng import Rng
    from diffprob.runs.folder import Run
    from diffprob.tasks.compute import choose_device
    from diffprob.tasks.drawing import counted

    _check_options(args)
    check_folder(args.out)
    found, device = Run.open(args.run), choose_device(args.device)
    images, source = read(args, found)
    args.n = len(images)
    way, more = _way(args, found, images)
    facts = {**way.choice.facts, **source, **more}
    total = way.calls(args.n)
    result = {**facts, "run": found.place, "network_calls": total, "out": args.out}
    if args.dry_run:
        return {**result, "dry_run": True}
    chunk, drawn = way.choice.model.evaluation.chunk or args.n, []
    streams = Rng.of(args.seed, args.n, device=device)
    with Progress("translate", total, "network call") as progress, counted(way.choice.model, progress.update):
        for first in range(0, args.n, chunk):
            part = slice(first, min(first + chunk, args.n))
            x0 = found.space.to_model(torch.from_numpy(images.pixels[part]).to(device))
            x = way.translated(x0, part, streams.select(part))
            drawn.append(found.space.to_data(x).cpu().numpy())
    result["network_calls"] = progress.done
    write(args.out, images, np.concatenate(drawn), facts)
    return {**result, "dry_run": False}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    from diffprob.cli.text import how

    what = "would translate" if result["dry_run"] else "translated"
    yield f"{what} {result['n']} images of {result['source']} by {result['run']} (step {result['step']:,})"
    if result["method"] == INVERT:
        yield f"{INVERT}: up to t = {result['start']:g} as one of {result['from']}, and down"
    else:
        times = "" if result["repeats"] == 1 else f", {result['repeats']} times"
        yield f"{result['method']} from t = {result['start']:g}{times}, seeds {result['seeds']}"
    if result["method"] == EGSDE:
        weights = (
            f"realistic {result['realistic']:g}, faithful {result['faithful']:g} at 1/{result['factor']} of the size"
        )
        yield f"{weights}, recogniser {result['recogniser'] or 'none'}"
    yield from how(result)
    yield f"{'would write' if result['dry_run'] else 'wrote'} {result['out']}: {IMAGES}, a grid, the facts"


def _check_options(args: argparse.Namespace) -> None:
    """Refuse options that the method does not take, or lacks."""
    takes = {
        EGSDE: ("recogniser", "realistic", "faithful", "factor", "repeats"),
        SDEDIT: ("repeats",),
        INVERT: ("source_model", "from_label"),
    }
    for name in {name for names in takes.values() for name in names} - set(takes[args.method]):
        if getattr(args, name) is not None:
            right = " or ".join(method for method in METHODS if name in takes[method])
            raise InputError(f"--{name.replace('_', '-')} belongs to --method {right}, not to --method {args.method}")
    if args.method == EGSDE and args.recogniser is None and args.realistic != 0:
        raise InputError(
            "--method egsde needs --recogniser REC, which `diffprob recognise RUN SOURCE TARGET` trains; --method"
            " sdedit and --realistic 0 need none"
        )


def _way(args: argparse.Namespace, run: "Run", images: "Images") -> tuple[Way, dict[str, Any]]:
    """What the options mean, and the facts that decide the images beside those of `choices.choose`."""
    import torch

    from diffprob.tasks.compute import choose_device
    from diffprob.tasks.conditioning import open_classifier
    from diffprob.tasks.plan import plan_sampling
    from diffprob.tasks.rows import by_ddim

    device = choose_device(args.device)
    rec = None if args.recogniser is None else open_classifier(args.recogniser, run, "recogniser")
    drawing = sampling(args)
    if args.method == INVERT:
        drawing = by_ddim(drawing, "--method invert")
    choice = plan_sampling(run, drawing, TERMINAL, one=True)
    asked = args.start or (1.0 if args.method == INVERT else START)
    start = float(choice.model.process.schedule.snap(torch.tensor(asked, dtype=torch.float64)))
    if start < float(choice.times[-1]):
        say(f"note: --start {start:g} lies below the grid's last time, {float(choice.times[-1]):g}: use more --steps")
    facts: dict[str, Any] = {"method": args.method, "start": start}
    if args.method == INVERT:
        model, rows, said = source_model(args, run, choice, images)
        return Way(choice, start, source=model, rows=rows), {**facts, "from": said}
    facts["repeats"] = args.repeats or 1
    if args.method == SDEDIT:
        return Way(choice, start, facts["repeats"]), facts
    weights = {"realistic": REALISTIC, "faithful": FAITHFUL, "factor": FACTOR}
    weights = {
        name: default if getattr(args, name) is None else getattr(args, name) for name, default in weights.items()
    }
    facts |= {**weights, "recogniser": args.recogniser, "recogniser_sha256": None if rec is None else rec.sha256()}
    model = None if rec is None else rec.load(device, args.batch or "auto", args.precision)
    return Way(choice, start, facts["repeats"], Energies(model, **weights)), facts


def _weight(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be at least 0 and finite, got {text}")
    return value
