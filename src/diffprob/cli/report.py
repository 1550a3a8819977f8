"""Write the report of a run: one HTML page with samples, curves, measurements, and how to make them again.

It goes into the run as report.html, and to --out. Of a packaged run it goes to --out alone.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError, Missing
from diffprob.base.text import bytes_text
from diffprob.cli import output
from diffprob.cli.options import add_drawing, sampling
from diffprob.cli.parser import add_device, add_dry_run
from diffprob.cli.progress import TERMINAL, Progress, say

if TYPE_CHECKING:
    from diffprob.data.images import Images
    from diffprob.reporting.material import Material, Samples
    from diffprob.runs.folder import Run
    from diffprob.tasks.plan import SamplingPlan

EXAMPLES = (
    "diffprob report runs/demo                       # 64 samples in 50 steps; into runs/demo/report.html",
    "diffprob report runs/demo --out demo.html       # and a copy",
    "diffprob report mnist --data path/to/mnist      # a packaged run: into report-mnist.html",
    "diffprob report runs/x -n 16 --steps 20 --seed 100",
)

INSIDE = "report.html"
ROWS = 6  # samples that are followed on their way
MOST = 1024  # samples of a page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of a packaged run (diffprob show runs)")
    parser.add_argument("--out", metavar="PATH", help="an .html file (a packaged run: report-NAME.html)")
    parser.add_argument(
        "--data", metavar="PATH", help="where the run's data is now; none: do not look for it (where the recipe says)"
    )
    add_drawing(parser)
    add_device(parser)
    add_dry_run(parser, "check everything and say what would be done, without drawing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Draw, gather and write."""
    from diffprob.reporting.page import report_page
    from diffprob.runs.folder import Run
    from diffprob.tasks.recording import check_writable, recorded

    found = Run.open(args.run)
    packaged = found.is_packaged
    out = _out(args.out or (f"report-{found.path.name}.html" if packaged else None), found.path)
    if not packaged and out is None:
        check_writable(found)
    images, note = find_data(found, args.data)
    inside = None if packaged else str(found.path / INSIDE)
    choice = choose_drawing(found, args)
    drawing = plan(choice, args)
    result = {"run": found.place, "report": inside, "out": out, **drawing, "data_here": images is not None}
    if args.dry_run:
        return {**result, "bytes": None, "dry_run": True}
    page = report_page(gather(found, draw_samples(found, choice, args), images, note))
    if out is not None:
        output.write_file(out, page)
    kept = recorded(found, lambda: found.add(INSIDE, page), TERMINAL)
    if not kept["recorded"] and out is None:
        raise InputError(str(kept["not_recorded"]))
    return {**result, **kept, "report": inside if kept["recorded"] else None, "bytes": len(page), "dry_run": False}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
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


def choose_drawing(found: "Run", args: argparse.Namespace) -> "SamplingPlan":
    """How the samples of a page are drawn; the weights are read here, once.

    Raises:
        InputError: an option that names nothing, too many samples, or a run without a model.
    """
    from diffprob.tasks.plan import plan_sampling

    if args.n > MOST:
        raise InputError(f"-n {args.n}: a page takes at most {MOST} samples; diffprob sample draws more")
    return plan_sampling(found, sampling(args), TERMINAL)


def plan(choice: "SamplingPlan", args: argparse.Namespace) -> dict[str, Any]:
    """What will be drawn, and how."""
    said = ("step", "seeds", "sampler", "steps", "grid", "told", "guidance", "chunk", "precision", "device")
    facts = {name: choice.facts[name] for name in said}
    return {"n": args.n, **facts, "network_calls": choice.calls(args.n, choice.steps)}


def draw_samples(found: "Run", choice: "SamplingPlan", args: argparse.Namespace, rows: int = ROWS) -> "Samples":
    """The samples of a page, as `sample` draws them; ``rows`` of them are followed on their way."""
    from diffprob.base.rng import Rng
    from diffprob.reporting.material import Samples
    from diffprob.tasks.compute import choose_device
    from diffprob.tasks.drawing import counted, draw

    began = time.monotonic()
    streams = Rng.of(args.seed, args.n, device=choose_device(args.device))
    total, model = choice.calls(args.n, choice.steps), choice.model
    with Progress(f"sample {found.name}", total, "network call") as bar, counted(model, bar.update):
        drawn = draw(choice.guided, choice.sampler, choice.times, streams, found.space, choice.clip, min(rows, args.n))
    said = ("step", "model_sha256", "sampler", "steps", "grid", "variance", "told", "guidance", "clip", "chunk")
    return Samples(
        drawn.levels,
        args.seed,
        **{name: choice.facts[name] for name in (*said, "precision", "device")},
        evaluations=drawn.evaluations,
        seconds=time.monotonic() - began,
        best=args.best,
        words=choice.words,
        frames=drawn.frames,
        times=drawn.times,
    )


def gather(
    found: "Run",
    samples: "Samples",
    images: "Images | None" = None,
    note: str = "not looked for",
) -> "Material":
    """What a page is made of."""
    from diffprob.cli.main import VERBS
    from diffprob.reporting.material import Material
    from diffprob.storage.records import read_log

    return Material(
        run=found,
        command_name=command_name(found),
        log=read_log(found.path),
        samples=samples,
        images=images,
        data_note=note,
        verbs=tuple(VERBS),
    )


def find_data(found: "Run", where: str | None) -> "tuple[Images | None, str]":
    """The run's data and "", or None and why it is not shown.

    Args:
        where: ``--data``: another place than the recipe's, or "none".

    Raises:
        InputError: what ``--data`` names cannot be read, or is not the data of the run.
    """
    from diffprob.data import HuggingFace
    from diffprob.runs.images import OtherData, OwnImages

    if where == "none":
        return None, "not looked for"
    if where is None and isinstance(found.recipe.data, HuggingFace):
        return None, "not downloaded for this page"
    own = OwnImages(found, where)
    if not own.may_be_shown:
        return None, "not looked for: the run does not say which images it was trained on"
    try:
        return own.train.images, ""
    except Missing:
        if where is not None:
            raise
        return None, "not on this machine"
    except OtherData as error:
        if where is not None:
            raise
        say(f"{error}: not shown")
        return None, "what lies there is not the data of this run"


def command_name(found: "Run") -> str:
    """What stands for a run in commands on a page: no folders that mean nothing elsewhere."""
    if found.is_packaged:
        return found.path.name
    path = found.path
    return path.name or "RUN" if path.is_absolute() or ".." in path.parts else path.as_posix()


def html_path(out: str) -> str:
    """``--out`` after a look whether a page can be written there.

    Raises:
        InputError: a folder, another suffix, or a parent that is no folder.
    """
    path = Path(out)
    if path.is_dir() or out.endswith("/"):
        raise InputError(f"--out {out} is a folder; a file such as {path / INSIDE} would be right")
    if path.suffix.lower() not in {".html", ".htm"}:
        raise InputError(f"--out {out}: a page ends in .html")
    below = next(parent for parent in [*path.parents, Path()] if parent.exists())
    if not below.is_dir():
        raise InputError(f"--out {out}: {below} is a file, not a folder")
    return out


def _out(out: str | None, folder: Path) -> str | None:
    if out is None:
        return None
    html_path(out)
    output.check_writable(out)
    # The page is in the run anyway; a second copy would not be in its inventory.
    return None if Path(out).resolve() == (folder / INSIDE).resolve() else out
