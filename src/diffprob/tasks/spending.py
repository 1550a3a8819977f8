"""What the code of a run spends, where the bound says what it would have to: `diffprob rate --measured`."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprob.codec.coders import Coder
from diffprob.codec.container import Coded, Group, digest_of
from diffprob.codec.entropy import Counted, SymbolLaw, Writer
from diffprob.likelihood.rate import RateDistortion
from diffprob.tasks.bounds import LikelihoodSetup
from diffprob.tasks.coding import code_of
from diffprob.tasks.encoding import GROUP, header_of
from diffprob.tasks.reporter import SILENT, Reporter


class Accounts(Writer):
    """A writer that knows what its bits were spent on: answers to questions of two (blocks), or values."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = 0.0

    def put(self, symbols: np.ndarray, law: SymbolLaw) -> None:
        """Append symbols (n,) under their laws."""
        before = self.bits
        super().put(symbols, law)
        if isinstance(law, Counted) and len(law.weights) == 2:
            self.blocks += self.bits - before


@dataclass(frozen=True, eq=False)
class Spent:
    """Bits that were really spent, per dimension, averaged over images.

    Args:
        rate: until each time of the chain, float64 (K,), as `RateDistortion.rate`.
        distortion: root of the mean squared error of E[x_0|x_t] there, in model space, as there.
        blocks: of the steps, on the question which blocks are split.
        levels: at the end.
        rest: header, lengths, checks, digests.
    """

    rate: Tensor
    distortion: Tensor
    blocks: float
    levels: float
    rest: float

    @property
    def total(self) -> float:
        """All of the file."""
        return float(self.rate[-1]) + self.levels + self.rest

    def shares(self, ideal: RateDistortion, bound: float) -> list[dict[str, Any]]:
        """Where the bits go: ``what``, ``bits`` per dimension and their ``share``; they add up to `total`.

        Args:
            ideal: the curve of these times and images, in nats.
            bound: bits/dim of the same images by all steps of training.
        """
        steps, levels = float(ideal.rate[-1]) / math.log(2), ideal.reconstruction / math.log(2)
        rows = {
            "bound of all steps of training": bound,
            f"grid: {len(self.rate)} times in their place": steps + levels - bound,
            "index: what steps cost beyond their divergence": float(self.rate[-1]) - self.blocks - steps,
            "blocks: which of them are split": self.blocks,
            "tail: levels at the end beyond theirs": self.levels - levels,
            "header, lengths, checks": self.rest,
        }
        return [{"what": what, "bits": bits, "share": bits / self.total} for what, bits in rows.items()]


def spend(setup: LikelihoodSetup, coder: Coder, best: bool = False, reporter: Reporter = SILENT) -> Spent:
    """Encode the images of a setup, and count.

    Args:
        setup: of `diffprob.tasks.encoding.prepare_encoding`.
        coder: of the steps.
        best: whether the weights are the best ones, not the last.
        reporter: hears of progress.

    Raises:
        InputError: steps that have no code.
    """
    n, chosen = len(setup.chosen), setup.chosen
    rates, errors = np.zeros(len(setup.times)), np.zeros(len(setup.times))
    groups, levels, blocks = [], 0.0, 0.0
    with reporter.progress("encoding", n, "image") as progress:
        for first in range(0, n, GROUP):
            pixels = setup.selection.images.take(chosen[first : first + GROUP])
            writer, steps = Accounts(), 0.0
            for k, (bits, error) in enumerate(_states(setup, coder, first, pixels, writer)):
                if k < len(rates):
                    rates[k] += bits
                    errors[k] += error
                    steps = bits
            groups.append(Group(len(pixels), writer.data(), digest_of(pixels)))
            levels += 8.0 * len(groups[-1].stream) - steps
            blocks += writer.blocks
            progress.update(first + len(pixels))
    d = n * setup.run.space.dimensions
    rest = 8.0 * Coded(header_of(setup, coder, best), tuple(groups)).overhead
    rmse = torch.from_numpy(np.sqrt(errors / d))
    return Spent(torch.from_numpy(rates / d), rmse, blocks / d, levels / d, rest / d)


def _states(
    setup: LikelihoodSetup, coder: Coder, first: int, pixels: np.ndarray, writer: Any
) -> Iterator[tuple[float, float]]:
    """Bits so far, and the squared error of what is known, summed over the images, at each time."""
    code = code_of(setup.model, setup.clip, setup.times, setup.decoder, coder, first, len(pixels))
    x0 = setup.x0(torch.from_numpy(pixels))
    for state in code.encode(x0, writer):
        yield writer.bits, float(((state.mean - x0) ** 2).sum())
