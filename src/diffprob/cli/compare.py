"""Put runs side by side on one HTML page: what differs, curves, samples of the same seeds, comparable measurements."""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.base.errors import InputError
from diffprob.base.text import bytes_text
from diffprob.cli import output
from diffprob.cli.options import add_drawing
from diffprob.cli.parser import add_device, add_dry_run
from diffprob.cli.report import choose_drawing, draw_samples, gather, html_path, plan

EXAMPLES = (
    "diffprob compare runs/a runs/b                   # into compare.html",
    "diffprob compare digits runs/demo --out page.html -n 32 --steps 20",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs' folders, or names of packaged runs")
    parser.add_argument("--out", default="compare.html", metavar="PATH", help="an .html file (compare.html)")
    add_drawing(parser)
    add_device(parser)
    add_dry_run(parser, "check everything and say what would be done, without drawing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Draw, compare and write."""
    from diffprob.reporting.compare import MOST_RUNS, compare_page
    from diffprob.runs.folder import Run

    if not 2 <= len(args.runs) <= MOST_RUNS:
        raise InputError(f"compare takes 2 to {MOST_RUNS} runs, got {len(args.runs)}")
    html_path(args.out)
    found = [Run.open(name) for name in args.runs]
    choices = [choose_drawing(each, args) for each in found]
    about = [{"run": each.place, **plan(choice, args)} for each, choice in zip(found, choices, strict=True)]
    result = {"runs": about, "out": args.out}
    if args.dry_run:
        return {**result, "bytes": None, "dry_run": True}
    drawn = [draw_samples(each, choice, args, rows=0) for each, choice in zip(found, choices, strict=True)]
    page = compare_page([gather(each, samples) for each, samples in zip(found, drawn, strict=True)])
    output.write_file(args.out, page)
    return {**result, "bytes": len(page), "dry_run": False}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    would = result["dry_run"]
    for each in result["runs"]:
        drawn = f"{each['n']} samples, seeds {each['seeds']}, {each['sampler']}, {each['steps']} steps"
        yield f"{each['run']}: {'would draw ' if would else ''}{drawn} on {each['device']}"
    yield f"would write {result['out']}" if would else f"wrote {result['out']} ({bytes_text(result['bytes'])})"
