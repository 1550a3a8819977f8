"""The face for Python: a trained run, an exact denoiser or any network, as a probability model that can be asked.

Every method fills the request of a task from its keywords, with the task's defaults, so that a number does not depend
on the door it was asked through.
"""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from diffprob.base.distributions import Distribution
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.base.shapes import per_sample
from diffprob.data.images import Images
from diffprob.denoise.denoiser import Clock, NetDenoiser
from diffprob.denoise.prediction import Prediction
from diffprob.denoise.variance import Variance
from diffprob.likelihood.flow import flow_log_prob
from diffprob.process.chain import nearest
from diffprob.process.linear import LinearProcess
from diffprob.runs.folder import Run
from diffprob.sampling.simulate import State
from diffprob.space.pixels import Pixels
from diffprob.tasks.bounds import ChainBound
from diffprob.tasks.compute import Compute
from diffprob.tasks.conditioning import Conditioning
from diffprob.tasks.images import ImageBatch, ImageSelection
from diffprob.tasks.in_memory import InMemoryRun, Points, in_memory, is_pipeline, pipeline_in_memory
from diffprob.tasks.likelihood import LikelihoodMethod, LikelihoodRequest, LikelihoodResult, ProbabilityFlow, likelihood
from diffprob.tasks.plan import Sampling
from diffprob.tasks.rate import RateRequest, RateResult, rate
from diffprob.tasks.reporter import Reporter, Silent
from diffprob.tasks.sample import SampleRequest, Samples, chain, sample

Labels = str | int | Sequence[str | int] | None
Pictures = str | Path | np.ndarray | Tensor | Images | ImageBatch | None


class Warnings(Silent):
    """The reporter of a Python session: no progress, and every note is a warning."""

    def note(self, text: str) -> None:
        """Warn."""
        warnings.warn(text.removeprefix("note: "), stacklevel=4)


