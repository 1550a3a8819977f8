"""List recipes, packaged runs, metrics and components, or show one of them in detail."""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.cli.text import table

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
        help="a list (recipes, runs, metrics, samplers, schedules, grids, ...), or one run, recipe or component",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Look up.

    Raises:
        InputError: nothing of this name.
    """
    from diffprob.tasks.catalogue import look_up

    return look_up(args.what)


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
        rows = [
            (name, metric["about"], metric["space"], metric["better"]) for name, metric in result["metrics"].items()
        ]
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
    from diffprob.runs.measurements import Measurement, tables

    if not measurements:
        yield "nothing measured yet"
    for kind in tables([Measurement(**measurement) for measurement in measurements]):
        yield kind.title
        yield from table(kind.rows, kind.head)
        if kind.summary:
            yield kind.summary
        yield ""
