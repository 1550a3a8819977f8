"""What there is: recipes, packaged runs and components; or one family, run, recipe or component."""

import argparse
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffprob.base.errors import InputError, did_you_mean
from diffprob.storage.folders import is_run

EXAMPLES = (
    "diffprob show",
    "diffprob show samplers",
    "diffprob show DDIM",
    "diffprob show recipes",
    "diffprob show runs/digits",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to look up."""
    parser.add_argument(
        "what",
        nargs="?",
        metavar="WHAT",
        help="recipes, runs, metrics, samplers, schedules, grids, ...; or a run, recipe or component",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Look up.

    Raises:
        InputError: nothing of this name.
    """
    from diffprob.config.old_names import current_name
    from diffprob.config.registry import ALL, FAMILIES
    from diffprob.recipes import RECIPES
    from diffprob.runs.folder import packaged

    what: str | None = args.what
    families = {_plural(family): table for family, table in FAMILIES.items()}
    aliases = {family: _plural(family) for family in FAMILIES} | {"recipe": "recipes", "run": "runs"}
    families.pop("recipes")
    if what is None:
        names = {family: list(table) for family, table in families.items()}
        found = {"recipes": list(RECIPES), "runs": packaged(), "metrics": list(_metrics())}
        return {"kind": "all", **found, "components": names}
    if "/" in what or is_run(Path(what)) or what in packaged():
        return _run(what)
    what = aliases.get(what, what)
    if what == "recipes":
        return {"kind": "recipes", "recipes": {name: _recipe(name, brief=True) for name in RECIPES}}
    if what == "metrics":
        return {"kind": "metrics", "metrics": _metrics()}
    if what == "runs":
        return {"kind": "runs", "runs": {name: _run(name) for name in packaged()}}
    if what in families:
        return {
            "kind": "family",
            "family": what,
            "components": {name: _component(c) for name, c in families[what].items()},
        }
    if what in RECIPES:
        return {"kind": "recipe", "name": what, **_recipe(what)}
    what = current_name(what, ALL)
    if what in ALL:
        return {"kind": "component", "name": what, **_component(ALL[what]), "help": inspect.getdoc(ALL[what]) or ""}
    known = [*families, "recipes", "runs", "metrics", *RECIPES, *packaged(), *ALL]
    raise InputError(
        f"nothing called {what!r} to show{did_you_mean(what, known) or '; diffprob show lists what there is'}"
    )


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    from diffprob.cli.text import table

    kind = result["kind"]
    if kind == "all":
        yield from table(
            [
                ("recipes", ", ".join(result["recipes"])),
                ("runs", ", ".join(result["runs"]) or "none packaged"),
                ("metrics", ", ".join(result["metrics"])),
                *((family, ", ".join(names)) for family, names in result["components"].items()),
            ]
        )
        yield "diffprob show NAME says more about any of these"
    elif kind == "recipes":
        rows = [
            (name, f"{about['parameters']:,}", about["shape"], about["summary"])
            for name, about in result["recipes"].items()
        ]
        yield from table(rows, ("recipe", "parameters", "images", ""))
    elif kind == "runs":
        rows = [
            (name, f"{run['parameters']:,}", f"{run['step']:,}", run["shape"]) for name, run in result["runs"].items()
        ]
        yield from table(rows, ("run", "parameters", "step", "images")) if rows else iter(["no packaged runs"])
    elif kind == "metrics":
        rows = [(name, each["about"], each["space"], each["better"]) for name, each in result["metrics"].items()]
        yield from table(rows, ("metric", "", "measured in", "better"))
    elif kind == "family" and result["family"] == "samplers":
        rows = [
            (
                about["call"],
                about["order"] or "stochastic",
                about["evaluations"] or "by tolerance",
                about["when"],
            )
            for about in result["components"].values()
        ]
        yield from table(rows, ("sampler", "order", "evaluations a step", "when to use"))
        yield ""
        for name, about in result["components"].items():
            reference = f" Reference: {about['reference']}." if about["reference"] else ""
            yield f"{name}: {about['summary']}{reference}"
    elif kind == "family":
        yield from table([(about["call"], about["summary"]) for about in result["components"].values()])
    elif kind == "component":
        yield from (result["call"], "", *result["help"].splitlines())
    elif kind == "recipe":
        yield f"# {result['summary']} {result['parameters']:,} parameters."
        yield from result["text"].splitlines()
    else:
        yield from _run_lines(result)


def _run_lines(result: dict[str, Any]) -> Iterator[str]:
    from diffprob.cli.text import table

    fits: list[str] | None = result["fits"]
    loss = "not known" if result["loss"] is None else f"{result['loss']:.4g} (the last record of the log)"
    yield from table(
        [
            ("run", result["path"]),
            ("images", result["shape"]),
            ("parameters", f"{result['parameters']:,}"),
            ("step", f"{result['step']:,} of {result['steps']:,}"),
            ("last loss", loss),
            ("data sha256", result["data_sha256"] or "not known"),
            *([("classes", result["classes"])] if result["classes"] else []),
            *([] if fits is None else [("fitted", ", ".join(fits) or "nothing (diffprob fit)")]),
            ("made with", f"diffprob {result['library']}"),
        ]
    )
    yield ""
    yield from _measured(result["measurements"])
    yield ""
    yield from result["text"].splitlines()


def _measured(measurements: list[dict[str, Any]]) -> Iterator[str]:
    """One table for each kind of features: numbers in different features never share a column."""
    from diffprob.cli.text import table
    from diffprob.runs.measurements import Measurement, tables

    if not measurements:
        yield "nothing measured yet"
    for found in tables([Measurement(**each) for each in measurements]):
        yield found.title
        yield from table(found.rows, found.head)
        if found.said:
            yield found.said
        yield ""


def _run(name: str) -> dict[str, Any]:
    from dataclasses import asdict

    from diffprob.config.classes import classes_text
    from diffprob.config.recipe import parameter_count
    from diffprob.config.spec import render
    from diffprob.runs.fits import fitted
    from diffprob.runs.folder import Run, open_run
    from diffprob.storage.records import read_log

    found = open_run(name)
    losses = [record["loss"] for record in read_log(found.path) if isinstance(record.get("loss"), int | float)]
    return {
        "kind": "run",
        "path": found.place,
        "name": found.name,
        "shape": _shape(found.space),
        "parameters": parameter_count(found.recipe),
        "step": found.meta["step"],
        "steps": found.recipe.training.steps,
        "loss": losses[-1] if losses else None,
        "library": found.meta["library"],
        "data_sha256": found.meta["data"],
        "classes": classes_text(found.recipe) or None,
        "fits": fitted(found) if isinstance(found, Run) else None,  # to others nothing is fitted
        "measurements": [asdict(measurement) for measurement in found.measurements],
        "text": render(found.recipe),
    }


def _recipe(name: str, brief: bool = False) -> dict[str, Any]:
    from importlib import import_module

    from diffprob.config.recipe import parameter_count
    from diffprob.config.spec import render
    from diffprob.recipes import RECIPES, named

    recipe = named(name)
    make = getattr(import_module(f"diffprob.recipes.{RECIPES[name]}"), name)
    about = {"summary": _summary(make), "parameters": parameter_count(recipe), "shape": _shape(recipe.space)}
    return about if brief else {**about, "text": render(recipe)}


def _metrics() -> dict[str, dict[str, str]]:
    from diffprob.evaluation.suite import METRICS

    return {name: {"about": m.about, "space": m.space, "better": m.better} for name, m in METRICS.items()}


def _component(kind: Any) -> dict[str, Any]:
    arguments = [str(parameter) for parameter in inspect.signature(kind).parameters.values()]
    about = {
        "call": f"{kind.__name__}({', '.join(_short(argument) for argument in arguments)})",
        "summary": _summary(kind),
    }
    if hasattr(kind, "evaluations"):  # a sampler, with its default settings
        made = _made(kind)
        about |= {name: _number(getattr(made, name, None)) for name in ("order", "evaluations")}
        about |= {"when": _said(kind, "When"), "reference": _said(kind, "Reference")}
    return about


def _made(kind: Any) -> Any:
    """The component with its defaults; the class itself where there are not enough."""
    try:
        return kind()
    except (TypeError, ValueError):
        return kind


def _number(value: Any) -> int | None:
    """What a sampler says of itself; None where that depends on fields without defaults."""
    return value if isinstance(value, int) else None


def _short(argument: str) -> str:
    """``eta: float = 0.0`` as ``eta=0.0``; a default that is a factory is left out."""
    name, _, default = argument.partition("=")
    name = name.partition(":")[0].strip()
    return name if not default or "<factory>" in default else f"{name}={default.strip()}"


def _shape(space: Any) -> str:
    channels, height, width = space.shape
    return f"{height}x{width}x{channels}, {space.levels} levels"


def _summary(thing: Any) -> str:
    text = inspect.getdoc(thing) or ""
    return " ".join(text.partition("\n\n")[0].split())


def _said(thing: Any, what: str) -> str:
    """The paragraph of a docstring that begins with ``what``, as one line."""
    paragraphs = (inspect.getdoc(thing) or "").split("\n\n")
    found = (text.removeprefix(f"{what}:") for text in paragraphs if text.startswith(f"{what}:"))
    return " ".join(next(found, "").split()).rstrip(".")


def _plural(family: str) -> str:
    if family.endswith("y"):
        return f"{family[:-1]}ies"
    return f"{family}es" if family.endswith("s") else f"{family}s"
