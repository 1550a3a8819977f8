"""A run in short, for people: what it is, how good it is, and what can be done with it next."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diffprob.base.errors import InputError
from diffprob.base.levels import kind_text
from diffprob.base.text import one_line
from diffprob.conditions.captions import Captions
from diffprob.conditions.condition import Labels
from diffprob.conditions.low_resolution import LowResolution
from diffprob.config.classes import classes_text
from diffprob.config.recipe import AnyRecipe, AutoencoderRecipe, NoisyClassifierRecipe, Recipe, parameter_count
from diffprob.config.spec import render
from diffprob.data.combined import held_out_source
from diffprob.data.formats.folder import split_roots
from diffprob.data.library import known_places
from diffprob.data.places import paths
from diffprob.data.sources import Array, Folder
from diffprob.evaluation.suite import METRICS
from diffprob.recipes import is_named
from diffprob.reporting.repeat import Command, quoted
from diffprob.reporting.summary import duration, last_part
from diffprob.runs.fits import fits_for, fitted
from diffprob.runs.folder import AnyRun, AutoencoderRun, BaselineRun, NoisyClassifierRun, Run, open_run
from diffprob.runs.measurements import NOTHING, Measurement, interval, number
from diffprob.space.real_numbers import Reals
from diffprob.space.space import Space
from diffprob.space.units import unit_of
from diffprob.storage.records import last_record
from diffprob.training.denoising import Denoising

HEAD = ("how good it is", "value", "95% interval", "real images", "better", "n")
# Of the measurements.
FIRST = ("bits/dim", "nats/dim", "PSNR", "Frechet distance", "KID", "memorisation", "AUROC", "precision", "recall")
_MOST, _WIDE = 5, 34  # measurements that are shown, characters of a name
_BETTER = {metric.title: metric.better for metric in METRICS.values() if metric.title}
_BETTER |= {"bits/dim": "lower", "nats/dim": "lower"}
_BETTER |= {"recall": "higher", "PSNR": "higher", "memorisation": "1 or above", "AUROC": "higher"}


@dataclass(frozen=True)
class RunSummary:
    """A run in short.

    Args:
        path: where it lies, or its name, for a packaged one.
        name: of the run.
        shape: of its images, in words.
        parameters: of the network.
        step: of the weights, of ``steps``.
        steps: of the training.
        loss: the last that was logged; None: none was.
        library: version of diffprob that trained it.
        data_sha256: digest of its images, None where it is not known.
        classes: that it can be conditioned on, in words; None: none.
        fits: what was fitted to it; None for a baseline, classifier or autoencoder, to which nothing is.
        measurements: all that are recorded with it.
        text: its recipe.
        seconds: that its training has taken, by its log; None: it has none.
        about: what it is, as rows (name, text).
        quality: how good it is: a row, as `HEAD`, of each of the measurements that say most.
        next: commands that go on from here.
    """

    path: str
    name: str
    shape: str
    parameters: int
    step: int
    steps: int
    loss: float | None
    library: str
    data_sha256: str | None
    classes: str | None
    fits: list[str] | None
    measurements: list[Measurement]
    text: str
    seconds: float | None
    about: list[tuple[str, str]]
    quality: list[tuple[str, ...]]
    next: list[Command]

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        return asdict(self)


def describe_run(name: str | Path) -> RunSummary:
    """A run, baseline or classifier, by its folder or name.

    Raises:
        InputError: there is none, or it is damaged.
    """
    run = open_run(name)
    log = last_record(run.path, "loss") or {}
    seconds = log.get("seconds")
    fits, measurements = fitted(run) if isinstance(run, Run) else None, list(run.measurements)
    return RunSummary(
        path=run.place,
        name=run.name,
        shape=shape_text(run.space),
        parameters=parameter_count(run.recipe),
        step=run.meta["step"],
        steps=run.recipe.training.steps,
        loss=log.get("loss"),
        library=run.meta["library"],
        data_sha256=run.meta["data"],
        classes=classes_text(run.recipe) or None,
        fits=fits,
        measurements=measurements,
        text=render(run.recipe),
        seconds=seconds if isinstance(seconds, int | float) else None,
        about=_about(run, log, fits),
        quality=quality(measurements, run.meta["step"]),
        next=_next(run, fits or [], measurements),
    )


def shape_text(space: Space) -> str:
    """The images of a space in words: "28x28x1, 256 levels"."""
    if isinstance(space, Reals):
        return space.text
    channels, height, width = space.shape
    return f"{height}x{width}x{channels}, {space.levels} levels"


def _data_text(space: Space) -> str:
    """The data of a space in words: "28x28 grey images, 17 grey levels"."""
    if isinstance(space, Reals):
        return f"{space.kind} of {space.text}"
    channels, height, width = space.shape
    levels = f", {space.levels} grey levels" if space.levels != 256 else ""
    return f"{width}x{height} {kind_text(channels)} images{levels}"


def short_text(run: Run) -> str:
    """A run on one line: its classes, how far it is trained, and the number that says most."""
    classes, step, steps = classes_text(run.recipe, 60), run.meta["step"], run.recipe.training.steps
    trained = f"trained {step:,} of {steps:,} steps" if step else "not trained yet"
    try:
        best = quality(run.measurements, step)[:1]
    except InputError:  # a text about a run is no place to refuse it: whoever reads its measurements is told
        best = []
    good = [" ".join(part for part in row[:2]) + (f" ({row[2]})" if row[2] != NOTHING else "") for row in best]
    return "; ".join([*([f"classes {classes}"] if classes else []), trained, *good])


def _about(run: AnyRun, log: dict[str, Any], fits: list[str] | None) -> list[tuple[str, str]]:
    """What the run is, in rows."""
    recipe, training, step, digest = run.recipe, run.recipe.training, run.meta["step"], run.meta["data"]
    kind = f"{_kind(recipe)} of {_data_text(recipe.space)}"
    count = _count(log, training.batch)
    places = ", ".join(sorted(path for path in paths(recipe.data) if path)) or repr(recipe.data)
    data = one_line(places, 44) + (f", about {count:,} images" if count else "")
    trained = f"{step:,} of {training.steps:,} steps of {training.batch} images" if step else "not yet"
    if isinstance(seconds := log.get("seconds"), int | float):
        trained += f" in {duration(seconds)}"
    if log:
        trained += f", last loss {log['loss']:.4g}"
    classes = classes_text(recipe, 76)
    network = f"{type(recipe.network).__name__.removesuffix('Spec')}, {parameter_count(recipe):,} parameters"
    return [
        ("run", one_line(f"{run.place}: {kind}", 88)),
        ("data", f"{data}, sha256 {digest[:12]}" if digest else data),
        *([("classes", classes)] if classes else []),
        ("network", f"{network}; made with diffprob {one_line(run.meta['library'], 30)}"),
        ("trained", trained),
        *([] if fits is None else [("fitted", ", ".join(fits) or "nothing")]),
    ]


def _kind(recipe: AnyRecipe) -> str:
    """What was trained."""
    if isinstance(recipe, Recipe):
        return "a diffusion model" if isinstance(recipe.objective, Denoising) else "a network"
    if isinstance(recipe, AutoencoderRecipe):
        return "an autoencoder"
    return "a classifier of noised images," if isinstance(recipe, NoisyClassifierRecipe) else "a baseline"


def _count(log: dict[str, Any], batch: int) -> int | None:
    """How many images an epoch had, by a record of the log."""
    epoch = log.get("epoch")
    if not isinstance(epoch, int | float) or epoch < 0.01:
        return None
    count = log["step"] * batch / epoch
    return round(count) if epoch >= 1 else round(float(f"{count:.2g}"))  # epochs have four decimals


def quality(measurements: Sequence[Measurement], step: int) -> list[tuple[str, ...]]:
    """Rows, as `HEAD`, of the measurements that say most: bits/dim, Frechet distance, ..., the newest of each name.

    Args:
        measurements: of the run.
        step: of its weights: what was measured on others says so.
    """
    newest = {item.name: item for item in measurements if ", class " not in item.name}

    def rank(item: Measurement) -> int:
        return next((place for place, word in enumerate(FIRST) if item.name.startswith(word)), len(FIRST))

    rows = []
    for item in sorted(newest.values(), key=rank)[:_MOST]:
        better = next((text for title, text in _BETTER.items() if item.name.startswith(title)), NOTHING)
        reference = NOTHING if item.reference is None else number(item.reference)
        old = "" if item.step in (None, step) else f", at step {item.step:,}"
        name = item.name if len(item.name) <= _WIDE else item.name.partition(" (")[0]
        row = (number(item.value), interval(item) or NOTHING, reference, better, f"{item.n:,}{old}")
        rows.append((one_line(name, _WIDE), *row))
    return rows


def _next(run: AnyRun, fits: Sequence[str], measurements: Sequence[Measurement]) -> list[Command]:
    """What can be done with the run, by commands that work as they stand but for places in capitals or path/to/."""
    place = quoted(run.place)
    if not run.meta["step"]:
        return [Command("train it", f"diffprob train {place}")]
    if isinstance(run, NoisyClassifierRun):
        text = f"diffprob translate RUN IMAGES --classifier {place} --out FOLDER"
        return [Command("translate images by it", text)]
    if isinstance(run, AutoencoderRun):
        return [Command("train diffusion in its latents", _latent_command(run, place))]
    if isinstance(run, BaselineRun):
        return [Command("tell images apart by it", f"diffprob detect RUN --outside IMAGES --resize --with {place}")]
    named, data = {item.name.partition(" (")[0] for item in measurements}, _data_option(run)
    held_out = "held-out " if _has_held_out(run.recipe.data) else ""
    inside = "" if held_out else " --held-out GOOD-PICTURES"
    commands = _drawing(run.recipe, place)
    space = run.space
    is_real = isinstance(space, Reals)
    what, noun, others = ("data", "data", "DATA.npy") if is_real else ("images", "pictures", "PICTURES --resize")
    bounds = space.bounded or space.is_discrete or is_real
    if bounds and not isinstance(run.recipe.condition, LowResolution | Captions):
        commands += [
            Command(f"{unit_of(space).name} of {held_out}{what}", f"diffprob likelihood {place}{data}"),
            Command(f"find {noun} that do not belong", f"diffprob detect {place} {others}{inside}{data}"),
        ]
    if "Frechet distance" not in named:
        commands.append(Command(f"compare samples with {held_out}{what}", f"diffprob evaluate {place}{data}"))
    missing = [kind for kind in fits_for(run.recipe) if kind not in fits]
    if missing and not run.is_packaged:
        commands.append(Command("better numbers, in fewer steps", f"diffprob fit {place} {' '.join(missing)}{data}"))
    if not run.is_packaged:
        commands.append(_training(run, place, data))
    return [*commands, Command("all of it as a page", f"diffprob report {place}")]


def _latent_command(run: AutoencoderRun, place: str) -> str:
    """How a diffusion model is trained in the latents of an autoencoder."""
    recipe = f"{run.name.removesuffix('_autoencoder')}_latent"
    return f"diffprob train {recipe if is_named(recipe) else 'RECIPE'} --set space.autoencoder.run={place}"


def _drawing(recipe: Recipe, place: str) -> list[Command]:
    """How images are drawn."""
    condition = recipe.condition
    if isinstance(condition, LowResolution):
        return [Command("enlarge images", f"diffprob restore {place} IMAGES --out FOLDER")]
    if isinstance(condition, Captions):
        caption = shlex.quote(condition.examples[0]) if condition.examples else "TEXT"
        return [Command("draw images of a caption", f"diffprob sample {place} --caption {caption}")]
    commands = [Command("draw images", f"diffprob sample {place}")]
    if isinstance(condition, Labels):
        name = next((name for name in condition.names if name), "0")
        label = f"--label={shlex.quote(name)}" if name.startswith("-") else f"--label {shlex.quote(name)}"
        guidance = " --guidance 1" if condition.drop else ""
        commands.append(Command("draw images of one class", f"diffprob sample {place} {label}{guidance}"))
    return commands


def _training(run: Run, place: str, data: str) -> Command:
    """How training goes on."""
    if run.meta["step"] < run.recipe.training.steps:
        return Command(f"go on to step {run.recipe.training.steps:,}", f"diffprob train {place}{data}")
    return Command("go on with training", f"diffprob train {place} --for 20m{data}")


def _has_held_out(source: Any) -> bool:
    """Whether the data has held-out images, as far as can be told without reading any."""
    place = Path(str(getattr(source, "path", ""))).expanduser()
    try:
        held_out_source(source)
        if isinstance(source, Folder) and place.is_dir():
            split_roots(place, "test")
    except (InputError, OSError):
        return False
    return not (isinstance(source, Array) and place.suffix == ".npy")


def _data_option(run: Run) -> str:
    """Where the run's images are, as an option: nothing where they lie where the recipe says, or may be found."""
    gone = [path for path in paths(run.recipe.data) if path and not Path(path).expanduser().exists()]
    if not gone or known_places():
        return ""
    return f" --data {quoted(f'path/to/{last_part(gone[0])}')}"
