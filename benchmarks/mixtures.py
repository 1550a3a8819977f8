"""Random Gaussian mixtures with an exact score: what samplers are compared on when the truth must be known."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffprob.base.distributions import LocationScale
from diffprob.base.rng import Rng
from diffprob.process.linear import LinearProcess

MODES = 6
REACH = 0.8  # centres lie in [-REACH, REACH]^d, as grey levels do
WIDTHS = (0.05, 0.15)  # standard deviations along the axes of a mode, log-uniform: anisotropic up to three to one


@dataclass(frozen=True, eq=False)
class Blend:
    """sum_k w_k N(m_k, R_k diag(v_k) R_k^T), in float64.

    Args:
        weights: (K,), their sum is 1.
        centres: (K, d).
        rotations: (K, d, d), axes in the columns.
        variances: (K, d) along the axes.
    """

    weights: Tensor
    centres: Tensor
    rotations: Tensor
    variances: Tensor

    @classmethod
    def random(cls, seed: int, d: int) -> "Blend":
        """A member of the family; everything about it follows from the seed and d."""
        generator = torch.Generator().manual_seed(1000 * seed + d)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, dtype=torch.float64, generator=generator)

        weights = 0.5 + uniform(MODES)
        centres = REACH * (2 * uniform(MODES, d) - 1)
        rotations = torch.linalg.qr(torch.randn(MODES, d, d, dtype=torch.float64, generator=generator))[0]
        low, high = (math.log(w) for w in WIDTHS)
        return cls(weights / weights.sum(), centres, rotations, torch.exp(2 * (low + (high - low) * uniform(MODES, d))))

    @property
    def d(self) -> int:
        """Dimension."""
        return self.centres.shape[1]

    def sample(self, rng: Rng) -> Tensor:
        """One draw for every stream, (n, d)."""
        kind = torch.multinomial(
            self.weights, len(rng), True, generator=torch.Generator().manual_seed(int(rng.seeds[0]))
        )
        z = rng.fold("data").normal((self.d,), torch.float64) * self.variances[kind].sqrt()
        return self.centres[kind] + (self.rotations[kind] @ z[:, :, None])[:, :, 0]

    def _axes(self, x: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor]:
        """Offsets from the noisy centres in the modes' axes over their variances (K, d, n), log joint (K, n)."""
        # Samples last: everything is contiguous along them, which is several times as fast.
        offset = (self.rotations.mT.reshape(-1, self.d) @ x.T).reshape(*self.centres.shape, -1)
        offset = offset - alpha * (self.rotations.mT @ self.centres[:, :, None])
        spread = (alpha**2 * self.variances + sigma**2)[:, :, None]
        pulled = offset / spread
        norm = self.weights.log()[:, None] - 0.5 * (2 * math.pi * spread).log().sum(1)
        return pulled, norm - 0.5 * (offset * pulled).sum(1)

    def noise(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
        """E[z | x] at x = alpha x_0 + sigma z, (n, d): -sigma times the score."""
        pulled, logs = self._axes(x, alpha, sigma)
        pulled = (logs.softmax(0)[:, None] * pulled).reshape(-1, len(x))
        return sigma * (self.rotations.movedim(0, 1).reshape(self.d, -1) @ pulled).T

    def log_prob(self, x: Tensor) -> Tensor:
        """log density of the data in nats, (n,)."""
        return torch.logsumexp(self._axes(x, 1.0, 0.0)[1], 0)


@dataclass
class Mean:
    """The exact posterior mean of a blend as a denoiser without variance: all that a network would know.

    It counts its evaluations.
    """

    blend: Blend
    process: LinearProcess = LinearProcess()
    calls: int = 0

    def __call__(self, xt: Tensor, t: Tensor) -> LocationScale:
        """A point at E[x_0 | x_t]."""
        self.calls += 1
        alpha, sigma = (float(c) for c in self.process.coefficients(t))
        return LocationScale((xt - sigma * self.blend.noise(xt, alpha, sigma)) / alpha, xt.new_zeros(()))

    def noise(self, xt: Tensor, label: float) -> Tensor:
        """E[z | x_t] at the time label of a network, 0..T-1, whole or not: what a scheduler asks for."""
        self.calls += 1
        steps = self.process.schedule.steps or 1000
        alpha, sigma = (float(c) for c in self.process.coefficients((label + 1) / steps))
        return self.blend.noise(xt, alpha, sigma)
