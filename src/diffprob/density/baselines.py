"""Models of the density itself, to compare diffusion with: Glow, which is normalised, and energies, which are not."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from diffprob.base.checks import whole
from diffprob.base.errors import InputError
from diffprob.base.levels import check_levels
from diffprob.base.rng import Rng
from diffprob.denoise.denoiser import Evaluation
from diffprob.density.measure import MOST_NOISES
from diffprob.density.proxy import Proxy
from diffprob.space.dequantise import Dequantisation
from diffprob.space.pixels import Pixels
from diffprob.space.space import Space


class DensityModel(nn.Module):
    """A network as a model of log p(x): the one place that knows its dtype, memory format, chunk size and precision.

    It stands where a `NetDenoiser` stands for the trainer, without process, times or samplers. Gradients flow through
    it: no grad mode is set here.

    Args:
        net: module from images (B, *event) in model space to energies (B,), with log p(x) = const - E(x); or with a
            method ``log_prob(x)``, which knows the constant.
        evaluation: chunk size and precision.
    """

    def __init__(self, net: nn.Module, evaluation: Evaluation = Evaluation()) -> None:
        super().__init__()
        self.net = net
        self.evaluation = evaluation

    @property
    def normalised(self) -> bool:
        """Whether the constant of log p is known."""
        return hasattr(self.net, "log_prob")

    def raw(self, x: Tensor) -> Tensor:
        """log p(x), up to a constant unless `normalised`, for the whole batch at once: what training works with.

        Args:
            x: (B, *event), in model space.

        Returns:
            Nats, float64 (B,).
        """
        part: Any = self.net.log_prob if self.normalised else self.net
        answer = self.evaluation.call(self.net, part, x)
        if answer.shape != x.shape[:1]:
            raise ValueError(f"a density is one number for each image ({len(x)},), got {tuple(answer.shape)}")
        return (answer if self.normalised else -answer).double()

    def forward(self, x: Tensor) -> Tensor:
        """`raw` in chunks of the fixed size, so that an answer's bits depend neither on place nor on companions."""
        if not len(x):  # which not every network takes
            return x.new_zeros(0, dtype=torch.float64)
        return self.evaluation.chunked(lambda part: (self.raw(part),), x)[0]

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) of images (B, *event) in model space, nats, float64 (B,).

        Raises:
            InputError: the network's density is not normalised.
        """
        if not self.normalised:
            raise InputError(f"a {type(self.net).__name__} knows log p(x) up to a constant only: ask for its energy")
        return self(x)

    def energy(self, x: Tensor) -> Tensor:
        """E(x) = const - log p(x), nats, float64 (B,); lower is denser, differences are what it means."""
        return -self(x)


@dataclass(frozen=True)
class LogDensity(Proxy):
    """log p of grey levels under a normalised `DensityModel` such as Glow: mean of log p(x + u) over uniform u.

    u is uniform on the bin of a grey level, centred, so that the answer bounds log P(levels) - d log(bin width) from
    below, on average; nats of a density in model space, higher = denser. On complicated images log p says less than
    its name: simple outside images often get more (Nalisnick et al. 2019).

    Args:
        noises: draws of u for each image.
        levels: grey levels; `bind` fills it in.

    Exact when: p is constant on bins, or averaged over noises.

    Reference: Theis, van den Oord & Bethge, "A note on the evaluation of generative models" (2016), eq. 12.
    """

    noises: int = 1
    levels: int | None = None

    def __post_init__(self) -> None:
        whole("noises", self.noises, 1, MOST_NOISES)
        check_levels(self.levels)

    def bind(self, space: Space) -> "LogDensity":
        """The proxy for such grey levels."""
        return replace(self, levels=self.levels or space.levels)

    @torch.no_grad()
    def statistics(self, model: Any, x: Tensor, rng: Rng) -> Tensor:
        """The mean log density (B, 1) of images (B, C, H, W).

        Raises:
            InputError: the model is no normalised `DensityModel`.
            ValueError: the number of grey levels is not known.
        """
        density = _density(self, model).log_prob
        if self.levels is None:
            raise ValueError(f"{self!r} does not know the grey levels: take what bind() returns, or give levels=")
        space = Pixels((x.shape[1], x.shape[2], x.shape[3]), self.levels)

        def at(points: Tensor, _: Rng) -> Tensor:
            return density(points.to(x.dtype))

        return Dequantisation(self.noises).log_prob(at, space, space.exact(x), rng)[:, None]


@dataclass(frozen=True)
class NegativeEnergy(Proxy):
    """-E(x) under a `DensityModel`: log p(x) up to one constant for all images, higher = denser.

    The scale of an energy trained with clipped gradients and more step than noise is its own: compare orders and
    areas under curves, not nats.

    Exact when: always, up to the constant.

    Reference: Du & Mordatch, "Implicit generation and modeling with energy-based models" (2019), section 4.4.
    """

    @torch.no_grad()
    def statistics(self, model: Any, x: Tensor, rng: Rng) -> Tensor:
        """-E (B, 1) of images (B, *event).

        Raises:
            InputError: the model is no `DensityModel`.
        """
        return -_density(self, model).energy(x)[:, None]


def _density(proxy: Proxy, model: Any) -> DensityModel:
    if not isinstance(model, DensityModel):
        raise InputError(f"{proxy!r} needs a DensityModel such as Glow's, got a {type(model).__name__}")
    return model
