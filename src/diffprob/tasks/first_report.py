"""What a run gets when its training ends, so that its questions are answered well at once: fits, first numbers, a page.

Every part is the task of its verb, with its defaults, as large as the time allows: the variance and the path (`fit`),
samples beside real images, bits/dim (`likelihood`), what samples are worth (`evaluate`), the page (`report`). What was
made already for these weights is not made again.
"""

import json
import math
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from diffprob.base.errors import InputError, NumericalError
from diffprob.base.rng import increasing_subset
from diffprob.data.images import Images
from diffprob.denoise.variance import Zero
from diffprob.evaluation.memorisation import FEWEST
from diffprob.reporting import artifacts
from diffprob.reporting.figures import grid_image, side_by_side
from diffprob.reporting.material import Samples
from diffprob.reporting.page import report_page
from diffprob.runs.fits import NLL, fits_for, fitted
from diffprob.runs.folder import Run, auto_chunk
from diffprob.runs.images import OwnImages, kept_in_memory
from diffprob.runs.measurements import Measurement
from diffprob.sampling.defaults import affordable
from diffprob.space import units
from diffprob.space.units import unit_of
from diffprob.storage.files import kind_of, write_file
from diffprob.storage.records import read_log
from diffprob.tasks.bounds import TERMS
from diffprob.tasks.compute import Compute
from diffprob.tasks.evaluation import (
    MEMORISED,
    MOST_COMPARED,
    OF_NUMBERS,
    EvaluationRequest,
    evaluate,
    evaluation_measurements,
)
from diffprob.tasks.features import Pca
from diffprob.tasks.first_state import STATE
from diffprob.tasks.fitting import AnalyticFit, FitRequest, HeadFit, check_fit, fit
from diffprob.tasks.images import ImageSelection
from diffprob.tasks.likelihood import LikelihoodRequest, likelihood, likelihood_measurement, measured_in
from diffprob.tasks.plan import Sampling
from diffprob.tasks.report_time import (
    DRAWN,
    ENDING,
    FIRST,
    FITTING,
    HEAD_BATCH,
    IMAGES,
    KNOTS,
    LAST,
    LATE,
    MEASURED,
    ROOM,
    SHARE,
    ReportPart,
    Share,
    head_calls,
    head_steps,
    parts_of,
    seconds_per_call,
)
from diffprob.tasks.reporter import SILENT, Reporter
from diffprob.tasks.reporting import INSIDE, PreparedReport, ReportRequest, draw_samples, gather, prepare_report

PICTURE = "samples.png"
DISTANCE = "Frechet distance"
BOUND = "{} (variational bound)"
BITS = BOUND.format(units.BITS.name)
OPERATIONS = 1e10  # a second, of comparing images


@dataclass(frozen=True)
class FirstReport:
    """What a run is worth, as far as it was measured when its training ended.

    Args:
        run: its place.
        bits_per_dim, low, high: of ``images`` images of ``role`` "test" or "train", with a 95% interval.
        memorisation: the verdict of `diffprob.evaluation.memorisation`.
        distance, real_distance: Frechet distance in PCA of the pixels, of samples and of as many real images.
        samples: a picture of samples beside real images.
        report: the page.
        no_time: the parts that there was no time for.
        left_out: a line for each other part that is not there, with what makes it.
        seconds: that it took.
        unit, what: of `bits_per_dim`, which real numbers have in nats/dim, and what the data are called.
    """

    run: str
    bits_per_dim: float | None = None
    low: float | None = None
    high: float | None = None
    images: int | None = None
    role: str | None = None
    memorisation: str | None = None
    distance: float | None = None
    real_distance: float | None = None
    samples: str | None = None
    report: str | None = None
    no_time: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    seconds: float = 0.0
    unit: str = units.BITS.name
    what: str = "images"

    @property
    def worth(self) -> str:
        """What the model is worth, in a line."""
        parts = []
        if self.bits_per_dim is not None:
            known = "" if self.low is None else f" ({self.low:.3f} to {self.high:.3f})"
            kind = {"test": "held-out", "train": "training"}.get(str(self.role), "other")
            parts.append(f"{self.bits_per_dim:.3f}{known} {self.unit} of {self.images:,} {kind} {self.what}")
        if self.distance is not None:
            real = "" if self.real_distance is None else f" (real {self.what}: {self.real_distance:.3g})"
            parts.append(f"{DISTANCE} {self.distance:.3g}{real}")
        if self.memorisation is not None:
            parts.append(f"memorisation: {self.memorisation}")
        return "; ".join(parts)

    @property
    def lines(self) -> list[str]:
        """What it is worth, where to look, what is missing, and what to ask next."""
        places = ", ".join(place for place in (self.report, self.samples) if place)
        run, lines = shlex.quote(self.run), [self.worth, f"look at {places}" if places else "", *self.left_out]
        if self.no_time:
            missing = "the report" if len(self.no_time) == len(FIRST) else ", ".join(self.no_time)
            lines.append(f"no time for {missing}: diffprob train {run} --report makes it")
        elif self.worth:
            lines.append(f"ask next: diffprob likelihood {run}, diffprob evaluate {run}: the same on more images")
        return [line for line in lines if line]

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        return {**asdict(self), "worth": self.worth, "lines": self.lines}


