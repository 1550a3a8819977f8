"""Recipes of every kind: all that decides a training, as one value whose repr is its configuration."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import nn

from diffprob.base.checks import able, instance, shown
from diffprob.base.errors import FieldError, InputError
from diffprob.base.single import single
from diffprob.conditions.condition import Condition, Labels
from diffprob.config.consistency import check_parts, check_size, check_together
from diffprob.config.pretrained import with_place_of
from diffprob.config.spec import first_difference
from diffprob.data.images import Images, Source
from diffprob.denoise.autoencoder import Autoencoder
from diffprob.denoise.categorical import CategoricalDenoiser
from diffprob.denoise.denoiser import Clock, Evaluation, Index, NetDenoiser, NetworkModel
from diffprob.denoise.level_law import LevelLaw
from diffprob.denoise.multinomial import MultinomialDenoiser
from diffprob.denoise.prediction import Epsilon, Prediction
from diffprob.denoise.variance import Variance, Zero
from diffprob.density.baselines import DensityModel
from diffprob.guidance.noisy_classifier import NoisyClassifier
from diffprob.net.from_module import FromModule
from diffprob.net.noisy import NoisyClassifierSpec
from diffprob.net.tiny_autoencoder import AnyAutoencoderSpec
from diffprob.process.absorbing import AbsorbingProcess
from diffprob.process.linear import LinearProcess
from diffprob.process.multinomial import MultinomialProcess
from diffprob.space.space import Space
from diffprob.training.denoising import Denoising
from diffprob.training.noisy_classifier import NoisyClassifierLoss
from diffprob.training.reconstruction import Reconstruction
from diffprob.training.settings import Training


class NetworkSpec(Protocol):
    """The settings of a network (frozen dataclass of literals)."""

    def build(self) -> nn.Module:
        """The network with random weights from torch's global generator."""
        ...


