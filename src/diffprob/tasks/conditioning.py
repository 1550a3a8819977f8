"""The condition of the images to draw, and how strongly they are guided that way."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffprob.base.checks import MOST, instance, real, several, text
from diffprob.base.errors import InputError
from diffprob.base.text import one_line, printable
from diffprob.conditions.captions import Captions
from diffprob.conditions.condition import Labels
from diffprob.conditions.low_resolution import LowResolution
from diffprob.data.images import Images
from diffprob.denoise.denoiser import Denoiser, NetworkModel
from diffprob.guidance.classifier_free import AutoGuidance, ClassifierFree
from diffprob.guidance.energy import EnergyGuided, LabelEnergy
from diffprob.runs.folder import NoisyClassifierRun, Run, open_run
from diffprob.tasks.compute import Compute
from diffprob.tasks.options import option
from diffprob.tasks.reporter import Reporter

NONE = "none"  # the label that stands for no condition
OWN, ITS_OWN = "own", "its own label"  # the label that stands for that of each image, and how to say it
IMAGES = "images"  # the condition of a run that enlarges them
MOST_NAMED = 12  # classes whose shares are all said


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """What to draw, and how strongly to be guided there.

    Args:
        label: names of classes (numbers where they have no names), in turn; ("none",): of any; None: all in turn.
        caption: captions, in turn, for a run that reads them; ("none",): of any.
        guidance: W of classifier-free guidance, (1 + W) conditional - W unconditional; 0: none.
        guidance_interval: (low, high) times within which to guide; None: all.
        guidance_rescale: share of the unguided contrast to keep, in [0, 1].
        guide_with: a weaker run to be guided away from, instead of the unconditional model.
        classify_with: a run of `diffprob noisy-classifier` that guides a run without a condition towards ``label``.
        classifier_scale: how strongly; None: 1.
    """

    label: tuple[str, ...] | None = None
    caption: tuple[str, ...] | None = None
    guidance: float = 0.0
    guidance_interval: tuple[float, float] | None = None
    guidance_rescale: float = 0.0
    guide_with: str | None = None
    classify_with: str | None = None
    classifier_scale: float | None = None

    def __post_init__(self) -> None:
        for name in ("label", "caption"):
            if getattr(self, name) is not None:
                several(name, getattr(self, name), lambda at, word: text(at, word, 0, MOST), most=MOST, like='("7",)')
        real("guidance", self.guidance, "(-inf, inf)")
        real("guidance_rescale", self.guidance_rescale, "[0, 1]")
        if self.guidance_interval is not None:
            several("guidance_interval", self.guidance_interval, _time, 2, 2, "(0.2, 0.8)")
        for name in ("guide_with", "classify_with"):
            instance(name, getattr(self, name), str, "the name or folder of a run, as text", none=True)
        real("classifier_scale", self.classifier_scale, "(-inf, inf)", none=True)


def _time(name: str, value: object) -> None:
    real(name, value, "[0, 1]")


@dataclass(frozen=True)
class Guided:
    """A run's network with its condition, and guided.

    Args:
        conditional: the network with its condition.
        guided: what samplers see: the same, or guided.
        branches: evaluations of a network for each of the guided model.
        settings: ``told`` and ``guidance`` as text, None where there is none.
    """

    conditional: NetworkModel
    guided: Denoiser
    branches: int
    settings: dict[str, str | None]


def apply_guidance(
    model: NetworkModel,
    run: Run,
    conditioning: Conditioning,
    n: int,
    compute: Compute,
    reporter: Reporter,
    one: bool = False,
    images: Tensor | None = None,
    counts: Sequence[int] = (),
) -> Guided:
    """The network of the run with its condition, and guided, for n images.

    Args:
        model: of the run.
        run: the run.
        conditioning: what to draw, and how strongly to be guided there.
        n: images.
        compute: of the networks that guide beside the run's.
        reporter: who hears notes.
        one: whether all images have one condition.
        images: the condition of a run that enlarges images.
        counts: of each class, in whose shares classes are drawn where none is asked for; empty: all in turn.

    Raises:
        InputError: a label or guidance that the run does not know, or no images where it wants them.
    """
    if conditioning.classify_with is not None:
        return _classified(model, run, conditioning, n, compute, one)
    if conditioning.classifier_scale is not None:
        raise InputError(f"{option('classifier_scale')} goes with {option('classify_with', 'REC')}")
    rows, condition_text = _rows(run, conditioning, n, reporter, one, images, counts)
    conditional = model if rows is None else model.condition_on(rows)
    settings: dict[str, str | None] = {"told": condition_text, "guidance": None}
    low, high = conditioning.guidance_interval or (0.0, 1.0)
    if not conditioning.guidance:
        for name in ("guidance_interval", "guidance_rescale", "guide_with"):
            if getattr(conditioning, name):
                raise InputError(f"{option(name)} goes with {option('guidance', 'W')}")
        return Guided(conditional, conditional, 1, settings)
    if conditioning.guidance_rescale:
        run.recipe.process.require_linear(option("guidance_rescale", conditioning.guidance_rescale))
    network: Any = model
    if low > high:
        raise InputError(f"{option('guidance_interval', (low, high))}: the lower time comes first")
    strength = (conditioning.guidance, low, high, conditioning.guidance_rescale)
    settings["guidance"] = guidance = _text(conditioning, low, high)
    if conditioning.guide_with is not None:
        weak, unconditional = _weaker(run, conditioning, compute, rows)
        settings["guidance"] = guidance + unconditional
        return Guided(conditional, AutoGuidance(conditional, weak, *strength), 2, settings)
    if rows is None or condition_text == NONE:
        raise InputError(
            f"{option('guidance', f'{conditioning.guidance:g}')} steers towards what the network is told: {_right(run)}"
        )
    guided = ClassifierFree(network, rows, *strength)
    return Guided(conditional, guided, 1 if conditioning.guidance == -1 else 2, settings)


def _classified(
    model: NetworkModel, run: Run, conditioning: Conditioning, n: int, compute: Compute, one: bool
) -> Guided:
    """A run without a condition, guided towards labels by a classifier of noised images."""
    assert conditioning.classify_with is not None
    classifier, classify_with = (
        open_classifier(conditioning.classify_with, run, "classify_with"),
        option("classify_with", conditioning.classify_with),
    )
    scale = 1.0 if conditioning.classifier_scale is None else conditioning.classifier_scale
    if run.recipe.condition is not None:
        instead = f"{_right(run)}, and {option('guidance', 'W')}"
        raise InputError(f"{classify_with} is for a run that is told nothing; {instead}")
    if conditioning.label is None or conditioning.label == (NONE,):
        raise InputError(f"{classify_with} goes with {option('label', 'L')}, which it is to see")
    for name in ("guidance", "guidance_rescale", "guide_with", "caption"):
        if getattr(conditioning, name):
            raise InputError(f"{classify_with} and {option(name)} exclude each other")
    low, high = conditioning.guidance_interval or (0.0, 1.0)
    if low > high:
        raise InputError(f"{option('guidance_interval', (low, high))}: the lower time comes first")
    rows = _labels(classifier.name, classifier.recipe.condition, conditioning.label)
    if len(rows) > 1 and one:
        labels = option("label", _one_or_all(conditioning.label))
        raise InputError(f"{labels}: one label for all images would be right here")
    rows = rows if len(rows) == 1 else rows[torch.arange(n) % len(rows)]
    network = classifier.load(compute.on(), compute.batch or "auto", compute.exact)
    guided = EnergyGuided(model, LabelEnergy(network, rows, scale), low, high)
    within = "" if conditioning.guidance_interval is None else f", within {low:g} <= t <= {high:g}"
    by = f"the classifier {classifier.name} ({classifier.sha256()[:12]}), scale {scale:g}{within}"
    label_text = printable(", ".join(conditioning.label)) + ("" if len(rows) == 1 else " in turn")
    return Guided(model, guided, 1, {"told": label_text, "guidance": by})


def _rows(
    run: Run,
    conditioning: Conditioning,
    n: int,
    reporter: Reporter,
    one: bool,
    images: Tensor | None,
    counts: Sequence[int],
) -> tuple[Tensor | None, str | None]:
    """The condition of each image, and how to say it."""
    condition = run.recipe.condition
    for name, kind in (("label", Labels), ("caption", Captions)):
        requested = getattr(conditioning, name)
        if requested is not None and not isinstance(condition, kind):
            raise InputError(f"{option(name, _one_or_all(requested))}: {_right(run)}")
    if condition is None:
        return None, None
    if images is not None:
        return images, IMAGES
    if isinstance(condition, LowResolution):
        if not condition.drop:
            raise InputError(f"{run.name} enlarges images and draws none by itself: diffprob restore {run.name} IMAGES")
        return condition.null(), NONE
    name, requested = (
        ("label", conditioning.label) if conditioning.caption is None else ("caption", conditioning.caption)
    )
    if requested is None and isinstance(condition, Labels) and counts and not one:
        return condition.in_shares(counts, n), shares_text(condition, counts)
    if requested is None:
        return (condition.null(), NONE) if one else (condition.example_rows(n), _all_in_turn(condition))
    if requested == (NONE,):
        if isinstance(condition, Labels) and NONE in condition.names:
            reporter.note(
                f"{option('label', NONE)} on its own means any class; for the class of that name: "
                f"{option('label', (NONE, NONE))}"
            )
        return condition.null(), NONE
    captioned = isinstance(condition, Captions)
    rows = _captions(condition, requested) if captioned else _labels(run.name, condition, requested)
    text = printable(", ".join(requested))
    if len(rows) == 1:
        return rows, text
    if one:
        raise InputError(f"{option(name, _one_or_all(requested))}: one {name} for all images would be right here")
    return rows[torch.arange(n) % len(rows)], f"{text} in turn"


def measured_condition(
    run: Run, label: str | None, images: Images, reporter: Reporter
) -> tuple[Tensor | None, str | None]:
    """The condition under which images are measured, and how to say it: a row for each, one (1, ...) for all, or None.

    Args:
        run: whose network.
        label: "own": that of each image; the name of a class: this one for all; "none" or None: none, p(x).
        images: which.
        reporter: who hears notes.

    Raises:
        InputError: no such class, images without labels or of other classes, or a run that was told nothing, or was
            never trained without its labels.
    """
    condition = run.recipe.condition
    if label is not None and not isinstance(condition, Labels):
        raise InputError(f"{option('label', label)}: {_right(run)}")
    if not isinstance(condition, Labels):
        return None, None if condition is None else NONE
    if label in (None, NONE):
        if not condition.drop:
            right = f"{option('label', OWN)} measures p(x|label)"
            raise InputError(f"{run.name} was always told a label, so that it has no p(x) of all images; {right}")
        return None, NONE
    if label != OWN:
        return _labels(run.name, condition, (label,)), printable(label)
    if OWN in condition.names:
        reporter.note(f"{option('label', OWN)} means the class of each image, not the class of that name")
    try:
        return torch.from_numpy(condition.from_dataset(images)), ITS_OWN
    except InputError as error:
        raise InputError(f"{option('label', OWN)}: {error}") from error


def _one_or_all(words: Sequence[str]) -> str | tuple[str, ...]:
    """What was asked for, as an option has it."""
    return words[0] if len(words) == 1 else tuple(words)


def _all_in_turn(condition: Any) -> str:
    """All that there is to be told, by name where there are a few names."""
    names = [name for name in getattr(condition, "names", ()) if name]
    return f"{printable(', '.join(names))} in turn" if 0 < len(names) <= MOST_NAMED else "all in turn"


def _labels(name: str, condition: Any, labels: Sequence[str]) -> Tensor:
    try:
        return torch.tensor([condition.number(text) for text in labels])
    except InputError as error:
        raise InputError(
            f"{option('label', _one_or_all(labels))}: {name}: {error} (or {NONE} on its own: of any)"
        ) from error


def shares_text(condition: Labels, counts: Sequence[int]) -> str:
    """How often each class is drawn, in words; of many classes the rarest and the commonest."""
    total = sum(counts)
    shares = [(n / total, condition.name(k)) for k, n in enumerate(counts) if n]
    if len(shares) <= MOST_NAMED:
        return "the data's shares: " + printable(", ".join(f"{name} {share:.3g}" for share, name in shares))
    (low, rare), (high, common) = min(shares), max(shares)
    return f"the data's shares of {len(shares)} classes: " + printable(f"{rare} {low:.3g} to {common} {high:.3g}")


def _captions(condition: Captions, captions: Sequence[str]) -> Tensor:
    try:
        return torch.cat([condition.tokens(text) for text in captions])
    except InputError as error:
        raise InputError(f"{option('caption')}: {error}") from error


def _weaker(run: Run, conditioning: Conditioning, compute: Compute, rows: Tensor | None) -> tuple[Denoiser, str]:
    """The network of ``guide_with`` under our condition; and how to say that it has none where ours has one.

    Raises:
        InputError: another space or process, or a run that does not take our condition.
    """
    assert conditioning.guide_with is not None
    other, guide_with = Run.open(conditioning.guide_with), option("guide_with", conditioning.guide_with)
    if other.space != run.space or other.process != run.process:  # of learned schedules the curve, too
        raise InputError(f"{guide_with}: another space or process than {run.name}")
    theirs = other.recipe.condition
    try:
        condition_rows = None
        if theirs is not None:  # its condition where ours has none is the null
            condition_rows = theirs.null() if rows is None else _rows_of(theirs, run.recipe.condition, rows)
    except InputError as error:
        raise InputError(f"{guide_with}: {error}; a run that is told the same would be right") from error
    weak = other.load(compute.on(), compute.batch or "auto", compute.exact)
    if condition_rows is None:
        return weak, "" if rows is None else ", which is told nothing"
    return weak.condition_on(condition_rows), ""


def _rows_of(theirs: Any, ours: Any, rows: Tensor) -> Tensor:
    """Another run's condition that means what ``rows`` mean to ours: classes by name, or by number without names.

    Raises:
        InputError: there is none.
    """
    if theirs == ours:
        return rows
    if not (isinstance(theirs, Labels) and isinstance(ours, Labels)):
        raise InputError(f"it is told {one_line(repr(theirs), 60)}, not {one_line(repr(ours), 60)}")
    numbers = {row: _number_in(theirs, ours, row) for row in rows.unique().tolist()}
    return rows.new_tensor([numbers[row] for row in rows.tolist()])


def _number_in(theirs: Labels, ours: Labels, label: int) -> int:
    if label == ours.classes:
        return int(theirs.null())
    if bool(theirs.names) != bool(ours.names):
        raise InputError(f"{'its' if ours.names else 'only its'} classes have {'no ' * bool(ours.names)}names")
    return theirs.number(ours.name(label))


def _right(run: Run) -> str:
    """What would be right."""
    kind = type(run.recipe.condition).__name__
    if kind == "NoneType":
        return f"{run.name} was trained without any; {option('labels')} of a training tells it those of the images"
    if kind == "LowResolution":
        return f"{run.name} is told images: diffprob restore {run.name} IMAGES would be right"
    name = {"Labels": "label", "Captions": "caption"}.get(kind)
    return f"{run.name} is told {kind.lower()}" + (f": {option(name)} would be right" if name else "")


def command_options(conditioning: Conditioning) -> tuple[str, ...]:
    """The options of the command line that ask for the same again."""
    options = [] if conditioning.label is None else ["--label", *conditioning.label]
    options += [] if conditioning.caption is None else ["--caption", *conditioning.caption]
    if conditioning.classify_with is not None:
        options += ["--classify-with", conditioning.classify_with]
        options += (
            [] if conditioning.classifier_scale is None else ["--classifier-scale", repr(conditioning.classifier_scale)]
        )
    if conditioning.guidance_interval:
        options += ["--guidance-interval", *map(repr, conditioning.guidance_interval)]
    if conditioning.guidance:
        options += ["--guidance", repr(conditioning.guidance)]
        if conditioning.guidance_rescale:
            options += ["--guidance-rescale", repr(conditioning.guidance_rescale)]
        if conditioning.guide_with:
            options += ["--guide-with", conditioning.guide_with]
    return tuple(options)


def _text(conditioning: Conditioning, low: float, high: float) -> str:
    parts = [f"{conditioning.guidance:g}"]
    if conditioning.guidance_interval:
        parts.append(f"within {low:g} <= t <= {high:g}")
    if conditioning.guidance_rescale:
        parts.append(f"rescaled by {conditioning.guidance_rescale:g}")
    if conditioning.guide_with:
        parts.append(f"away from {conditioning.guide_with}")
    return ", ".join(parts)


def open_classifier(path: str, run: Run, field: str) -> NoisyClassifierRun:
    """The run of a classifier under the noise of ``run``, which the option ``field`` names.

    Raises:
        InputError: no such run, another kind, another space or another process.
    """
    classifier, named = open_run(path), option(field, path)
    if not isinstance(classifier, NoisyClassifierRun):
        raise InputError(f"{named}: no classifier of noised images; `diffprob noisy-classifier` trains one")
    if classifier.space != run.space or classifier.recipe.process != run.recipe.process:
        raise InputError(f"{named}: another space or process than {run.name}")
    return classifier
