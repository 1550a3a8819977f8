"""A recipe that is given as a file or as a run, and what a new run takes of an older one."""

from dataclasses import replace
from pathlib import Path

from diffprob.base.errors import InputError, Missing
from diffprob.config.pretrained import PretrainedRun
from diffprob.config.recipe import RECIPE_KINDS, AnyRecipe, Recipe
from diffprob.config.registry import ALL
from diffprob.config.spec import parse, why_unread
from diffprob.runs.files import read_recipe
from diffprob.runs.folder import open_run
from diffprob.storage.files import TEXT_LIMIT, followed, kind_of, read_bytes
from diffprob.storage.folders import is_run
from diffprob.tasks.options import option
from diffprob.tasks.own_recipe import folder_name
from diffprob.tasks.reporter import Reporter


def anew_text(run: str, out: Path) -> str:
    """What a training that takes the recipe of a run into a new folder does not take: its weights."""
    text = f"{out}: begins anew, from random weights: of {run} it has the recipe alone"
    old = open_run(run)
    on = f"to go on with {run}, leave {option('out')} away"
    if not old.meta["step"] or not hasattr(old.recipe, "start"):
        return f"{text}; {on}"
    start = PretrainedRun(old.place, old.sha256()[:12])
    return f"{text}; {on}; to begin with its weights, {option('overrides', {'start': repr(start)})}"


def from_the_weights(recipe: Recipe, run: str, out: Path, reporter: Reporter) -> Recipe:
    """The recipe of a network with labels, for a run of its own at ``out``, that begins with the weights of ``run``.

    Raises:
        InputError: the run has none yet.
    """
    if is_run(out):
        return replace(recipe, name=folder_name(out), start=getattr(read_recipe(out), "start", None))
    old = open_run(run)
    if not old.meta["step"]:
        raise InputError(f"{run} has no weights to begin with; train it first, or {option('out')} for a run of its own")
    reporter.note(f"{out}: a new run with labels, which begins with the weights of {run}; {run} stays as it is")
    return replace(recipe, name=folder_name(out), start=PretrainedRun(old.place, old.sha256()[:12]))


def recipe_from_file(path: Path) -> AnyRecipe:
    """The recipe in a text file, or of a run.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    place = followed(path)
    if place.is_dir():
        place /= "recipe.txt"
        if kind_of(place) is None:
            raise InputError(
                f"{path} is a folder without recipe.txt; for a folder of images: diffprob train --data {path}"
            )
    try:
        recipe = parse(read_bytes(place, TEXT_LIMIT).decode("utf-8"), ALL)
    except Missing as error:
        raise InputError(
            f"no recipe at {path}; a name (diffprob show recipes) or a recipe.txt would be right"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a recipe: it is not text; for data: diffprob train --data {path}") from error
    except InputError as error:
        raise InputError(f"{path}: {why_unread(error)}") from error
    if not isinstance(recipe, AnyRecipe):
        raise InputError(f"{path} does not hold {RECIPE_KINDS}")
    return recipe
