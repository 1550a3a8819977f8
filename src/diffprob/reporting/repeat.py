"""Commands that make a run, its samples and its measurements again; safe to paste whatever a run is called."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from diffprob.base.errors import InputError
from diffprob.config.recipe import Recipe
from diffprob.recipes import RECIPES, named
from diffprob.reporting.material import Material, Samples
from diffprob.reporting.summary import fields_of, last_part
from diffprob.runs.measurements import Measurement

MOST_CHANGES = 8  # --set options of a readable command
# Measured by `diffprob evaluate`; a name that contains one of these has been measured.
ENOUGH = 10_000  # samples below which the bias of a Fréchet distance is not small
EVALUATED = ("fréchet", "frechet", "kid", "kernel", "precision", "recall")


@dataclass(frozen=True)
class Command:
    """A command with what it does.

    Args:
        what: it does, in a few words.
        text: to paste into a shell.
    """

    what: str
    text: str


def quoted(text: str) -> str:
    """One word of a command line; one that begins like an option is made a path."""
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def to_train(recipe: Recipe) -> list[Command]:
    """The training again: from the recipe of that name where it differs in a few fields, else from its text."""
    data = f" --data {quoted(_somewhere(recipe))}" if hasattr(recipe.data, "path") else ""
    changes = _changes(recipe)
    if changes is None:
        what = "train with the recipe of this page, saved as recipe.txt"
        return [Command(what, f"diffprob train ./recipe.txt{data} --out runs/again")]
    sets = "".join(f" \\\n  --set {quoted(f'{path}={text}')}" for path, text in changes)
    out = "" if not sets else " \\\n "
    return [Command("train", f"diffprob train {recipe.name}{data}{sets}{out} --out runs/again")]


def _changes(recipe: Recipe) -> list[tuple[str, str]] | None:
    """(field, text) in which ``recipe`` differs from the one of its name, or None where there is no use in that."""
    if recipe.name not in RECIPES:
        return None
    try:
        original = named(recipe.name)
    except InputError:
        return None
    if type(original.data) is not type(recipe.data):
        return None
    pairs = fields_of([original, recipe])
    changes = [(path, texts[1]) for path, texts, same in pairs if not same and path != "data.path"]
    return changes if len(changes) <= MOST_CHANGES else None


def to_sample(name: str, samples: Samples) -> list[Command]:
    """The samples of the page again, bit for bit on the same machine and software."""
    options = {
        "-n": str(len(samples)),
        "--seed": str(samples.seed),
        "--sampler": samples.sampler,
        **({} if samples.steps is None else {"--steps": str(samples.steps)}),
        "--grid": samples.grid,
        "--batch": str(samples.chunk or len(samples)),
        "--precision": samples.precision,
        "--variance": samples.variance,
        "--device": samples.device,
    }
    parts = [f"{option} {shlex.quote(value)}" for option, value in options.items()]
    parts += [*map(shlex.quote, samples.options), *(["--best"] if samples.best else []), *_clip(samples.clip)]
    text = f"diffprob sample {quoted(name)} {' '.join(parts)} --progressive --out samples.png"
    return [Command("draw the samples of this page", text)]


def _clip(clip: bool | float) -> list[str]:
    """The option that clips so; the default needs none."""
    if not isinstance(clip, bool):
        return ["--dynamic-clip", f"{clip:g}"]
    return [] if clip else ["--no-clip"]


def to_measure(material: Material, measurements: Sequence[Measurement]) -> list[Command]:
    """What is not measured yet and can be, by the verbs that there are."""
    counts = [item.n for item in measurements if any(word in item.name.lower() for word in EVALUATED)]
    if "evaluate" not in material.verbs or max(counts, default=0) >= ENOUGH:
        return []
    recipe = material.run.recipe
    data = f" {quoted(_somewhere(recipe))}" if hasattr(recipe.data, "path") else ""
    what = "Fréchet distance, KID, precision, recall and others, beside those of real images"
    what += f": so far of at most {max(counts):,} samples" if counts else ""
    return [Command(what, f"diffprob evaluate {quoted(material.command_name)}{data} -n {ENOUGH}")]


def _somewhere(recipe: Recipe) -> str:
    """What stands for the place of the data in a command."""
    return f"path/to/{last_part(getattr(recipe.data, 'path', ''))}"
