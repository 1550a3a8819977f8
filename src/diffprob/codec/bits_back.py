"""Bits back: whole sets of images for the bound itself, without a search, and without a coarse image on the way.

The chain of an image is written from its least noisy time to its noisiest, each state under the model and drawn with
bits of what was written before (Townsend, Bird & Barber 2019), in the order of Kingma, Abbeel & Ho ("Bit-Swap", 2019):

    take x_1 under q(x_1 | x_0), put x_0 under p(x_0 | x_1); take x_2 under q(x_2 | x_1), put x_1 under p(x_1 | x_2);
    ...; put x_T under p(x_T).

What stays is sum log q - sum log p, whose mean is the variational bound of the chain at its times. Whoever has the
stack does the same backwards, and finds at its bottom the random bits that the first image was begun with.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import whole
from diffprob.base.distributions import Distribution, LocationScale
from diffprob.base.errors import InputError, NoClosedForm, NumericalError
from diffprob.base.laws import Normal
from diffprob.codec.chain import Code, Received, put_values, take_values
from diffprob.codec.entropy import Binned, Damaged
from diffprob.codec.stack import Beginning, Empty, Stack, shared_words
from diffprob.process.chain import noisy_times
from diffprob.process.linear import LinearProcess

REACH = 8.0  # standard deviations of noise beyond the data at which a lattice ends
MOST_POINTS = 1 << 22  # of a lattice
MORE = 1.05  # times as many bits at the bottom, where they were too few
ROUNDING = 1e-4  # bits that a step costs each element beyond its divergence: rounded laws and a coder of 24 bits
MOST_LANES, MOST_PARTS = 64, 64


@dataclass(frozen=True)
class BitsBack:
    """Sets of images for their bound, all or nothing: no search, and a beginning of the bytes says no image.

    Args:
        parts: of the standard deviation of a step, to which its states are rounded. More of them cost a file more at
            its beginning, fewer disturb the chain.
        lanes: images that go through the network together. A file costs its beginning for each of them.

    Exact when: the chain is Markov and its steps are normal, on states rounded to a lattice.

    Reference: Townsend, Bird & Barber, "Practical lossless compression with latent variables using bits back coding"
    (2019); Kingma, Abbeel & Ho, "Bit-Swap" (2019); Kingma, Salimans, Poole & Ho, "Variational diffusion models" (2021),
    for chains of diffusion.
    """

    parts: int = 2
    lanes: int = 1

    def __post_init__(self) -> None:
        whole("parts", self.parts, 1, MOST_PARTS)
        whole("lanes", self.lanes, 1, MOST_LANES)

    def cost(self, bits: Tensor, dimensions: int) -> Tensor:
        """The divergence, and what a step costs in rounding."""
        return bits + ROUNDING * dimensions


class Lattice(NamedTuple):
    """The values that the elements of a state have.

    Args:
        width: between neighbours.
        half: points on either side of 0.
    """

    width: float
    half: int

    def law(self, law: Distribution) -> Binned:
        """A normal law of states (B, *event) as one of points.

        Raises:
            NoClosedForm: it is none.
        """
        if not (isinstance(law, LocationScale) and isinstance(law.law, Normal)):
            raise NoClosedForm(f"no code for a {type(law).__name__}: a chain of normal steps has one")
        mean, std = (
            torch.broadcast_to(value, law.mean.shape).double().flatten().cpu().numpy() for value in (law.mean, law.std)
        )
        return Binned(mean / self.width + self.half, std / self.width, 2 * self.half + 1)

    def put(self, x: Tensor, law: Distribution, stack: Stack) -> None:
        """Put a state under a law."""
        stack.put((x.flatten().cpu().numpy() / self.width).round() + self.half, self.law(law))

    def get(self, law: Distribution, stack: Stack) -> Tensor:
        """Take a state under a law, shaped like its mean."""
        points = (stack.get(self.law(law)).astype(np.float64) - self.half) * self.width
        return torch.from_numpy(points).reshape(law.mean.shape).to(law.mean)


def lattices(process: LinearProcess, times: Tensor, parts: int) -> list[Lattice]:
    """That of each time, rising: a ``parts``-th of the smaller one of the noise that leads there from below and the
    least noise with which the chain comes from above.

    Raises:
        InputError: one of more than 4 million points.
    """
    grids = []
    for k, t in enumerate(times):
        alpha, sigma = (float(value) for value in process.coefficients(t))
        up = float(onward(process, torch.zeros(1, 1).double(), times[k - 1] if k else None, t).std.max())
        down = float(process.bridge_coefficients(t, times[k + 1]).ell) if k + 1 < len(times) else sigma
        width, reach = min(up, down) / parts, alpha + REACH * sigma
        if 2 * reach > width * MOST_POINTS:
            raise InputError(f"steps at t = {float(t):g} are too small for a lattice: fewer times would be right")
        grids.append(Lattice(width, math.ceil(reach / width)))
    return grids


def onward(process: LinearProcess, x: Tensor, s: Tensor | None, t: Tensor) -> LocationScale:
    """q(x_t | x_s) = N(alpha_t/alpha_s x_s, sigma_t^2 (1 - SNR_t/SNR_s)); of x_0 where s is None."""
    if s is None:
        return process.marginal(x, t)
    (alpha_s, _), (alpha_t, sigma_t) = process.coefficients(s), process.coefficients(t)
    std = sigma_t * (-torch.expm1(process.change(s, t))).sqrt()
    return LocationScale(alpha_t / alpha_s * x, torch.full_like(x, float(std)), process.noise_between(s, t))


@dataclass(frozen=True)
class BitsBackCode(Code):
    """How sets of images are coded with `BitsBack`."""

    coder: BitsBack

    @property
    def states(self) -> int:
        """That are given out: the images."""
        return 1

    def writer(self) -> Stack:
        """A stack, which `encode` fills."""
        return Stack(shared_words(1))

    def reader(self, data: bytes, whole: bool = True) -> Stack:
        """The stack in all bytes of a code; of the first ones one that has nothing.

        Raises:
            Damaged: bytes of no stack.
        """
        return Stack.of(data) if whole else Beginning()

    def encode(self, x0: Tensor, stack: Stack) -> Iterator[Received]:
        """Put images (B, *event) on the stack, all of them before anything is given out.

        Raises:
            ValueError: images that are not made of the decoder's levels.
            NoClosedForm: steps that are not normal.
            NumericalError: a network whose answer is no number.
        """
        self.decoder.check(x0)
        bits = self._beginning(x0)
        while True:
            stack.begin(shared_words(math.ceil(bits / 32) + 2))
            try:
                for images in x0.split(self.coder.lanes):
                    self._push(images, stack)
                break
            except Empty:
                bits *= MORE
        yield self._received(x0)

    def decode(self, like: Tensor, stack: Stack) -> Iterator[Received]:
        """Take images; ``like`` (B, *event) has their shape, dtype and device.

        Raises:
            Damaged: no images were put here, or not by this chain.
            Incomplete: the bytes were not all.
        """
        parts = list(like.split(self.coder.lanes))
        try:
            images = [self._pop(part, stack) for part in reversed(parts)]
        except Empty:
            raise Damaged("the bytes are damaged, or of another model: more was read than they have") from None
        except NumericalError as error:
            raise Damaged(f"the bytes are damaged, or of another model: {error}") from None
        rest = stack.words()
        if not np.array_equal(rest, shared_words(len(rest))):
            raise Damaged("the bytes are damaged, or of another model: they do not end as they were begun")
        yield self._received(torch.cat(images[::-1]))

    def _received(self, x0: Tensor) -> Received:
        return Received(torch.zeros((), dtype=torch.float64), x0, x0)

    def _beginning(self, x0: Tensor) -> float:
        """Bits with which the images that go first are begun: those of one of their states; if more are taken, more."""
        elements = x0[: self.coder.lanes].numel()
        return elements * (math.log2(self.coder.parts) + 2.05)

    def _push(self, x0: Tensor, stack: Stack) -> None:
        process, times, grids = self._chain
        before, lower = None, x0  # the state below
        for k, t in enumerate(times):
            x = grids[k].get(onward(process, lower, before, t), stack)
            if before is None:
                put_values(x0, self._levels(x, times), stack)
            else:
                grids[k - 1].put(lower, process.reverse(self._posterior(x, t), x, before, t), stack)
            before, lower = t, x
        grids[-1].put(lower, process.prior(lower), stack)

    def _pop(self, like: Tensor, stack: Stack) -> Tensor:
        process, times, grids = self._chain
        x = grids[-1].get(process.prior(like), stack)
        for k in range(len(times) - 1, 0, -1):
            s, t = times[k - 1], times[k]
            lower = grids[k - 1].get(process.reverse(self._posterior(x, t), x, s, t), stack)
            grids[k].put(x, onward(process, lower, s, t), stack)
            x = lower
        x0 = take_values(like, self._levels(x, times), stack)
        grids[0].put(x, onward(process, x0, None, times[0]), stack)
        return x0

    @cached_property
    def _chain(self) -> tuple[Any, Tensor, list[Lattice]]:
        """The process, the times rising, and their lattices."""
        process: Any = self.model.process
        times = noisy_times(process, self.times).flip(0)
        return process, times, lattices(process, times, self.coder.parts)

    def _levels(self, x: Tensor, times: Tensor) -> Distribution:
        """p(x_0 | x_t1)."""
        before = times[1] if len(times) > 1 else None
        return self.decoder.law(self.model.process, self._posterior(x, times[0]), times[0], before)
