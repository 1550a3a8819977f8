"""What stands for -log p beside the bound of a chain: that of infinitely many steps, the flow, or one order."""

from dataclasses import dataclass

from diffprob.base.checks import able, one_of, real, whole
from diffprob.denoise.variance import Variance
from diffprob.likelihood.flow import Divergence, Hutchinson
from diffprob.tasks.bounds import TERMS, ChainBound

ORDERS = ("raster", "random")


@dataclass(frozen=True, kw_only=True)
class ContinuousTimeBound:
    """The variational bound of infinitely many steps, without dequantisation.

    Args:
        terms: random terms for each image.
        variance, decoder_std, clip: as in a `ChainBound`.

    Raises:
        ValueError: a number outside its domain.
    """

    terms: int = TERMS
    variance: Variance | None = None
    decoder_std: float | None = None
    clip: bool | None = None

    def __post_init__(self) -> None:
        whole("terms", self.terms, 1)
        real("decoder_std", self.decoder_std, "(0, inf)", none=True)


@dataclass(frozen=True, kw_only=True)
class ProbabilityFlow:
    """The density of the probability flow, through uniform dequantisation.

    Args:
        divergence: ``Hutchinson(probes=1)``, or ``Exact()`` for small images.
        tolerance: of a solver's step, relative and absolute.
        repeats: dequantisations averaged.
        importance: importance samples in each.

    Raises:
        ValueError: a number outside its domain.
    """

    divergence: Divergence = Hutchinson()
    tolerance: float = 1e-5
    repeats: int = 1
    importance: int = 1

    def __post_init__(self) -> None:
        able("divergence", self.divergence, "directions", "Hutchinson() or Exact()")
        real("tolerance", self.tolerance, "[1e-12, 1)")
        whole("repeats", self.repeats, 1)
        whole("importance", self.importance, 1)


@dataclass(frozen=True, kw_only=True)
class FixedOrder:
    """log p of the chain that draws one element after the other in one order: exact, of a model of orders.

    Args:
        order: "raster", row by row; or "random", one of the seed for all images.
        seed: of a random order.

    Raises:
        ValueError: another order.
    """

    order: str = "raster"
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("order", self.order, ORDERS)
        whole("seed", self.seed, 0, 2**62)

    @property
    def text(self) -> str:
        """In words."""
        return self.order if self.order == "raster" else f"random, seed {self.seed}"


LikelihoodMethod = ChainBound | ContinuousTimeBound | ProbabilityFlow | FixedOrder
