"""How probable images are under a run: -log2 p in bits per dimension, with its parts and its error bar."""

import csv
import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import instance, real, text
from diffprob.base.errors import InputError, NumericalError
from diffprob.base.rng import Rng
from diffprob.data.for_run import Selection
from diffprob.likelihood.bound import Term, bound_terms, continuous_terms, prior_nats
from diffprob.likelihood.flow import Exact, flow_log_prob
from diffprob.likelihood.orders import order_log_prob
from diffprob.process.absorbing import random_order
from diffprob.runs.folder import Run
from diffprob.runs.measurements import Measurement
from diffprob.space.dequantise import Dequantisation
from diffprob.space.units import BITS, NATS, Unit, unit_of
from diffprob.tasks.bounds import CHUNKS, ChainBound, LikelihoodSetup, map_batches, prepare, sum_terms
from diffprob.tasks.compute import Compute
from diffprob.tasks.conditioning import NONE
from diffprob.tasks.display import html_table
from diffprob.tasks.drawing import blame, counted
from diffprob.tasks.forecast import forecast
from diffprob.tasks.images import ImageSelection, recorded_images
from diffprob.tasks.likelihood_methods import ContinuousTimeBound, FixedOrder, LikelihoodMethod, ProbabilityFlow
from diffprob.tasks.options import option
from diffprob.tasks.reporter import SILENT, Reporter
from diffprob.tasks.stopping import batches, ending, merge, needed

FLOWING = 16  # images followed together by the flow, whose gradients keep the memory of all of them
PARTS = ("prior", "steps", "reconstruction")  # of a bound
SCALING = "scaling"  # -log |det| of real numbers' map to model space
# What a record says beside the number, and what the command line prints.
SETTINGS = (
    *("told", "levels", "order", "dequantisation", "grid", "steps", "terms", "eta", "variance", "decoder", "clip"),
    *("divergence", "tolerance", "evaluations", "precision", "seed", "until", "ended"),
)


@dataclass(frozen=True, kw_only=True)
class LikelihoodRequest:
    """What is to be measured.

    Args:
        images: which.
        method: what stands for -log p.
        label: of a run with labels: "own" measures p(x|y) with the class y of each image, the name of a class that one
            for all images; None or "none": p(x), without a label.
        until: stop as soon as the standard error of the mean is at most so many bits/dim, with the answer of asking for
            so many images; ``images.n`` at most. None: all are measured.
        compute: where and how precisely.

    Raises:
        ValueError: a number outside its domain.
    """

    images: ImageSelection = ImageSelection(n=1000)
    method: LikelihoodMethod = ChainBound()
    label: str | None = None
    until: float | None = None
    compute: Compute = Compute()

    def __post_init__(self) -> None:
        real("until", self.until, "(0, inf)", none=True)
        if self.label is not None:
            text("label", self.label)
        instance("method", self.method, (ChainBound, ContinuousTimeBound, ProbabilityFlow, FixedOrder))


@dataclass(frozen=True)
class PreparedLikelihood:
    """A measurement that is about to be made.

    Args:
        setup: the images and the model.
        measure: the setup of some images, their levels and streams to the nats of every part, each (B,).
        parts: their names.
        settings: everything that decides the numbers, JSON literals by name.
        evaluations: of the network for each image; None where a tolerance decides.
        chunks: network calls' images in a block.
        until: the standard error at which it stops; None: all images are measured.
    """

    setup: LikelihoodSetup
    measure: Callable[[LikelihoodSetup, Tensor, Rng], list[Tensor]]
    parts: tuple[str, ...]
    settings: dict[str, Any]
    evaluations: int | None
    chunks: int = CHUNKS
    until: float | None = None

    def calls(self, n: int) -> int | None:
        """Network calls for n images; None where a tolerance decides."""
        return None if self.evaluations is None else self.setup.calls(self.evaluations, n, self.chunks)


