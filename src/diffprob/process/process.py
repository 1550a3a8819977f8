"""What every noising process offers, whatever its states are."""

from typing import Protocol, Self

from torch import Tensor

from diffprob.base.distributions import Distribution
from diffprob.base.rng import Rng
from diffprob.process.schedule import Schedule


class Direct:
    """What processes share in which nothing is decided beforehand for a whole chain."""

    @property
    def averaged(self) -> Self:
        """Itself: a step costs the same whatever else is drawn."""
        return self

    def begin(self, rng: Rng, x: Tensor) -> Self:
        """Itself: nothing is decided beforehand."""
        return self

    def sample_marginal(self: "Process", x0: Tensor, t: Tensor | float, rng: Rng) -> Tensor:
        """A draw of q(x_t | x_0), (B, *event), one stream for each sample."""
        return self.marginal(x0, t).sample(rng.fold("noise"))

    def visible(self, xt: Tensor, t: Tensor | float) -> Tensor:
        """x_t itself."""
        return xt


class Process(Protocol):
    """A noising process: everything that samplers, bounds and codecs need to know about it."""

    @property
    def schedule(self) -> Schedule:
        """What grids and laws of times read: the steps, the last noisy time, and the log-SNR or what stands for it."""
        ...

    @property
    def is_linear(self) -> bool:
        """Whether x_t = alpha x_0 + sigma noise, which `require_linear` asks for."""
        ...

    def logsnr(self, t: Tensor | float) -> Tensor:
        """It falls from the data to the noise, float64 shaped like t."""
        ...

    @property
    def averaged(self) -> "Process":
        """The process whose steps, element by element, cost what this one's do on average over what `sample_marginal`
        draws beside x_t, such as an order; itself where there is nothing."""
        ...

    def sample_marginal(self, x0: Tensor, t: Tensor | float, rng: Rng) -> Tensor:
        """A draw of q(x_t | x_0), (B, *event), one stream for each sample."""
        ...

    def check_law(self, what: str) -> None:
        """Refuse ``what`` where of a step only the mean and the variance are known.

        Raises:
            InputError: the law of a step is not known.
        """
        ...

    def require_linear(self, what: str) -> None:
        """Refuse ``what`` where x_t is no signal with noise added: what every task asks that cannot do without.

        Raises:
            InputError: there is no signal and no noise.
        """
        ...

    def prior(self, like: Tensor) -> Distribution:
        """p(x_1), with the shape, dtype and device of ``like``."""
        ...

    def marginal(self, x0: Tensor, t: Tensor | float) -> Distribution:
        """q(x_t | x_0)."""
        ...

    def bridge(self, x0: Tensor, xt: Tensor, s: Tensor | float, t: Tensor | float, eta: float = 1.0) -> Distribution:
        """q(x_s | x_t, x_0)."""
        ...

    def reverse(
        self, posterior: Distribution, xt: Tensor, s: Tensor | float, t: Tensor | float, eta: float = 1.0
    ) -> Distribution:
        """p(x_s | x_t) = E over x_0 ~ posterior of the bridge."""
        ...

    def begin(self, rng: Rng, x: Tensor) -> "Process":
        """The process for chains that begin in the states x (B, *event): with what is decided once for a whole chain,
        such as an order of the elements; a function of streams and states, so that a resumed chain has the same."""
        ...

    def visible(self, xt: Tensor, t: Tensor | float) -> Tensor:
        """x_t at one time as a point that can be looked at, (B, *event)."""
        ...
