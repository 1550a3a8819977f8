"""Turn images of one kind into images of a run's kind that look like them: shirts into dresses of the same pose.

egsde adds noise to the image up to --start and draws from there, steered away from what is particular to the source's
kind (--realistic, in features of a classifier: `diffprob noisy-classifier RUN SOURCE TARGET` trains it) and towards its
coarse content (--faithful, what is left at 1/--factor of the size). sdedit is the same without steering. invert takes
the image up to the noise by DDIM as one of its own kind (--source-model, or labels) and down as one of RUN's:
on shirts and dresses it did best.
Image i has the seed N + i.
"""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError
from diffprob.cli import gallery
from diffprob.cli.options import add_drawing, add_resize, sampling
from diffprob.cli.parser import add_device, add_dry_run, at_least_0, share, whole
from diffprob.cli.progress import TERMINAL
from diffprob.cli.text import how

if TYPE_CHECKING:
    from diffprob.tasks.translation import TranslationMethod

EXAMPLES = (
    "diffprob noisy-classifier runs/dresses pictures/shirts pictures/dresses",
    "diffprob translate runs/dresses pictures/shirts --classifier runs/dresses-noisy-classifier --out translated",
    "diffprob translate runs/dresses pictures/shirts --method sdedit --start 0.6 --out rougher -n 16",
    "diffprob translate runs/dresses pictures/shirts --method invert --source-model fashion --out inverted",
    "diffprob translate mnist_labels path/to/mnist -n 32 --method invert --label 8 --out eights   # from their labels",
)

EGSDE, SDEDIT, INVERT = METHODS = ("egsde", "sdedit", "invert")
# Those of `diffprob.tasks.translation`, which imports torch.
REALISTIC, FAITHFUL, FACTOR, START, STEPS = 100.0, 2.0, 4, 0.6, 50
# The options that not every method takes.
TAKES = {
    EGSDE: ("classifier", "realistic", "faithful", "factor", "repeats"),
    SDEDIT: ("repeats",),
    INVERT: ("source_model", "from_label"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The two runs, the images, the method with options of its own, and where results go."""
    parser.add_argument(
        "run", metavar="RUN", help="a run of the target's kind: its folder, or the name of a packaged run"
    )
    parser.add_argument("source", metavar="SOURCE", help='images to translate: a folder, a file, "digits" or "hf:NAME"')
    parser.add_argument("--out", required=True, metavar="FOLDER", help="a new or empty folder")
    parser.add_argument(
        "--method", choices=METHODS, default=METHODS[0], help=f"how to translate, see above (default {METHODS[0]})"
    )
    parser.add_argument("--classifier", metavar="REC", help="egsde: a run of `diffprob noisy-classifier`")
    parser.add_argument("--recogniser", dest="classifier", help=argparse.SUPPRESS, default=argparse.SUPPRESS)
    parser.add_argument(
        "--realistic",
        type=at_least_0,
        metavar="W",
        help=f"egsde: how strongly away from the source's kind (default {REALISTIC:g})",
    )
    parser.add_argument(
        "--faithful",
        type=at_least_0,
        metavar="W",
        help=f"egsde: how strongly towards the source's coarse content (default {FAITHFUL:g})",
    )
    parser.add_argument(
        "--factor", type=whole(1), metavar="N", help=f"egsde: coarse means at 1/N of the size (default {FACTOR})"
    )
    parser.add_argument(
        "--start", type=share, metavar="T", help=f"add noise up to this time, in (0, 1] (default {START:g}; invert: 1)"
    )
    parser.add_argument(
        "--repeats",
        type=whole(1),
        metavar="K",
        help="egsde, sdedit: translate the result again, K times in all (default 1)",
    )
    parser.add_argument(
        "--source-model", metavar="RUN", help="invert: a run of the source's kind (default: RUN itself)"
    )
    parser.add_argument(
        "--from-label", metavar="L", help="invert: the label of all source images (default: the labels that they have)"
    )
    parser.add_argument(
        "--split",
        choices=("auto", "train", "test", "all"),
        default="auto",
        help="split of SOURCE to translate; auto: test, or all if there is none",
    )
    parser.add_argument("-n", type=whole(1), metavar="N", help="only the first N images")
    add_resize(parser)
    add_drawing(parser, None, f"{STEPS} for the whole chain, of which about the share --start is taken")
    add_device(parser)
    add_dry_run(parser, "check everything and say what would be done, without translating")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Translate and write; the result says everything that decided the images."""
    from diffprob.runs.folder import Run
    from diffprob.tasks.picture_folders import save_translated
    from diffprob.tasks.translation import TranslateRequest, make_translated, prepare_translate

    _check_options(args)
    gallery.check_empty(args.out)
    run = Run.open(args.run)
    request = TranslateRequest(
        images=args.source,
        method=_method(args),
        split=args.split,
        n=args.n,
        resize=args.resize,
        sampling=sampling(args, 1),
    )
    prepared = prepare_translate(run, request, TERMINAL)
    if args.dry_run:
        return {**prepared.to_json(), "out": args.out, "dry_run": True}
    translated = make_translated(prepared, TERMINAL)
    save_translated(args.out, translated)
    return {**translated.to_json(), "out": args.out, "dry_run": False}


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
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
        yield f"{weights}, classifier {result['recogniser'] or 'none'}"
    yield from how(result)
    yield f"{'would write' if result['dry_run'] else 'wrote'} {result['out']}: images, a grid, the facts"


def _check_options(args: argparse.Namespace) -> None:
    """Refuse options that the method does not take, or lacks."""
    for name in {name for names in TAKES.values() for name in names} - set(TAKES[args.method]):
        if getattr(args, name) is not None:
            right = " or ".join(method for method in METHODS if name in TAKES[method])
            raise InputError(f"--{name.replace('_', '-')} belongs to --method {right}, not to --method {args.method}")
    if args.method == EGSDE and args.classifier is None and args.realistic != 0:
        raise InputError(
            "--method egsde needs --classifier REC, which `diffprob noisy-classifier RUN SOURCE TARGET` trains;"
            " --method sdedit and --realistic 0 need none"
        )


def _method(args: argparse.Namespace) -> "TranslationMethod":
    """The method, with the options that are its own."""
    from diffprob.tasks.translation import DDIB, SDEdit
    from diffprob.tasks.translation import EGSDE as EnergyGuidedSDE

    names = ("start", *TAKES[args.method])
    fields: dict[str, Any] = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.method == EGSDE:
        return EnergyGuidedSDE(**{"classifier": None, **fields})
    return SDEdit(**fields) if args.method == SDEDIT else DDIB(**fields)