def make_first_report(
    run: Run,
    device: str,
    known: Mapping[str, Images],
    share: Share | None = None,
    ends: float | None = None,
    reporter: Reporter = SILENT,
) -> FirstReport:
    """Make what there is not yet for the weights of a run, and keep it there.

    Args:
        run: a run whose training has ended.
        device: as in a `Compute`.
        known: its images that are in memory, by the repr of their source.
        share: of the training that has just ended.
        ends: when it is to be over, by `time.monotonic`; None: a fifth of the training's time from now on.
        reporter: who hears notes and progress.

    Raises:
        InputError: the run cannot be written.
        KeyboardInterrupt: whatever is made is kept; the message says what makes the rest.
    """
    compute, calls = Compute(device=device), affordable(run.recipe.process)
    if share is None:
        seconds = next((record["seconds"] for record in reversed(read_log(run.path)) if "seconds" in record), 0.0)
        share = Share(float(seconds), compute.on(), calls, head=NLL in fits_for(run.recipe))
    with kept_in_memory(dict(known)), _interrupted(run):
        return _Making(run, compute, share, ends, reporter).make()


@contextmanager
def _interrupted(run: Run) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as stop:
        text = (
            "interrupted: the run is trained and whole; the same command makes the rest of its report, without training"
        )
        stop.args = (f"{run.place}: {text}",)
        raise


