"""Write a run as a folder that diffusers' DDPMPipeline opens; diffusers itself is not needed."""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.cli.parser import add_dry_run

EXAMPLES = (
    "diffprob export mnist --out exported",
    "diffprob export runs/digits --no-clip --out exported",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, the new folder, and whether diffusers clips."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of a packaged run")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="the new folder")
    parser.add_argument(
        "--clip",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let diffusers' sampler clip to [-1, 1] (default: on)",
    )
    add_dry_run(parser, "open the run and write nothing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Open the run, write the folder."""
    from diffprob.runs.folder import Run
    from diffprob.tasks.exchange import ExportRequest, export_run, new_folder

    new_folder(args.out)
    request = ExportRequest(out=args.out, clip=args.clip, dry_run=args.dry_run)
    return export_run(Run.open(args.run), request).to_json()


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    what = "would write" if result["dry_run"] else "wrote"
    yield f"{what} {result['run']} (step {result['step']:,}) to {result['out']}"
    yield f"in Python: diffusers.DDPMPipeline.from_pretrained({result['out']!r})"
