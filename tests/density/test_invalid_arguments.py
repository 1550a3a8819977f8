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
    "one stream for three images": lambda: NoiseNorm(0.5)(MODEL, X, ONE),
    "one stream for three simplex noises": lambda: SMOOTH(ONE, X),
    "one stream for three maps": lambda: AnomalyMap(0.5, 3, 1, noise=SMOOTH)(MODEL, X, ONE),
    "simplex noise for grey levels": lambda: SMOOTH(RNG, LEVELS),
    "NaN image": lambda: PathStatistics(3).statistics(MODEL, HOLED, RNG),
    "bound of grey levels as points": lambda: BoundDensity(4).statistics(MODEL, LEVELS, RNG),
    "flow of values between levels": lambda: FlowDensity(levels=17).statistics(MODEL, X, RNG),
    "flow of values above white": lambda: FlowDensity(levels=17).statistics(MODEL, 2 * X.sign(), RNG),
    "code length of values between levels": lambda: ComplexityCorrected(levels=17).complete(torch.zeros(3, 1), X),
    "density of values between levels": lambda: LogDensity(levels=17).statistics(DensityModel(Every()), X, RNG),
    "one density for three images": lambda: DensityModel(Every())(X),
    "energies of image shape": lambda: DensityModel(nn.Flatten())(X),
    "fit to the wrong number of columns": lambda: TWO.fit(MANY[:, :1]),
    "fit to a vector": lambda: TWO.fit(MANY[:, 0]),
    "score of the wrong number of columns": lambda: TWO.score(MANY[:, :1], TWO.fit(MANY)),
    "typicality of the wrong number of columns": lambda: Typical(NoiseNorm()).fit(MANY),
    "level out of range": lambda: COUNTED.bits_per_dim(LEVELS.numpy() + 20),
    "fractional level": lambda: COUNTED.bits_per_dim(LEVELS.numpy() + 0.5),
    "negative level": lambda: COUNTED.bits_per_dim(np.full(LEVELS.shape, -1)),
    "image of another size": lambda: COUNTED.bits_per_dim(np.zeros((3, 1, 8, 8), dtype=np.uint8)),
    "integrability at time zero": lambda: integrability(MODEL, X, [0.0], RNG),
    "zero probes": lambda: integrability(MODEL, X, [0.5], RNG, probes=0),
    "zero nodes": lambda: integrability(MODEL, X, [0.5], RNG, nodes=0),
    "Heun step to time zero": lambda: Heun().step(MODEL, HALF, NONE, RNG),
    "DPM-Solver step to time zero": lambda: DPMSolver().step(MODEL, HALF, NONE, RNG),
}


@pytest.mark.parametrize("what", REFUSED)
def test_invalid_arguments_are_errors(what: str) -> None:
    with pytest.raises((ValueError, DiffprobError)) as caught:
        REFUSED[what]()
    assert len(str(caught.value)) < 300 and "zip()" not in str(caught.value)