@dataclass(frozen=True, eq=False)
class LikelihoodResult:
    """-log p of every image for each dimension, in bits; of real numbers in nats (`diffprob.space.units`).

    Args:
        parts: of every image, by name, float64 (n,) each; they add up to `per_image`.
        index: where each image stands in its data, int64 (n,).
        files: of each image; empty where they have none.
        selection: the data that the images are of.
        dimensions: of an image.
        settings: everything that decides the numbers, JSON literals by name.
        unit: of the numbers.
    """

    parts: dict[str, np.ndarray]
    index: np.ndarray
    files: tuple[str, ...]
    selection: Selection
    dimensions: int
    settings: dict[str, Any]
    unit: Unit = BITS

    @cached_property
    def per_image(self) -> np.ndarray:
        """In `unit`, float64 (n,)."""
        return np.sum(list(self.parts.values()), 0)

    @property
    def log_prob(self) -> np.ndarray:
        """log p (or its bound) in nats, float64 (n,)."""
        return -self.per_image * self.dimensions * self.unit.nats

    @property
    def mean(self) -> float:
        """In `unit`."""
        return float(self.per_image.mean())

    @property
    def given(self) -> str:
        """What the density is given, as text: "", " given its own label" (of each image), " given cat"."""
        label = self.settings.get("told")
        return "" if label in (None, NONE) else f" given {label}"

    @property
    def standard_error(self) -> float | None:
        """Of the mean; None for one image, which has no spread."""
        n = len(self.per_image)
        return float(self.per_image.std(ddof=1) / math.sqrt(n)) if n > 1 else None

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        images = [
            {
                "index": int(index),
                **({"file": self.files[k]} if self.files else {}),
                self.unit.key: float(self.per_image[k]),
                **{name: float(bits[k]) for name, bits in self.parts.items()},
            }
            for k, index in enumerate(self.index)
        ]
        return {
            **self.settings,
            self.unit.key: self.mean,
            "standard_error": self.standard_error,
            f"terms_{self.unit.key}": {name: float(bits.mean()) for name, bits in self.parts.items()},
            "images": images,
        }

    def to_csv(self) -> str:
        """A row for each image."""
        text, rows = io.StringIO(), self.to_json()["images"]
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def __repr__(self) -> str:
        error = "" if self.standard_error is None else f" +- {self.standard_error:.4f}"
        unit, what = self.unit.name, "image" if self.unit is not NATS else "datum"
        several = {"image": "images", "datum": "data"}[what] if len(self.index) > 1 else what
        many = f"{len(self.index):,} {several} of {self.selection.images.name}"
        return (
            f"{self.mean:.4f}{error} {unit}{self.given} ({self.settings['method']}) of {many} ({self.selection.role})"
        )

    def _repr_html_(self) -> str:
        rows = [(name, f"{float(bits.mean()):.4f}") for name, bits in self.parts.items()]
        return html_table(repr(self), [*rows, ("all", f"{self.mean:.4f}")], ("part", self.unit.name))


def prepare_likelihood(run: Run, request: LikelihoodRequest, reporter: Reporter = SILENT) -> PreparedLikelihood:
    """Check everything and load the network, without measuring.

    Raises:
        InputError: a run without a model, or images of another kind.
    """
    prepared = _prepare(run, request, reporter)
    if request.until is None:
        return prepared
    return replace(prepared, until=request.until, settings={**prepared.settings, "until": request.until})


def _prepare(run: Run, request: LikelihoodRequest, reporter: Reporter) -> PreparedLikelihood:
    def prepared(chain: ChainBound) -> LikelihoodSetup:
        return prepare(run, request.images, chain, request.compute, reporter).given(request.label, reporter)

    method = request.method
    if isinstance(method, ChainBound):
        return _chain(prepared(method), method)
    if isinstance(method, ContinuousTimeBound):
        chain = ChainBound(
            terms=method.terms, variance=method.variance, decoder_std=method.decoder_std, clip=method.clip
        )
        return _continuous(prepared(chain), method)
    if isinstance(method, FixedOrder):
        return _order(prepared(ChainBound(terms=None, clip=False)), method)
    if method.importance > 1 and not isinstance(method.divergence, Exact):
        reporter.note("with an estimated divergence importance samples are no bound any more; Exact() keeps it one")
    if run.space.levels is None and max(method.repeats, method.importance) > 1:
        raise InputError(f"{option('repeats', method.repeats)}: real numbers have no bins to fill; 1 would be right")
    run.recipe.process.require_linear("the density of the probability flow")
    return _flow(prepared(ChainBound(clip=False)), method)


