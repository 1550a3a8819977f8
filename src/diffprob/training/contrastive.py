"""Contrastive divergence: lower the energy of images, raise that of what Langevin dynamics makes under it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from diffprob.base.checks import real, whole
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng, normal_like
from diffprob.base.shapes import per_sample
from diffprob.density.baselines import DensityModel
from diffprob.space.dequantise import dequantised
from diffprob.space.pixels import Pixels


def langevin(
    energy: Callable[[Tensor], Tensor],
    x: Tensor,
    rng: Rng,
    step_size: float,
    noise: float,
    clip: float = math.inf,
    bound: float = math.inf,
) -> Tensor:
    """One step: x + noise z, then minus step_size grad E, each entry of grad E cut at +-clip and of x at +-bound.

    Langevin dynamics of exp(-E) has noise^2 = 2 step_size; more step than that samples at the temperature
    noise^2/(2 step_size) as long as the clip is not met.

    Args:
        energy: (B, *event) -> (B,); entry i depends on sample i alone.
        x: (B, *event); the answer carries no gradient.
        rng: one stream per sample.

    Exact when: noise^2 = 2 step_size and E = x^2/(2v): the stationary variance after the noise is v/(1 -
    step_size/(2v)), v as step_size goes to 0.

    Reference: Welling & Teh (2011), eq. 4; order and clip as in the released code of Du & Mordatch (2019).
    """
    with torch.enable_grad():
        noisy = (x + noise * normal_like(rng, x)).detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(energy(noisy).sum(), noisy)
    return (noisy.detach() - step_size * gradient.clamp(-clip, clip)).clamp(-bound, bound)


class Replay:
    """The ends of the last ``size`` chains, where later ones begin; a ring, the oldest are overwritten.

    What a step notes counts from the next step on, in the order of the global batch, so that neither the number of
    processes nor the parts of a batch change what is drawn, and a resumed training draws what it would have drawn.

    Args:
        shape: of one image.
        size: images kept.
        fresh: share of the chains that begin with uniform noise; all of them as long as nothing is kept.
        bound: the noise is uniform on [-bound, bound].
    """

    def __init__(self, shape: tuple[int, ...], size: int, fresh: float, bound: float) -> None:
        self.size, self.fresh, self.bound = size, fresh, bound
        self.images = torch.zeros(size, *shape)
        self.count = torch.zeros((), dtype=torch.int64)
        self.noted: list[Tensor] = []

    def draw(self, rng: Rng, like: Tensor) -> Tensor:
        """Where chains begin, one for each stream, (B, *event), in the dtype and on the device of ``like``."""
        shape, kept = self.images.shape[1:], min(int(self.count), self.size)
        noise = self.bound * (2 * rng.fold("start").uniform(shape, like.dtype) - 1).to(like.device)
        if not kept:
            return noise
        index = rng.fold("index").integers((), kept).cpu()
        again = (rng.fold("fresh").uniform((), torch.float64) >= self.fresh).to(like.device)
        return torch.where(per_sample(again, like) > 0, self.images[index].to(like), noise)

    def note(self, x: Tensor) -> None:
        """Keep the ends of chains (B, *event) until `synchronise`."""
        self.noted.append(x.detach().contiguous())

    def synchronise(self, gather: Callable[[Tensor], Tensor]) -> None:
        """Take in what was noted since the last time, by all processes; called by each after a step.

        Args:
            gather: (B, *event) of every process -> all of them, in the order of the processes.
        """
        for part in self.noted:
            images = gather(part).to(self.images.device, self.images.dtype)
            first = max(0, len(images) - self.size)
            places = (torch.arange(first, len(images)) + int(self.count)) % self.size
            self.images[places] = images[first:]
            self.count += len(images)
        self.noted = []

    def state(self) -> dict[str, Tensor]:
        """What resuming needs."""
        return {"images": self.images.clone(), "count": self.count.clone()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` returned."""
        self.images = state["images"].cpu().clone()
        self.count = state["count"].cpu().clone()
        self.noted = []