class ImageNetworkSpec(NetworkSpec, Protocol):
    """The settings of a network from images to images of their size, as a denoiser needs."""

    @property
    def in_channels(self) -> int:
        """Channels of the images."""
        ...

    @property
    def out_channels(self) -> int:
        """Channels of the answer."""
        ...

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at every resolution, from the full one down by halves."""
        ...


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to train, on what, and how: literals and components only, so that the repr says it all.

    Args:
        name: short name, for folders and captions.
        data: where the images come from.
        space: their shape (C, H, W) and number of grey levels.
        network, process, prediction, clock, variance: the parts of the `NetDenoiser`; or of the `CategoricalDenoiser`
            of an `AbsorbingProcess` or the `MultinomialDenoiser` of a `MultinomialProcess`, whose prediction is a
            `LevelLaw` and whose variance is None.
        objective: the loss.
        training: the numbers of the training.
        condition: of the network, its input beside x_t and t, such as ``Labels(10)``; None: nothing.
        start: a run whose weights the network begins with, where names and shapes agree; None: random ones.

    Raises:
        ValueError: a component of the wrong kind, or parts that do not fit together.
    """

    name: str
    data: Source
    space: Space
    network: ImageNetworkSpec
    process: LinearProcess | AbsorbingProcess | MultinomialProcess = LinearProcess()
    prediction: Prediction | LevelLaw = Epsilon()
    clock: Clock = Index()
    variance: Variance | None = Zero()
    objective: Any = Denoising()
    training: Training
    condition: Condition | None = None
    start: Any = None

    def __post_init__(self) -> None:
        check_parts(self)
        for name in ("in_channels", "out_channels", "widths"):
            if not hasattr(self.network, name):
                raise FieldError("network", f"cannot be {shown(self.network)}: it does not make images of images")
        check_together(self)


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What to train without any noise process, to compare with: a flow or an energy of the images themselves.

    Args:
        name, data, space, training: as in a `Recipe`.
        network: of the density, for images of ``space``.
        objective: the loss.

    Raises:
        ValueError: a component of the wrong kind, or parts that do not fit together.
    """

    name: str
    data: Source
    space: Space
    network: NetworkSpec
    objective: Any
    training: Training

    def __post_init__(self) -> None:
        check_parts(self)
        if self.training.monitor is not None:
            raise FieldError("training.monitor", f"must be None for a baseline, got {shown(self.training.monitor)}")
        shape = getattr(self.network, "shape", self.space.shape)
        if shape != self.space.shape:
            raise FieldError("network.shape", f"must be {self.space.shape} as in space, got {shape}")
        channels = getattr(self.network, "in_channels", self.space.shape[0])
        if channels != self.space.shape[0]:
            raise FieldError("network.in_channels", f"must be {self.space.shape[0]} as in space, got {channels}")


@dataclass(frozen=True, kw_only=True)
class NoisyClassifierRecipe:
    """How to train a classifier of noised images, p(y|x_t), for guidance and translation.

    Args:
        name, data, space, training, start: as in a `Recipe`; the data has labels.
        network, process, clock, condition, prediction: the parts of the `NoisyClassifier`.
        objective: the loss.

    Raises:
        ValueError: a component of the wrong kind, or parts that do not fit together. How many classes there are is
            compared when the training begins, as for a `Recipe`.
    """

    name: str
    data: Source
    space: Space
    network: NoisyClassifierSpec
    process: LinearProcess = LinearProcess()
    clock: Clock = Index()
    condition: Labels = Labels(drop=0.0)
    objective: Any = NoisyClassifierLoss()
    training: Training
    start: Any = None
    prediction: Prediction | None = None

    def __post_init__(self) -> None:
        check_parts(self)
        instance("network", self.network, NoisyClassifierSpec, "a NoisyClassifierSpec(...)")
        instance("process", self.process, LinearProcess)
        if self.prediction is not None:
            able("prediction", self.prediction, "input_scale", "EDM()")
        if not isinstance(self.condition, Labels) or self.condition.drop:
            raise FieldError("condition", f"must be Labels(K, drop=0.0), got {shown(self.condition)}")
        if self.training.monitor is not None:
            raise FieldError(
                "training.monitor", f"must be None for a noisy classifier, got {shown(self.training.monitor)}"
            )
        check_together(self)


@dataclass(frozen=True, kw_only=True)
class AutoencoderRecipe:
    """How to train an autoencoder, in whose latents a diffusion model may live (`diffprob.space.latents.Latents`).

    Args:
        name, data, space, training, start: as in a `Recipe`.
        network: the autoencoder.
        objective: the loss.

    Raises:
        ValueError: a component of the wrong kind, or parts that do not fit together.
    """

    name: str
    data: Source
    space: Space
    network: AnyAutoencoderSpec
    objective: Any = Reconstruction()
    training: Training
    start: Any = None

    def __post_init__(self) -> None:
        check_parts(self)
        able("network", self.network, "latent_shape", "AutoencoderSpec(...)")
        if self.training.monitor is not None:
            raise FieldError("training.monitor", f"must be None for an autoencoder, got {shown(self.training.monitor)}")
        check_size(self)


AnyRecipe = Recipe | Baseline | NoisyClassifierRecipe | AutoencoderRecipe
RECIPE_KINDS = "a Recipe(...), a Baseline(...), a NoisyClassifierRecipe(...) or an AutoencoderRecipe(...)"


def check_trainable(recipe: AnyRecipe) -> None:
    """Refuse a recipe that can be loaded but not trained.

    Raises:
        InputError: an objective that does not train the variance or the schedule.
    """
    check = getattr(recipe.objective, "check", None)
    if check is not None and isinstance(recipe, Recipe):
        check(recipe.process, recipe.variance)


@single()
def build_model(recipe: Recipe, evaluation: Evaluation = Evaluation()) -> NetworkModel:
    """The denoiser of ``recipe`` with random weights from torch's global generator, on the CPU."""
    net, process, prediction, variance = recipe.network.build(), recipe.process, recipe.prediction, recipe.variance
    if isinstance(process, LinearProcess):
        assert isinstance(prediction, Prediction)
        return NetDenoiser(net, process, prediction, recipe.clock, variance or Zero(), evaluation, recipe.condition)
    law: Any = prediction
    if isinstance(process, MultinomialProcess):
        return MultinomialDenoiser(net, process, recipe.clock, evaluation, recipe.condition, law)
    return CategoricalDenoiser(net, process, recipe.clock, evaluation, recipe.condition, law)


