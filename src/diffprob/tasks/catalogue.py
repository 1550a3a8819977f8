"""What there is: recipes, packaged runs, metrics and components; or one of them in detail."""

import inspect
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from diffprob import recipes
from diffprob.base.errors import InputError, did_you_mean
from diffprob.config.families import plural
from diffprob.config.old_names import current_name
from diffprob.config.recipe import parameter_count
from diffprob.config.registry import ALL, FAMILIES
from diffprob.config.spec import render
from diffprob.evaluation.suite import METRICS
from diffprob.recipes import RECIPES, named
from diffprob.runs.folder import packaged
from diffprob.storage.folders import is_run
from diffprob.tasks.options import option
from diffprob.tasks.run_summary import describe_run, shape_text


@dataclass(frozen=True)
class RecipeSummary:
    """A recipe in short: what it is, parameters of its network, its images in words, and its text."""

    summary: str
    parameters: int
    shape: str
    text: str

    def to_json(self, brief: bool = False) -> dict[str, Any]:
        """JSON literals by name; ``brief`` leaves out the text."""
        return {name: value for name, value in asdict(self).items() if not (brief and name == "text")}


@dataclass(frozen=True)
class ComponentSummary:
    """A component in short.

    Args:
        call: its name with its fields and their defaults.
        summary: what it is, in a sentence or two.
        help: all that is said of it.
        sampler: for a sampler: its "order" (None: stochastic), "evaluations" a step (None: by tolerance), "when" to use
            it, and a "reference".
    """

    call: str
    summary: str
    help: str
    sampler: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name, without the help."""
        return {"call": self.call, "summary": self.summary, **(self.sampler or {})}


def look_up(what: str | None = None, part: str | None = None) -> dict[str, Any]:
    """What there is by the name ``what``, JSON literals by name; "kind" says which kind of answer it is.

    Args:
        what: "recipes", "runs", "metrics" or a family of components ("samplers", "grids", ...); or the name of one
            recipe or component, or a run's name or folder; None: the names of all.
        part: of a run or recipe, all that is wanted: its "text", or of a run its "measurements"; None: what says most.

    Raises:
        InputError: nothing of this name, or without such a part.
    """
    if part is not None:
        answer = look_up(what)
        if part not in answer:
            kind = answer["kind"]
            raise InputError(f"{option({'text': 'recipe'}.get(part, part))} is part of a run, got {what} ({kind})")
        return {"kind": part, part: answer[part]}
    families = {plural(family): table for family, table in FAMILIES.items() if plural(family) != "recipes"}
    if what is None:
        names = {family: list(table) for family, table in families.items()}
        known = {"recipes": list(RECIPES), "runs": packaged(), "metrics": list(METRICS)}
        return {"kind": "all", **known, "components": names}
    if "/" in what or is_run(Path(what)) or what in packaged():
        return {"kind": "run", **describe_run(what).to_json()}
    what = ({family: plural(family) for family in FAMILIES} | {"recipe": "recipes", "run": "runs"}).get(what, what)
    if what == "recipes":
        return {"kind": what, what: {name: describe_recipe(name).to_json(brief=True) for name in RECIPES}}
    if what == "metrics":
        about = {name: {"about": m.about, "space": m.space, "better": m.better} for name, m in METRICS.items()}
        return {"kind": what, what: about}
    if what == "runs":
        return {"kind": what, what: {name: {"kind": "run", **describe_run(name).to_json()} for name in packaged()}}
    if what in families:
        components = {name: describe_component(kind).to_json() for name, kind in families[what].items()}
        return {"kind": "family", "family": what, "components": components}
    what = recipes.OLD_NAMES.get(what, what)
    if what in RECIPES:
        return {"kind": "recipe", "name": what, **describe_recipe(what).to_json()}
    what = current_name(what, ALL)
    if what in ALL:
        component = describe_component(ALL[what])
        return {"kind": "component", "name": what, **component.to_json(), "help": component.help}
    names = [*families, "recipes", "runs", "metrics", *RECIPES, *packaged(), *ALL]
    raise InputError(
        f"nothing called {what!r} to show{did_you_mean(what, names) or '; diffprob show lists what there is'}"
    )


def describe_recipe(name: str) -> RecipeSummary:
    """A recipe of the library, by its name.

    Raises:
        InputError: there is none.
    """
    recipe, name = named(name), recipes.OLD_NAMES.get(name, name)
    make = getattr(import_module(f"diffprob.recipes.{RECIPES[name]}"), name)
    return RecipeSummary(_summary(make), parameter_count(recipe), shape_text(recipe.space), render(recipe))


def describe_component(kind: Any) -> ComponentSummary:
    """A component, by its class."""
    arguments = map(_argument, inspect.signature(kind).parameters.values())
    sampler = None
    if hasattr(kind, "evaluations"):
        made = _made(kind)
        numbers = {name: getattr(made, name, None) for name in ("order", "evaluations")}
        sampler = {name: number if isinstance(number, int) else None for name, number in numbers.items()}
        sampler |= {"when": _paragraph(kind, "When"), "reference": _paragraph(kind, "Reference")}
    call = f"{kind.__name__}({', '.join(arguments)})"
    return ComponentSummary(call, _summary(kind), inspect.getdoc(kind) or "", sampler)


def _made(kind: Any) -> Any:
    """The component with its defaults; the class itself where there are not enough."""
    try:
        return kind()
    except (TypeError, ValueError):
        return kind


def _argument(parameter: inspect.Parameter) -> str:
    """``eta=0.0`` of ``eta: float = 0.0``; a default that is a factory is left out."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    name, default = f"{stars}{parameter.name}", parameter.default
    return name if default is parameter.empty or repr(default) == "<factory>" else f"{name}={default!r}"


def _summary(kind: Any) -> str:
    """The first paragraph of a docstring, as one line."""
    text = inspect.getdoc(kind) or ""
    return " ".join(text.partition("\n\n")[0].split())


def _paragraph(kind: Any, heading: str) -> str:
    """The paragraph of a docstring that begins with ``heading``, as one line."""
    paragraphs = (inspect.getdoc(kind) or "").split("\n\n")
    texts = (text.removeprefix(f"{heading}:") for text in paragraphs if text.startswith(f"{heading}:"))
    return " ".join(next(texts, "").split()).rstrip(".")
