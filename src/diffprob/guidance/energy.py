"""Guidance by an energy: a denoiser whose score has the gradient of a function of the state taken off."""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprob.base.checks import real, shown
from diffprob.base.distributions import Gaussian, LocationScale
from diffprob.base.shapes import check_points, flat_sum, per_sample
from diffprob.denoise.denoiser import Denoiser
from diffprob.denoise.subset import for_samples, rows_for
from diffprob.guidance.classifier_free import Guided, with_mean
from diffprob.process.linear import LinearProcess

Classifying = Callable[[Tensor, Tensor], Tensor]


class Energy(Protocol):
    """A function of the state, low where chains should go; each sample has its own and sees no other."""

    @property
    def scale(self) -> float:
        """The factor in front; 0: it is not asked at all."""
        ...

    @property
    def of_estimate(self) -> bool:
        """Whether it reads E[x_0|x_t], so that its gradient runs through the denoiser."""
        ...

    def __call__(self, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """E in nats, (B,), of the estimate x0 = E[x_0|x_t] and of x_t, both (B, *event), at t, () or (B,)."""
        ...


class EnergyGuided(Guided):
    """The denoiser of score(x_t) - grad E: its mean is E[x_0|x_t] - sigma^2/alpha grad E, its spread that of the model.

    The guided score is that of q(x_t) exp(-E(x_t)) at every t by itself, a product of experts; only where these are the
    noised versions of one density is the chain exact. Where alpha = 0 the state says nothing and is not guided. A step
    of an ancestral chain moves by c0 sigma^2/alpha grad E = beta_t/sqrt(alpha_t) grad E, see `bridge_coefficients`.

    Args:
        model: the denoiser, of a `LocationScale` or `Gaussian` posterior.
        energy: E; the gradient is with respect to x_t, through the model where ``energy.of_estimate``. Elsewhere the
            model runs without gradients. Gradients are asked for here, also under ``torch.no_grad()``.
        low, high: guided where low <= t <= high only.

    Raises:
        ValueError: low and high out of order, an energy of another process; or, when called, a posterior that cannot
            be moved.

    Exact when: exp(-E) is p(y|x_t): the posterior's mean is then E[x_0|x_t, y].

    Reference: Song et al., "Score-based generative modeling through SDEs" (2021), eq. 14; Zhao et al., "EGSDE: unpaired
    image-to-image translation via energy-guided SDEs" (2022), section 3.
    """

    def __init__(self, model: Denoiser, energy: Energy, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__(model, low, high)
        for part in energy.parts if isinstance(energy, Energies) else (energy,):
            process = getattr(part, "process", model.process)  # those that noise something themselves have one
            if process != model.process:
                raise ValueError(f"energy and model must have one process, got {shown(process)}")
        self.energy = energy

    @property
    def conditioned_parts(self) -> dict[str, Any]:
        """The model and the energy."""
        return {"model": self.model, "energy": self.energy}

    def __call__(self, xt: Tensor, t: Tensor) -> LocationScale | Gaussian:
        """p(x_0 | x_t) around the guided mean."""
        t = torch.as_tensor(t, dtype=torch.float64)
        alpha, sigma = self.process.coefficients(t)
        in_interval = self.in_interval(t) & (alpha.to(t.device) > 0)
        if self.energy.scale == 0 or not bool(in_interval.any()):
            return with_mean(self.model(xt, t))
        posterior, slope = self._slope(xt, t)
        mean = posterior.mean - per_sample(sigma * sigma / alpha, xt) * slope
        return self.replace_mean(posterior, mean, in_interval)

    def _slope(self, xt: Tensor, t: Tensor) -> tuple[LocationScale | Gaussian, Tensor]:
        """The model's posterior and grad E, (B, *event)."""
        # Who differentiates the guided model itself, a flow's divergence say, gets the whole graph.
        whole = torch.is_grad_enabled() and xt.requires_grad
        with torch.enable_grad():
            x = xt if whole else xt.detach().requires_grad_(True)
            with torch.set_grad_enabled(whole or self.energy.of_estimate):
                posterior = with_mean(self.model(x, t))
            x0 = posterior.mean if self.energy.of_estimate else posterior.mean.detach()
            nats = self.energy(x0, x, t)
            if nats.shape != (len(x),) or not nats.requires_grad:
                actual = f"{tuple(nats.shape)}{'' if nats.requires_grad else ' without a gradient'}"
                raise ValueError(f"an energy must be ({len(x)},), a function of x_t (or of_estimate), got {actual}")
            (slope,) = torch.autograd.grad(nats.sum(), x, create_graph=whole)
        return (posterior if whole else _detached(posterior)), slope


def _detached(value: Any) -> Any:
    """The same without its graph, whatever tensors a posterior and its step rule hold."""
    if isinstance(value, Tensor):
        return value.detach()
    if not is_dataclass(value) or isinstance(value, type):
        return value
    return replace(value, **{field.name: _detached(getattr(value, field.name)) for field in fields(value)})


@dataclass(frozen=True, eq=False)
class Energies:
    """The sum of energies.

    Args:
        parts: at least one.
    """

    parts: tuple[Energy, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("at least one energy is needed")

    @property
    def scale(self) -> float:
        """The largest of the parts', without sign: 0 if all are 0."""
        return max(abs(part.scale) for part in self.parts)

    def for_samples(self, index: Tensor) -> "Energies":
        """The same for some of the samples, see `diffprob.denoise.subset.for_samples`."""
        return Energies(tuple(for_samples(part, index) for part in self.parts))

    @property
    def of_estimate(self) -> bool:
        """Whether any part reads E[x_0|x_t]."""
        return any(part.of_estimate for part in self.parts if part.scale)

    def __call__(self, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """Their sum, (B,)."""
        return torch.stack([part(x0, xt, t) for part in self.parts if part.scale]).sum(0)


@dataclass(frozen=True, eq=False)
class LabelEnergy:
    """-scale log p(y|x_t) of a classifier that knows noised images: classifier guidance.

    Scale 1 is p(x_t|y); more sharpens p(y|x_t). Dhariwal & Nichol's ancestral step takes Sigma grad log p(y|x_t) where
    this one takes beta_t/sqrt(alpha_t) grad log p(y|x_t), which agree as steps get short; their DDIM step, eps - sigma
    grad log p(y|x_t), is this one.

    Args:
        classifier: (x_t, t) -> logits (B, classes), such as a `NoisyClassifier`.
        rows: the class y of each sample, int64 (B,), or one (1,) for all.
        scale: s.

    Raises:
        ValueError: rows that are no classes, or a scale that is not finite.

    Exact when: the classifier is, and the scale is 1: the guided mean is E[x_0|x_t, y].

    Reference: Dhariwal & Nichol, "Diffusion models beat GANs on image synthesis" (2021), algorithms 1 and 2.
    """

    classifier: Classifying
    rows: Tensor
    scale: float = 1.0

    of_estimate = False

    def __post_init__(self) -> None:
        real("scale", self.scale, "(-inf, inf)")
        if self.rows.dtype != torch.int64 or self.rows.ndim != 1 or bool((self.rows < 0).any()):
            raise ValueError(f"rows must be classes, int64 (B,) from 0 on, got {shown(self.rows.tolist())}")

    def for_samples(self, index: Tensor) -> "LabelEnergy":
        """The same for some of the samples, see `diffprob.denoise.subset.for_samples`."""
        return replace(self, rows=rows_for(self.rows, index))

    def __call__(self, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """-scale log p(y|x_t), (B,)."""
        logits = self.classifier(xt, t)
        if len(self.rows) not in (1, len(xt)) or int(self.rows.max()) >= logits.shape[1]:
            got = shown(self.rows.tolist())
            raise ValueError(f"{len(xt)} states of {logits.shape[1]} classes, got the rows {got}")
        rows = self.rows.to(logits.device).expand(len(xt))
        return self.scale * F.cross_entropy(logits, rows, reduction="none")


def check_known(mask: Tensor, image: Tensor) -> None:
    """Refuse what does not say which pixels are known, and what they are.

    Raises:
        ValueError: a mask of other values than 0 and 1, or an image of whole numbers.
        NumericalError: a pixel of the image that is not finite, where it is known or not: 0 times it is no number.
    """
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError("the mask must be 1 where a pixel is known and 0 elsewhere, got other values")
    check_points(image, "the image")


@dataclass(frozen=True, eq=False)
class ReconstructionGuidance:
    """How far the estimate is from pixels that are known: scale |r|^2/(2 v_t), r = mask (image - E[x_0|x_t]).

    v_t = noise^2 + sigma^2/(alpha^2 + sigma^2) is the variance of what is observed, given x_t, for pixels of variance
    1. A scale above 1 overshoots, and deterministic chains fall out of the data: take a stochastic sampler. With
    ``distance`` it is scale |r| instead, whose gradient has the step size zeta/|r| of diffusion posterior sampling; its
    right scale depends on the grid, since there zeta is the step in x_s itself.

    Args:
        mask: 1 where a pixel is known, 0 elsewhere; broadcastable to (B, *event).
        image: the known pixels in model space, broadcastable; elsewhere anything finite.
        scale: in front.
        noise: standard deviation of the noise in the known pixels.
        distance: scale |r| in place of the square.

    Raises:
        ValueError: see `check_known`; a scale or noise out of range.
        NumericalError: a pixel that is not finite.

    Exact when: scale 1, the square, and the known pixels are independent with variance 1.

    Reference: Chung et al., "Diffusion posterior sampling for general noisy inverse problems" (2023), eq. 16 and
    algorithm 1; v_t: Song et al., "Pseudoinverse-guided diffusion models" (2023), section 3.
    """

    mask: Tensor
    image: Tensor
    process: LinearProcess
    scale: float = 1.0
    noise: float = 0.0
    distance: bool = False

    of_estimate = True

    def __post_init__(self) -> None:
        real("noise", self.noise, "[0, inf)")
        real("scale", self.scale, "(-inf, inf)")
        check_known(self.mask, self.image)

    def for_samples(self, index: Tensor) -> "ReconstructionGuidance":
        """The same for some of the samples, see `diffprob.denoise.subset.for_samples`: of (B, C, H, W) those."""
        own = {name: value for name in ("mask", "image") if (value := getattr(self, name)).ndim == 4}
        return replace(self, **{name: rows_for(value, index) for name, value in own.items()})

    def __call__(self, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """scale |r|^2/(2 v_t) or scale |r|, (B,)."""
        left = self.mask.to(x0) * (self.image.to(x0) - x0)
        square = flat_sum(left * left)
        if self.distance:
            # Where nothing is left, the gradient of the distance is taken as 0.
            return self.scale * torch.where(square > 0, square, 1).sqrt() * (square > 0)
        alpha, sigma = self.process.coefficients(t)
        spread = self.noise**2 + sigma**2 / (alpha**2 + sigma**2)
        return self.scale * square / (2 * spread.to(square))
