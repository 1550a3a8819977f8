"""Put runs side by side on one HTML page: what differs, curves, samples of the same seeds, comparable measurements."""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.base.text import bytes_text
from diffprob.cli import output
from diffprob.cli.options import add_drawing, sampling
from diffprob.cli.parser import add_device, add_dry_run
from diffprob.cli.progress import TERMINAL

EXAMPLES = (
    "diffprob compare runs/a runs/b                   # into compare.html",
    "diffprob compare digits runs/demo --out page.html -n 32 --steps 20",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The runs, where the page goes, and how samples are drawn."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs' folders, or names of packaged runs")
    parser.add_argument("--out", default="compare.html", metavar="PATH", help="an .html file (default compare.html)")
    add_drawing(parser)
    add_device(parser)
    add_dry_run(parser, "check everything and say what would be done, without drawing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Draw, compare and write."""
    from diffprob.runs.folder import Run
    from diffprob.tasks.reporting import CompareRequest, check_count, html_path, make_comparison, prepare_comparison

    check_count(len(args.runs))
    html_path(args.out)
    request = CompareRequest(sampling=sampling(args))
    prepared = prepare_comparison([Run.open(name) for name in args.runs], request, TERMINAL)
    if args.dry_run:
        return {**prepared.settings, "out": args.out, "bytes": None, "dry_run": True}
    result = make_comparison(prepared, TERMINAL)
    output.write_file(args.out, result.page)
    return {**result.to_json(), "out": args.out, "dry_run": False}


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    would = result["dry_run"]
    for run in result["runs"]:
        drawn = f"{run['n']} samples, seeds {run['seeds']}, {run['sampler']}, {run['steps']} steps"
        yield f"{run['run']}: {'would draw ' if would else ''}{drawn} on {run['device']}"
    yield f"would write {result['out']}" if would else f"wrote {result['out']} ({bytes_text(result['bytes'])})"
