"""Models for some of their samples: what follows each sample by itself, next to the same sample alone."""

from collections.abc import Callable

import pytest
import torch
from guidance.test_guidance import LABELS, PROCESS, X
from torch import Tensor, nn

from diffprob.base.rng import Rng
from diffprob.conditions.condition import Labels
from diffprob.denoise.clipping import Clip
from diffprob.denoise.denoiser import Denoiser, NetDenoiser
from diffprob.denoise.prediction import V
from diffprob.denoise.subset import for_samples
from diffprob.guidance.classifier_free import AutoGuidance, ClassifierFree
from diffprob.guidance.egsde import FaithfulnessEnergy, LowPass
from diffprob.guidance.energy import Energies, EnergyGuided, LabelEnergy, ReconstructionGuidance
from diffprob.likelihood.bound import Decoder, variational_bound
from diffprob.likelihood.flow import flow_log_prob
from diffprob.net.layers import Output
from diffprob.process.grids import Uniform
from diffprob.sampling.adaptive import AdaptiveODE, DPMAdaptive
from diffprob.sampling.simulate import draw

Make = Callable[[slice], Denoiser]
STREAMS = Rng.of(0, 5)
MASK = torch.zeros(5, 1, 4, 4)
MASK[..., :2] = 1


class Smooth(nn.Module):
    """A network whose answer is another function of the state for each class."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.2, 0.5, 0.8, 0.4]), requires_grad=False)

    def forward(self, x: Tensor, time: Tensor, rows: Tensor) -> Output:
        return Output((self.weight[rows][:, None, None, None] * x + rows[:, None, None, None]).sin(), None)


def network(drop: float = 0.1) -> NetDenoiser:
    return NetDenoiser(Smooth(), PROCESS, V(), condition=Labels(3, drop))


def _guessing(x: Tensor, t: Tensor) -> Tensor:
    """Logits of three classes that depend on the state."""
    return torch.stack([x.flatten(1)[:, k] for k in range(3)], 1)


def _energies(own: slice) -> Energies:
    source = FaithfulnessEnergy(LowPass(2), X[own], PROCESS, STREAMS.select(own), 0.1)
    return Energies((source, LabelEnergy(_guessing, LABELS[own]), ReconstructionGuidance(MASK[own], X[own], PROCESS)))


MADE: dict[str, Make] = {
    "conditional": lambda own: Clip(network().condition_on(LABELS[own])),
    "classifier-free": lambda own: Clip(ClassifierFree(network(), LABELS[own], 0.5)),
    "away from a weaker one": lambda own: AutoGuidance(
        network().condition_on(LABELS[own]), network(drop=0.2).condition_on(LABELS[own].flip(0)), 0.5
    ),
    "energies": lambda own: EnergyGuided(Clip(network().condition_on(LABELS[own])), _energies(own)),
}


@pytest.mark.parametrize(
    ("name", "sampler"),
    [("conditional", DPMAdaptive()), ("classifier-free", AdaptiveODE(rtol=0.1)), ("energies", AdaptiveODE(rtol=0.1))],
)
def test_samples_by_their_own_steps_are_those_drawn_alone(name: str, sampler: AdaptiveODE | DPMAdaptive) -> None:
    """Steps are accepted sample by sample, so that the network is asked about some of them."""
    make, times = MADE[name], Uniform()(PROCESS, 2)
    together = draw(make(slice(None)), sampler, times, STREAMS, (1, 4, 4))
    for k in range(5):
        own = slice(k, k + 1)
        alone = draw(make(own), sampler, times, STREAMS.select(own), (1, 4, 4))
        torch.testing.assert_close(together[own], alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", list(MADE))
def test_answers_are_those_of_the_whole_batch(name: str) -> None:
    model, index = MADE[name](slice(None)), torch.tensor([3, 0, 3])
    t = torch.tensor(0.4, dtype=torch.float64)
    torch.testing.assert_close(for_samples(model, index)(X[index], t).mean, model(X, t).mean[index])


def test_densities_of_images_with_labels_are_those_of_each_alone() -> None:
    """The bound fills its batches up to sixteen; the flow follows each image by its own steps."""
    model, x0, times = network(), X.double().clamp(-1, 1), Uniform()(PROCESS, 3)
    together = variational_bound(model.condition_on(LABELS), x0, times, STREAMS, Decoder(None)).total
    flow = flow_log_prob(model.condition_on(LABELS), x0, STREAMS, rtol=1e-2, atol=1e-2).log_prob
    for k in range(5):
        own, conditioned = slice(k, k + 1), model.condition_on(LABELS[k : k + 1])
        alone = variational_bound(conditioned, x0[own], times, STREAMS.select(own), Decoder(None)).total
        torch.testing.assert_close(together[own], alone, rtol=1e-4, atol=1e-4)
        alone = flow_log_prob(conditioned, x0[own], STREAMS.select(own), rtol=1e-2, atol=1e-2).log_prob
        torch.testing.assert_close(flow[own], alone, rtol=1e-3, atol=1e-3)