@dataclass(frozen=True)
class ContrastiveDivergence:
    """E(x+) - E(x-) + weight (E(x+)^2 + E(x-)^2): x+ an image with the noise of its bins, x- the end of a chain.

    Chains of `langevin` steps begin where kept ones ended, or, a share of them, at uniform noise. The step is far
    longer than the noise asks for (temperature near 0), so that E has a scale of its own and its differences are no
    nats. Adam goes with it with betas (0, 0.999).

    The defaults are those of the released code, which has images in [0, 1], on [-1, 1]: its step 10 on gradients cut
    at 0.01 with noise 0.005 is step 10 2^2 = 40 on gradients cut at 0.01/2 with noise 2 0.005.

    Args:
        steps: of each chain.
        step_size, noise, clip: see `langevin`; ``clip`` is the largest entry of the gradient, inf never clips.
        buffer: chains kept.
        fresh: share of chains that begin at noise.
        weight: of the squared energies, which keep them near 0; in units that make the loss dimensionless.

    Exact when: weight = 0 and chains have the model's law: the gradient is that of -log p(x+).

    Reference: Du & Mordatch, "Implicit generation and modeling with energy-based models" (2019), algorithm 1.
    """

    steps: int = 60
    step_size: float = 40.0
    noise: float = 0.01
    clip: float = 0.005
    buffer: int = 10000
    fresh: float = 0.05
    weight: float = 1.0

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1, 10**5)
        real("step_size", self.step_size, "(0, inf)")
        real("noise", self.noise, "[0, inf)")
        real("clip", self.clip, "(0, inf]")
        whole("buffer", self.buffer, 1, 10**7)
        real("fresh", self.fresh, "[0, 1]")
        real("weight", self.weight, "[0, inf)")

    def bind(self, model: DensityModel, space: Pixels) -> "Contrasting":
        """The loss for such images, with a buffer of its own.

        Raises:
            InputError: the model is no `DensityModel`.
        """
        if not isinstance(model, DensityModel):
            raise InputError(f"{self!r} trains a DensityModel such as an EnergyNet's, got a {type(model).__name__}")
        return Contrasting(self, space)

    def __call__(self, model: DensityModel, x0: Tensor, rng: Rng) -> Tensor:
        """Refused: without a buffer there is no loss.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self!r} remembers chains: take what bind() returns, as the trainer does")

    def chain(self, model: DensityModel, x: Tensor, rng: Rng, bound: float = 1.0) -> Tensor:
        """Where chains that begin at x (B, *event) end, within [-bound, bound]."""
        for step in range(self.steps):
            streams = rng.fold(f"langevin {step}")
            x = langevin(lambda y: -model.raw(y), x, streams, self.step_size, self.noise, self.clip, bound)
        return x


class Contrasting:
    """`ContrastiveDivergence` of one training, with the chains that it remembers.

    Images and chains fill the same cube, that of all bins: nothing is told apart by its border.
    """

    def __init__(self, settings: ContrastiveDivergence, space: Pixels) -> None:
        self.settings, self.space = settings, space
        self.bound = 1 + space.bin_width / 2
        self.memory = Replay(space.shape, settings.buffer, settings.fresh, self.bound)

    def __call__(self, model: DensityModel, x0: Tensor, rng: Rng) -> Tensor:
        """Loss of each image (B, C, H, W), (B,)."""
        start = self.memory.draw(rng, x0)
        made = self.settings.chain(model, start, rng, self.bound)
        self.memory.note(made)
        data = dequantised(self.space, self.space.to_data(x0), rng).to(x0.dtype)
        above, below = (-model.raw(torch.cat([data, made]))).to(x0.dtype).chunk(2)
        return above - below + self.settings.weight * (above * above + below * below)
