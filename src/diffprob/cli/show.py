"""List recipes, packaged runs, metrics and components, or show one of them in detail."""

import argparse
from collections.abc import Iterator
from functools import partial
from typing import Any

from diffprob.cli.text import table

EXAMPLES = (
    "diffprob show",
    "diffprob show samplers",
    "diffprob show DDIM",
    "diffprob show recipes",
    "diffprob show runs/digits                     # what it is, how good, and what to do with it next",
    "diffprob show runs/digits --recipe            # kept as mine.txt: diffprob train mine.txt --out runs/mine",
)

LISTS = {  # head of the table of each, and its fields
    "recipes": (("recipe", "parameters", "images", ""), ("parameters", "shape", "summary")),
    "runs": (("run", "parameters", "step", "images"), ("parameters", "step", "shape")),
    "metrics": (("metric", "", "measured in", "better"), ("about", "space", "better")),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to look up."""
    parser.add_argument(
        "what",
        nargs="?",
        metavar="WHAT",
        help="a list (recipes, runs, metrics, samplers, schedules, grids, ...), or one run, recipe or component",
    )
    parts = parser.add_mutually_exclusive_group()
    add = partial(parts.add_argument, dest="part", action="store_const")
    add("--recipe", const="text", help="of a run or recipe: its recipe alone, as `diffprob train FILE` reads it")
    add("--measurements", const="measurements", help="of a run: all that was measured on it")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Look up.

    Raises:
        InputError: nothing of this name.
    """
    from diffprob.tasks.catalogue import look_up

    return look_up(args.what, args.part)


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
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
    elif kind in LISTS:
        head, fields = LISTS[kind]
        rows = [(name, *(_cell(about[field]) for field in fields)) for name, about in result[kind].items()]
        yield from table(rows, head) if rows else iter([f"no packaged {kind}"])
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
    elif kind == "text":
        yield from result["text"].splitlines()
    elif kind == "measurements":
        yield from _measured(result["measurements"])
    else:
        yield from _page(result)


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else value


def _page(result: dict[str, Any]) -> Iterator[str]:
    """A run for people: what it is, how good, and what to do with it next."""
    from diffprob.tasks.run_summary import HEAD

    yield from table(result["about"])
    yield ""
    yield from table(result["quality"], HEAD) if result["quality"] else iter(["nothing measured yet"])
    if more := len(result["measurements"]) - len(result["quality"]):
        yield f"{more} more: diffprob show {result['path']} --measurements"
    yield ""
    yield from table([(command["what"], command["text"]) for command in result["next"]])


def _measured(measurements: list[dict[str, Any]]) -> Iterator[str]:
    """One table for each kind of features: numbers in different features never share a column."""
    from diffprob.runs.measurements import Measurement, tables

    if not measurements:
        yield "nothing measured yet"
    for kind in tables([Measurement(**measurement) for measurement in measurements]):
        yield kind.title
        yield from table(kind.rows, kind.head)
        if kind.summary:
            yield kind.summary
        yield ""
