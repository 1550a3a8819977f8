"""The kinds of recipes: beside `Recipe` and `Baseline` a classifier of noised images, and what is built of each."""

from dataclasses import dataclass
from typing import Any

from diffprob.base.checks import instance, shown
from diffprob.conditions.condition import Labels
from diffprob.config.recipe import Baseline, Recipe, build_density, build_model, check_parts, check_together
from diffprob.data.images import Source
from diffprob.denoise.denoiser import Clock, Evaluation, Index, NetDenoiser
from diffprob.density.baselines import DensityModel
from diffprob.guidance.noisy_classifier import NoisyClassifier
from diffprob.net.noisy import NoisyClassifierSpec
from diffprob.process.linear import LinearProcess
from diffprob.space.pixels import Pixels
from diffprob.training.noisy_classifier import Recognition
from diffprob.training.settings import Training


@dataclass(frozen=True, kw_only=True)
class Recogniser:
    """How to train a classifier of noised images, p(y|x_t), for guidance and translation.

    Args:
        name, data, space, training, start: as in a `Recipe`; the data has labels.
        network, process, clock, condition: the parts of the `NoisyClassifier`.
        objective: the loss.

    Raises:
        ValueError: a component of the wrong kind, or parts that do not fit together. How many classes there are is
            compared when the training begins, as for a `Recipe`.
    """

    name: str
    data: Source
    space: Pixels
    network: NoisyClassifierSpec
    process: LinearProcess = LinearProcess()
    clock: Clock = Index()
    condition: Labels = Labels(drop=0.0)
    objective: Any = Recognition()
    training: Training
    start: Any = None

    def __post_init__(self) -> None:
        check_parts(self)
        instance("network", self.network, NoisyClassifierSpec, "a NoisyClassifierSpec(...)")
        if not isinstance(self.condition, Labels) or self.condition.drop:
            raise ValueError(f"condition must be Labels(K, drop=0.0), got {shown(self.condition)}")
        if self.training.monitor is not None:
            raise ValueError(f"training.monitor must be None for a recogniser, got {shown(self.training.monitor)}")
        check_together(self)


Kind = Recipe | Baseline | Recogniser


def build_recogniser(recipe: Recogniser, evaluation: Evaluation = Evaluation()) -> NoisyClassifier:
    """The classifier of ``recipe`` with random weights from torch's global generator, on the CPU."""
    return NoisyClassifier(recipe.network.build(), recipe.process, recipe.clock, recipe.condition, evaluation)


def build(recipe: Kind, evaluation: Evaluation = Evaluation()) -> NetDenoiser | DensityModel | NoisyClassifier:
    """What a recipe of any kind trains, with random weights from torch's global generator, on the CPU."""
    if isinstance(recipe, Recipe):
        return build_model(recipe, evaluation)
    if isinstance(recipe, Recogniser):
        return build_recogniser(recipe, evaluation)
    return build_density(recipe, evaluation)
