"""The sampler and the grid that suit a number of evaluations, as measured in docs/how-to-choose-a-sampler.md."""

import math
from collections.abc import Sequence

from diffprob.base.checks import whole
from diffprob.process.grids import GrainGrid, Grid, Trailing, Uniform
from diffprob.process.process import Process
from diffprob.sampling.ancestral import DDIM, Ancestral
from diffprob.sampling.exponential import DPMppSDE
from diffprob.sampling.grain import GrainSolver
from diffprob.sampling.simulate import Sampler

USUAL = 50  # evaluations for each sample, where nobody says


def affordable(process: Process, wanted: int = USUAL) -> int:
    """``wanted`` evaluations, or as many as a discrete schedule has times where these are fewer."""
    whole("evaluations", wanted, 1)
    return min(wanted, process.schedule.steps or wanted)


def default(evaluations: int, process: Process, shape: Sequence[int]) -> tuple[Sampler, Grid]:
    """What to use for so many evaluations, knowing nothing but the shape (*event) of the data in [-1, 1].

    As many as training had, or data that are levels: the ancestral chain of training. Fewer, for images (C, H, W),
    whose networks err:
    `DPMppSDE`, whose fresh noise makes good for errors of the steps before, on `Trailing` times bent towards the noise,
    where it is decided what a sample shows. For vectors, with good
    or exact scores: `GrainSolver` on its grid. The more elements d, the higher the noise at which it is decided what a
    sample shows, and the more sudden the decision: the extent is the smaller of 0.35 d^(1/2) and 0.85 d^(1/4), and from
    6 evaluations on the grid leans towards the decision (`bend`, `dwell`), fully with 9 evaluations and 8 elements.

    Raises:
        ValueError: no evaluations.
    """
    whole("evaluations", evaluations, 1)
    if evaluations == process.schedule.steps or not process.is_linear:
        return Ancestral(), Uniform()
    if len(shape) == 3:
        return DPMppSDE(2), Trailing(bend=-0.6)
    elements = math.prod(shape)
    extent = round(min(0.35 * elements**0.5, 0.85 * elements**0.25), 1)
    sudden = _within(math.log2(elements / 2) / 2)
    lean = round(sudden * _within((evaluations - 5) / 4), 2)
    return GrainSolver(extent=extent), GrainGrid(extent=extent, bend=-0.4 * lean, dwell=0.5 * lean)


def for_pictures(process: Process) -> Sampler:
    """The sampler of pictures while a model trains: the same seed shows the same picture as long as that can be, by
    `DDIM`; of levels the ancestral chain."""
    return DDIM() if process.is_linear else Ancestral()


def _within(x: float) -> float:
    """The nearest number in [0, 1]."""
    return min(max(x, 0.0), 1.0)
