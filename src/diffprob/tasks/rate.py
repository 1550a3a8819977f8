"""What the steps of a run's chain cost, and what they show: rate and distortion at every time."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffprob.base.checks import able, instance, text
from diffprob.base.errors import FieldError
from diffprob.base.rng import Rng
from diffprob.codec.coders import Coder
from diffprob.likelihood.bound import bound_terms, prior_nats
from diffprob.likelihood.rate import RateDistortion, rate_distortion
from diffprob.reporting.rates import rate_figure
from diffprob.runs.folder import Run
from diffprob.tasks.bounds import TERMS, ChainBound, LikelihoodSetup, map_batches, prepare, sum_terms
from diffprob.tasks.compute import Compute
from diffprob.tasks.conditioning import NONE
from diffprob.tasks.drawing import network_progress
from diffprob.tasks.encoding import EncodeRequest, prepare_encoding
from diffprob.tasks.images import ImageSelection
from diffprob.tasks.likelihood import LikelihoodRequest, likelihood
from diffprob.tasks.options import option
from diffprob.tasks.reporter import SILENT, Reporter
from diffprob.tasks.spending import Spent, spend


@dataclass(frozen=True, kw_only=True)
class RateRequest:
    """What is to be measured.

    Args:
        images: which.
        chain: of which bound; its ``terms`` are all of them, whatever it says.
        measured: also what a code with this coder of the steps spends, at its times; None: the bound alone.
        label: as in a `diffprob.tasks.likelihood.LikelihoodRequest`; codes are told no label.
        compute: where and how precisely.

    Raises:
        ValueError: parts that do not go together, or no coder.
    """

    images: ImageSelection = ImageSelection(n=64)
    chain: ChainBound = ChainBound(terms=None)
    measured: Coder | None = None
    label: str | None = None
    compute: Compute = Compute()

    def __post_init__(self) -> None:
        instance("chain", self.chain, ChainBound)
        if self.label is not None:
            text("label", self.label)
        if self.measured is not None:
            able("measured", self.measured, "encode", "PoissonFunctional()")
            if self.label not in (None, NONE):
                raise FieldError("label", f"goes without {option('measured')}: codes are told no label")
            for name in ("grid", "decoder_std", "clip"):
                if getattr(self.chain, name) is not None:
                    raise FieldError(name, f"is the code's own where {option('measured')} asks what it spends")


@dataclass(frozen=True, eq=False)
class RateResult:
    """Rate and distortion at every time of a chain.

    Args:
        curve: in nats and in model space, as `diffprob.likelihood.rate.rate_distortion` has them.
        levels: grey levels K, for distortions on the scale of 0..K - 1.
        settings: everything that decides the numbers, JSON literals by name.
        spent: what a code spent at the same times on the same images; None: that was not asked for.
        bound: bits/dim of the images by all steps of training, beside what was spent.
    """

    curve: RateDistortion
    levels: int
    settings: dict[str, Any]
    spent: Spent | None = None
    bound: float | None = None

    @property
    def total(self) -> float:
        """Bits/dim: rate and reconstruction."""
        return self.curve.total / math.log(2)

    @property
    def points(self) -> list[dict[str, Any]]:
        """The time, the rate in bits/dim and its standard error, and the RMSE in grey levels, after each step."""
        curve, spent, bits, grey = self.curve, self.spent, 1 / math.log(2), (self.levels - 1) / 2
        return [
            {
                "steps": k,
                "t": float(curve.t[k]),
                "rate": float(curve.rate[k]) * bits,
                "rate_error": None if curve.rate_error is None else float(curve.rate_error[k]) * bits,
                "rmse": float(curve.distortion[k]) * grey,
                **({} if spent is None else {"spent": float(spent.rate[k])}),
                **({} if spent is None else {"spent_rmse": float(spent.distortion[k]) * grey}),
            }
            for k in range(len(curve.t))
        ]

    @property
    def shares(self) -> list[dict[str, Any]]:
        """Where the bits of a code went, as `diffprob.tasks.spending.Spent.shares`; empty where there is none."""
        return [] if self.spent is None or self.bound is None else self.spent.shares(self.curve, self.bound)

    def to_json(self, rows: int = 10) -> dict[str, Any]:
        """JSON literals by name; ``rows`` of the points, evenly spaced, stand in a list of their own."""
        curve, bits, points = self.curve, 1 / math.log(2), self.points
        shown = sorted({round(k * (len(points) - 1) / (rows - 1)) for k in range(rows)})
        return {
            **self.settings,
            "total": curve.total * bits,
            "total_error": None if curve.total_error is None else curve.total_error * bits,
            "rate": float(curve.rate[-1]) * bits,
            "reconstruction": curve.reconstruction * bits,
            "rmse": points[-1]["rmse"],
            **({} if self.spent is None else {"spent": self.spent.total, "shares": self.shares}),
            "rows": [points[k] for k in shown],
            "points": points,
        }

    def __repr__(self) -> str:
        spent = "" if self.spent is None else f", {self.spent.total:.4f} spent by {self.settings['coder']}"
        return f"{self.total:.4f} bits/dim over {self.settings['steps']} steps ({self.settings['n']} images){spent}"

    def _repr_png_(self) -> bytes:
        return self.figure()

    def figure(self) -> bytes:
        """The curves as .png."""
        return rate_figure(self.curve, self.levels, self.spent)


def prepare_rate(run: Run, request: RateRequest, reporter: Reporter = SILENT) -> tuple[LikelihoodSetup, dict[str, Any]]:
    """Check everything and load the network, without measuring: the setup, and everything that decides the numbers.

    Raises:
        InputError: a run without a model, or images of another kind.
    """
    if run.space.levels is None:
        run.space.require_pixels("a rate-distortion table")
    if request.measured is None:
        setup = prepare(run, request.images, request.chain, request.compute, reporter).given(request.label, reporter)
        return setup, {**setup.settings, "evaluations": setup.evaluations}
    how = {"steps": request.chain.steps, "variance": request.chain.variance}
    code = EncodeRequest(images=request.images, coder=request.measured, compute=request.compute, **how)
    setup = prepare_encoding(run, code, reporter)
    coder = repr(request.measured)
    settings = {**setup.settings, "grid": f"the cheapest for {type(request.measured).__name__}", "coder": coder}
    return setup, {**settings, "evaluations": setup.evaluations + TERMS}


def rate(run: Run, request: RateRequest = RateRequest(), reporter: Reporter = SILENT) -> RateResult:
    """Measure every term of the bound, and add up.

    Raises:
        InputError: a run without a model, images of another kind, or no bound of this kind.
    """
    return measure_rate(*prepare_rate(run, request, reporter), request, reporter)


def measure_rate(
    setup: LikelihoodSetup,
    settings: dict[str, Any],
    request: RateRequest = RateRequest(),
    reporter: Reporter = SILENT,
) -> RateResult:
    """Make the measurement of `prepare_rate`.

    Raises:
        InputError: no bound of this kind.
    """

    def measure(block: LikelihoodSetup, levels: Tensor, rng: Rng) -> list[Tensor]:
        x0 = block.x0(levels)
        terms = bound_terms(block.denoiser, x0, block.times, rng, block.decoder)
        return [prior_nats(block.model.process, x0, block.times[0]), *sum_terms(terms)]

    calls = setup.calls(setup.evaluations)
    with network_progress(reporter, "rate", calls, setup.model):
        prior, nats, error = (torch.from_numpy(part) for part in map_batches(setup, measure))
    points = rate_distortion(setup.times, prior, nats, error, setup.run.space.dimensions)
    spent, bound = None, None
    if request.measured is not None:
        chain = ChainBound(variance=setup.model.variance if setup.model.process.is_linear else None)
        wanted = LikelihoodRequest(images=request.images, method=chain, compute=request.compute)
        bound = likelihood(setup.run, wanted, reporter).mean
        spent = spend(setup, request.measured, request.compute.best, reporter)
    return RateResult(points, setup.run.space.levels, settings, spent, bound)
