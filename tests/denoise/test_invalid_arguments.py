"""What is no condition, no energy and no state of a network is refused where it comes in."""

import math

import pytest
import torch
from truth.models import IsotropicData, net_denoiser, tensor

from diffprob.base.errors import NumericalError
from diffprob.base.rng import Rng
from diffprob.conditions.condition import Labels
from diffprob.conditions.low_resolution import LowResolution
from diffprob.guidance.egsde import FaithfulnessEnergy, LowPass
from diffprob.guidance.energy import Energies, EnergyGuided, LabelEnergy, ReconstructionGuidance
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import VPSDE
from diffprob.sampling.ancestral import DDIM
from diffprob.sampling.restore import RePaint

PROCESS, OTHER, NAN = LinearProcess(), LinearProcess(VPSDE()), math.nan
MODEL, NET, T = IsotropicData(0.3, 0.2, PROCESS), net_denoiser(), tensor(0.5)
X, ALL, RNG = torch.zeros(3, 1, 8, 8), torch.ones(8, 8), Rng.of(0, 3)
HOLED = X.clone()
HOLED[0, 0, 0, 0] = NAN
LEVELS = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)


def labelled(rows: list[int], scale: float = 1.0) -> EnergyGuided:
    return EnergyGuided(MODEL, LabelEnergy(lambda x, t: x.flatten(1)[:, :3], torch.tensor(rows), scale))


REFUSED = {
    "known pixels at another noise": lambda: EnergyGuided(MODEL, ReconstructionGuidance(ALL, X, OTHER)),
    "an expert of another noise": lambda: EnergyGuided(MODEL, FaithfulnessEnergy(LowPass(2), X, OTHER, RNG)),
    "one of two": lambda: EnergyGuided(
        MODEL, Energies((ReconstructionGuidance(ALL, X, PROCESS), ReconstructionGuidance(ALL, X, OTHER)))
    ),
    "no energies": lambda: Energies(()),
    "a known pixel of no number": lambda: ReconstructionGuidance(ALL, HOLED, PROCESS),
    "a hidden pixel of no number": lambda: ReconstructionGuidance(0 * ALL, HOLED, PROCESS),
    "a pixel of no number to fill in": lambda: RePaint(DDIM(), ALL, HOLED),
    "known levels": lambda: ReconstructionGuidance(ALL, LEVELS, PROCESS),
    "a mask of no number": lambda: ReconstructionGuidance(ALL * NAN, X, PROCESS),
    "half a known pixel": lambda: ReconstructionGuidance(ALL / 2, X, PROCESS),
    "half a pixel to fill in": lambda: RePaint(DDIM(), ALL / 2, X),
    "an observation without scale": lambda: ReconstructionGuidance(ALL, X, PROCESS, scale=NAN),
    "a class below 0": lambda: labelled([-100]),
    "a class that there is not": lambda: labelled([3])(X, T),
    "two classes for three": lambda: labelled([0, 1])(X, T),
    "a class without scale": lambda: labelled([0], NAN),
    "half a class": lambda: LabelEnergy(lambda x, t: x, torch.tensor([0.5])),
    "a source of no number": lambda: FaithfulnessEnergy(LowPass(2), HOLED, PROCESS, RNG),
    "a source of levels": lambda: FaithfulnessEnergy(LowPass(2), LEVELS, PROCESS, RNG),
    "an expert without scale": lambda: FaithfulnessEnergy(LowPass(2), X, PROCESS, RNG, NAN),
    "half a repeat": lambda: FaithfulnessEnergy(LowPass(2), X, PROCESS, RNG, repeats=1.5),
    "a factor of no number": lambda: LowPass(NAN),
    "levels let through": lambda: LowPass(2)(LEVELS),
    "an image without its batch": lambda: NET(X[0], T),
    "two times for three states": lambda: NET(X, tensor([0.5, 0.6])),
    "two times for three states of training": lambda: NET.raw(X, tensor([0.5, 0.6])),
    "labels below none": lambda: Labels(3).example_rows(-1),
    "half a label": lambda: Labels(3).example_rows(2.5),
    "shares of fewer than none": lambda: Labels(3).in_shares((1, 1, 2), -3),
    "half a share": lambda: Labels(3).in_shares((1.5, 1, 2), 3),
    "small images below none": lambda: LowResolution((1, 8, 8)).example_rows(-1),
    "levels made small": lambda: LowResolution((1, 8, 8)).from_images(LEVELS),
}


@pytest.mark.parametrize("what", REFUSED)
def test_invalid_arguments_are_errors(what: str) -> None:
    """The label -100 guided nowhere; half a share was none; a network took the channels of one image for images."""
    with pytest.raises((ValueError, NumericalError)) as caught:
        REFUSED[what]()
    assert len(str(caught.value)) < 300