@single()
def build_density(baseline: Baseline, evaluation: Evaluation = Evaluation()) -> DensityModel:
    """The model of ``baseline`` with random weights from torch's global generator, on the CPU."""
    return DensityModel(baseline.network.build(), evaluation)


@single()
def build_noisy_classifier(recipe: NoisyClassifierRecipe, evaluation: Evaluation = Evaluation()) -> NoisyClassifier:
    """The classifier of ``recipe`` with random weights from torch's global generator, on the CPU."""
    net, prediction = recipe.network.build(), recipe.prediction
    return NoisyClassifier(net, recipe.process, recipe.clock, recipe.condition, evaluation, prediction)


@single()
def build_autoencoder(recipe: AutoencoderRecipe, evaluation: Evaluation = Evaluation()) -> Autoencoder:
    """The autoencoder of ``recipe`` with random weights from torch's global generator, on the CPU."""
    return Autoencoder(recipe.network.build(), recipe.network.latent_channels, evaluation)


def build(
    recipe: AnyRecipe, evaluation: Evaluation = Evaluation()
) -> NetworkModel | DensityModel | NoisyClassifier | Autoencoder:
    """What a recipe of any kind trains, with random weights from torch's global generator, on the CPU."""
    if isinstance(recipe, Recipe):
        return build_model(recipe, evaluation)
    if isinstance(recipe, NoisyClassifierRecipe):
        return build_noisy_classifier(recipe, evaluation)
    if isinstance(recipe, AutoencoderRecipe):
        return build_autoencoder(recipe, evaluation)
    return build_density(recipe, evaluation)


def space(recipe: AnyRecipe, images: Images) -> Space:
    """The pixel space of ``recipe``, after a look whether ``images`` belong to it.

    Raises:
        InputError: another shape or number of grey levels.
    """
    for what, theirs, ours in (
        ("shape", images.event_shape, recipe.space.shape),
        ("number of grey levels", images.levels, recipe.space.levels),
    ):
        if theirs != ours:
            raise InputError(f"{images.name}: {what} {theirs}, but recipe {recipe.name} takes {ours}")
    return recipe.space


def parameter_count(recipe: AnyRecipe) -> int:
    """Number of trainable parameters, counted without memory for them."""
    network: Any = recipe.network
    return network.parameters if isinstance(network, FromModule) else _count(network)


@lru_cache
def _count(network: NetworkSpec) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in network.build().parameters())


# They decide how long to train, where the rate falls at the end, and what to show, and may change when a run goes on.
_FREE = ("steps", "cooldown", "sample_every", "checkpoint_every", "samples", "monitor")


def resumable(old: AnyRecipe, new: AnyRecipe) -> tuple[str, Any, Any] | None:
    """(path, old, new) of the first field that forbids going on with the run of ``old`` under ``new``, or None.

    The data may move (its digest is compared elsewhere) and so may an autoencoder of the same hash, the name is a
    title, and steps, those in which the rate falls, pictures and checkpoints may be more or fewer. Classes without
    names are any of that number.
    """
    if type(old) is not type(new):
        return "kind", type(old).__name__, type(new).__name__
    theirs, ours = (getattr(recipe, "condition", None) for recipe in (old, new))
    if isinstance(theirs, Labels) and isinstance(ours, Labels) and not (theirs.names and ours.names):
        new = replace(new, condition=replace(ours, names=theirs.names))  # pyright: ignore[reportCallIssue]
    new = with_place_of(old, new)
    training = replace(new.training, **{name: getattr(old.training, name) for name in _FREE})
    return first_difference(old, replace(new, name=old.name, data=old.data, training=training))
