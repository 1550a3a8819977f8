"""What processes of levels share, whose states are whole numbers: bridges and reverse steps of categorical laws."""

import math
from typing import Never

import torch
from torch import Tensor

from diffprob.base.distributions import Categorical, Dirac, Distribution
from diffprob.base.errors import InputError, NoClosedForm
from diffprob.base.shapes import check_floats

MOST_VALUES = 2**16  # of an element: a law has this many numbers for each


def point_logits(x: Tensor, values: int) -> Tensor:
    """Log probabilities of a law that is x for certain, (B, *event, values) in the dtype of ``x`` (B, *event).

    Raises:
        ValueError: another type than a floating one, or what is none of 0..values - 1.
    """
    check_floats(x)
    if not bool(((x >= 0) & (x < values) & (x == x.floor())).all()):
        raise ValueError(f"states of discrete data are whole numbers 0..{values - 1}, got {_wrong(x, values):g}")
    index = torch.arange(values, device=x.device, dtype=x.dtype)
    certain, never = x.new_zeros(()), x.new_full((), -math.inf)
    return torch.where(x[..., None] == index, certain, never)


def _wrong(x: Tensor, values: int) -> float:
    return float(x[~((x >= 0) & (x < values) & (x == x.floor()))][0])


def only_markov(process: object, eta: float) -> None:
    """Refuse another family of bridges than the Markov one.

    Raises:
        ValueError: eta is not 1.
    """
    if eta != 1:
        raise ValueError(f"{type(process).__name__} has the Markov bridge alone: eta must be 1, got {eta:g}")


class OfLevels:
    """A process whose states are whole numbers in a floating type, (B, *event), and whose laws are all categorical.

    A subclass has ``levels``, K values of x_0, and ``does``, what it does to a level, in words.
    """

    levels: int
    does: str
    is_linear = False

    def check_law(self, what: str) -> None:
        """Every law here is known exactly: nothing is refused."""

    def require_linear(self, what: str) -> Never:
        """Refuse what works on a signal with noise added.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"{what} needs a signal with noise added, and this model {self.does}: a run of a LinearProcess(...) would "
            "be right"
        )

    def bridge(self, x0: Tensor, xt: Tensor, s: Tensor | float, t: Tensor | float, eta: float = 1.0) -> Categorical:
        """q(x_s | x_t, x_0): the step of a posterior that is x_0 for certain.

        Raises:
            ValueError: what are no levels, times that do not fall, or eta is not 1.
        """
        return self._step(point_logits(x0, self.levels), xt, s, t, eta)

    def reverse(
        self, posterior: Distribution, xt: Tensor, s: Tensor | float, t: Tensor | float, eta: float = 1.0
    ) -> Categorical:
        """p(x_s | x_t): the bridge averaged over the elements of x_0 ~ posterior (Austin et al. 2021, eq. 4).

        Args:
            posterior: a `Categorical` over the K levels, or a `Dirac` at x_0.
            xt, s, t: the state and the two times.
            eta: 1; no other family of bridges is known here.

        Raises:
            NoClosedForm: another posterior.
        """
        if isinstance(posterior, Dirac):
            return self.bridge(posterior.mean, xt, s, t, eta)
        return self._step(self.check_posterior(posterior, xt).log_probabilities, xt, s, t, eta)

    def check_posterior(self, posterior: Distribution, xt: Tensor) -> Categorical:
        """The posterior, which is a law of the K levels of every element.

        Raises:
            NoClosedForm: another one.
        """
        if not isinstance(posterior, Categorical) or posterior.logits.shape != (*xt.shape, self.levels):
            raise NoClosedForm(
                f"the reverse kernel of {self!r} needs a Categorical posterior {(*xt.shape, self.levels)}, got a "
                f"{type(posterior).__name__}"
            )
        return posterior

    def _step(self, logits: Tensor, xt: Tensor, s: Tensor | float, t: Tensor | float, eta: float) -> Categorical:
        """The law of x_s given x_t, for normalised log probabilities of x_0, (B, *event, K)."""
        raise NotImplementedError
