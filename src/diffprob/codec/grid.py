"""Which times a chain is coded at: those that cost the fewest bits with this coder."""

import math

from torch import Tensor

from diffprob.base.checks import whole
from diffprob.codec.bits_back import BitsBack
from diffprob.codec.coders import Coder
from diffprob.process.linear import LinearProcess
from diffprob.process.path import cheapest_paths, reconstruction_costs, step_costs

LONGEST = 64  # times of a chain that is coded


def coding_times(
    process: LinearProcess,
    times: Tensor,
    variance: Tensor,
    dimensions: int,
    levels: int,
    coder: Coder | BitsBack,
    n: int | None = None,
) -> Tensor:
    """The times of the chain that costs the fewest bits with a coder, decreasing, float64 (n,).

    The least-cost path (Bao et al. 2022, algorithm 1) with what the coder sends for a step in the place of its
    divergence, and the levels at the end: more steps cost a bound less and a coder more.

    Args:
        process: of the chain.
        times: to choose from, increasing, float64 (K,).
        variance: E Var[x_0|x_t] at these, averaged over the dimensions, float64 (K,), or as spread over them, (K, Q).
        dimensions: d.
        levels: grey levels K.
        coder: what sends the steps.
        n: how many times; None: as many as cost least, at most 64.

    Raises:
        ValueError: more times than there are, or a variance that is none.
    """
    whole("n", n, 1, len(times), none=True)
    per_bit = dimensions / math.log(2)
    costs = coder.cost(per_bit * step_costs(process, times, variance), dimensions)
    ends = per_bit * reconstruction_costs(variance, levels)
    paths = cheapest_paths(costs, min(LONGEST, len(times)) if n is None else n, ends)
    if n is None:
        totals = [float(costs[path[:-1], path[1:]].sum() + ends[path[0]]) for path in paths]
        n = 1 + min(range(len(totals)), key=totals.__getitem__)
    return times[paths[n - 1]].flip(0)
