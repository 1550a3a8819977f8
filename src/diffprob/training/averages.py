"""Averages of the weights of any length, chosen after the training (EDM2's power-function averages).

While a training goes on a few averages are kept, each theta_n <- b theta_(n-1) + (1 - b) weights_n with b = (1 -
1/n)^(g+1), which weighs the weights of step k at step n with (k/n)^(g+1) - ((k-1)/n)^(g+1). The width of that profile
is the same share of the training however long it is, so it is named by it: the standard deviation over n, 0.05 or 0.1.
From snapshots of a few of them the profile of any other is put together by least squares, and the weights with it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import real

WIDEST = 0.28  # of a profile that rises: an even average of the whole training has 12^(-1/2) = 0.289
_BINS = 20_000  # pieces of a training in which profiles are compared; all its steps where they are fewer


def check_width(name: str, width: object) -> None:
    """Refuse what is no relative width of a profile that rises.

    Raises:
        FieldError: the field and its interval.
    """
    real(name, width, f"[0.001, {WIDEST}]")


def power_of(width: float) -> float:
    """The g at which the profile t^g on [0, 1] has this standard deviation: (g+1) = width^2 (g+2)^2 (g+3).

    Reference: Karras et al., "Analyzing and improving the training dynamics of diffusion models" (2024), section
    3.1 and appendix C.
    """
    inverse = width**-2
    roots = np.roots([1, 7, 16 - inverse, 12 - inverse])
    return float(max(root.real for root in roots if abs(root.imag) < 1e-9))


def profile(width: float, step: int, edges: np.ndarray) -> np.ndarray:
    """How much the weights of the steps between neighbouring edges count in the average at ``step``, float64.

    Args:
        width: of the profile.
        step: at which the average stands.
        edges: rising numbers of steps; those beyond ``step`` count nothing.

    Exact when: always; the shares of all steps add up to 1.
    """
    return np.diff(np.minimum(edges / step, 1) ** (power_of(width) + 1))


def combine(kept: Sequence[tuple[float, int]], width: float, step: int) -> tuple[np.ndarray, float]:
    """The factors of kept averages whose sum has the profile wanted, float64 (K,), by least squares over the steps, and
    the distance that is left, relative to the profile's own norm.

    Args:
        kept: width and step of every average that there is.
        width, step: of the average that is wanted; ``step`` at most the last one kept.

    Exact when: the profile is one of those kept, or every step has a snapshot: the distance is 0.

    Reference: Karras et al. (2024), section 3.2 and appendix C.
    """
    last = max(step, *(at for _, at in kept))
    edges = np.linspace(0, last, min(last, _BINS) + 1)
    columns = np.stack([profile(own, at, edges) for own, at in kept], 1)
    wanted = profile(width, step, edges)
    # Every column of norm 1, so that none is lost among longer ones.
    norms = np.linalg.norm(columns, axis=0)
    factors = np.linalg.lstsq(columns / norms, wanted, rcond=1e-13)[0] / norms
    return factors, float(np.linalg.norm(columns @ factors - wanted) / np.linalg.norm(wanted))


class PowerAverages:
    """The averages of some widths while a training goes on.

    Args:
        widths: of their profiles, as in `Training.averages`; none: nothing is kept.
        weights: the parameters that are trained, by name.
    """

    def __init__(self, widths: Sequence[float], weights: Mapping[str, Tensor]) -> None:
        self.powers = {width: power_of(width) for width in widths}
        self.weights = weights
        self.kept = {width: [w.detach().clone() for w in weights.values()] for width in widths}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step ``step``, counted from 1."""
        present = [weight.data for weight in self.weights.values()]
        for width, power in self.powers.items():
            torch._foreach_lerp_(self.kept[width], present, 1 - (1 - 1 / step) ** (power + 1))

    def state(self) -> dict[str, Tensor]:
        """All averages, ``WIDTH/NAME``: what resuming needs, and what a snapshot holds."""
        return {
            f"{width!r}/{name}": value
            for width, values in self.kept.items()
            for name, value in zip(self.weights, values, strict=True)
        }

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` returned."""
        for width, values in self.kept.items():
            for name, value in zip(self.weights, values, strict=True):
                value.copy_(state[f"{width!r}/{name}"])
