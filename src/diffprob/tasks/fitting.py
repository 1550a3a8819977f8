"""Fit to a run what its training did not: the best variances of its reverse steps, and the best steps.

analytic: one variance per time by Monte Carlo, without training (Analytic-DPM). npr, sn, ocm, nll: heads on the frozen
network that predict a variance for every pixel. steps: the least-cost path, of the whole bound with the best variance
that was fitted. The run keeps each in a file of its own, with the SHA-256 of the weights that it belongs to.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffprob.base.checks import flag, real, several, text, whole
from diffprob.base.errors import InputError, did_you_mean
from diffprob.base.rng import Rng
from diffprob.data.images import Images
from diffprob.denoise.denoiser import NetworkModel
from diffprob.denoise.moments import NoiseMoments
from diffprob.denoise.variance import HEADS, Headed, Zero
from diffprob.process.grids import Uniform
from diffprob.process.linear import LinearProcess
from diffprob.runs.fits import (
    KINDS,
    best_variance,
    fit_bytes,
    fit_path,
    fits_for,
    fitted,
    has_features,
    head_tensors,
    moments_tensors,
    read_moments,
)
from diffprob.runs.folder import Run
from diffprob.runs.images import OwnImages
from diffprob.tasks.compute import Compute
from diffprob.tasks.drawing import clips, limited
from diffprob.tasks.element_costs import fit_groups
from diffprob.tasks.forecast import forecast
from diffprob.tasks.options import option
from diffprob.tasks.path_costs import fit_times
from diffprob.tasks.recording import check_writable
from diffprob.tasks.reporter import SILENT, Reporter, when_interrupted
from diffprob.training.batches import order
from diffprob.training.heads import CovarianceFit, fit_heads, head_spec
from diffprob.training.moments import noise_moments

LONGEST_PATH = 256  # times; the cost hardly falls any more before that
LOOKED_AT = 16  # images at each time at which the variances of a head are looked at, for the path
KNOTS = 1000  # times of the analytic fit on a schedule without times of its own


@dataclass(frozen=True, kw_only=True)
class AnalyticFit:
    """How the analytic variance is estimated.

    Args:
        n: images at each time.
        times: at how many times; None: all of the schedule. Between fewer the variance is interpolated
            (`diffprob.denoise.moments.NoiseMoments.relative`).

    Raises:
        ValueError: a number outside its domain.
    """

    n: int = 64
    times: int | None = None

    def __post_init__(self) -> None:
        whole("n", self.n, 2)
        whole("times", self.times, 2, none=True)


@dataclass(frozen=True, kw_only=True)
class HeadFit:
    """How heads are trained, all in one pass.

    Args:
        steps: of the optimiser.
        batch: images in a step.
        lr: the largest learning rate.
        blocks: residual blocks in front of each; None: 1 of "nll", 0 of the others.

    Raises:
        ValueError: a number outside its domain.
    """

    steps: int = 3000
    batch: int = 64
    lr: float = 1e-3
    blocks: int | None = None

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1)
        whole("batch", self.batch, 2)
        real("lr", self.lr, "(0, 1)")
        whole("blocks", self.blocks, 0, none=True)


@dataclass(frozen=True, kw_only=True)
class FitRequest:
    """What is to be fitted.

    Args:
        what: some of "analytic", "npr", "sn", "ocm", "nll", "steps"; (): those with which bounds cost least.
        analytic: how that is estimated.
        heads: how "npr", "sn", "ocm" and "nll" are trained.
        data: where the run's own images lie, if not where its recipe says.
        seed: decides which images, times and noise.
        record: write also into a run that comes with the library.
        compute: where and how precisely, and to which weights.

    Raises:
        ValueError: a number outside its domain.
    """

    what: tuple[str, ...] = ()
    analytic: AnalyticFit = AnalyticFit()
    heads: HeadFit = HeadFit()
    data: str | None = None
    seed: int = 0
    record: bool = False
    compute: Compute = Compute()

    def __post_init__(self) -> None:
        several("what", self.what, text, 0, like='("analytic", "steps")')
        flag("record", self.record)
        whole("seed", self.seed, 0, 2**62)


@dataclass(frozen=True)
class FitResult:
    """What was fitted; all of it is in the run.

    Args:
        fits: about each by its name: its settings, a summary in words, and the seconds it took.
        settings: what the fits have in common, JSON literals by name.
    """

    fits: dict[str, dict[str, Any]]
    settings: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        return {**self.settings, "dry_run": False, "fits": self.fits}

    def __repr__(self) -> str:
        return "\n".join(f"{kind}: {about['summary']}" for kind, about in self.fits.items())


@dataclass(frozen=True)
class PreparedFit:
    """Fits that are about to be made.

    Args:
        run: the run.
        request: what is to be fitted.
        kinds: all that will be, in order; the path needs the analytic variance of the same weights.
        model: the run's network.
        images: its training images; None: none are needed.
        settings: what the fits have in common, JSON literals by name.
    """

    run: Run
    request: FitRequest
    kinds: tuple[str, ...]
    model: NetworkModel
    images: Images | None
    settings: dict[str, Any]

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return next(self.model.parameters()).device

    def take(self, size: int) -> Callable[[int], Tensor]:
        """Batch k -> images (size, C, H, W) in model space, from an endless stream of shuffled epochs.

        Raises:
            InputError: fewer images than in a batch.
        """
        images, space, device, seed = self.images, self.run.space, self.device, self.request.seed
        assert images is not None
        count = len(images)
        if count < size:
            raise InputError(f"{images.name} has {count} images, fewer than the {size} of a batch; give a smaller one")
        return lambda k: space.to_model(torch.from_numpy(images.take(order(seed, k * size, size, count))).to(device))

    def keep(self, kind: str, tensors: dict[str, Any], about: dict[str, Any]) -> None:
        """Write a fit into the run.

        Raises:
            InputError: it cannot be written.
        """
        contents = fit_bytes(self.run, kind, tensors, about, self.request.compute.best)
        self.run.add(fit_path(self.run, kind).name, contents)


def fit(run: Run, request: FitRequest, reporter: Reporter = SILENT) -> FitResult:
    """Fit, one file after the other.

    Raises:
        InputError: nothing of that name, too few images, or a run that cannot be written.
    """
    return run_fit(prepare_fit(run, request, reporter), reporter)


def prepare_fit(run: Run, request: FitRequest, reporter: Reporter = SILENT, writing: bool = True) -> PreparedFit:
    """Check everything, read the images and load the network, without fitting.

    Args:
        run: the run.
        request: what is to be fitted.
        reporter: who hears notes.
        writing: whether the run will have to be written to.

    Raises:
        InputError: nothing of that name, or a run that cannot be written.
    """
    compute = request.compute
    kinds = _kinds(run, request, reporter)
    if writing:
        if run.is_packaged and not request.record:
            why = "comes with the library and is only read"
            raise InputError(f"{run.place} {why}: {option('record')} would write into it all the same")
        check_writable(run)
    linear = run.recipe.process.is_linear
    model = compute.load(run, Zero() if linear else None)
    looked_at = set(kinds) - {"steps"} or not linear or isinstance(best_variance(run, compute.best), Headed)
    images = OwnImages(run, request.data).train.images if looked_at else None
    settings = {
        "run": run.place,
        "what": list(kinds),
        "files": {kind: f"{run.place}/{fit_path(run, kind).name}" for kind in kinds},
        "seed": request.seed,
        "device": str(compute.on()),
    }
    return PreparedFit(run, request, kinds, model, images, settings)


def run_fit(prepared: PreparedFit, reporter: Reporter = SILENT) -> FitResult:
    """Fit, one file after the other.

    Raises:
        InputError: too few images, or a run that cannot be written.
    """
    kinds, fits = prepared.kinds, dict[str, dict[str, Any]]()
    with when_interrupted(lambda: _left(kinds, fits)):
        if "analytic" in kinds:
            fits["analytic"] = _fit_analytic(prepared, reporter)
        heads = tuple(kind for kind in kinds if kind not in ("analytic", "steps"))
        if heads:
            fits.update(_fit_heads(prepared, heads, reporter))
        if "steps" in kinds:
            fits["steps"] = _fit_steps(prepared, reporter)
    return FitResult(fits, prepared.settings)


def _left(kinds: tuple[str, ...], fits: dict[str, Any]) -> str:
    """What an interruption leaves: a fit is kept whole or not at all, and one that is not begins anew."""
    kept = ", ".join(fits)
    rest = ", ".join(kind for kind in kinds if kind not in fits)
    return f"interrupted: nothing of {rest} is kept, and begins anew" + (f"; {kept} is kept" if kept else "")


def check_fit(run: Run, kind: str) -> None:
    """Refuse a fit that the run's process, network or space does not allow.

    Raises:
        InputError: "steps" or "ocm", a path of the bound's costs and a derivative of the score, without a known law of
            a step; "steps" without a density of the data; a head on a network that has no features for it.
    """
    if kind not in fits_for(run.recipe):
        run.recipe.process.require_linear(f"`fit {kind}`")
    if kind in HEADS.values() and not has_features(run.recipe):
        network = type(run.recipe.network).__name__.removesuffix("Spec")
        raise InputError(
            f"{run.place}: `fit {kind}` reads the features of a UNet that predicts an image alone, and this run has a "
            f"{network} of another kind: `fit analytic` needs none"
        )
    if kind in ("steps", "ocm"):
        run.recipe.process.check_law(f"`fit {kind}`")
    if kind == "steps":
        run.space.log_det()  # the costs of the last step are those of grey levels; there may be none


def _kinds(run: Run, request: FitRequest, reporter: Reporter) -> tuple[str, ...]:
    """What to fit, in order; the path needs the analytic fit of the same weights."""
    for kind in request.what:
        if kind not in KINDS:
            raise InputError(
                f"nothing to fit is called {kind!r} (one of {', '.join(KINDS)}){did_you_mean(kind, KINDS)}"
            )
    process, wanted = run.recipe.process, set(request.what or fits_for(run.recipe))
    if not wanted:
        raise InputError(f"{run.place} has nothing to fit: its steps have no times to choose and no variance")
    for kind in sorted(wanted):
        check_fit(run, kind)
    alone = not process.is_linear or "analytic" in wanted | set(fitted(run, request.compute.best))
    if "steps" in wanted and not alone:
        reporter.note("steps follow from the analytic variance: that is fitted first")
        wanted.add("analytic")
    return tuple(kind for kind in KINDS if kind in wanted)


def _fit_analytic(prepared: PreparedFit, reporter: Reporter) -> dict[str, Any]:
    """Estimate the moments at every time and keep them."""
    model, seed, n, device = prepared.model, prepared.request.seed, prepared.request.analytic.n, prepared.device
    began = time.monotonic()
    times = _times(model.process, prepared.request.analytic.times)
    rng = Rng.of(seed, n, device=device)
    take = prepared.take(n)
    calls = len(times) * math.ceil(n / (model.evaluation.chunk or n))
    forecast(reporter, f"analytic: {n:,} images x {len(times):,} times", model, prepared.run.space.model_shape, calls)
    with reporter.progress("analytic", len(times), "time") as progress:
        moments = noise_moments(model, take, times.to(device), rng, progress.update)
    about = {"n": n, "times": len(times), "seed": seed, "precision": prepared.request.compute.exact}
    prepared.keep("analytic", moments_tensors(moments), about)
    used = {"use": 'sample --variance "Analytic()", or Analytic(moment="norm")', **_seconds(began)}
    return {**about, "summary": _worth(moments, n), **used}


def _times(process: LinearProcess, wanted: int | None = None) -> Tensor:
    """So many increasing times, or all, float64 (K,)."""
    most = process.schedule.steps or KNOTS
    return Uniform()(process, min(wanted or most, most)).flip(0)


def _worth(moments: NoiseMoments, n: int) -> str:
    """What the fit says, in a line; how far both estimates are apart tells how imperfect the mean is."""
    apart = float((moments.residual / moments.norm.clamp_min(1e-12)).median())
    error = float((moments.residual_error / moments.residual).median())
    return (
        f"{len(moments.times):,} times, {n} images each; typical standard error {error:.1%}; "
        f"residual/norm {apart:.3f} (1: a perfect mean)"
    )


def _fit_heads(prepared: PreparedFit, kinds: tuple[str, ...], reporter: Reporter) -> dict[str, dict[str, Any]]:
    """Fit the heads together and keep each."""
    began, settings, request = time.monotonic(), prepared.request.heads, prepared.request
    model: Any = prepared.model
    fit = CovarianceFit(
        kinds, settings.steps, settings.lr, min(100, settings.steps), seed=request.seed, clip=clips(prepared.run)
    )
    take = prepared.take(settings.batch)
    losses: dict[str, float] = {}
    size, batches = settings.batch, fit.pilot + fit.steps
    forecast(reporter, f"heads: {size} images x {batches:,}", model, prepared.run.space.model_shape, batches, size)
    with reporter.progress(f"heads {', '.join(kinds)}", fit.steps, "step") as progress:

        def update(step: int, now: dict[str, float]) -> None:
            for kind, loss in now.items():
                losses[kind] = 0.98 * losses.get(kind, loss) + 0.02 * loss
            progress.update(step, ", ".join(f"{kind} {loss:.3f}" for kind, loss in losses.items()))

        state = fit_heads(model, (take(k) for k in range(fit.pilot + fit.steps)), fit, settings.blocks, update)
    fits = {}
    names = {kind: f"{variance.__name__}()" for variance, kind in HEADS.items()}
    batch, precision = settings.batch, request.compute.exact
    for kind in kinds:
        tensors, own = head_tensors(head_spec(model, kind, settings.blocks), state.heads[kind])
        about = {**own, "fit": repr(fit), "batch": batch, "loss": losses[kind], "precision": precision}
        prepared.keep(kind, tensors, about)
        loss = "likelihood loss" if kind == "nll" else "weighted squared error"
        summary = f"{fit.steps:,} steps of {batch} images; {loss} {losses[kind]:.3f}"
        fits[kind] = {**about, "summary": summary, "use": f'sample --variance "{names[kind]}"', **_seconds(began)}
    return fits


def _fit_steps(prepared: PreparedFit, reporter: Reporter) -> dict[str, Any]:
    """The least-cost paths through all times, from the variance fitted at some of them or all, and what they save."""
    if not prepared.run.recipe.process.is_linear:
        n, seed = prepared.request.analytic.n, prepared.request.seed
        tensors, fit = fit_groups(prepared.model, prepared.take(n)(0), seed, LONGEST_PATH, reporter)
        prepared.keep("steps", tensors, {name: fit[name] for name in ("n", "seed", "longest")})
        return fit
    began, seed, best = time.monotonic(), prepared.request.seed, prepared.request.compute.best
    run, head, model = prepared.run, best_variance(prepared.run, best), prepared.model
    moments, times, x0 = read_moments(run, best), _times(model.process), None
    if isinstance(head, Headed) and prepared.images is not None:
        model = limited(prepared.request.compute.load(run, head), clips(run))
        x0 = prepared.take(min(LOOKED_AT, len(prepared.images)))(0)
    tensors, about = fit_times(moments, times, LONGEST_PATH, run.space.levels, model, x0, seed, reporter)
    if x0 is not None:
        about["variance"] = repr(head)
    prepared.keep("steps", tensors, {name: about[name] for name in ("moment", "longest", "variance") if name in about})
    return {**about, "use": "sample --grid best", **_seconds(began)}


def _seconds(began: float) -> dict[str, float]:
    return {"seconds": round(time.monotonic() - began, 1)}
