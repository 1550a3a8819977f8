"""A classifier of noised images under a run's noise, which begins with the run's weights.

Of one source it learns the labels; of several, which of them an image is from, which is what a translation needs: the
source's images first, then the target's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffprob.base.checks import shown, whole
from diffprob.base.errors import FieldError, InputError
from diffprob.base.rng import Rng, permutation
from diffprob.base.text import printable
from diffprob.config.classes import agreed, labels_of, nameless
from diffprob.data.combined import Concatenated, concatenate, held_out_source
from diffprob.data.for_run import TEST, TRAIN, Selection
from diffprob.data.images import Images
from diffprob.data.kinds import open_data
from diffprob.data.places import without_folders
from diffprob.data.sources import Folder, HuggingFace, Pages
from diffprob.evaluation.estimate import wilson
from diffprob.recipes.noisy_classifiers import STEPS, noisy_classifier
from diffprob.runs.files import read_recipe
from diffprob.runs.folder import NoisyClassifierRun, Run, open_run
from diffprob.runs.measurements import Measurement
from diffprob.storage.files import expanded
from diffprob.storage.folders import is_run
from diffprob.tasks.compute import choose_device
from diffprob.tasks.drawing import slices
from diffprob.tasks.images import held_out, recorded_images
from diffprob.tasks.options import option
from diffprob.tasks.recording import recorded
from diffprob.tasks.reporter import SILENT, Reporter
from diffprob.tasks.training import set_fields
from diffprob.tasks.training_plan import PreparedTraining, TrainResult
from diffprob.tasks.training_run import Halt, never, run_training
from diffprob.training.noisy_classifier import is_correct

AT = (0.1, 0.3, 0.5, 0.7, 0.9)  # times at which it is tested
TESTED = 1000  # images at most
BATCH = 100  # of them at a time


@dataclass(frozen=True, kw_only=True)
class NoisyClassifierRequest:
    """What is to be told apart; the same request again resumes.

    Args:
        data: labelled images, or two or more sources of images: folders, files, "digits" or "hf:NAME".
        size: scale and crop pictures to size x size.
        out: the new run's folder; None: ``runs/NAME-noisy-classifier``, NAME of the run's folder.
        steps: train until this step; None: 600.
        overrides, device: as in a `diffprob.tasks.training.TrainRequest`.
        seed: decides order and noise; None: the run's.

    Raises:
        ValueError: no data, or a number outside its domain.
    """

    data: tuple[str, ...]
    size: int | None = None
    out: str | Path | None = None
    steps: int | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if not isinstance(self.data, tuple | list) or not self.data:
            raise FieldError("data", f"must be a tuple of one source or several, got {shown(self.data)}")
        whole("size", self.size, 2, none=True)
        whole("steps", self.steps, 1, none=True)
        whole("seed", self.seed, 0, 2**62, none=True)


@dataclass(frozen=True)
class PreparedNoisyClassifier:
    """A classifier that is about to be trained.

    Args:
        training: its training.
        test: held-out images; None: it is tested on the training images.
    """

    training: PreparedTraining
    test: Images | None


@dataclass(frozen=True)
class NoisyClassifierResult:
    """A classifier of noised images, and how often it is right.

    Args:
        training: of the new run.
        accuracy: share of images that are recognised, at each of the times ``at``.
        at: times, from little noise to much.
        tested: images.
        on: which, in words.
        classes: their names.
        recorded: "recorded", whether the run keeps the shares, and "not_recorded", why not.
    """

    training: TrainResult
    accuracy: tuple[float, ...]
    at: tuple[float, ...]
    tested: int
    on: str
    classes: tuple[str, ...]
    recorded: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        return {
            **self.training.to_json(),
            **self.recorded,
            "at": list(self.at),
            "accuracy": list(self.accuracy),
            "tested": self.tested,
            "on": self.on,
            "classes": list(self.classes),
        }

    def __repr__(self) -> str:
        shares = ", ".join(f"{share:.1%} at t = {t:g}" for t, share in zip(self.at, self.accuracy, strict=True))
        return f"{self.training!r}; recognises {shares} of {self.tested:,} images of {self.on}"


def train_noisy_classifier(
    run: Run, request: NoisyClassifierRequest, reporter: Reporter = SILENT, halt: Halt = never
) -> NoisyClassifierResult | None:
    """Train, or go on; then test. None in all processes but the first.

    Raises:
        Halted, InputError, NumericalError: as `diffprob.tasks.training.train`.
    """
    return run_noisy_classifier(prepare_noisy_classifier(run, request, reporter), reporter, halt)


def prepare_noisy_classifier(
    run: Run, request: NoisyClassifierRequest, reporter: Reporter = SILENT
) -> PreparedNoisyClassifier:
    """Read the images and make the recipe, without training.

    Raises:
        InputError: images without labels or of another kind than the run's, or a run that begins no classifier.
    """
    sources = [source_for(text, run, request.size) for text in request.data]
    data = sources[0] if len(sources) == 1 else Concatenated(tuple(sources))
    images = data.load()
    _check_fits(images, run)
    names = _classes(images)
    test = _held_out(sources, reporter)
    if test is not None:  # before the training: a test split that cannot be used would be found after it
        _check_fits(test, run)
    recipe = noisy_classifier(run, data, names, request.steps or STEPS)
    out = expanded(request.out or f"runs/{run.path.resolve().name}-noisy-classifier")
    begun = nameless(read_recipe(out)) if is_run(out) else None
    if begun is not None:
        recipe = noisy_classifier(run, data, begun.classes, request.steps or STEPS)
    recipe = set_fields(recipe, request.overrides, reporter)
    if request.seed is not None:
        recipe = replace(recipe, training=replace(recipe.training, seed=request.seed))
    training = PreparedTraining(recipe=recipe, out=out, images=images, device=request.device, notes=images.notes)
    return PreparedNoisyClassifier(training, test)


def run_noisy_classifier(
    prepared: PreparedNoisyClassifier, reporter: Reporter = SILENT, halt: Halt = never
) -> NoisyClassifierResult | None:
    """Train, or go on; then test.

    Raises:
        Halted, InputError, NumericalError: as `diffprob.tasks.training.train`.
    """
    training = run_training(prepared.training, reporter, halt)
    if training is None:
        return None
    run, images = open_run(prepared.training.out), prepared.training.images
    assert isinstance(run, NoisyClassifierRun) and images is not None
    return _tested(training, run, images, prepared.test, reporter)


def source_for(text: str, run: Run, size: int | None = None, split: str = "train") -> Any:
    """The source that ``text`` means; pictures are read in the run's channels.

    Raises:
        InputError: as `diffprob.data.open_data`.
    """
    source = open_data(text, size=size, split=split)
    return replace(source, channels=run.space.shape[0]) if isinstance(source, Folder | Pages | HuggingFace) else source


def _classes(images: Images) -> tuple[str, ...]:
    """Names of the classes that occur.

    Raises:
        InputError: no labels, or a single one.
    """
    if images.labels is None:
        raise InputError(
            f"{images.name} has no labels; those of sub-folders, or a second DATA to be told from it, would be right"
        )
    names = labels_of(images).names
    if len(names) < 2:
        raise InputError(f"{images.name} has one class; a second DATA to be told from it would be right")
    return names


def _check_fits(images: Images, run: Run) -> None:
    """Refuse images that are none for the run; they are not converted, for the new run is to find them again.

    Raises:
        InputError: another shape or number of grey levels.
    """
    theirs, ours = images.event_shape, run.space.shape
    both = (
        f"{images.name}: shape {theirs} and {images.levels} grey levels, {run.name} has {ours} and {run.space.levels}"
    )
    if images.levels != run.space.levels:
        raise InputError(f"{both}; the run's own images, or a run of {images.levels} grey levels, would be right")
    if theirs != ours:
        resized = ours[1] == ours[2] and theirs[1:] != ours[1:]
        size = f" (of pictures {option('size', ours[1])} makes such)" if resized else ""
        raise InputError(f"{both}; images of that shape{size} would be right")


def _tested(
    training: TrainResult, run: NoisyClassifierRun, train: Images, test: Images | None, reporter: Reporter
) -> NoisyClassifierResult:
    """The share of held-out images (or of the others without any) that is recognised at the times `AT`, also put down
    in the run.
    """
    device = choose_device(training.device)
    images, on = (train, "the training data") if test is None else (test, "the test split")
    split, source = (TRAIN, run.recipe.data) if test is None else (TEST, held_out_source(run.recipe.data))
    details = recorded_images(Selection(images, repr(without_folders(source)), split, split, images.digest()))
    train, images = agreed(run.recipe, train, images)
    classes = run.recipe.condition.classes
    labels, names = images.labels, run.recipe.condition.names or train.class_names[:classes]
    known = labels < classes
    if not known.all():
        others = printable(", ".join(images.class_names[classes:]))
        count = f"{len(known) - known.sum():,}"
        reporter.note(f"{count} images of classes that it was not trained on are left out: {others}")
    chosen = permutation(0, 0, len(images))
    chosen = chosen[known[chosen]][:TESTED]
    x0 = run.space.to_model(torch.from_numpy(images.take(chosen)))
    model, rng = run.load(device), Rng.of(0, len(chosen), device=device)
    measurements: list[Measurement] = []
    for t in AT:
        hits = _hits(model, x0.to(device), torch.from_numpy(labels[chosen]), t, rng)
        low, high = wilson(hits, len(chosen))
        name = f"accuracy at t = {t:g}"
        measurements.append(Measurement(name, hits / len(chosen), len(chosen), 0, low=low, high=high, **details))
    kept = recorded(run, lambda: run.record(*measurements), reporter)
    shares = tuple(measurement.value for measurement in measurements)
    return NoisyClassifierResult(training, shares, AT, len(chosen), on, tuple(names), kept)


def _hits(model: Any, x0: Tensor, labels: Tensor, t: float, rng: Any) -> int:
    return sum(
        int(is_correct(model, x0[part], labels[part], t, rng.select(part)).sum()) for part in slices(len(x0), BATCH)
    )


def _held_out(sources: Sequence[Any], reporter: Reporter) -> Images | None:
    """The test splits of all sources, joined as these are; None, and a line, where one has none."""
    splits = []
    for source in sources:
        images = held_out(source)
        if images is None or (images.labels is None and len(sources) == 1):
            reporter.note(f"{source!r} has no test split: tested on the training images, which flatters")
            return None
        splits.append(images)
    return splits[0] if len(splits) == 1 else concatenate(splits, Concatenated(tuple(sources)).names)