def likelihood(
    run: Run, request: LikelihoodRequest = LikelihoodRequest(), reporter: Reporter = SILENT
) -> LikelihoodResult:
    """Measure -log2 p of images under a run.

    Raises:
        InputError: a run without a model, images of another kind, or no density of this kind.
        NumericalError: the number of an image is not finite.
    """
    return measure_likelihood(prepare_likelihood(run, request, reporter), reporter)


def measure_likelihood(prepared: PreparedLikelihood, reporter: Reporter = SILENT) -> LikelihoodResult:
    """Make the measurement.

    Raises:
        InputError: no density of this kind.
        NumericalError: the number of an image is not finite.
    """
    setup, until = prepared.setup, prepared.until
    calls, most = prepared.calls(len(setup.chosen)), "" if until is None else "at most "
    what = f"{most}{len(setup.chosen):,} images x {prepared.evaluations} evaluations"
    forecast(reporter, what, setup.model, setup.run.space.model_shape, calls)
    parts, detail, error = list[tuple[np.ndarray, list[np.ndarray]]](), "", None
    with (
        reporter.progress("likelihood", calls, "network call") as progress,
        counted(setup.model, lambda done: progress.update(done, detail)),
    ):
        for batch in batches(setup, until):
            parts.append((batch, map_batches(replace(setup, chosen=batch), prepared.measure, prepared.chunks)))
            error = _result(prepared, parts).standard_error
            if until is not None and error is not None:
                detail = f"standard error {error:.4f}, wanted {until:g}"
                if error <= until:
                    progress.total = progress.done
                    break
                progress.total = prepared.calls(min(needed(sum(map(len, parts)), error, until), len(setup.chosen)))
    result = _result(prepared, parts)
    if until is None:
        return result
    ended = ending(len(result.index), error, until, len(setup.selection), reporter)
    return replace(result, settings={**result.settings, "ended": ended})


def _result(prepared: PreparedLikelihood, parts: list[tuple[np.ndarray, list[np.ndarray]]]) -> LikelihoodResult:
    """Of the batches so far.

    Raises:
        NumericalError: the number of an image is not finite.
    """
    setup, dimensions, (index, nats) = prepared.setup, prepared.setup.run.space.dimensions, merge(parts)
    unit = unit_of(setup.run.space)
    bits = {name: unit.of(part, dimensions) for name, part in zip(prepared.parts, nats, strict=True)}
    files, settings = setup.selection.images.files, {**prepared.settings, "n": len(index)}
    chosen = tuple(files[place] for place in index) if files else ()
    result = LikelihoodResult(bits, index, chosen, setup.selection, dimensions, settings, unit)
    (wrong,) = (~np.isfinite(result.per_image)).nonzero()
    if len(wrong):
        raise NumericalError(f"the {unit.name} of image {index[wrong[0]]} are not finite: {blame(setup.model)}")
    return result


def measured_in(unit: Unit) -> str:
    """What a measurement in this unit is called: bits for each character have been called bits/dim."""
    return unit.name if unit is NATS else BITS.name


def likelihood_measurement(result: LikelihoodResult) -> Measurement:
    """The result as a run keeps it."""
    mean, error, settings = result.mean, result.standard_error, result.settings
    return Measurement(
        name=f"{measured_in(result.unit)}{result.given} ({settings['method']})",
        value=mean,
        n=settings["n"],
        seed=settings["seed"],
        step=settings["step"],
        details={name: settings[name] for name in SETTINGS if name in settings and name != "seed"},
        low=None if error is None else mean - 1.96 * error,
        high=None if error is None else mean + 1.96 * error,
        **recorded_images(result.selection),
    )


def _chain(setup: LikelihoodSetup, method: ChainBound) -> PreparedLikelihood:
    def measure(block: LikelihoodSetup, levels: Tensor, rng: Rng) -> list[Tensor]:
        x0 = block.x0(levels)
        terms = bound_terms(block.denoiser, x0, block.times, rng, block.decoder, block.terms, method.eta)
        return _parts(block, prior_nats(block.model.process, x0, block.times[0]), terms)

    own = {"eta": method.eta, "dequantisation": "none", "evaluations": setup.evaluations}
    if setup.model.process.averaged != setup.model.process:
        own["order"] = "a bound over all orders"
    settings = {"method": "variational bound", **setup.settings, **own}
    return PreparedLikelihood(setup, measure, _names(setup), settings, setup.evaluations)


