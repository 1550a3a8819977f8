"""The two energies of image translation: look like the target's domain, keep what is coarse of the source."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprob.base.checks import real, whole
from diffprob.base.rng import Rng
from diffprob.base.shapes import check_floats, check_points, flat_sum
from diffprob.denoise.subset import rows_for, with_parts
from diffprob.process.linear import LinearProcess


@dataclass(frozen=True)
class LowPass:
    """Images (B, C, H, W) scaled down by a factor, with antialiasing, and up again, both linearly: what is coarse.

    Two fixed matrices along the axes; linear, and constants are mapped to themselves. It is no projection.

    Args:
        factor: by which the sizes are divided, then rounded to whole numbers of at least 1; EGSDE has 32 at 256x256.

    Exact when: always; torch's antialiased bilinear interpolation down and plain one up give the same.
    """

    factor: int = 4

    def __post_init__(self) -> None:
        real("factor", self.factor, "[1, inf)")

    def __call__(self, x: Tensor) -> Tensor:
        """The coarse part, (B, C, H, W)."""
        check_floats(x)
        return self.along(x.shape[-2]).to(x) @ x @ self.along(x.shape[-1]).to(x).T

    def along(self, size: int) -> Tensor:
        """The matrix of one axis, float64 (size, size); its rows sum to 1."""
        few = max(1, round(size / self.factor))
        return _linear(few, size) @ _linear(size, few)


def _linear(size: int, wanted: int) -> Tensor:
    """(wanted, size): every row a triangle over the old places around the new one, as wide as the coarser spacing."""
    ratio = size / wanted
    centres = (torch.arange(wanted, dtype=torch.float64) + 0.5) * ratio - 0.5
    if ratio <= 1:  # upwards: at the border the outermost value goes on
        centres = centres.clamp(0, size - 1)
    offset = (torch.arange(size, dtype=torch.float64) - centres[:, None]) / max(ratio, 1.0)
    weights = (1 - offset.abs()).clamp_min(0)
    return weights / weights.sum(1, keepdim=True)


class Expert(ABC):
    """scale times the mean over k of a comparison between x_t and the source noised to t, alpha x + sigma e_k.

    Args:
        source: the image x of each sample, (B, C, H, W), or one (1, C, H, W) for all.
        process: of the chain.
        rng: one stream for each source; e_k is the noise of its stream "egsde" at k, the same at all t.
        scale: lambda in front; a similarity to be pushed up has its minus in the comparison.
        repeats: K, draws of e.

    Raises:
        ValueError: repeats or scale out of range, another number of streams than of sources, or whole numbers for them.
        NumericalError: a source image that is not finite.
    """

    of_estimate = False

    def __init__(self, source: Tensor, process: LinearProcess, rng: Rng, scale: float, repeats: int) -> None:
        whole("repeats", repeats, 1)
        real("scale", scale, "(-inf, inf)")
        check_points(source, "a source image")
        if len(rng) != len(source):
            raise ValueError(f"{len(rng)} random streams for {len(source)} source images")
        self.source, self.process, self.scale, self.repeats = source, process, scale, repeats
        streams = [rng.fold("egsde").at(k) for k in range(repeats)]
        self.noises = [
            process.law.sample(stream, source.shape[1:], source.dtype).to(source.device) for stream in streams
        ]

    def for_samples(self, index: Tensor) -> Self:
        """The same for some of the samples, see `diffprob.denoise.subset.for_samples`."""
        noises = [rows_for(noise, index) for noise in self.noises]
        return with_parts(self, source=rows_for(self.source, index), noises=noises)

    @abstractmethod
    def compare(self, xt: Tensor, source: Tensor, t: Tensor) -> Tensor:
        """What is to become small, (B,), for the chain's x_t (B, C, H, W) and the source's (B or 1, C, H, W)."""

    def __call__(self, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """The energy, nats (B,)."""
        states = (self.process.add_noise(self.source, noise, t).to(xt) for noise in self.noises)
        energies = [self.compare(xt, state, t) for state in states]
        return self.scale * torch.stack(energies).mean(0)


class RealismEnergy(Expert):
    """lambda_s S_s, the similarity to the noised source in the features of a classifier of domains: pushed down.

    S_s is the cosine between the channels, (f(y, t), f(x_t, t))/(|f| |f|), averaged over the positions. The classifier
    is trained to tell source from target, so that its features hold what differs.

    Args:
        features: (x_t, t) -> (B, C, h, w), such as the method of a `NoisyClassifier`.
        source, process, rng, repeats: as for `Expert`.
        scale: lambda_s; 500 in the paper, at 256x256.

    Exact when: always, as a function; S_s = 1 on the noised source itself.

    Reference: Zhao et al., "EGSDE: unpaired image-to-image translation via energy-guided SDEs" (2022), section 3.
    """

    def __init__(
        self,
        features: Callable[[Tensor, Tensor], Tensor],
        source: Tensor,
        process: LinearProcess,
        rng: Rng,
        scale: float = 500.0,
        repeats: int = 1,
    ) -> None:
        super().__init__(source, process, rng, scale, repeats)
        self.features = features

    def compare(self, xt: Tensor, source: Tensor, t: Tensor) -> Tensor:
        """S_s in [-1, 1], (B,)."""
        with torch.no_grad():
            theirs = self.features(source.expand(xt.shape), t)
        return F.cosine_similarity(self.features(xt, t), theirs, dim=1).flatten(1).mean(1)


class FaithfulnessEnergy(Expert):
    """lambda_i |LP y - LP x_t|^2, summed over pixels: what is coarse is kept.

    Args:
        low_pass: LP, such as `LowPass`.
        source, process, rng, repeats: as for `Expert`.
        scale: lambda_i; 2 in the paper, at 256x256.

    Exact when: always; on normal data the guided chain is that of the product of the two normals at every t.

    Reference: Zhao et al. (2022), section 3.
    """

    def __init__(
        self,
        low_pass: Callable[[Tensor], Tensor],
        source: Tensor,
        process: LinearProcess,
        rng: Rng,
        scale: float = 2.0,
        repeats: int = 1,
    ) -> None:
        super().__init__(source, process, rng, scale, repeats)
        self.low_pass = low_pass

    def compare(self, xt: Tensor, source: Tensor, t: Tensor) -> Tensor:
        """|LP y - LP x_t|^2, (B,)."""
        difference = self.low_pass(xt - source)
        return flat_sum(difference * difference)
