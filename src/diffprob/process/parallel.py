"""Which elements to draw at once: the cheapest grid of a staircase within a budget, by dynamic programming."""

import torch
from torch import Tensor

from diffprob.base.checks import whole
from diffprob.process.path import LeastCost, cheapest_paths


def non_increasing(values: Tensor) -> Tensor:
    """The nearest non-increasing numbers in squares, float64 (n,), by pooling adjacent violators.

    Reference: Barlow et al., "Statistical inference under order restrictions" (1972), sec. 1.2.
    """
    blocks: list[tuple[float, int]] = []
    for value in values.double().tolist():
        mean, count = value, 1
        while blocks and blocks[-1][0] < mean:
            before, n = blocks.pop()
            mean, count = (before * n + mean * count) / (n + count), n + count
        blocks.append((mean, count))
    return torch.cat([torch.full((count,), mean, dtype=torch.float64) for mean, count in blocks])


def parallel_costs(nats: Tensor) -> Tensor:
    """The cost of a step from j masked elements down to i, (j - i) l_(d-j), float64 (d + 1, d + 1): [i, j] for i < j.

    Drawn at once given the same d - j elements, j - i of them cost as much each as the first of them.

    Args:
        nats: l_k, what an element costs where k are drawn, (d,); made non-increasing first, since noise of a
            measurement would make steps look free.

    Reference: Hoogeboom et al., "Autoregressive diffusion models" (2022), sec. 3.1 (parallelized ARDMs).
    """
    if nats.ndim != 1 or not len(nats) or not bool(nats.isfinite().all()):
        raise ValueError(f"nats must be finite numbers (d,), one for each number of drawn elements, got {nats.shape}")
    each = non_increasing(nats).flip(0)  # [j - 1]: with j masked
    d = len(each)
    count = torch.arange(d + 1, dtype=torch.float64)
    costs = (count[None, :] - count[:, None]) * torch.cat([each.new_zeros(1), each])[None, :]
    return costs.masked_fill(count[:, None] >= count[None, :], torch.inf)


def parallel_grid(nats: Tensor, budget: int) -> LeastCost:
    """The grids of 1, ..., ``budget`` evaluations that draw a staircase's d elements at the least cost.

    Args:
        nats: see `parallel_costs`; measured on data of the training.
        budget: 1 to d.

    Returns:
        A grid for `Staircase(d)`: ``grid(process, n)`` has the times of n evaluations.

    Exact when: the costs are those of the model; compared with all subsets.

    Raises:
        ValueError: another budget.
    """
    whole("budget", budget, 1, len(nats))
    paths = cheapest_paths(parallel_costs(nats), budget + 1)[1:]
    return LeastCost(paths=tuple(path[1:].double() / len(nats) for path in paths))
