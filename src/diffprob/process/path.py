"""The cheapest path through noise levels: which n times of a chain cost least, by dynamic programming."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import MOST_STEPS, flag, instance, several, whole
from diffprob.base.distributions import Discretised, LocationScale
from diffprob.process.linear import LinearProcess

KNOTS = 512  # values of a variance between which costs are interpolated
_BLOCKS = 8  # of nodes: what lies above the diagonal of one is looked at, not all of the table


def step_costs(process: LinearProcess, times: Tensor, variance: Tensor) -> Tensor:
    """What each step of the Markov chain costs at best, in nats per dimension, float64 (K, K): [i, j] from times[j]
    down to times[i].

    1/2 log(1 + c0^2 Var/btil): the expected KL(q(x_s|x_t,x_0) || N(mean, btil + c0^2 Var)) of the best variance. Its
    sum over a path is the variational bound of the steps; with Var = sigma^2/alpha^2 (1 - sigma^2 Gamma) it is 1/2 sum
    log(1 - beta Gamma) and a constant that all paths share (Bao et al. 2022, eq. 11 and theorem 3).

    Args:
        times: increasing, float64 (K,).
        variance: E Var[x_0|x_t] at the times: averaged over the dimensions, float64 (K,), for a chain with one variance
            for all of them; or (K, Q), equally frequent ones among elements and x_t, for a chain that knows them.

    Returns:
        The costs; infinite where i >= j.

    Raises:
        ValueError: a variance that is negative or no number.
    """
    _check_variance(variance)
    costs = torch.full((len(times), len(times)), torch.inf, dtype=torch.float64)
    for j in range(1, len(times)):
        bridge = process.bridge_coefficients(times[:j], times[j])
        mismatch = (bridge.c0**2)[:, None] * variance[j].reshape(1, -1) / (bridge.ell**2)[:, None]
        costs[:j, j] = 0.5 * torch.log1p(mismatch).mean(1)
    return costs


def reconstruction_costs(variance: Tensor, levels: int | None) -> Tensor:
    """What it costs at best to tell the grey level of x_0 at each time, in nats per dimension, float64 (K,).

    Of real numbers (``levels`` None) a density is told, by the same law: 1/2 log(2 pi e Var), exactly.

    E[-log P] of an inner one of K levels on [-1, 1] by a normal law whose mean errs by N(0, Var) and whose variance is
    that: 0 where it is well inside a bin, and 1/2 log(2 pi e Var/w^2) where it spans many bins of width w.

    Args:
        variance: E Var[x_0|x_t] at the times, float64 (K,) or (K, Q), as in `step_costs`. The costs of the latter are
            interpolated between 512 values, linearly in the logarithm.
        levels: number of grey levels; None: real numbers.

    Raises:
        ValueError: a variance that is negative or no number, or fewer than 2 levels.
    """
    _check_variance(variance)
    if levels is None:
        costs = 0.5 * torch.log(2 * math.pi * math.e * variance.clamp_min(1e-16))
        return costs if variance.ndim == 1 else costs.mean(1)
    whole("levels", levels, 2)
    if variance.ndim == 1:
        return torch.stack([_level_cost(std, levels) for std in variance.sqrt()])
    values = variance.clamp_min(1e-16).log()
    knots = torch.linspace(float(values.min()), float(values.max()), min(values.numel(), KNOTS), dtype=torch.float64)
    costs = torch.stack([_level_cost(std, levels) for std in (knots / 2).exp()])
    return torch.from_numpy(np.interp(values.numpy(), knots.numpy(), costs.numpy())).mean(1)


def _level_cost(std: Tensor, levels: int) -> Tensor:
    """Of one standard deviation, nats."""
    z = torch.linspace(-9, 9, 2001, dtype=torch.float64)
    weight = torch.exp(-0.5 * z * z)
    level = torch.full_like(z, 2 * (levels // 2) / (levels - 1) - 1)[:, None]
    law = Discretised(LocationScale(level + std * z[:, None], std), levels)
    return -(weight * law.log_prob(level)).sum() / weight.sum()


def _check_variance(variance: Tensor) -> None:
    wrong = variance[~((variance >= 0) & (variance < torch.inf))]  # so that a NaN is wrong as well
    if len(wrong):
        raise ValueError(f"a variance must be finite and at least 0, got {float(wrong[0]):g}")


def cheapest_paths(costs: Tensor, longest: int, ends: Tensor | None = None) -> list[Tensor]:
    """For n = 1, ..., longest the n nodes up to K - 1 whose path costs least, int64 (n,), increasing.

    The path with one node is the last node alone; C_n(j) = min_i C_(n-1)(i) + costs[i, j], in O(longest K^2).

    Args:
        costs: cost of going from node j to node i < j, (K, K); only i < j is read.
        longest: at most K.
        ends: cost of stopping at a node, (K,); by default paths end at node 0.

    Raises:
        ValueError: more nodes than there are, other shapes, or a cost that is no number.
    """
    if costs.ndim != 2 or len(costs) != costs.shape[1] or (ends is not None and ends.shape != costs.shape[:1]):
        raise ValueError(f"costs must be (K, K) and ends (K,), got {tuple(costs.shape)}")
    nodes = len(costs)
    if bool(torch.isnan(costs.triu(1)).any()) or (ends is not None and bool(torch.isnan(ends).any())):
        raise ValueError("a cost is not a number (NaN), so no path is the cheapest")
    if not (isinstance(longest, int) and 1 <= longest <= nodes):
        raise ValueError(f"a path has between 1 and {nodes} of {nodes} nodes, {longest} were asked for")
    # Downwards only: a node may not be left for itself or a higher one. A row of a block is the ways down from a node.
    down = costs.masked_fill(torch.ones_like(costs, dtype=torch.bool).tril(), torch.inf).T
    size = math.ceil(nodes / _BLOCKS)
    blocks = [down[first : first + size, : first + size].contiguous() for first in range(0, nodes, size)]
    if ends is None:
        ends = torch.full((nodes,), torch.inf, dtype=costs.dtype)
        ends[0] = 0
    best = ends
    before: list[list[int]] = []
    paths = [torch.tensor([nodes - 1])]
    for _ in range(1, longest):
        cheapest = [(block + best[: block.shape[1]]).min(1) for block in blocks]
        best, chosen = (torch.cat(parts) for parts in zip(*cheapest, strict=True))
        before.append(chosen.tolist())
        path = [nodes - 1]
        for step in reversed(before):
            path.append(step[path[-1]])
        paths.append(torch.tensor(path[::-1]))
    return paths


def path_cost(costs: Tensor, path: Tensor) -> float:
    """The sum of the costs along increasing nodes (n,)."""
    return float(costs[path[:-1], path[1:]].sum())


def _is_tensor(name: str, value: object) -> None:
    instance(name, value, Tensor, "a tensor")


@dataclass(frozen=True)
class LeastCost:
    """The times between which a chain of the best variance costs the fewest nats; `--grid best` of the command line.

    Computed for a run by `diffprob fit RUN steps`, from its analytic variance, with ``whole`` from that of its head.

    Args:
        whole: count the reconstruction too and end the chain where that is cheapest, for likelihoods and codes: where
            the noise is a fraction of a grey level. Otherwise it ends at the schedule's last noisy time.
        paths: for every n of the fit its times, increasing; a run fills it in.

    Reference: Bao et al., "Analytic-DPM" (2022), section 4 and algorithm 1; Watson et al. (2021).
    """

    whole: bool = False
    paths: tuple[Tensor, ...] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        flag("whole", self.whole)
        several("paths", () if self.paths is None else self.paths, _is_tensor, 0, MOST_STEPS)

    def __call__(self, process: LinearProcess, n: int) -> Tensor:
        """n decreasing noisy times, float64 (n,).

        Raises:
            ValueError: never fitted, or fewer or more times than were fitted.
        """
        if self.paths is None:
            raise ValueError("never fitted to this run: diffprob fit RUN steps")
        if isinstance(n, bool) or n not in range(1, len(self.paths) + 1):
            raise ValueError(f"the fit has paths of 1 to {len(self.paths)} times, {n} were asked for")
        return self.paths[n - 1].flip(0)
