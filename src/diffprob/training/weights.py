"""How much the error at a time counts in training."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diffprob.base.checks import real
from diffprob.denoise.prediction import Prediction
from diffprob.process.linear import LinearProcess


class LossWeight(Protocol):
    """A factor of the squared error in what the network predicts (frozen dataclass: its repr is its configuration)."""

    def factor(self, process: LinearProcess, prediction: Prediction, t: Tensor) -> Tensor:
        """The factor at t, float64, shaped like t, finite and at least 0."""
        ...


@dataclass(frozen=True)
class MinSNR:
    """The squared error in x_0 times min(alpha^2/sigma^2, gamma), whatever the network predicts.

    With x_0 = A x_t + B output that is B^2 min(SNR, gamma) times the squared error in the output. The squared error in
    the noise is that in x_0 times the SNR: ``gamma=inf`` weighs every prediction as `Epsilon` without weight, such as
    `Score` with sigma^2 (denoising score matching). EDM needs none: its lambda(sigma) c_out^2 is 1.

    Args:
        gamma: the largest weight in x_0; inf: no limit.

    Exact when: always; for `Epsilon` it is min(1, gamma/SNR), for `V` min(SNR, gamma)/(SNR + 1).

    Reference: Hang et al., "Efficient diffusion training via min-SNR weighting strategy" (2023), section 3.4.
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        real("gamma", self.gamma, "(0, inf]")

    def factor(self, process: LinearProcess, prediction: Prediction, t: Tensor) -> Tensor:
        """B^2 min(SNR, gamma)."""
        gain = prediction.coefficients(process, t)[1].abs()
        # In logarithms: at the ends SNR and B are large and small.
        logarithm = 2 * torch.log(gain) + process.logsnr(t)
        return torch.exp(torch.minimum(logarithm, 2 * torch.log(gain * self.gamma**0.5)))
