"""Write a run as a folder that diffusers' DDPMPipeline opens; diffusers itself is not needed."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffprob.base.errors import InputError
from diffprob.cli.parser import add_dry_run

EXAMPLES = (
    "diffprob export mnist --out exported",
    "diffprob export runs/digits --no-clip --out exported",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of a packaged run")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="the new folder")
    parser.add_argument(
        "--clip",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let diffusers' sampler clip to [-1, 1] (on)",
    )
    add_dry_run(parser, "open the run and write nothing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Open the run, write the folder."""
    from diffprob.interop.configs import Scheduling, scheduler_config
    from diffprob.interop.diffusers import export_pipeline
    from diffprob.runs.folder import Run

    out = Path(args.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists already and is not an empty folder: choose another --out")
    found = Run.open(args.run)
    model = found.load()
    clip = 1.0 if args.clip else None
    scheduler = scheduler_config(Scheduling(model.process, model.prediction, model.variance, clip))
    if not args.dry_run:
        _, height, width = found.space.shape
        export_pipeline(out, model, (height, width), clip, found.space.levels)
    return {
        "dry_run": args.dry_run,
        "run": found.place,
        "step": found.meta["step"],
        "out": str(out),
        "scheduler": scheduler,
    }


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    what = "would write" if result["dry_run"] else "wrote"
    yield f"{what} {result['run']} (step {result['step']:,}) to {result['out']}"
    yield f"in Python: diffusers.DDPMPipeline.from_pretrained({result['out']!r})"
