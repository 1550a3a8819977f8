"""The face, as far as it measures: what is asked about images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from torch import Tensor

from diffprob.base.checks import shown
from diffprob.base.errors import InputError, did_you_mean
from diffprob.base.rng import Rng
from diffprob.codec.coders import Coder
from diffprob.density.proxy import Proxy
from diffprob.likelihood.flow import flow_log_prob
from diffprob.tasks.bounds import ChainBound
from diffprob.tasks.detection import LOW, DetectionRequest, DetectionResult, detect
from diffprob.tasks.evaluation import EvaluationRequest, EvaluationResult, evaluate
from diffprob.tasks.face import Drawing, Face, Pictures, draws
from diffprob.tasks.features import Auto, FeatureChoice
from diffprob.tasks.images import ImageBatch
from diffprob.tasks.in_memory import Points
from diffprob.tasks.likelihood import LikelihoodMethod, LikelihoodRequest, LikelihoodResult, ProbabilityFlow, likelihood
from diffprob.tasks.rate import RateRequest, RateResult, rate
from diffprob.tasks.sample import Samples

_OPTIONS = (
    "labels",
    "n",
    "until",
    "seed",
    "split",
    "resize",
    "place",
)  # of `Measures.bits_per_dim` beside images and method


class Measures(Face):
    """The methods of `diffprob.tasks.model.Model` that measure."""

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
        self._only_images("data")
        chosen = self._chosen(images, split=split, n=n, seed=seed, resize=resize, place=place)
        return ImageBatch(*chosen.resolve(self.run, self.reporter))

    def bits_per_dim(
        self,
        images: Pictures = None,
        *,
        method: LikelihoodMethod = ChainBound(),
        labels: str | int | None = None,
        n: int | None = 1000,
        until: float | None = None,
        seed: int = 0,
        split: str = "auto",
        resize: bool = False,
        place: str | Path | None = None,
    ) -> LikelihoodResult:
        """-log2 p of images in bits per dimension; the number of `diffprob likelihood`.

        Args:
            images, split, n, resize, place: as in `data`; a batch is taken whole.
            method: ``ChainBound()``, ``ContinuousTimeBound()`` or ``ProbabilityFlow()``.
            labels: of a model with labels: "own" measures p(x|y) with the class y of each image, a class by name or
                number that one for all images; None: p(x), without a label.
            until: stop as soon as the standard error of the mean is at most so many bits/dim; n at most.
            seed: which images, and their noise.

        Raises:
            InputError: points that are no images, images of another kind, or no density of this kind.
            NumericalError: the number of an image is not finite.
        """
        self._only_images("bits/dim")
        chosen = self._chosen(images, split=split, n=n, seed=seed, resize=resize, place=place)
        label = None if labels is None else str(labels)
        request = LikelihoodRequest(images=chosen, method=method, label=label, until=until, compute=self.compute)
        return likelihood(self.run, request, self.reporter)

    def log_prob(self, images: Any = None, *, method: LikelihoodMethod | None = None, **options: Any) -> np.ndarray:
        """log p in nats, float64 (n,): of images that of their grey levels (or a bound on it), of points the density.

        Args:
            images: as in `bits_per_dim`; or points (n, *shape) where the model is of points.
            method: as in `bits_per_dim`; points have the `ProbabilityFlow` alone.
            options: the other keywords of `bits_per_dim`; of points ``seed``.

        Raises:
            InputError: as `bits_per_dim`; or points of another shape.
            TypeError: another keyword.
        """
        is_measured = not isinstance(self.space, Points)
        known = _OPTIONS if is_measured else ("seed",)
        if wrong := next((name for name in options if name not in known), None):
            of = "images" if is_measured else "points"
            near = did_you_mean(wrong, ("method", *known))
            raise TypeError(f"log_prob() of {of} got an unexpected keyword argument {wrong!r}{near}")
        if is_measured:
            return self.bits_per_dim(images, method=method or ChainBound(), **options).log_prob
        flow = ProbabilityFlow() if method is None else method
        if not isinstance(flow, ProbabilityFlow):
            raise InputError(f"{flow!r} is for images of grey levels; ProbabilityFlow() would be right for points")
        x, model = self._points(images).float(), self.denoiser()
        rng = Rng.of(options.pop("seed", 0), len(x), device=x.device)
        return flow_log_prob(model, x, rng, flow.divergence, flow.tolerance, flow.tolerance).log_prob.cpu().numpy()

    def rate_distortion(
        self,
        images: Pictures = None,
        *,
        chain: ChainBound = ChainBound(terms=None),
        measured: Coder | None = None,
        labels: str | int | None = None,
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
            measured: a coder of the steps: also what it spends, ``shares`` of it, at the times that suit it.
            labels: as in `bits_per_dim`.

        Raises:
            InputError: as `bits_per_dim`.
        """
        self._only_images("rate and distortion")
        chosen = self._chosen(images, split=split, n=n, seed=seed, resize=resize, place=place)
        label = None if labels is None else str(labels)
        request = RateRequest(images=chosen, chain=chain, measured=measured, label=label, compute=self.compute)
        return rate(self.run, request, self.reporter)

    @draws
    def evaluate(
        self,
        held_out: Pictures = None,
        *,
        n: int = 1000,
        samples: np.ndarray | Tensor | Samples | None = None,
        metrics: tuple[str, ...] | None = None,
        features: FeatureChoice = Auto(),
        split: str = "auto",
        resize: bool = False,
        place: str | Path | None = None,
        **drawing: Unpack[Drawing],
    ) -> EvaluationResult:
        """Compare samples with real images; the numbers of `diffprob evaluate`.

        Args:
            held_out: the real images, as in `data`; None: the run's own held-out ones.
            n: samples.
            samples: judge these, uint8 (N, C, H, W) or what `sample` gave, instead of drawing.
            metrics: names (``diffprob show metrics``); None: those that fit.
            features: what images are looked at through.
            split, resize, place: as in `data`.
            drawing: the other keywords of `sample`; ``seed`` is also that of all other randomness.

        Raises:
            InputError: images or metrics that do not fit.
        """
        self._only_images("evaluation")
        request = EvaluationRequest(
            sampling=self._sampling(n, drawing),
            samples=_levels(samples),
            held_out=self._source(held_out),
            place=None if place is None else str(place),
            split=split,
            resize=resize,
            features=features,
            metrics=metrics,
        )
        return evaluate(self.run, request, self.reporter)

    def detect(
        self,
        judged: Pictures = None,
        *,
        outside: Pictures | Sequence[Pictures] = None,
        inside: Pictures = None,
        proxies: tuple[Proxy, ...] | None = None,
        others: tuple[str, ...] = (),
        map: Any = None,
        n: int = 500,
        seed: int = 0,
        false_alarms: float = LOW,
        fit_images: int = 500,
        resize: bool = False,
        place: str | Path | None = None,
    ) -> DetectionResult:
        """Tell images that do not belong from images that do; the numbers of `diffprob detect`.

        Args:
            judged: images to rank among those that belong; or ``outside``, one of both.
            outside: images that do not belong, or several sets of them, to be told from those that do.
            inside: images that belong; None: the run's own held-out ones.
            proxies, others, map, n, seed, false_alarms, fit_images: as in `diffprob.tasks.detection.DetectionRequest`.
            resize, place: as in `data`.

        Raises:
            InputError: images of another kind, or too few.
        """
        self._only_images("detection")
        sets: tuple[Any, ...] = tuple(outside) if isinstance(outside, tuple | list) else (outside,)
        request = DetectionRequest(
            judged=self._source(judged),
            outside=tuple(source for place in sets if (source := self._source(place)) is not None),
            inside=self._source(inside),
            proxies=proxies,
            others=others,
            map=map,
            n=n,
            seed=seed,
            false_alarms=false_alarms,
            fit_images=fit_images,
            place=None if place is None else str(place),
            resize=resize,
            compute=self.compute,
        )
        return detect(self.run, request, self.reporter)


def _levels(samples: np.ndarray | Tensor | Samples | None) -> np.ndarray | None:
    """Grey levels of samples in memory."""
    if isinstance(samples, Samples):
        return samples.images
    if isinstance(samples, Tensor):
        return samples.detach().cpu().numpy()
    if not isinstance(samples, np.ndarray | None):
        raise InputError(f"samples cannot be {shown(samples)}: uint8 (N, C, H, W) or model.sample(...) would be right")
    return samples
