"""What a run is told about the images to draw, and how strongly it is steered that way."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError
from diffprob.base.text import one_line, printable
from diffprob.cli.parser import choose_device
from diffprob.cli.progress import say

if TYPE_CHECKING:
    from torch import Tensor

    from diffprob.conditions.captions import Captions
    from diffprob.conditions.condition import Labels
    from diffprob.denoise.denoiser import Denoiser, NetDenoiser
    from diffprob.runs.folder import Run

NONE = "none"  # the label that stands for no condition
IMAGES = "images"  # what a run that enlarges them is told
MOST_NAMED = 12  # classes whose shares are all said


@dataclass(frozen=True)
class Steered:
    """A run's network, told what to draw.

    Args:
        told: the network with its conditions.
        guided: what samplers see: the same, or guided.
        branches: evaluations of a network for each of the guided model.
        facts: ``told`` and ``guidance`` as text, None where there is none.
        words: the options that were given, to be given again.
    """

    told: "NetDenoiser"
    guided: "Denoiser"
    branches: int
    facts: dict[str, str | None]
    words: tuple[str, ...]


def add_steering(parser: argparse.ArgumentParser) -> None:
    """``--label --caption --guidance --guidance-interval --guidance-rescale --guide-with``."""
    parser.add_argument(
        "--label",
        nargs="+",
        metavar="L",
        help=f"classes of the images, in turn, by name (diffprob show RUN), by number where they have no names; {NONE} "
        "on its own: of any (all classes in turn)",
    )
    parser.add_argument(
        "--caption", nargs="+", metavar="TEXT", help=f"captions, in turn, for a run that reads them; {NONE}: of any"
    )
    parser.add_argument(
        "--guidance", type=_finite, default=0.0, metavar="W", help="classifier-free: (1 + W) told - W untold (0: none)"
    )
    parser.add_argument(
        "--guidance-interval", nargs=2, type=_unit, metavar=("LOW", "HIGH"), help="guide within these times (0 1)"
    )
    parser.add_argument(
        "--guidance-rescale", type=_unit, default=0.0, metavar="S", help="share of the unguided contrast to keep (0)"
    )
    parser.add_argument("--guide-with", metavar="RUN", help="guide away from this weaker run, not from the untold one")
    parser.add_argument(
        "--classify-with",
        metavar="REC",
        help="for a run that is told nothing: --label by a run of `diffprob recognise`",
    )
    parser.add_argument("--classifier-scale", type=_finite, metavar="S", help="with --classify-with: how strongly (1)")


def steer(
    model: "NetDenoiser",
    run: "Run",
    args: argparse.Namespace,
    one: bool = False,
    images: "Tensor | None" = None,
    counts: Sequence[int] = (),
) -> Steered:
    """The network of the run, told and guided as the options of `add_steering` ask, for ``args.n`` images.

    Args:
        model: of the run.
        run: the run.
        args: the options.
        one: whether all images must be told the same.
        images: what a run that is told images is told.
        counts: of each class, in whose shares classes are drawn where none is asked for; empty: all in turn.

    Raises:
        InputError: a label or guidance that the run does not know, or no images where it wants them.
    """
    from diffprob.guidance.classifier_free import ClassifierFree, Extrapolated

    if args.classify_with is not None:
        return _classified(model, run, args, one)
    if args.classifier_scale is not None:
        raise InputError("--classifier-scale goes with --classify-with REC")
    rows, said = _rows(run, args, one, images, counts)
    told, words = model if rows is None else model.given(rows), _words(args)
    facts: dict[str, str | None] = {"told": said, "guidance": None}
    low, high = args.guidance_interval or (0.0, 1.0)
    if not args.guidance:
        for name in ("guidance_interval", "guidance_rescale", "guide_with"):
            if getattr(args, name):
                raise InputError(f"--{name.replace('_', '-')} goes with --guidance W")
        return Steered(told, told, 1, facts, words)
    if low > high:
        raise InputError(f"--guidance-interval {low:g} {high:g}: the lower time comes first")
    settings = (args.guidance, low, high, args.guidance_rescale)
    facts["guidance"] = guidance = _text(args, low, high)
    if args.guide_with is not None:
        weak, untold = _weaker(run, args, rows)
        facts["guidance"] = guidance + untold
        return Steered(told, Extrapolated(told, weak, *settings), 2, facts, words)
    if rows is None or said == NONE:
        raise InputError(f"--guidance {args.guidance:g} steers towards what the network is told: {_told(run)}")
    guided = ClassifierFree(model, rows, *settings)
    return Steered(told, guided, 1 if args.guidance == -1 else 2, facts, words)


def _classified(model: "NetDenoiser", run: "Run", args: argparse.Namespace, one: bool) -> Steered:
    """A run that is told nothing, guided towards labels by a classifier of noised images."""
    import torch

    from diffprob.cli.recognise import open_recogniser
    from diffprob.guidance.energy import EnergyGuided, LabelEnergy

    found, scale = open_recogniser(args.classify_with, run, "--classify-with"), args.classifier_scale
    scale = 1.0 if scale is None else scale
    asked = f"--classify-with {args.classify_with}"
    if run.recipe.condition is not None:
        raise InputError(f"{asked} is for a run that is told nothing; {_told(run)}, and --guidance W")
    if args.label is None or args.label == [NONE]:
        raise InputError(f"{asked} goes with --label L, which it is to see")
    for name in ("guidance", "guidance_rescale", "guide_with", "caption"):
        if getattr(args, name):
            raise InputError(f"{asked} and --{name.replace('_', '-')} exclude each other")
    low, high = args.guidance_interval or (0.0, 1.0)
    if low > high:
        raise InputError(f"--guidance-interval {low:g} {high:g}: the lower time comes first")
    rows = _labels(found.name, found.recipe.condition, args.label)
    if len(rows) > 1 and one:
        raise InputError(f"--label {' '.join(args.label)}: one label for all images would be right here")
    rows = rows if len(rows) == 1 else rows[torch.arange(args.n) % len(rows)]
    classifier = found.load(choose_device(args.device), args.batch or "auto", args.precision)
    guided = EnergyGuided(model, LabelEnergy(classifier, rows, scale), low, high)
    within = "" if args.guidance_interval is None else f", within {low:g} <= t <= {high:g}"
    by = f"the classifier {found.name} ({found.sha256()[:12]}), scale {scale:g}{within}"
    said = printable(", ".join(args.label)) + ("" if len(rows) == 1 else " in turn")
    return Steered(model, guided, 1, {"told": said, "guidance": by}, _words(args))


def _rows(
    run: "Run", args: argparse.Namespace, one: bool, images: "Tensor | None", counts: Sequence[int]
) -> "tuple[Tensor | None, str | None]":
    """The condition of each image, and how to say it."""
    import torch

    from diffprob.conditions.captions import Captions
    from diffprob.conditions.condition import Labels
    from diffprob.conditions.low_resolution import Degraded

    condition = run.recipe.condition
    for option, kind in (("label", Labels), ("caption", Captions)):
        asked = getattr(args, option)
        if asked is not None and not isinstance(condition, kind):
            raise InputError(f"--{option} {' '.join(asked)}: {_told(run)}")
    if condition is None:
        return None, None
    if images is not None:
        return images, IMAGES
    if isinstance(condition, Degraded):
        if not condition.drop:
            raise InputError(f"{run.name} enlarges images and draws none by itself: diffprob restore {run.name} IMAGES")
        return condition.null(), NONE
    option, asked = ("label", args.label) if args.caption is None else ("caption", args.caption)
    if asked is None and isinstance(condition, Labels) and counts and not one:
        return condition.in_shares(counts, args.n), shares_text(condition, counts)
    if asked is None:
        return (condition.null(), NONE) if one else (condition.some(args.n), "all in turn")
    if asked == [NONE]:
        if isinstance(condition, Labels) and NONE in condition.names:
            say(f"note: --label {NONE} on its own means any class; for the class of that name: --label {NONE} {NONE}")
        return condition.null(), NONE
    rows = _captions(condition, asked) if isinstance(condition, Captions) else _labels(run.name, condition, asked)
    said = printable(", ".join(asked))
    if len(rows) == 1:
        return rows, said
    if one:
        raise InputError(f"--{option} {' '.join(asked)}: one {option} for all images would be right here")
    return rows[torch.arange(args.n) % len(rows)], f"{said} in turn"


def _labels(name: str, condition: Any, asked: list[str]) -> "Tensor":
    import torch

    try:
        return torch.tensor([condition.number(text) for text in asked])
    except InputError as error:
        raise InputError(f"--label {' '.join(asked)}: {name}: {error} (or {NONE} on its own: of any)") from error


def shares_text(condition: "Labels", counts: Sequence[int]) -> str:
    """How often each class is drawn, in words; of many classes the rarest and the commonest."""
    total = sum(counts)
    found = [(n / total, condition.name(k)) for k, n in enumerate(counts) if n]
    if len(found) <= MOST_NAMED:
        return "the data's shares: " + printable(", ".join(f"{name} {share:.3g}" for share, name in found))
    (low, rare), (high, common) = min(found), max(found)
    return f"the data's shares of {len(found)} classes: " + printable(f"{rare} {low:.3g} to {common} {high:.3g}")


def _captions(condition: "Captions", asked: list[str]) -> "Tensor":
    import torch

    try:
        return torch.cat([condition.tokens(text) for text in asked])
    except InputError as error:
        raise InputError(f"--caption: {error}") from error


def _weaker(run: "Run", args: argparse.Namespace, rows: "Tensor | None") -> "tuple[Denoiser, str]":
    """The network of ``--guide-with``, told what ours is; and how to say that it is told nothing where ours is not.

    Raises:
        InputError: another space or process, or a run that cannot be told the same.
    """
    from diffprob.runs.folder import Run

    other = Run.open(args.guide_with)
    if other.space != run.space or other.recipe.process != run.recipe.process:
        raise InputError(f"--guide-with {args.guide_with}: another space or process than {run.name}")
    theirs = other.recipe.condition
    try:
        told = None
        if theirs is not None:  # what it is told where ours is told nothing is the null
            told = theirs.null() if rows is None else _rows_of(theirs, run.recipe.condition, rows)
    except InputError as error:
        raise InputError(
            f"--guide-with {args.guide_with}: {error}; a run that is told the same would be right"
        ) from error
    weak = other.load(choose_device(args.device), args.batch or "auto", args.precision)
    if told is None:
        return weak, "" if rows is None else ", which is told nothing"
    return weak.given(told), ""


def _rows_of(theirs: Any, ours: Any, rows: "Tensor") -> "Tensor":
    """What tells another run the same as ``rows`` tell ours: classes by name, or by number where neither has names.

    Raises:
        InputError: it cannot be told that.
    """
    from diffprob.conditions.condition import Labels

    if theirs == ours:
        return rows
    if not (isinstance(theirs, Labels) and isinstance(ours, Labels)):
        raise InputError(f"it is told {one_line(repr(theirs), 60)}, not {one_line(repr(ours), 60)}")
    found = {row: _number_in(theirs, ours, row) for row in rows.unique().tolist()}
    return rows.new_tensor([found[row] for row in rows.tolist()])


def _number_in(theirs: "Labels", ours: "Labels", label: int) -> int:
    if label == ours.classes:
        return int(theirs.null())
    if bool(theirs.names) != bool(ours.names):
        raise InputError(f"{'its' if ours.names else 'only its'} classes have {'no ' * bool(ours.names)}names")
    return theirs.number(ours.name(label))


def _told(run: "Run") -> str:
    """What would be right."""
    kind = type(run.recipe.condition).__name__
    if kind == "NoneType":
        return f"{run.name} was trained without any (a recipe with condition=Labels(...) would be right)"
    if kind == "Degraded":
        return f"{run.name} is told images: diffprob restore {run.name} IMAGES would be right"
    option = {"Labels": "--label", "Captions": "--caption"}.get(kind)
    return f"{run.name} is told {kind.lower()}" + (f": {option} would be right" if option else "")


def _words(args: argparse.Namespace) -> tuple[str, ...]:
    words = [] if args.label is None else ["--label", *args.label]
    words += [] if args.caption is None else ["--caption", *args.caption]
    if args.classify_with is not None:
        words += ["--classify-with", args.classify_with]
        words += [] if args.classifier_scale is None else ["--classifier-scale", repr(args.classifier_scale)]
    if args.guidance_interval:
        words += ["--guidance-interval", *map(repr, args.guidance_interval)]
    if args.guidance:
        words += ["--guidance", repr(args.guidance)]
        if args.guidance_rescale:
            words += ["--guidance-rescale", repr(args.guidance_rescale)]
        if args.guide_with:
            words += ["--guide-with", args.guide_with]
    return tuple(words)


def _text(args: argparse.Namespace, low: float, high: float) -> str:
    parts = [f"{args.guidance:g}"]
    if args.guidance_interval:
        parts.append(f"within {low:g} <= t <= {high:g}")
    if args.guidance_rescale:
        parts.append(f"rescaled by {args.guidance_rescale:g}")
    if args.guide_with:
        parts.append(f"away from {args.guide_with}")
    return ", ".join(parts)


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be finite, got {text}")
    return value


def _unit(text: str) -> float:
    value = _finite(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must lie in [0, 1], got {text}")
    return value
