"""Rate, distortion and time: the nats that a chain has spent on an image on its way down to t, and its error there."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffprob.base.checks import whole
from diffprob.base.finite import check_tensors


@dataclass(frozen=True, eq=False)
class RateDistortion:
    """Averages over images at every time of a chain, float64 (K,), from noise to data.

    Args:
        t: the times.
        rate: nats per dimension spent to know x_t: KL at the start and the steps above t (Ho et al. 2020, sec. 4.3).
        rate_error: its standard error over the images; None of one image, whose error is not known.
        distortion: root of the mean squared error of E[x_0|x_t], in model space.
        total: nats per dimension of all steps and the reconstruction, the bound.
        total_error: its standard error, or None.
    """

    t: Tensor
    rate: Tensor
    rate_error: Tensor | None
    distortion: Tensor
    total: float
    total_error: float | None

    @property
    def reconstruction(self) -> float:
        """What is left to pay at the last time for x_0 without loss, nats per dimension."""
        return self.total - float(self.rate[-1])


def rate_distortion(t: Tensor, prior: Tensor, nats: Tensor, error: Tensor, dimensions: int) -> RateDistortion:
    """The curve from the terms of a bound on n images.

    Args:
        t: the K times of the terms, the last one the reconstruction's.
        prior: KL(q(x_1|x_0) || p(x_1)), nats, (n,).
        nats: of every term, (K, n).
        error: |x_0 - E[x_0|x_t]|^2 of every term, (K, n).
        dimensions: d.

    Raises:
        ValueError: no images or terms, shapes that do not fit, or d below 1.
        NumericalError: a value that is not finite.

    Exact when: the posterior is; isotropic normal data then lie on Shannon's R(D).

    Reference: Ho et al., "Denoising diffusion probabilistic models" (2020), algorithms 3 and 4, figure 5 and table 4.
    """
    whole("dimensions", dimensions, 1)
    terms, images = t.shape, prior.shape
    if len(terms) != 1 or len(images) != 1 or 0 in (*terms, *images) or not nats.shape == error.shape == terms + images:
        shapes = ", ".join(str(tuple(value.shape)) for value in (t, prior, nats, error))
        raise ValueError(f"t (K,), prior (n,), nats and error (K, n) with K and n at least 1, got {shapes}")
    check_tensors({"prior": prior, "nats": nats, "error": error}, "the terms are")
    spent = torch.cat([prior[None], nats]).double().cumsum(0) / dimensions
    root = error.shape[1] ** 0.5
    errors = spent.std(1) / root if error.shape[1] > 1 else None
    distortion = (error.double().mean(1) / dimensions).sqrt()
    means = spent.mean(1)
    last = (None, None) if errors is None else (errors[:-1], float(errors[-1]))
    return RateDistortion(t, means[:-1], last[0], distortion, float(means[-1]), last[1])
