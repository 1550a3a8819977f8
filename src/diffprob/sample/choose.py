"""The sampler and the grid that suit a number of evaluations, as measured in docs/how-to-choose-a-sampler.md."""

import math
from collections.abc import Sequence

from diffprob.process.grids import GrainGrid, Grid, Trailing, Uniform
from diffprob.process.linear import LinearProcess
from diffprob.sample.ancestral import Ancestral
from diffprob.sample.exponential import DPMppSDE
from diffprob.sample.grain import GrainSolver
from diffprob.sample.simulate import Sampler


def default(evaluations: int, process: LinearProcess, shape: Sequence[int]) -> tuple[Sampler, Grid]:
    """What to use for so many evaluations, knowing nothing but the shape (*event) of the data in [-1, 1].

    As many as training had: the ancestral chain of training. Fewer, for images (C, H, W), whose networks err:
    `DPMppSDE`, whose fresh noise makes good for errors of the steps before, on `Trailing` times bent towards the noise,
    where it is decided what a sample shows. For vectors, with good
    or exact scores: `GrainSolver` on its grid, with the extent 0.85 d^(1/4) for d elements: the more elements, the
    higher the noise at which it is decided what a sample shows.

    Raises:
        ValueError: no evaluations.
    """
    if evaluations < 1:
        raise ValueError(f"evaluations must be at least 1, got {evaluations}")
    if evaluations == process.schedule.steps:
        return Ancestral(), Uniform()
    if len(shape) == 3:
        return DPMppSDE(2), Trailing(bend=-0.6)
    extent = round(0.85 * math.prod(shape) ** 0.25, 1)
    bend = -0.125 * min(max(evaluations - 6, 0), 4)
    return GrainSolver(extent=extent), GrainGrid(extent=extent, bend=bend)