def _continuous(setup: LikelihoodSetup, method: ContinuousTimeBound) -> PreparedLikelihood:
    def measure(block: LikelihoodSetup, levels: Tensor, rng: Rng) -> list[Tensor]:
        x0 = block.x0(levels)
        terms = continuous_terms(block.denoiser, x0, rng, method.terms, block.decoder)
        return _parts(block, prior_nats(block.model.process, x0, block.times[0]), terms)

    own = {"terms": method.terms, "dequantisation": "none", "evaluations": method.terms + 1}
    settings = {"method": "variational bound of infinitely many steps", **setup.without("grid", "steps"), **own}
    return PreparedLikelihood(setup, measure, _names(setup), settings, method.terms + 1)


def _order(setup: LikelihoodSetup, method: FixedOrder) -> PreparedLikelihood:
    process, space = setup.model.process, setup.run.space
    if not hasattr(process, "with_order") or process.schedule.steps is None:
        raise InputError(
            f"{setup.run.name}: log p of one order is known of models that draw in orders, as of "
            "process=AbsorbingProcess(levels, Staircase(d))"
        )
    one = torch.zeros(1, *space.model_shape)
    raster = torch.arange(space.dimensions).reshape(one.shape)
    order = raster if method.order == "raster" else random_order(Rng.of(method.seed, 1), one)

    def measure(block: LikelihoodSetup, levels: Tensor, _: Rng) -> list[Tensor]:
        return [-order_log_prob(block.model, block.x0(levels), order.to(levels.device))]

    settings = {"method": "exact for one order", "order": method.text, **setup.without("terms", "decoder", "variance")}
    return PreparedLikelihood(setup, measure, ("elements",), {**settings, "dequantisation": "none"}, space.dimensions)


def _parts(setup: LikelihoodSetup, prior: Tensor, terms: Iterable[Term]) -> list[Tensor]:
    nats, _ = sum_terms(terms)
    return [prior, nats[:-1].sum(0), nats[-1], *_scaling(setup, prior)]


def _names(setup: LikelihoodSetup) -> tuple[str, ...]:
    """Of the parts of a bound: of real numbers one is the scaling's."""
    return (*PARTS, SCALING) if setup.run.space.levels is None else PARTS


def _scaling(setup: LikelihoodSetup, like: Tensor) -> list[Tensor]:
    """Of real numbers, what the density in the user's units has beside that in model space, nats (B,)."""
    space = setup.run.space
    return [like.new_full(like.shape, -space.log_det())] if space.levels is None else []


def _flow(setup: LikelihoodSetup, method: ProbabilityFlow) -> PreparedLikelihood:
    space, rule, tolerance = setup.run.space, Dequantisation(method.repeats, method.importance), method.tolerance

    def measure(block: LikelihoodSetup, levels: Tensor, rng: Rng) -> list[Tensor]:
        def density(x: Tensor, rng: Rng) -> Tensor:
            return flow_log_prob(block.denoiser, x, rng, method.divergence, tolerance, tolerance).log_prob

        if space.levels is None:
            x = block.x0(levels).float()
            return [nats := -density(x, rng.fold("density")), *_scaling(block, nats)]
        # bits/dim = -log2 p/d - log2 w: the width w of a bin is a part of its own.
        nats = -rule.log_prob(density, space, levels, rng)
        return [nats, nats.new_full(nats.shape, -space.log_det())]

    own = {
        "dequantisation": "none" if space.levels is None else f"uniform, centred, {rule!r}",
        "divergence": repr(method.divergence),
        "tolerance": tolerance,
    }
    settings = setup.without("grid", "steps", "terms", "variance", "decoder")
    chunks = max(1, FLOWING // setup.chunk)
    names = ("density", "width of a bin" if space.levels is not None else SCALING)
    return PreparedLikelihood(setup, measure, names, {"method": "probability flow", **settings, **own}, None, chunks)
