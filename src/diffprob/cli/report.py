"""Write the report of a run: one HTML page with samples, curves, measurements, and how to make them again.

It is kept in the run as report.html, and written to --out if that is given; for a packaged run only to --out.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffprob.base.errors import InputError
from diffprob.base.text import bytes_text
from diffprob.cli import output
from diffprob.cli.options import add_drawing, sampling
from diffprob.cli.parser import add_device, add_dry_run
from diffprob.cli.progress import TERMINAL

EXAMPLES = (
    "diffprob report runs/demo                       # 64 samples in 50 steps; into runs/demo/report.html",
    "diffprob report runs/demo --out demo.html       # and a copy",
    "diffprob report mnist --data path/to/mnist      # a packaged run: into report-mnist.html",
    "diffprob report runs/x -n 16 --steps 20 --seed 100",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, where the page goes, where the data is, and how samples are drawn."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of a packaged run (diffprob show runs)")
    parser.add_argument("--out", metavar="PATH", help="an .html file (default for a packaged run: report-NAME.html)")
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="where the run's data is (default: where its recipe says); none: do not look for it",
    )
    add_drawing(parser)
    add_device(parser)
    add_dry_run(parser, "check everything and say what would be done, without drawing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Draw, gather and write."""
    from diffprob.runs.folder import Run
    from diffprob.tasks.recording import check_writable, recorded
    from diffprob.tasks.reporting import INSIDE, ReportRequest, make_report, prepare_report

    run = Run.open(args.run)
    packaged = run.is_packaged
    out = _out(args.out or (f"report-{run.path.name}.html" if packaged else None), run.path)
    if not packaged and out is None:
        check_writable(run)
    inside = None if packaged else str(Path(run.place) / INSIDE)
    prepared = prepare_report(run, ReportRequest(sampling=sampling(args), data=args.data), TERMINAL)
    places = {"report": inside, "out": out}
    if args.dry_run:
        return {**prepared.settings, **places, "bytes": None, "dry_run": True}
    result = make_report(prepared, TERMINAL)
    if out is not None:
        output.write_file(out, result.page)
    kept = recorded(run, lambda: run.add(INSIDE, result.page), TERMINAL)
    if not kept["recorded"] and out is None:
        raise InputError(str(kept["not_recorded"]))
    places["report"] = inside if kept["recorded"] else None
    return {**result.to_json(), **places, **kept, "dry_run": False}


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    places = " and ".join(place for place in (result["report"], result["out"]) if place)
    drawn = f"{result['n']} samples, seeds {result['seeds']}, {result['sampler']}"
    drawn += ", steps by tolerance" if result["steps"] is None else f", {result['steps']} steps"
    if result["dry_run"]:
        known = result["network_calls"] is not None
        count = f"{result['network_calls']:,} network calls" if known else "as many network calls as it takes"
        yield f"would draw {drawn}: {count} on {result['device']}"
        yield f"would write {places}"
        return
    yield f"{drawn} on {result['device']}"
    yield f"wrote {places} ({bytes_text(result['bytes'])})"


def _out(out: str | None, folder: Path) -> str | None:
    from diffprob.tasks.reporting import INSIDE, html_path

    if out is None:
        return None
    html_path(out)
    output.check_writable(out)
    # The page is in the run anyway; a second copy would not be in its inventory.
    return None if Path(out).resolve() == (folder / INSIDE).resolve() else out
