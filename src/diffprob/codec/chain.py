"""A chain as a code: images from noise to data, step by step, by a side that has them and by one that has the bytes.

Ho et al. 2020, algorithms 3 and 4: x_s ~ q(x_s | x_t, x_0) is said to a side that knows p(x_s | x_t), and at last x_0
to one that knows p(x_0 | x_t1). What is said costs about the variational bound.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffprob.base.distributions import Categorical, Discretised, Distribution
from diffprob.base.errors import NoClosedForm
from diffprob.base.rng import Rng
from diffprob.codec.coders import Coder, Exact
from diffprob.codec.entropy import Binned, Reader, Writer
from diffprob.codec.stack import Stack
from diffprob.denoise.denoiser import Denoiser
from diffprob.likelihood.bound import Decoder
from diffprob.process.chain import noisy_times

Step = Callable[[Distribution, Distribution, Rng], Tensor]
Last = Callable[[Distribution], Tensor]


class Received(NamedTuple):
    """What both sides have at a time.

    Args:
        t: the time; 0 at the end.
        x: x_t, (B, *event); at the end x_0.
        mean: E[x_0 | x_t], (B, *event), the images as they are known so far.
    """

    t: Tensor
    x: Tensor
    mean: Tensor


@dataclass(frozen=True)
class Code:
    """How images are coded: both sides must have the same.

    Args:
        model: the denoiser, with a variance that its steps spread by.
        times: of the chain, decreasing noisy times, float64 (n,).
        decoder: p(x_0 | x_t1).
        coder: of the steps.
    """

    model: Denoiser
    times: Tensor
    decoder: Decoder
    coder: Any

    @torch.no_grad()
    def _posterior(self, x: Tensor, t: Tensor) -> Distribution:
        return self.model(x, t)


@dataclass(frozen=True)
class ChainCode(Code):
    """How images are coded from the coarsest that is known of them to the last bit.

    Args:
        rng: shared random numbers, one stream for each image.
    """

    coder: Coder
    rng: Rng

    @property
    def states(self) -> int:
        """That are given out: x_t at each time, and x_0."""
        return len(self.times) + 1

    def writer(self) -> Writer:
        """Of the bytes of a code."""
        return Writer()

    def reader(self, data: bytes, whole: bool = True) -> Reader:
        """Of all bytes of a code, or of the first ones."""
        return Reader(data, whole)

    def encode(self, x0: Tensor, writer: Writer) -> Iterator[Received]:
        """Write images, from the coarsest that is known of them to the last bit.

        Args:
            x0: in model space, float64 (B, *event).
            writer: of the bytes; what is written before a time is yielded says all that is known there.

        Raises:
            ValueError: images that are not made of the decoder's levels.
            InputError, NoClosedForm: steps that the coder has no code for.
        """
        self.decoder.check(x0)
        memory = self.coder.memory(len(x0))

        def step(q: Distribution, p: Distribution, rng: Rng) -> Tensor:
            return self.coder.encode(q, p, rng, writer, memory)

        def last(law: Distribution) -> Tensor:
            return put_values(x0, law, writer)

        return self._chain(x0, x0, step, last)

    def decode(self, like: Tensor, reader: Reader) -> Iterator[Received]:
        """Read images; `like` (B, *event) has their shape, dtype and device.

        Raises:
            Damaged, Incomplete: see `diffprob.codec.entropy.Reader.get`; what was yielded before is certain.
        """

        memory = self.coder.memory(len(like))

        def step(q: Distribution, p: Distribution, rng: Rng) -> Tensor:
            return self.coder.decode(q, p, rng, reader, memory)

        return self._chain(like, None, step, lambda law: take_values(like, law, reader))

    def _chain(self, like: Tensor, x0: Tensor | None, step: Step, last: Last) -> Iterator[Received]:
        process, times = self.model.process, noisy_times(self.model.process, self.times)
        x = process.prior(like).sample(self.rng.fold("prior"))
        process = process.begin(self.rng.fold("begin"), x)
        rng = self.rng.fold("steps")
        for k, (t, s) in enumerate(pairwise(times)):
            posterior = self._posterior(x, t)
            yield Received(t, x, posterior.mean)
            # Without x_0 any x_0 serves: of its bridge the spread alone is looked at.
            known = posterior.sample(rng.fold("any").at(k)) if x0 is None else x0
            x = step(process.bridge(known, x, s, t), process.reverse(posterior, x, s, t), rng.at(k))
        t, before = times[-1], times[-2] if len(times) > 1 else None
        posterior = self._posterior(x, t)
        yield Received(t, x, posterior.mean)
        x = last(self.decoder.law(process, posterior, t, before))
        yield Received(torch.zeros_like(t), x, x)


def put_values(x0: Tensor, law: Distribution, writer: Writer | Stack) -> Tensor:
    """Write levels, x0 (B, *event) in model space, under the law that both sides know: -log2 of their probability.

    Returns:
        What `take_values` returns: x0, to the last bit.

    Raises:
        NoClosedForm: a law of no levels.
    """
    before = writer.bits
    if isinstance(law, Categorical):
        Exact().put(x0, law, writer)
        writer.levels += writer.bits - before
        return x0.to(law.dtype)
    levels = ((x0 + 1) * ((_discretised(law).levels - 1) / 2)).round().flatten().cpu().numpy()
    writer.put(levels, _binned(law))
    writer.levels += writer.bits - before
    return _points(levels, law, x0)


def take_values(like: Tensor, law: Distribution, reader: Reader | Stack) -> Tensor:
    """The levels that `put_values` wrote, in model space, shaped like ``like``."""
    if isinstance(law, Categorical):
        return Exact().take(law, reader)
    return _points(reader.get(_binned(law)), law, like)


def _points(levels: np.ndarray, law: Distribution, like: Tensor) -> Tensor:
    points = 2 * levels.astype(np.float64) / (_discretised(law).levels - 1) - 1
    return torch.from_numpy(points).reshape(like.shape).to(like)


def _discretised(law: Distribution) -> Discretised:
    if not isinstance(law, Discretised):
        raise NoClosedForm(f"values under a {type(law).__name__} have no code: Decoder(levels) makes one of levels")
    return law


def _binned(law: Distribution) -> Binned:
    law = _discretised(law)
    scale = (law.levels - 1) / 2
    mean, std = (
        torch.broadcast_to(v, law.mean.shape).double().flatten().cpu().numpy() for v in (law.mean, law.base.std)
    )
    return Binned((mean + 1) * scale, std * scale, law.levels)
