"""Two-sided tests: an image may be too likely to belong."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import Tensor

from diffprob.base.checks import instance
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.denoise.denoiser import Denoiser
from diffprob.density.noise import NoiseNorm
from diffprob.density.proxy import Fitted, Proxy, enough, present
from diffprob.space.space import Space

_INNER = "of."


@dataclass(frozen=True)
class Typical(Proxy):
    """-|v - mean v|/std v with v the score of another proxy, mean and std over images that belong.

    Most of a law's mass in many dimensions lies where its density is far from its largest: images with more than the
    usual density belong as little as those with less. With log p this is the typicality test of a single image.

    Args:
        of: the proxy. One that has to be fitted is fitted to the same images, whose own v are then somewhat too high.

    Exact when: always; on N(0, I) with log p the best score is where |x|^2 = d, not at the mode.

    Reference: Nalisnick et al., "Detecting out-of-distribution inputs to deep generative models using typicality"
    (2019), with M = 1; divided by the standard deviation, which changes no order.
    """

    of: Proxy = NoiseNorm()

    needs_fit: ClassVar[bool] = True

    def __post_init__(self) -> None:
        instance("of", self.of, Proxy, "a proxy such as NoiseNorm()")

    @property
    def of_levels(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the proxy."""
        return self.of.of_levels

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the proxy."""
        return self.of.columns

    @property
    def measured(self) -> Proxy:
        """What the proxy measures."""
        return self.of.measured

    def bind(self, space: Space) -> Self:
        """With the proxy bound."""
        return replace(self, of=self.of.bind(space))

    def statistics(self, model: Denoiser, x: Tensor, rng: Rng) -> Tensor:
        """Those of the proxy, float64 (B, k)."""
        return self.of.statistics(model, x, rng)

    def complete(self, measured: Tensor, x: Tensor) -> Tensor:
        """As the proxy has it."""
        return self.of.complete(measured, x)

    def fit(self, statistics: Tensor) -> dict[str, Tensor]:
        """What the proxy is fitted to, mean and standard deviation of its score.

        Raises:
            InputError: too few images, values that are not finite, or the same score for all.
        """
        inner = self.of.fit(enough(statistics, self))
        scores = enough(self.of.score(statistics, inner)[:, None], self, 1)[:, 0]
        if bool(scores.min() == scores.max()):
            raise InputError(f"{self!r}: all images that belong have the same score, so that none is typical")
        fitted = {_INNER + name: value for name, value in inner.items()}
        return fitted | {"typical mean": scores.mean(), "typical std": scores.std()}

    def score(self, statistics: Tensor, fitted: Fitted | None = None) -> Tensor:
        """Minus the distance from the mean in standard deviations, (B,)."""
        known = present(fitted, self, statistics)
        inner = {name.removeprefix(_INNER): value for name, value in known.items() if name.startswith(_INNER)}
        value = self.of.score(statistics, inner)
        return -((value - known["typical mean"]) / known["typical std"]).abs()
