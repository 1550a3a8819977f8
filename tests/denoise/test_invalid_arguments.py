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
    "known pixels of another process": lambda: EnergyGuided(MODEL, ReconstructionGuidance(ALL, X, OTHER)),
    "energy of another process": lambda: EnergyGuided(MODEL, FaithfulnessEnergy(LowPass(2), X, OTHER, RNG)),
    "one of two energies of another process": lambda: EnergyGuided(
        MODEL, Energies((ReconstructionGuidance(ALL, X, PROCESS), ReconstructionGuidance(ALL, X, OTHER)))
    ),
    "no energies": lambda: Energies(()),
    "NaN in a known pixel": lambda: ReconstructionGuidance(ALL, HOLED, PROCESS),
    "NaN in a hidden pixel": lambda: ReconstructionGuidance(0 * ALL, HOLED, PROCESS),
    "NaN in an inpainted image": lambda: RePaint(DDIM(), ALL, HOLED),
    "known pixels as grey levels": lambda: ReconstructionGuidance(ALL, LEVELS, PROCESS),
    "NaN mask": lambda: ReconstructionGuidance(ALL * NAN, X, PROCESS),
    "fractional mask": lambda: ReconstructionGuidance(ALL / 2, X, PROCESS),
    "fractional inpainting mask": lambda: RePaint(DDIM(), ALL / 2, X),
    "NaN scale of an observation": lambda: ReconstructionGuidance(ALL, X, PROCESS, scale=NAN),
    "negative class": lambda: labelled([-100]),
    "class out of range": lambda: labelled([3])(X, T),
    "two classes for three images": lambda: labelled([0, 1])(X, T),
    "NaN scale of a class": lambda: labelled([0], NAN),
    "fractional class": lambda: LabelEnergy(lambda x, t: x, torch.tensor([0.5])),
    "NaN source": lambda: FaithfulnessEnergy(LowPass(2), HOLED, PROCESS, RNG),
    "source as grey levels": lambda: FaithfulnessEnergy(LowPass(2), LEVELS, PROCESS, RNG),
    "NaN scale of an energy": lambda: FaithfulnessEnergy(LowPass(2), X, PROCESS, RNG, NAN),
    "fractional repeats": lambda: FaithfulnessEnergy(LowPass(2), X, PROCESS, RNG, repeats=1.5),
    "NaN factor": lambda: LowPass(NAN),
    "low pass of grey levels": lambda: LowPass(2)(LEVELS),
    "image without a batch axis": lambda: NET(X[0], T),
    "two times for three states": lambda: NET(X, tensor([0.5, 0.6])),
    "two times for three training states": lambda: NET.raw(X, tensor([0.5, 0.6])),
    "negative number of labels": lambda: Labels(3).example_rows(-1),
    "fractional number of labels": lambda: Labels(3).example_rows(2.5),
    "negative number in shares": lambda: Labels(3).in_shares((1, 1, 2), -3),
    "fractional counts": lambda: Labels(3).in_shares((1.5, 1, 2), 3),
    "negative number of small images": lambda: LowResolution((1, 8, 8)).example_rows(-1),
    "downsampling grey levels": lambda: LowResolution((1, 8, 8)).from_images(LEVELS),
}


@pytest.mark.parametrize("what", REFUSED)
def test_invalid_arguments_are_errors(what: str) -> None:
    """The label -100 guided nowhere; half a share was none; a network took the channels of one image for images."""
    with pytest.raises((ValueError, NumericalError)) as caught:
        REFUSED[what]()
    assert len(str(caught.value)) < 300
