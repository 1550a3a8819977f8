"""Grey levels from coarse to fine: a tree whose nodes are intervals of levels and whose leaves are the levels."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from diffprob.base.checks import whole

MOST_BRANCHES = 2**16  # of a node


class LevelTree:
    """The nodes of K levels in stages: at depth j the whole numbers k // b^(S - j), for S the least with b^S >= K.

    A node is a number: 0..K-1 are the levels (depth S), K is the root (depth 0), which says nothing, and K + 1 and on
    are those between, the coarse ones first.

    Args:
        levels: K.
        branching: b, the children of a node, at most; from K on there is one stage.
    """

    def __init__(self, levels: int, branching: int) -> None:
        whole("levels", levels, 2)
        whole("branching", branching, 2, MOST_BRANCHES)
        self.levels, self.branching = levels, branching
        stages = 1
        while branching**stages < levels:
            stages += 1
        self.stages = stages
        self._sizes = [branching ** (stages - j) for j in range(stages + 1)]
        counts = [-(-levels // size) for size in self._sizes]
        self._first = [levels]
        for count in counts[:-1]:
            self._first.append(self._first[-1] + count)
        self.states = self._first[stages]
        self._first[stages] = 0

    def node(self, x: Tensor, depth: Tensor | int) -> Tensor:
        """The node at a depth that has the level x, shaped and typed like ``x``; depths broadcast to it."""
        depth = torch.as_tensor(depth, device=x.device).long()
        size, first = (torch.tensor(v, device=x.device, dtype=x.dtype)[depth] for v in (self._sizes, self._first))
        return first + torch.div(x, size, rounding_mode="floor")

    def depth(self, node: Tensor) -> Tensor:
        """The depth of nodes, int64."""
        return _tables(self.levels, self.branching).depth.to(node.device)[node.long()]

    def interval(self, node: Tensor) -> tuple[Tensor, Tensor]:
        """The lowest and the highest level of nodes, in the type of ``node``."""
        tables, index = _tables(self.levels, self.branching), node.long()
        return tables.low.to(node)[index], tables.high.to(node)[index]

    def known(self, node: Tensor) -> Tensor:
        """The share that nodes say of a level's information, 1 - log n/log K for n levels that they leave open."""
        return _tables(self.levels, self.branching).known.to(node)[node.long()]

    def log_mass(self, logs: Tensor) -> Tensor:
        """log probability of every node, (..., states), from that of every level, (..., K)."""
        parts = [logs]
        for size in self._sizes[:-1]:
            short = -self.levels % size
            padded = torch.nn.functional.pad(logs, (0, short), value=-torch.inf) if short else logs
            parts.append(padded.unflatten(-1, (-1, size)).logsumexp(-1))
        return torch.cat(parts, -1)


@dataclass(frozen=True)
class _Tables:
    low: Tensor
    high: Tensor
    depth: Tensor
    known: Tensor


@lru_cache(maxsize=16)
def _tables(levels: int, branching: int) -> _Tables:
    """Of all nodes, in their order: float64, and int64 depths."""
    tree = LevelTree(levels, branching)
    x = torch.arange(levels, dtype=torch.float64)
    low, high = (
        torch.full((tree.states,), float(levels), dtype=torch.float64),
        torch.full((tree.states,), -1.0).double(),
    )
    depth = torch.zeros(tree.states, dtype=torch.int64)
    for j in range(tree.stages + 1):
        node = tree.node(x, j).long()
        low = low.scatter_reduce(0, node, x, "amin")
        high = high.scatter_reduce(0, node, x, "amax")
        depth[node] = j
    known = 1 - (high - low + 1).log() / torch.log(torch.tensor(float(levels), dtype=torch.float64))
    return _Tables(low, high, depth, known)
