"""Images under the bound of a run: what `likelihood` and `rate` share."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import able, flag, real, whole
from diffprob.base.errors import FieldError, InputError
from diffprob.base.rng import Rng
from diffprob.base.text import one_line
from diffprob.data.for_run import Selection
from diffprob.denoise.denoiser import Denoiser, NetworkModel
from diffprob.denoise.subset import rows_for
from diffprob.denoise.variance import Fitted, Variance
from diffprob.likelihood.bound import Decoder, Term, aligned
from diffprob.process.grids import Native, Uniform
from diffprob.process.path import LeastCost
from diffprob.process.times import native_steps
from diffprob.runs.fits import STEPS, best_variance, bind_grid, fitted
from diffprob.runs.folder import Run
from diffprob.space.units import BITS, unit_of
from diffprob.tasks.compute import Compute
from diffprob.tasks.conditioning import measured_condition
from diffprob.tasks.drawing import clips, limited, make_times
from diffprob.tasks.images import ImageSelection
from diffprob.tasks.options import option
from diffprob.tasks.reporter import SILENT, Reporter

NEAR = 1e-3  # how far from a grey level rounding errors of float32 may leave a value
CHUNKS = 8  # network calls that one block of images takes at each time, where no gradients are kept
TERMS = 50  # random terms of each image


@dataclass(frozen=True, kw_only=True)
class ChainBound:
    """The variational bound of the run's chain: a code length of the grey levels, without dequantisation.

    Args:
        terms: random terms for each image; None: all.
        eta: of the family of chains, in (0, 1]; 1: DDPM's.
        steps: times of the chain; None: the fitted path's, or all of training.
        grid: None: the fitted path if there is one, else every time of training.
        variance: None: ``GaussianNLL()``, ``OptimalCovariance()``, ``NoiseResidual()`` or ``Analytic()``, the first
            that was fitted, else the run's.
        decoder_std: of p(x_0|x_t1), in model space; None: that of the posterior.
        clip: whether the predicted image is clamped to [-1, 1]; None: that of a network is, of an exact denoiser not.

    Raises:
        ValueError: a number outside its domain.
    """

    terms: int | None = TERMS
    eta: float = 1.0
    steps: int | None = None
    grid: Any = None
    variance: Variance | None = None
    decoder_std: float | None = None
    clip: bool | None = None

    def __post_init__(self) -> None:
        whole("terms", self.terms, 1, none=True)
        if isinstance(self.eta, int | float) and self.eta == 0:
            raise FieldError("eta", "must be above 0: a chain without noise (DDIM) has no density, so no bound")
        real("eta", self.eta, "(0, 1]")
        whole("steps", self.steps, 1, none=True)
        real("decoder_std", self.decoder_std, "(0, inf)", none=True)
        for name, ability, like in (("grid", "__call__", "Uniform()"), ("variance", "posterior", "Analytic()")):
            if getattr(self, name) is not None:
                able(name, getattr(self, name), ability, like)
        if self.clip is not None:
            flag("clip", self.clip)


@dataclass(frozen=True)
class LikelihoodSetup:
    """Which images, and how they are bounded, everything chosen.

    Args:
        run: whose density.
        model: its denoiser, with its variance.
        selection: the data that the images are of.
        chosen: their indices, increasing.
        times: of the chain.
        decoder: p(x_0|x_t1).
        terms: random steps for each image, None for all.
        clip: whether the predicted image is clamped to [-1, 1].
        settings: everything that decides the numbers, JSON literals by name.
        rows: the condition of each image of the data, or one for all; None: none.
    """

    run: Run
    model: NetworkModel
    selection: Selection
    chosen: np.ndarray
    times: Tensor
    decoder: Decoder
    terms: int | None
    clip: bool
    settings: dict[str, Any]
    rows: Tensor | None = None

    def given(self, label: str | None, reporter: Reporter = SILENT) -> "LikelihoodSetup":
        """The same under a label, as `diffprob.tasks.conditioning.measured_condition` has it.

        Raises:
            InputError: as that.
        """
        rows, text = measured_condition(self.run, label, self.selection.images, reporter)
        return self if text is None else replace(self, rows=rows, settings={**self.settings, "told": text})

    def of_images(self, index: np.ndarray) -> "LikelihoodSetup":
        """The same for some images of the data, the model with their conditions."""
        if self.rows is None:
            return self
        return replace(self, model=self.model.condition_on(rows_for(self.rows, torch.from_numpy(index))))

    @property
    def denoiser(self) -> Denoiser:
        """The model, clipped if that was asked for."""
        return limited(self.model, self.clip)

    @property
    def evaluations(self) -> int:
        """Of the network for each image."""
        return 1 + min(len(self.times) - 1, self.terms or len(self.times))

    @property
    def chunk(self) -> int:
        """Images in a network call."""
        return self.model.evaluation.chunk or len(self.chosen)

    def calls(self, evaluations: int, n: int | None = None, chunks: int = CHUNKS) -> int:
        """Network calls for a bound of n images (all by default), in blocks as of `map_batches`, with so many
        evaluations each."""
        n, block = len(self.chosen) if n is None else n, chunks * self.chunk
        return evaluations * sum(math.ceil(aligned(min(block, n - first)) / self.chunk) for first in range(0, n, block))

    def x0(self, levels: Tensor) -> Tensor:
        """Levels as points of model space: float64, so that differences of means are exact to rounding."""
        return self.run.space.to_model(levels, torch.float64)

    def without(self, *names: str) -> dict[str, Any]:
        """The settings but for those that a method has not."""
        return {name: value for name, value in self.settings.items() if name not in names}


def prepare(
    run: Run, images: ImageSelection, chain: ChainBound, compute: Compute, reporter: Reporter
) -> LikelihoodSetup:
    """Read the images, load the network, and choose whatever is left open.

    Raises:
        InputError: a run without a model, images of another kind, or a grid that has not so many times.
    """
    run.space.log_det()  # there may be none
    for name in ("clip", "decoder_std"):
        if getattr(chain, name):
            run.recipe.process.require_linear(option(name))
    selection, chosen = images.resolve(run, reporter)
    if selection.images.rounded > NEAR:
        raise InputError(
            f"{selection.images.name}: values between whole grey levels (up to {selection.images.rounded:.2g} off) "
            "have no probability here; uint8 images would be right"
        )
    model = compute.load(run, bound_variance(run, compute.best, chain.variance))
    grid, n = _grid(run, chain, compute.best)
    times = make_times(grid, model.process, n)
    decoder = Decoder(run.space.bins, chain.decoder_std)
    clip = clips(run) if chain.clip is None else chain.clip
    terms = None if chain.terms is None or chain.terms >= len(times) - 1 else chain.terms
    unit = unit_of(run.space)
    settings = {
        "run": run.place,
        **run.weights_provenance(compute.best),
        **selection.provenance,
        "n": len(chosen),
        "seed": images.seed,
        **({} if run.space.levels is None else {"levels": run.space.levels}),
        **({} if unit is BITS else {"unit": unit.name}),
        "grid": repr(grid),
        "steps": len(times),
        "terms": "all" if terms is None else terms,
        "variance": repr(model.variance),
        "decoder": repr(decoder) if run.space.levels is not None else _last_term(decoder),
        "clip": clip,
        "chunk": model.evaluation.chunk,
        "precision": model.evaluation.precision,
        "device": str(compute.on()),
    }
    return LikelihoodSetup(run, model, selection, chosen, times, decoder, terms, clip, settings)


def _last_term(decoder: Decoder) -> str:
    """What the density of the last term of a bound is, in words."""
    if decoder.std is None:
        return "the last posterior, p(x_0|x_t) at the last noisy time, as a density"
    return f"a normal law of standard deviation {decoder.std:g} in model space"


def map_batches(
    setup: LikelihoodSetup, measure: Callable[[LikelihoodSetup, Tensor, Rng], list[Tensor]], chunks: int = CHUNKS
) -> list[np.ndarray]:
    """Call ``measure`` on block after block of levels, uint8 (B, C, H, W), with the setup whose model has their
    conditions and with their streams, and put what it returns, (..., B) each, together again; a block has ``chunks``
    network calls' images.

    Raises:
        InputError: there is no bound or density of this kind.
    """
    device = torch.device(setup.settings["device"])
    parts: list[list[np.ndarray]] = []
    block = chunks * setup.chunk
    for first in range(0, len(setup.chosen), block):
        index = setup.chosen[first : first + block]
        levels = torch.from_numpy(setup.selection.images.take(index)).to(device)
        rng = Rng(torch.from_numpy(setup.settings["seed"] + index.astype(np.int64)).to(device))
        try:
            parts.append([part.double().cpu().numpy() for part in measure(setup.of_images(index), levels, rng)])
        except ValueError as error:
            raise InputError(f"{setup.run.name}: {one_line(error)}") from error
    return [np.concatenate(column, -1) for column in zip(*parts, strict=True)]


def sum_terms(terms: Iterable[Term]) -> tuple[Tensor, Tensor]:
    """Weighted nats and squared errors of the terms of a block, each (K, B)."""
    rows = [(term.share, term.error) for term in terms]
    nats, errors = zip(*rows, strict=True)
    return torch.stack(nats), torch.stack(errors)


def bound_variance(run: Run, best: bool = False, wanted: Variance | None = None) -> Any:
    """The variance asked for or, unless one is, the best one that was fitted, or else the run's; never bounded where
    the chain lands: that is for samples, and costs nats here."""
    chosen = wanted or best_variance(run, best) or run.recipe.variance
    return replace(chosen, last=math.inf) if isinstance(chosen, Fitted) else chosen


def _grid(run: Run, chain: ChainBound, best: bool) -> tuple[Any, int]:
    """The fitted path of the whole bound, as long as it was fitted, or else every time of training."""
    native = run.recipe.process.schedule.steps
    if chain.grid is not None:
        return bind_grid(run, chain.grid, best), chain.steps or native_steps(native)
    if run.recipe.process.is_linear and STEPS in fitted(run, best):  # of levels more steps never cost more
        grid = bind_grid(run, LeastCost(whole=True), best)
        n = chain.steps or len(grid.paths or ())
        if grid.paths and n <= len(grid.paths):
            return grid, n
    n = chain.steps or native_steps(native)
    return (Native() if n == native else Uniform()), n