@dataclass
class _Making:
    """A first report in the making."""

    run: Run
    compute: Compute
    share: Share
    ends: float | None
    reporter: Reporter
    left_out: list[str] = field(default_factory=list)
    no_time: list[str] = field(default_factory=list)
    page: PreparedReport | None = None
    drawn: Samples | None = None
    shown: str | None = None
    call: float = 0.0  # seconds of the network on one image

    def make(self) -> FirstReport:
        began = time.monotonic()
        self._keep(complete=False)
        made = self._made()
        parts = parts_of(self.share.calls, self._comparing(), self.share.head)
        parts = {name: part for name, part in parts.items() if name not in made}
        ends = math.inf if self.ends is None else self.ends - self.share.slowness * ENDING
        slack = math.inf if self.ends is None else LATE * self.share.seconds
        if self._is_late(ends + slack, parts):
            self.no_time = [part.what for part in parts.values()]
            self._keep(complete=True)
            return self._result(time.monotonic() - began)
        self.call = seconds_per_call(self.compute.load(self.run, Zero()), self.run.space)
        if self.ends is None:
            ends = began + max(sum(map(self._need, parts.values())), SHARE * self.share.seconds)
        while kept := self._in_time(parts, ends + slack - time.monotonic()):
            name = next(name for name in parts if name in kept)
            part, left = parts.pop(name), ends - time.monotonic()
            room = ROOM * max(0.0, left - sum(kept.values()))
            spent = {"fit": FITTING * self.share.seconds - self.call * part.least, "samples": room / 2}.get(name, room)
            calls = min(part.most, part.least + max(0.0, min(room, spent)) / self.call)
            try:
                getattr(self, f"_{name}")(int(calls))
            except (InputError, NumericalError) as error:
                verb = part.verb.format(shlex.quote(self.run.place))
                self.left_out.append(f"no {part.what}: {error} (diffprob {verb})")
            if name == LAST:
                break
        self.no_time = [part.what for part in parts.values()]
        self._keep(complete=True)
        return self._result(time.monotonic() - began)

    def _need(self, part: ReportPart) -> float:
        """Seconds that a part takes at least, as slow as the machine is now."""
        return self.share.slowness * part.seconds + self.call * part.least

    def _in_time(self, parts: Mapping[str, ReportPart], left: float) -> dict[str, float]:
        """The parts for which there is time, and what they need at least; what matters most comes first."""
        kept: dict[str, float] = {}
        missing = {part.what for part in parts.values()}
        for name in (name for name in FIRST if name in parts):
            need = self._need(parts[name])
            if sum(kept.values()) + need <= left and parts[name].after not in missing:
                kept[name] = need
                missing.discard(parts[name].what)
        return kept

    def _is_late(self, ends: float, parts: Mapping[str, ReportPart]) -> bool:
        """Whether there is no time for any part, nor for measuring how long they would take."""
        least = min((part.seconds for part in parts.values()), default=0.0)
        return time.monotonic() + self.share.slowness * least > ends

    def _keep(self, complete: bool) -> None:
        state = {"model_sha256": self.run.sha256(), "complete": complete, "no_time": self.no_time}
        self.run.add(STATE, (json.dumps(state, indent=1) + "\n").encode())

    def _made(self) -> set[str]:
        """The parts that there are for these weights; the page is drawn anew."""
        names = {item.name for item in self._measurements()}
        there = {"bits": self._bound in names, "comparison": bool(names & {MEMORISED, OF_NUMBERS, DISTANCE})}
        there["fit"] = self._is_fitted
        return {name for name, is_there in there.items() if is_there}

    @property
    def _bound(self) -> str:
        """What the measurement of the bound is called."""
        return BOUND.format(measured_in(unit_of(self.run.space)))

    @property
    def _is_fitted(self) -> bool:
        return set(self._fits()) - {NLL} <= set(fitted(self.run))

    def _measurements(self) -> list[Measurement]:
        return [item for item in self.run.measurements if item.step == self.run.meta["step"]]

    def _comparing(self) -> float:
        """Seconds for looking at so many real images, and for their neighbours."""
        own = OwnImages(self.run)
        try:
            train, test = len(own.train), 0 if own.test is None else len(own.test)
        except InputError:
            return 0.0  # the comparison itself says why it cannot be
        d, held = self.run.space.dimensions, min(test, MOST_COMPARED)
        searched = train * d * (held + DRAWN[1]) + (2 * min(train, held)) ** 2 * d if test >= FEWEST else 0
        return 2 * (train * d * min(d, 4096) + 64 * d * (test or train) + searched) / OPERATIONS

    def _fits(self, refused: list[str] | None = None) -> list[str]:
        """Those of variance and path that help and that the run allows; why not, of each other, goes to ``refused``."""
        kinds = []
        for kind in fits_for(self.run.recipe):
            try:
                check_fit(self.run, kind)
                kinds.append(kind)
            except InputError as error:
                if refused is not None:
                    refused.append(f"no fit of {kind}: {error}")
        return kinds

    def _fit(self, calls: int) -> None:
        """The variance at some times, then a head with what is left where that is enough, and the path."""
        count = len(OwnImages(self.run).train)
        what = self._fits(self.left_out)
        steps = head_steps(calls - KNOTS * self._whole_chunks(IMAGES[0])) if NLL in what and count >= HEAD_BATCH else 0
        n = self._whole_chunks(int(calls - (head_calls(steps) if steps else 0)) // KNOTS)
        if not steps:
            what = [kind for kind in what if kind != NLL]
        request = FitRequest(
            what=tuple(what),
            analytic=AnalyticFit(n=max(2, min(n, IMAGES[1], count)), times=KNOTS),
            heads=HeadFit(steps=max(1, steps), batch=HEAD_BATCH),
            compute=self.compute,
        )
        fit(self.run, request, self.reporter)

    def _whole_chunks(self, images: int) -> int:
        """At most so many images, but that a chunk that is begun is filled."""
        chunk = auto_chunk(self.compute.on(), self.run.space)
        return max(images // chunk, 1) * chunk

    def _samples(self, calls: int) -> None:
        n = min(self._whole_chunks(calls // self.share.calls), DRAWN[1])
        sampling = Sampling(n=n, compute=self.compute)
        self.page = prepare_report(self.run, ReportRequest(sampling=sampling), self.reporter)
        self.drawn = draw_samples(self.run, self.page.plan, sampling, self.reporter)
        levels, own = self.drawn.levels, OwnImages(self.run)
        real = own.train if own.test is None else own.test
        chosen = increasing_subset(len(real), min(len(levels), len(real)), 0, "images")
        most = self.run.space.levels
        across = None if most is None else math.ceil(math.sqrt(len(chosen)))  # numbers choose for themselves
        grids = {
            name: grid_image(images[: len(chosen)], across, levels=most)
            for name, images in (("samples", levels), (f"real, {real.role}", real.images.take(chosen)))
        }
        self.run.add(PICTURE, artifacts.png(side_by_side(grids), self.page.plan.settings))
        self.shown = str(Path(self.run.place) / PICTURE)

    def _bits(self, calls: int) -> None:
        self.run.process.check_law("a variational bound")
        self.run.space.log_det()
        if not self._is_fitted:
            raise InputError("it wants the fit first")
        n = min(max(self._whole_chunks(calls // (TERMS + 1)), MEASURED[0]), MEASURED[1])
        images = ImageSelection(n=n)
        result = likelihood(self.run, LikelihoodRequest(images=images, compute=self.compute), self.reporter)
        self.run.record(likelihood_measurement(result))

    def _comparison(self, _: int) -> None:
        if self.drawn is None or self.page is None:
            raise InputError("there are no samples")
        seeds = np.arange(self.drawn.seed, self.drawn.seed + len(self.drawn))
        settings = {**self.page.plan.settings, "levels": self.run.space.levels}
        with TemporaryDirectory() as folder:  # as `sample` writes and `evaluate` reads them
            path = Path(folder) / "samples.npz"
            write_file(path, [artifacts.arrays(self.drawn.levels, seeds, settings)])
            request = EvaluationRequest(
                sampling=Sampling(compute=self.compute), samples=path, features=Pca(), metrics=("frechet",)
            )
            result = evaluate(self.run, request, self.reporter)
        self.run.record(*evaluation_measurements(result))

    def _page(self, _: int) -> None:
        if self.drawn is None or self.page is None:
            raise InputError("there are no samples")
        page = report_page(gather(self.run, self.drawn, self.page.images, self.page.note))
        self.run.add(INSIDE, page)

    def _result(self, seconds: float) -> FirstReport:
        """What is recorded, whoever measured it."""
        items = {item.name: item for item in self._measurements()}
        bits, distance = items.get(self._bound), items.get(DISTANCE)
        copies = items.get(MEMORISED, items.get(OF_NUMBERS))
        page = kind_of(self.run.path / INSIDE) is not None
        return FirstReport(
            run=self.run.place,
            bits_per_dim=bits and bits.value,
            low=bits and bits.low,
            high=bits and bits.high,
            images=bits and bits.n,
            role=bits and bits.role,
            memorisation=copies and copies.details.get("verdict"),
            distance=distance and distance.value,
            real_distance=distance and distance.reference,
            samples=self.shown,
            report=str(Path(self.run.place) / INSIDE) if page else None,
            no_time=tuple(self.no_time),
            left_out=tuple(self.left_out),
            seconds=round(seconds, 1),
            unit=unit_of(self.run.space).name,
            what=getattr(self.run.space, "kind", "images"),
        )
