"""Coders: a draw of q that a decoder who knows p alone can make too, for about KL(q || p) bits.

Both sides share random numbers, a pure function of (stream, step). The bits go into one entropy-coded stream.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from diffprob.base.distributions import Categorical, Distribution, LocationScale
from diffprob.base.divergence import kl
from diffprob.base.errors import InputError, NoClosedForm
from diffprob.base.laws import Normal
from diffprob.base.rng import Rng
from diffprob.codec.entropy import Reader, Weights, Writer
from diffprob.codec.stack import Stack


class Coder(Protocol):
    """How x_s ~ q(x_s | x_t, x_0) is said to a side that knows p(x_s | x_t) (frozen dataclass)."""

    def cost(self, bits: Tensor, dimensions: int) -> Tensor:
        """Bits that a step of these divergences is expected to cost, shaped like them: what a path is chosen by."""
        ...

    def memory(self, n: int) -> Any:
        """What the steps of n samples' chain remember of each other, the same on both sides; changed in place."""
        ...

    def encode(self, q: Distribution, p: Distribution, rng: Rng, writer: Writer, memory: Any) -> Tensor:
        """Draw x_s (B, *event) and write what a decoder needs to have it.

        Args:
            q: what is drawn from.
            p: what both sides know.
            rng: shared random numbers, one stream for each sample, at a step of their own.
            writer: of the bytes.
            memory: of the chain.
        """
        ...

    def decode(self, like: Distribution, p: Distribution, rng: Rng, reader: Reader, memory: Any = None) -> Tensor:
        """The same x_s, (B, *event).

        Args:
            like: a law of the spread that q had; nothing else of it is looked at.
            p: see `encode`.
            rng: see `encode`.
            reader: of the bytes.
            memory: of the chain.

        Raises:
            Damaged, Incomplete: see `diffprob.codec.entropy.Reader.get`.
        """
        ...


@dataclass(frozen=True)
class Exact:
    """Values of discrete laws, where q is certain: each costs -log2 p of it, by the entropy coder."""

    def cost(self, bits: Tensor, dimensions: int) -> Tensor:
        """The divergence."""
        return bits

    def memory(self, n: int) -> None:
        """Nothing is remembered."""

    def encode(self, q: Distribution, p: Distribution, rng: Rng, writer: Writer, memory: Any = None) -> Tensor:
        """The values that q is certain of.

        Raises:
            InputError: q is not certain, as of an absorbing process without an order.
            NoClosedForm: laws of no discrete values.
        """
        most, values = _discrete(q).log_probabilities.max(-1)
        if bool((most < -1e-6).any()):
            raise InputError(
                "a discrete step that is random has no code: Staircase(d), whose order is bound, is certain"
            )
        self.put(values, _discrete(p), writer)
        return values.to(_discrete(p).dtype)

    def decode(self, like: Distribution, p: Distribution, rng: Rng, reader: Reader, memory: Any = None) -> Tensor:
        """The values, (B, *event)."""
        return self.take(_discrete(p), reader)

    def put(self, values: Tensor, law: Categorical, writer: Writer | Stack) -> None:
        """Write values (B, *event) where the law leaves anything open."""
        open_, laws = _open(law)
        writer.put(values[open_].cpu().numpy(), laws)

    def take(self, law: Categorical, reader: Reader | Stack) -> Tensor:
        """The values that `put` wrote, (B, *event)."""
        open_, laws = _open(law)
        values = law.logits.argmax(-1)
        values[open_] = torch.from_numpy(reader.get(laws).astype(np.int64)).to(values.device)
        return values.to(law.dtype)


def _discrete(law: Distribution) -> Categorical:
    if not isinstance(law, Categorical):
        raise NoClosedForm(f"no code for a {type(law).__name__}")
    return law


def _open(p: Categorical) -> tuple[Tensor, Weights]:
    """Which elements p leaves open, bool (B, *event), and their laws."""
    open_ = (p.logits > -math.inf).sum(-1) > 1
    return open_, Weights(p.logits[open_].cpu().numpy())


class NormalStep(NamedTuple):
    """A step of normal laws, float64 (B, d) each.

    Args:
        mean: of p.
        std: of p.
        ratio: the standard deviation of q over that of p.
        shift: of the means, in standard deviations of p; 0 where q is not known.
    """

    mean: np.ndarray
    std: np.ndarray
    ratio: np.ndarray
    shift: np.ndarray

    @classmethod
    def of(cls, q: Distribution, p: Distribution) -> "NormalStep":
        """From the laws of a step.

        Raises:
            NoClosedForm: laws whose elements are not normal and independent.
        """
        if not all(isinstance(law, LocationScale) and isinstance(law.law, Normal) for law in (q, p)):
            raise NoClosedForm(f"no code for {type(q).__name__} under {type(p).__name__}")
        mean, std, other, spread = (
            torch.broadcast_to(value, p.mean.shape).double().flatten(1).cpu().numpy()
            for value in (p.mean, p.variance.sqrt(), q.mean, q.variance.sqrt())
        )
        return cls(mean, std, spread / std, (other - mean) / std)

    def at(self, standard: np.ndarray, like: Tensor) -> Tensor:
        """mean + std z for z (B, d), in the shape and dtype of ``like``."""
        return torch.from_numpy(self.mean + self.std * standard).reshape(like.shape).to(like)


@dataclass(frozen=True)
class Ideal:
    """Charges KL(q || p) bits and writes nothing: for curves of what no code can beat, on average."""

    def cost(self, bits: Tensor, dimensions: int) -> Tensor:
        """The divergence."""
        return bits

    def memory(self, n: int) -> None:
        """Nothing is remembered."""

    def encode(self, q: Distribution, p: Distribution, rng: Rng, writer: Writer, memory: Any = None) -> Tensor:
        """x_s ~ q."""
        writer.charge(float(kl(q, p).sum()) / math.log(2))
        return q.sample(rng.fold("ideal"))

    def decode(self, like: Distribution, p: Distribution, rng: Rng, reader: Reader, memory: Any = None) -> Tensor:
        """There are no bytes.

        Raises:
            InputError: always.
        """
        raise InputError("Ideal() writes no bytes, so nothing can be decoded")
