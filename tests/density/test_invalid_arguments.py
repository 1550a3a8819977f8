"""What no proxy can take is refused where it comes in: images, streams, statistics, levels, networks."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from truth.models import IsotropicData

from diffprob.base.errors import DiffprobError
from diffprob.base.rng import Rng
from diffprob.density.anomaly import AnomalyMap
from diffprob.density.baselines import DensityModel, LogDensity
from diffprob.density.histogram import PixelHistogram
from diffprob.density.integrability import integrability
from diffprob.density.likelihood import BoundDensity, ComplexityCorrected, FlowDensity
from diffprob.density.noise import NoiseNorm
from diffprob.density.path import PathStatistics, ScoreNorms
from diffprob.density.simplex import SimplexNoise
from diffprob.density.typicality import Typical
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import LinearBetas
from diffprob.sampling.simulate import State
from diffprob.sampling.singlestep import DPMSolver, Heun

PROCESS = LinearProcess(LinearBetas(10, 0.01, 0.5))
MODEL, RNG, ONE = IsotropicData(0.3, 0.2, PROCESS), Rng.of(0, 3), Rng.of(0, 1)
X = torch.linspace(-1, 1, 3 * 16).reshape(3, 1, 4, 4)  # 48 levels, most of which are none of 17
HOLED, LEVELS = X.clone(), torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
HOLED[1, 0, 2, 2] = math.nan
TWO, MANY = ScoreNorms(levels=2), torch.randn(60, 2, generator=torch.Generator().manual_seed(0)).double()
COUNTED = PixelHistogram.fit(LEVELS.numpy(), 17)
SMOOTH = SimplexNoise(1, wavelength=4)
NONE, HALF = torch.zeros((), dtype=torch.float64), State(X, torch.tensor(0.5, dtype=torch.float64))


class Every(nn.Module):
    """One number for a whole batch."""

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum()


REFUSED = {
    "one noise for three images": lambda: NoiseNorm(0.5)(MODEL, X, ONE),
    "one smooth noise for three": lambda: SMOOTH(ONE, X),
    "one map for three": lambda: AnomalyMap(0.5, 3, 1, noise=SMOOTH)(MODEL, X, ONE),
    "smooth levels": lambda: SMOOTH(RNG, LEVELS),
    "a path from no number": lambda: PathStatistics(3).statistics(MODEL, HOLED, RNG),
    "the bound of levels as points": lambda: BoundDensity(4).statistics(MODEL, LEVELS, RNG),
    "the flow between levels": lambda: FlowDensity(levels=17).statistics(MODEL, X, RNG),
    "the flow beyond white": lambda: FlowDensity(levels=17).statistics(MODEL, 2 * X.sign(), RNG),
    "a code between levels": lambda: ComplexityCorrected(levels=17).complete(torch.zeros(3, 1), X),
    "a density between levels": lambda: LogDensity(levels=17).statistics(DensityModel(Every()), X, RNG),
    "one density for three images": lambda: DensityModel(Every())(X),
    "pictures for energies": lambda: DensityModel(nn.Flatten())(X),
    "a fit of other columns": lambda: TWO.fit(MANY[:, :1]),
    "a fit of a row": lambda: TWO.fit(MANY[:, 0]),
    "a score of other columns": lambda: TWO.score(MANY[:, :1], TWO.fit(MANY)),
    "what is typical of other columns": lambda: Typical(NoiseNorm()).fit(MANY),
    "a level that was not counted": lambda: COUNTED.bits_per_dim(LEVELS.numpy() + 20),
    "half a level": lambda: COUNTED.bits_per_dim(LEVELS.numpy() + 0.5),
    "a level below 0": lambda: COUNTED.bits_per_dim(np.full(LEVELS.shape, -1)),
    "a picture of another size": lambda: COUNTED.bits_per_dim(np.zeros((3, 1, 8, 8), dtype=np.uint8)),
    "the noise of the data": lambda: integrability(MODEL, X, [0.0], RNG),
    "no probes": lambda: integrability(MODEL, X, [0.5], RNG, probes=0),
    "no nodes": lambda: integrability(MODEL, X, [0.5], RNG, nodes=0),
    "a step of Heun to the data": lambda: Heun().step(MODEL, HALF, NONE, RNG),
    "a step of DPM-Solver to the data": lambda: DPMSolver().step(MODEL, HALF, NONE, RNG),
}


@pytest.mark.parametrize("what", REFUSED)
def test_invalid_arguments_are_errors(what: str) -> None:
    with pytest.raises((ValueError, DiffprobError)) as caught:
        REFUSED[what]()
    assert len(str(caught.value)) < 300 and "zip()" not in str(caught.value)
