"""Denoisers made from denoisers."""

from torch import Tensor

from diffprob.base.distributions import Distribution, LocationScale
from diffprob.denoise.denoiser import Denoiser
from diffprob.process.linear import LinearProcess


class Clip:
    """Clamp the mean of p(x_0 | x_t) to the range of the data (Ho et al. 2020, released code).

    The step's mean is then computed from the clamped x_0, also in DDIM. Clipping changes the model: never clip in a
    convergence or likelihood test without saying so.
    """

    def __init__(self, model: Denoiser, low: float = -1.0, high: float = 1.0) -> None:
        if not low < high:
            raise ValueError(f"expected low < high, got {low} and {high}")
        self.model = model
        self.low = low
        self.high = high

    @property
    def process(self) -> LinearProcess:
        """The process of the wrapped denoiser."""
        return self.model.process

    def __call__(self, xt: Tensor, t: Tensor) -> Distribution:
        """p(x_0 | x_t) with its mean in [low, high].

        Raises:
            ValueError: the posterior is not a `LocationScale`.
        """
        posterior = self.model(xt, t)
        if not isinstance(posterior, LocationScale):
            raise ValueError(f"only a LocationScale posterior can be clipped, got {type(posterior).__name__}")
        return LocationScale(posterior.mean.clamp(self.low, self.high), posterior.std, posterior.law)
