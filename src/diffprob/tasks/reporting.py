"""Pages for a browser: the report of one run, and several runs side by side."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffprob.base.checks import instance, text
from diffprob.base.errors import InputError, Missing
from diffprob.base.rng import Rng
from diffprob.base.text import bytes_text
from diffprob.data import HuggingFace
from diffprob.data.images import Images
from diffprob.reporting.compare import MOST_RUNS, compare_page
from diffprob.reporting.flat import followed
from diffprob.reporting.material import CodedImages, Material, Samples
from diffprob.reporting.page import report_page
from diffprob.runs.folder import Run
from diffprob.runs.images import OtherData, OwnImages
from diffprob.storage.files import check_replaceable, expanded
from diffprob.storage.records import read_log
from diffprob.tasks.drawing import draw, network_progress
from diffprob.tasks.options import option
from diffprob.tasks.page_code import coded_images
from diffprob.tasks.plan import Sampling, SamplingPlan, plan_sampling
from diffprob.tasks.reporter import SILENT, Reporter

INSIDE = "report.html"  # in the run
NOWHERE = "none"  # for `ReportRequest.data`: do not look for it
ROWS = 6  # samples that are followed on their way
MOST = 1024  # samples of a page
PROPOSED = ("evaluate",)  # verbs that a page proposes
# What is said of the drawing, beside the page.
SHOWN = ("step", "seeds", "sampler", "steps", "grid", "told", "guidance", "chunk", "precision", "device")
KEPT = ("step", "model_sha256", "sampler", "steps", "grid", "variance", "guidance", "chunk")


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """What a page shows.

    Args:
        sampling: the samples, at most 1,024.
        data: where the run's data is now; "none": it is not looked for; None: where the recipe says.

    Raises:
        ValueError: a field of another type.
    """

    sampling: Sampling = Sampling()
    data: str | None = None

    def __post_init__(self) -> None:
        instance("sampling", self.sampling, Sampling)
        if self.data is not None:
            text("data", self.data)


@dataclass(frozen=True)
class PreparedReport:
    """A page that is about to be made.

    Args:
        run: that it is of.
        request: what was asked for.
        plan: how its samples are drawn.
        images: the run's data, None where it is not shown.
        note: why it is not.
    """

    run: Run
    request: ReportRequest
    plan: SamplingPlan
    images: Images | None
    note: str

    @property
    def settings(self) -> dict[str, Any]:
        """What will be drawn and how, JSON literals by name."""
        return {
            "run": self.run.place,
            **_drawing_settings(self.plan, self.request.sampling),
            "data_here": self.images is not None,
        }


@dataclass(frozen=True, eq=False)
class PageResult:
    """A page.

    Args:
        page: the whole file, HTML.
        settings: what was drawn for it and how, JSON literals by name.
    """

    page: bytes
    settings: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        return {**self.settings, "bytes": len(self.page)}

    def __repr__(self) -> str:
        return f"a page of {bytes_text(len(self.page))}"


def prepare_report(run: Run, request: ReportRequest, reporter: Reporter) -> PreparedReport:
    """Find the data, choose whatever is left open, load the network: all but drawing.

    Raises:
        InputError: data that cannot be read or is not the run's, too many samples, or a run without a model.
    """
    if run.space.levels is not None:  # numbers of any kind are shown
        run.space.require_images("a report")
    images, note = find_data(run, request.data, reporter)
    return PreparedReport(run, request, _plan(run, request.sampling, reporter), images, note)


def make_report(prepared: PreparedReport, reporter: Reporter) -> PageResult:
    """Draw, and make the page.

    Raises:
        NumericalError: the network gives what is not finite.
    """
    run, request = prepared.run, prepared.request
    samples = draw_samples(run, prepared.plan, request.sampling, reporter)
    looked_for = prepared.images is not None and run.space.levels is not None  # a code is of grey levels
    coded = coded_images(run, request.data, request.sampling.compute, reporter) if looked_for else None
    page = report_page(gather(run, samples, prepared.images, prepared.note, coded))
    return PageResult(page, prepared.settings)


def report(run: Run, request: ReportRequest = ReportRequest(), reporter: Reporter = SILENT) -> PageResult:
    """The page of a run: samples, curves, measurements, and how to make them again; nothing is written.

    Raises:
        InputError: as `prepare_report`.
        NumericalError: the network gives what is not finite.
    """
    return make_report(prepare_report(run, request, reporter), reporter)


@dataclass(frozen=True, kw_only=True)
class CompareRequest:
    """What a page of several runs shows.

    Args:
        sampling: the samples of each run, at most 1,024, of the same seeds.

    Raises:
        ValueError: a field of another type.
    """

    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        instance("sampling", self.sampling, Sampling)


@dataclass(frozen=True)
class PreparedComparison:
    """A page of several runs that is about to be made.

    Args:
        runs: those.
        request: what was asked for.
        plans: how the samples of each are drawn.
    """

    runs: tuple[Run, ...]
    request: CompareRequest
    plans: tuple[SamplingPlan, ...]

    @property
    def settings(self) -> dict[str, Any]:
        """What will be drawn and how, JSON literals by name."""
        pairs = zip(self.runs, self.plans, strict=True)
        return {"runs": [{"run": run.place, **_drawing_settings(plan, self.request.sampling)} for run, plan in pairs]}


def prepare_comparison(runs: Sequence[Run], request: CompareRequest, reporter: Reporter) -> PreparedComparison:
    """Choose whatever is left open, and load every network.

    Raises:
        InputError: fewer than two runs or more than eight, too many samples, or a run without a model.
    """
    check_count(len(runs))
    return PreparedComparison(tuple(runs), request, tuple(_plan(run, request.sampling, reporter) for run in runs))


def make_comparison(prepared: PreparedComparison, reporter: Reporter) -> PageResult:
    """Draw, and make the page.

    Raises:
        NumericalError: a network gives what is not finite.
    """
    pairs = list(zip(prepared.runs, prepared.plans, strict=True))
    drawn = [draw_samples(run, plan, prepared.request.sampling, reporter, rows=0) for run, plan in pairs]
    page = compare_page([gather(run, samples) for run, samples in zip(prepared.runs, drawn, strict=True)])
    return PageResult(page, prepared.settings)


def compare(runs: Sequence[Run], request: CompareRequest = CompareRequest(), reporter: Reporter = SILENT) -> PageResult:
    """A page of 2 to 8 runs side by side: what differs, curves, samples of the same seeds; nothing is written.

    Raises:
        InputError: as `prepare_comparison`.
        NumericalError: a network gives what is not finite.
    """
    return make_comparison(prepare_comparison(runs, request, reporter), reporter)


def check_count(n: int) -> None:
    """Refuse fewer than two runs, or more than a page takes.

    Raises:
        InputError: so many.
    """
    if not 2 <= n <= MOST_RUNS:
        raise InputError(f"compare takes 2 to {MOST_RUNS} runs, got {n}")


def draw_samples(run: Run, plan: SamplingPlan, sampling: Sampling, reporter: Reporter, rows: int = ROWS) -> Samples:
    """The samples of a page, as `diffprob.tasks.sample` draws them; ``rows`` of them are followed on their way, or more
    where these are shown in one picture."""
    began = time.monotonic()
    rows = followed(run.space.shape, rows, sampling.n)
    streams = Rng.of(sampling.seed, sampling.n, device=sampling.compute.on())
    total, model = plan.calls(sampling.n, plan.steps), plan.model
    with network_progress(reporter, f"sample {run.name}", total, model):
        drawn = draw(plan.guided, plan.sampler, plan.times, streams, run.space, plan.clip, rows)
    return Samples(
        drawn.levels,
        sampling.seed,
        **{name: plan.settings[name] for name in (*KEPT, "precision", "device")},
        clip=plan.clip,
        evaluations=drawn.evaluations,
        seconds=time.monotonic() - began,
        best=sampling.compute.best,
        condition=plan.settings["told"],
        options=plan.words,
        classes=plan.classes(sampling.n),
        frames=drawn.frames,
        times=drawn.times,
    )


def gather(
    run: Run,
    samples: Samples,
    images: Images | None = None,
    note: str = "not looked for",
    coded: CodedImages | str | None = None,
) -> Material:
    """What a page is made of."""
    return Material(run, command_name(run), read_log(run.path), samples, images, note, PROPOSED, coded)


def find_data(run: Run, where: str | None, reporter: Reporter) -> tuple[Images | None, str]:
    """The run's data and "", or None and why it is not shown.

    Args:
        run: whose data.
        where: another place than the recipe's, or "none".
        reporter: who hears that other data lies there.

    Raises:
        InputError: what lies ``where`` it was said cannot be read, or is not the data of the run.
    """
    if where == NOWHERE:
        return None, "not looked for"
    if where is None and isinstance(run.recipe.data, HuggingFace):
        return None, "not downloaded for this page"
    own = OwnImages(run, where)
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
        reporter.note(f"{error}: not shown")
        return None, "what lies there is not the data of this run"


def command_name(run: Run) -> str:
    """What stands for a run in commands on a page: no folders that mean nothing elsewhere."""
    if run.is_packaged:
        return run.path.name
    path = Path(run.place)
    return path.name or "RUN" if path.is_absolute() or ".." in path.parts else path.as_posix()


def html_path(out: str) -> str:
    """``out`` after a look whether a page can be written there.

    Raises:
        InputError: a folder, another suffix, or a parent that is no folder.
    """
    path, argument = expanded(out), option("out", out)
    if not path.is_dir():
        check_replaceable(path)
    if path.is_dir() or out.endswith("/"):
        raise InputError(f"{argument} is a folder; a file such as {path / INSIDE} would be right")
    if path.suffix.lower() not in {".html", ".htm"}:
        raise InputError(f"{argument}: a page ends in .html")
    below = next(parent for parent in [*path.parents, Path()] if parent.exists())
    if not below.is_dir():
        raise InputError(f"{argument}: {below} is a file, not a folder")
    return out


def _plan(run: Run, sampling: Sampling, reporter: Reporter) -> SamplingPlan:
    """How the samples of a page are drawn; the weights are read here, once."""
    if sampling.n > MOST:
        raise InputError(f"{option('n', sampling.n)}: a page takes at most {MOST} samples; diffprob sample draws more")
    return plan_sampling(run, sampling, reporter)


def _drawing_settings(plan: SamplingPlan, sampling: Sampling) -> dict[str, Any]:
    """What will be drawn, and how."""
    settings = {name: plan.settings[name] for name in SHOWN}
    return {"n": sampling.n, **settings, "network_calls": plan.calls(sampling.n, plan.steps)}