class Model:
    """A diffusion model as a probability model; `load` opens one that was trained.

    Args:
        denoiser: an exact denoiser, a `NetDenoiser`, or any torch module ``net(x, t)`` that answers with a tensor, an
            object that has ``.sample``, or an `Output`. It is copied when it is asked, and stays as it is.
        shape: of one image (C, H, W) or point.
        levels: number of grey levels of images; None: points that are no images, of which no bits/dim can be told.
        process: the noise that a network removes; a denoiser has its own.
        prediction: what a network's answer stands for (``Epsilon()``).
        clock: what a network is told about t in (0, 1] (``Index(T)``: t T - 1).
        scheduler: one of diffusers' instead of these three.
        compute: where and how precisely it is evaluated.
        reporter: who hears notes and progress; by default notes are warnings.

    Raises:
        InputError: parts that do not go together.
    """

    run: Run
    compute: Compute
    reporter: Reporter

    def __init__(
        self,
        denoiser: Any,
        *,
        shape: Sequence[int],
        levels: int | None = None,
        process: LinearProcess | None = None,
        prediction: Prediction | None = None,
        clock: Clock | None = None,
        scheduler: Any = None,
        compute: Compute = Compute(),
        reporter: Reporter = Warnings(),
    ) -> None:
        self.run = in_memory(denoiser, tuple(shape), levels, process, prediction, clock, scheduler)
        self.compute, self.reporter = compute, reporter

    @classmethod
    def of(cls, run: Run, compute: Compute = Compute(), reporter: Reporter = Warnings()) -> Self:
        """The model of an open run."""
        model = cls.__new__(cls)
        model.run, model.compute, model.reporter = run, compute, reporter
        return model

    @property
    def space(self) -> Pixels | Points:
        """Of its images or points."""
        return self.run.space

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image (C, H, W) or point."""
        return tuple(self.run.space.shape)

    @property
    def process(self) -> LinearProcess:
        """Whose noise it removes."""
        return self.run.process

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that it can draw; empty where it has none, or they have no names."""
        return tuple(getattr(self.run.recipe.condition, "names", ()))

    def denoiser(self, **options: Any) -> NetDenoiser:
        """The denoiser: ``denoiser()(xt, t)`` is p(x_0 | x_t); ``options`` are those of `Compute.load`."""
        return self.compute.load(self.run, **options)

    def data(
        self,
        images: Pictures = None,
        *,
        split: str = "auto",
        n: int | None = None,
        seed: int = 0,
        resize: bool = False,
        place: str | Path | None = None,
    ) -> ImageBatch:
        """Images for this model, looked at before they are taken.

        Args:
            images: a place or uint8 (N, C, H, W); None: the run's own.
            split: "auto" takes held-out images where there are some, else all; or "train", "test".
            n: at most so many, chosen by the seed; None: all.
            seed: which.
            resize: convert images of another shape or number of grey levels.
            place: where the run's own images lie, if not where its recipe says.

        Raises:
            InputError: nothing there, damaged, or images that the model does not take.
        """
        chosen = self._chosen(images, split=split, n=n, seed=seed, resize=resize, place=place)
        return ImageBatch(*chosen.of(self.run, self.reporter))

    def sample(
        self,
        n: int = 64,
        *,
        seed: int = 0,
        labels: Labels = None,
        guidance: float = 0.0,
        steps: int | None = None,
        sampler: Any = None,
        grid: Any = None,
        variance: Variance | None = None,
        clip: bool | float = True,
        conditioning: Conditioning | None = None,
        progressive: int = 0,
    ) -> Samples:
        """Draw images; those of `diffprob sample`, to the bit.

        Args:
            n: how many.
            seed: of the first; image i has the seed ``seed + i``.
            labels: classes, in turn, by name or number; None: all in turn.
            guidance: W of classifier-free guidance, (1 + W) conditional - W unconditional.
            steps, sampler, grid, variance, clip: as in `diffprob.tasks.plan.Sampling`; by default what suits the steps.
            conditioning: in the place of ``labels`` and ``guidance``, all that there is to say.
            progressive: the first so many are followed on their way.

        Raises:
            InputError: parts that do not go together.
            NumericalError: an image is not finite.
        """
        sampling = self._sampling(n, seed, labels, guidance, steps, sampler, grid, variance, clip, conditioning)
        return sample(self.run, SampleRequest(sampling=sampling, progressive=progressive), self.reporter)

    def chain(
        self,
        n: int = 64,
        *,
        seed: int = 0,
        labels: Labels = None,
        guidance: float = 0.0,
        steps: int | None = None,
        sampler: Any = None,
        grid: Any = None,
        variance: Variance | None = None,
        clip: bool | float = True,
        conditioning: Conditioning | None = None,
    ) -> Iterator[State]:
        """The chain that `sample` runs, one `State` after every step; its ``x`` (n, *shape) is in model space.

        Args:
            n, seed, labels, guidance, steps, sampler, grid, variance, clip, conditioning: as in `sample`.

        Raises:
            InputError: parts that do not go together.
        """
        sampling = self._sampling(n, seed, labels, guidance, steps, sampler, grid, variance, clip, conditioning)
        return chain(self.run, SampleRequest(sampling=sampling), self.reporter)

    def bits_per_dim(
        self,
        images: Pictures = None,
        *,
        method: LikelihoodMethod = ChainBound(),
        n: int | None = 1000,
        seed: int = 0,
        split: str = "auto",
        resize: bool = False,
        place: str | Path | None = None,
    ) -> LikelihoodResult:
        """-log2 p of images in bits per dimension; the number of `diffprob likelihood`.

        Args:
            images, split, n, resize, place: as in `data`; a batch is taken whole.
            method: ``ChainBound()``, ``ContinuousTimeBound()`` or ``ProbabilityFlow()``.
            seed: which images, and their noise.

        Raises:
            InputError: points that are no images, images of another kind, or no density of this kind.
            NumericalError: the number of an image is not finite.
        """
        self._only_images("bits/dim")
        chosen = self._chosen(images, split=split, n=n, seed=seed, resize=resize, place=place)
        request = LikelihoodRequest(images=chosen, method=method, compute=self.compute)
        return likelihood(self.run, request, self.reporter)

    def log_prob(self, images: Any = None, *, method: LikelihoodMethod | None = None, **options: Any) -> np.ndarray:
        """log p in nats, float64 (n,): of images that of their grey levels (or a bound on it), of points the density.

        Args:
            images: as in `bits_per_dim`; or points (n, *shape) where the model is of points.
            method: as in `bits_per_dim`; points have the `ProbabilityFlow` alone.
            options: the other keywords of `bits_per_dim`; of points ``seed``.

        Raises:
            InputError: as `bits_per_dim`; or points of another shape.
        """
        if isinstance(self.space, Pixels):
            return self.bits_per_dim(images, method=method or ChainBound(), **options).log_prob
        flow = ProbabilityFlow() if method is None else method
        if not isinstance(flow, ProbabilityFlow):
            raise InputError(f"{flow!r} is for images of grey levels; ProbabilityFlow() would be right for points")
        x, model = self._points(images), self.denoiser()
        rng = Rng.of(options.pop("seed", 0), len(x), device=x.device)
        if options:
            raise InputError(f"points have no {', '.join(options)}")
        return flow_log_prob(model, x, rng, flow.divergence, flow.tolerance, flow.tolerance).log_prob.cpu().numpy()

    def rate_distortion(
        self,
        images: Pictures = None,
        *,
        chain: ChainBound = ChainBound(terms=None),
        n: int | None = 64,
        seed: int = 0,
        split: str = "auto",
        resize: bool = False,
        place: str | Path | None = None,
    ) -> RateResult:
        """What the steps of the chain cost and what they show; the numbers of `diffprob rate`.

        Args:
            images, split, n, seed, resize, place: as in `bits_per_dim`.
            chain: of which bound.

        Raises:
            InputError: as `bits_per_dim`.
        """
        self._only_images("rate and distortion")
        chosen = self._chosen(images, split=split, n=n, seed=seed, resize=resize, place=place)
        return rate(self.run, RateRequest(images=chosen, chain=chain, compute=self.compute), self.reporter)

    @torch.no_grad()
    def denoise(self, xt: Tensor, t: Tensor | float) -> Distribution:
        """p(x_0 | x_t) for x_t (B, *shape) in model space and t () or (B,) in (0, 1].

        Raises:
            ValueError: t is no time.
        """
        return self.denoiser()(xt, torch.as_tensor(t, dtype=torch.float64))

    def score(self, xt: Tensor, t: Tensor | float) -> Tensor:
        """grad log p_t(x_t) = (alpha E[x_0 | x_t] - x_t)/sigma^2, (B, *shape): Tweedie's formula (Efron 2011, eq. 1.4).

        Raises:
            ValueError: t is no time, or 0, where there is no noise.
        """
        time = nearest(self.process, t)
        alpha, sigma = self.process.coefficients(time)
        mean = self.denoise(xt, time).mean
        return (per_sample(alpha, xt) * mean - xt) / per_sample(sigma**2, xt)

    def __repr__(self) -> str:
        where = f"{self.run.place!r}" if not isinstance(self.run, InMemoryRun) else "a denoiser in memory"
        shape = "x".join(map(str, self.shape))
        levels = f", {self.space.levels} grey levels" if isinstance(self.space, Pixels) else ""
        return f"Model({where}: {shape}{levels}, {self.run.recipe.process.schedule!r})"

    def _sampling(
        self,
        n: int,
        seed: int,
        labels: Labels,
        guidance: float,
        steps: int | None,
        sampler: Any,
        grid: Any,
        variance: Variance | None,
        clip: bool | float,
        conditioning: Conditioning | None,
    ) -> Sampling:
        if conditioning is not None and (labels is not None or guidance):
            raise InputError("conditioning= says labels and guidance too: give one or the other")
        if conditioning is None:
            several = [labels] if isinstance(labels, str | int) else labels
            names = None if several is None else tuple(map(str, several))
            conditioning = Conditioning(label=names, guidance=guidance)
        clip = clip if isinstance(self.space, Pixels) else False  # points have no interval of grey levels
        return Sampling(
            n=n,
            seed=seed,
            sampler=sampler,
            steps=steps,
            grid=grid,
            variance=variance,
            clip=clip,
            conditioning=conditioning,
            compute=self.compute,
        )

    def _chosen(self, images: Pictures, *, place: str | Path | None, **options: Any) -> ImageSelection:
        if isinstance(self.run, InMemoryRun) and images is None:
            raise InputError("a model in memory has no images of its own: give some")
        taken = str(images) if isinstance(images, Path) else images
        taken = taken.detach().cpu().numpy() if isinstance(taken, Tensor) else taken
        return ImageSelection(images=taken, place=None if place is None else str(place), **options)

    def _only_images(self, what: str) -> None:
        if not isinstance(self.space, Pixels):
            raise InputError(f"{what} is for images of grey levels: dp.Model(..., shape=(C, H, W), levels=256)")

    def _points(self, points: Any) -> Tensor:
        x = torch.as_tensor(points, dtype=torch.float32)
        if tuple(x.shape[1:]) != self.shape or not len(x):
            raise InputError(f"points (n, {', '.join(map(str, self.shape))}) would be right, got {tuple(x.shape)}")
        return x


def load(
    model: str | Path | Run,
    *,
    device: str = "auto",
    precision: str = "fp32",
    batch: int | None = None,
    best: bool = False,
    reporter: Reporter = Warnings(),
) -> Model:
    """Open a model: a packaged run by its name, a run's folder, a diffusers folder, or an open `Run`.

    Args:
        model: which.
        device: "auto" (a CUDA GPU if there is one), "cpu", "cuda" or "cuda:1".
        precision: "fp32", "bf16" or "fp16", of the network.
        batch: images per network call, which decides speed and the last bits.
        best: the best averaged weights by the metric that the training watched, instead of the last.
        reporter: who hears notes and progress; by default notes are warnings.

    Raises:
        InputError: no such run, one without a denoiser, or damaged.
    """
    if not isinstance(model, Run | str | Path):
        kind = type(model).__name__
        raise InputError(f"load takes a name or a folder, got {kind}; dp.Model(denoiser, shape=...) wraps one")
    compute = Compute(device=device, precision=precision, batch=batch, best=best)
    compute.on()
    if not isinstance(model, Run):
        model = pipeline_in_memory(model) if is_pipeline(model) else Run.open(model)
    return Model.of(model, compute, reporter)
