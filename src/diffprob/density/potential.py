"""The density that a potential holds: V_0, its scalar at a clean image, and what that is in nats."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffprob.base.checks import real
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.base.shapes import flat_sum
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.density.proxy import Fitted, Proxy
from diffprob.net.layers import Output
from diffprob.net.potential import Potential


def relative_log_prob(model: NetDenoiser, x: Tensor, t: Tensor | float) -> Tensor:
    """log q_t(x) up to a number that depends on t alone, nats, float64 (B,): -F_t(x)/sigma, F from `noise_potential`.

    Differences between images at the same t are all that means something. Gradients flow to x.

    Args:
        x: (B, *event), as x_t.
        t: number, () or (B,), in (0, 1].

    Exact when: the network's noise prediction is.

    Raises:
        InputError: the network is no `Potential`.
    """
    t = torch.as_tensor(t, dtype=torch.float64, device=x.device)
    return -noise_potential(model, x, t) / model.process.coefficients(t)[1]


def noise_potential(model: NetDenoiser, x: Tensor, t: Tensor) -> Tensor:
    """F_t(x) with grad F_t = eps, the model's noise prediction, float64 (B,); so F_t = -sigma log q_t + C(t).

    Where the network predicts the noise, F_t is its scalar P. With another prediction, x_0 = A x_t + B grad P, it is
    ((1 - alpha A) |x|^2/2 - alpha B P)/sigma, since sigma eps = x_t - alpha x_0. Where the network is shown c x_t, P(c
    x_t)/c stands for P.

    Args:
        x: (B, *event), as x_t.
        t: () or (B,), float64 in (0, 1].

    Exact when: always; its gradient is the noise prediction.

    Raises:
        InputError: the network is no `Potential`.
    """
    scalar, scale = _scalars(model, x, t), model.prediction.input_scale(model.process, t)
    scalar = scalar if scale is None else scalar / scale
    a, b = model.prediction.coefficients(model.process, t)
    alpha, sigma = model.process.coefficients(t)
    return ((1 - alpha * a) * flat_sum(x.double() ** 2) / 2 - alpha * b * scalar) / sigma


@dataclass(frozen=True)
class V0(Proxy):
    """-V_0/sigma_1, with V_0 = F_t(x_0) the scalar of a `Potential` at the clean image, at the least noisy time.

    F_t = -sigma log q_t + C(t), so lower V_0 is denser, and -V_0/sigma is log q_t(x_0) in nats up to a number that is
    the same for all images. It is the density that is meant, not typicality: simple images far from the data may have
    more of it.

    Args:
        t: in (0, 1]; None: the schedule's last noisy time, 1/T (label 0) of a chain.

    Exact when: the network's noise prediction is.
    """

    t: float | None = None

    def __post_init__(self) -> None:
        real("t", self.t, "(0, 1]", none=True)

    @property
    def columns(self) -> tuple[str, ...]:
        """V_0, and the same as log q in nats."""
        return ("V_0", "log_prob")

    def statistics(self, model: Any, x: Tensor, rng: Rng) -> Tensor:
        """V_0 and -V_0/sigma, (B, 2), of images (B, *event).

        Raises:
            InputError: the model's network is no `Potential`.
        """
        t = torch.tensor(model.process.schedule.start if self.t is None else self.t, dtype=torch.float64)
        with torch.no_grad():
            value = noise_potential(model, x, t.to(x.device))
        return torch.stack([value, -value / model.process.coefficients(t)[1].to(value)], 1)

    def score(self, statistics: Tensor, fitted: Fitted | None = None) -> Tensor:
        """log q in nats, up to a number, (B,)."""
        return statistics[:, 1]


class _Scalar(nn.Module):
    """The scalar of a potential where a `NetDenoiser` has its network, which knows dtype, memory format and clock."""

    def __init__(self, net: Potential) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, t: Tensor) -> Output:
        return Output(self.net.potential(x, t))


def _scalars(model: NetDenoiser, x: Tensor, t: Tensor) -> Tensor:
    """The scalars of the network, float64 (B,), in chunks of the fixed size, so that bits do not depend on others."""
    net = getattr(model, "net", None)
    if not isinstance(net, Potential):
        kind = type(model if net is None else net).__name__
        raise InputError(f"a density is read off a potential, trained with network=PotentialSpec(...), got a {kind}")
    probe = NetDenoiser(_Scalar(net), model.process, model.prediction, model.clock, evaluation=model.evaluation)
    return model.evaluation.chunked(lambda part, at: (probe.raw(part, at).main.double(),), x, t.expand(len(x)))[0]
