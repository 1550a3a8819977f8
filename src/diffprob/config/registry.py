"""Every component by name. A new one is one line here: the command line, recipes and the conformance tests follow.

One of somebody else's is added with `register`, in a script or in a package that names itself in the entry-point group
``diffprob.components`` (`diffprob.config.installed`). Names of before are those of `diffprob.config.old_names`.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar, overload

from diffprob.base.errors import InputError, did_you_mean
from diffprob.base.gamma_law import Gamma
from diffprob.base.laws import Normal
from diffprob.base.mixture_law import MixtureOfGaussians
from diffprob.codec.bits_back import BitsBack
from diffprob.codec.coders import Ideal
from diffprob.codec.poisson import PoissonFunctional
from diffprob.codec.universal import RotatedQuantisation, UniversalQuantisation
from diffprob.conditions.captions import Captions
from diffprob.conditions.condition import Labels
from diffprob.conditions.low_resolution import LowResolution
from diffprob.config.installed import Components, check_component
from diffprob.config.old_names import OLD_NAMES
from diffprob.config.pretrained import PretrainedRun
from diffprob.config.recipe import AutoencoderRecipe, Baseline, NoisyClassifierRecipe, Recipe
from diffprob.data.augment import Elastic, HorizontalFlip
from diffprob.data.captioned import CaptionedDigits
from diffprob.data.combined import Concatenated, Subset
from diffprob.data.dataset import FromDataset
from diffprob.data.fields import Numbers
from diffprob.data.sources import Array, Cifar10, Cifar100, Digits, Folder, HuggingFace, Idx, Pages, Svhn
from diffprob.data.text import Text
from diffprob.data.toys import Heartbeat, SwissRoll
from diffprob.data.train_test_split import SeparateTestSet, TrainTestSplit
from diffprob.denoise.denoiser import Constant, Index, LogNoise, Scale
from diffprob.denoise.learned import LearnedDiagonal, LearnedRange
from diffprob.denoise.level_law import LogisticMixture, Softmax
from diffprob.denoise.multinomial import StepSoftmax
from diffprob.denoise.prediction import EDM, X0, Epsilon, Mu, Score, V
from diffprob.denoise.variance import (
    Analytic,
    GaussianNLL,
    NoiseResidual,
    OptimalCovariance,
    SquaredNoise,
    UnitData,
    Zero,
)
from diffprob.density.anomaly import AnomalyMap
from diffprob.density.baselines import LogDensity, NegativeEnergy
from diffprob.density.likelihood import BoundDensity, ComplexityCorrected, FlowDensity
from diffprob.density.noise import DenoisingScore, NoiseNorm, ReconstructionError
from diffprob.density.path import PathStatistics, Scoped, ScoreNorms
from diffprob.density.potential import V0
from diffprob.density.simplex import SimplexNoise
from diffprob.density.typicality import Typical
from diffprob.likelihood.flow import Exact, Hutchinson
from diffprob.net.autoencoder import AutoencoderSpec
from diffprob.net.captioned import CaptionedUNetSpec
from diffprob.net.concatenated import ConcatenatedUNetSpec
from diffprob.net.context_unet import ContextUNetSpec
from diffprob.net.dense import DenseSpec, RadialBasisSpec
from diffprob.net.energy import EnergySpec
from diffprob.net.epsilon_theta import EpsilonThetaSpec
from diffprob.net.from_module import FromModule
from diffprob.net.glow import GlowSpec
from diffprob.net.levels import CategoricalUNetSpec, StagedUNetSpec
from diffprob.net.mlp import MLPSpec
from diffprob.net.multi_scale import MultiScaleSpec
from diffprob.net.noisy import NoisyClassifierSpec
from diffprob.net.potential import PotentialSpec
from diffprob.net.scalar_unet import ScalarUNetSpec
from diffprob.net.text import TextEncoderSpec
from diffprob.net.tiny_autoencoder import TinyAutoencoderSpec
from diffprob.net.transformer import TokenTransformerSpec, TransformerSpec
from diffprob.net.unet import UNetSpec
from diffprob.process.absorbing import AbsorbingProcess
from diffprob.process.geometric import Geometric
from diffprob.process.grids import GrainGrid, Karras, Leading, LogSNR, Native, QuadraticTimes, Trailing, Uniform
from diffprob.process.learned import Learned, LearnedBetas
from diffprob.process.linear import (
    LinearProcess,
    StraightScaling,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)
from diffprob.process.multinomial import MultinomialProcess
from diffprob.process.path import LeastCost
from diffprob.process.schedule import (
    VPSDE,
    ConstantErasure,
    Cosine,
    LinearBetas,
    LogLinear,
    OrnsteinUhlenbeck,
    Quadratic,
    ScaledLinear,
    Straight,
    SubVP,
)
from diffprob.process.survival import CosineSurvival, LinearSurvival, Staircase
from diffprob.process.upscale import UpscaleProcess
from diffprob.sampling.adaptive import AdaptiveODE, DPMAdaptive
from diffprob.sampling.ancestral import DDIM, Ancestral
from diffprob.sampling.exponential import DPMpp, DPMppSDE, UniPC
from diffprob.sampling.first_hitting import FirstHitting
from diffprob.sampling.grain import GrainSolver
from diffprob.sampling.langevin import AnnealedLangevin
from diffprob.sampling.sde import EulerMaruyama, PredictorCorrector, ReverseDiffusion
from diffprob.sampling.singlestep import DPMFast, DPMpp2S, DPMSolver, Heun
from diffprob.space.latents import Latents
from diffprob.space.pixels import Pixels
from diffprob.space.real_numbers import Reals
from diffprob.space.tokens import Tokens
from diffprob.training.bound import Hybrid, VariationalBound
from diffprob.training.categorical import CategoricalBound
from diffprob.training.continuous import ContinuousBound
from diffprob.training.contrastive import ContrastiveDivergence
from diffprob.training.denoising import Denoising
from diffprob.training.distillation import GradientDistillation
from diffprob.training.masked import MaskedCrossEntropy, OrderAgnostic
from diffprob.training.matching import DenoisingMatching, SlicedMatching
from diffprob.training.maximum import MaximumLikelihood
from diffprob.training.noisy_classifier import NoisyClassifierLoss
from diffprob.training.reconstruction import Reconstruction
from diffprob.training.settings import Monitor, ParameterGroup, Training
from diffprob.training.times import LogitNormal, LogNormal, UniformTimes
from diffprob.training.weights import MinSNR

Component = TypeVar("Component", bound=type)


def _family(*components: type) -> Components:
    return Components({component.__name__: component for component in components})


SCHEDULES = _family(
    *(LinearBetas, ScaledLinear, Quadratic, Cosine, ConstantErasure),
    *(VPSDE, SubVP, LogLinear, Geometric, OrnsteinUhlenbeck, Straight, Learned, LearnedBetas),
)
SCALINGS = _family(VariancePreserving, VarianceExploding, SubVariancePreserving, StraightScaling)
LAWS = _family(Normal, MixtureOfGaussians, Gamma)
SURVIVALS = _family(LinearSurvival, CosineSurvival, Staircase)
PROCESSES = _family(LinearProcess, AbsorbingProcess, UpscaleProcess, MultinomialProcess)
GRIDS = _family(Native, Uniform, QuadraticTimes, LogSNR, GrainGrid, Karras, Trailing, Leading, LeastCost)
PREDICTIONS = _family(Epsilon, X0, V, Score, Mu, EDM)
CLOCKS = _family(Index, Scale, LogNoise, Constant)
CONDITIONS = _family(Labels, Captions, LowResolution)
VARIANCES = _family(
    Zero,
    UnitData,
    Analytic,
    NoiseResidual,
    SquaredNoise,
    OptimalCovariance,
    GaussianNLL,
    LearnedRange,
    LearnedDiagonal,
)
SAMPLERS = _family(
    *(Ancestral, DDIM, DPMpp, DPMppSDE, UniPC, GrainSolver, DPMSolver, DPMFast, DPMpp2S, Heun),
    *(DPMAdaptive, AdaptiveODE),
    *(EulerMaruyama, ReverseDiffusion, PredictorCorrector, AnnealedLangevin),
    FirstHitting,
)
LEVEL_LAWS = _family(Softmax, LogisticMixture, StepSoftmax)
CODERS = _family(PoissonFunctional, BitsBack, UniversalQuantisation, RotatedQuantisation, Ideal)
DIVERGENCES = _family(Exact, Hutchinson)
PROXIES = _family(
    *(ScoreNorms, NoiseNorm, Typical, ReconstructionError, DenoisingScore, PathStatistics, Scoped),
    *(BoundDensity, FlowDensity, ComplexityCorrected),
    *(V0, LogDensity, NegativeEnergy),
)
MAPS = _family(AnomalyMap)
PIXEL_NOISES = _family(SimplexNoise)
NETWORKS = _family(
    *(UNetSpec, CaptionedUNetSpec, ConcatenatedUNetSpec, ContextUNetSpec, EpsilonThetaSpec),
    *(
        MultiScaleSpec,
        DenseSpec,
        RadialBasisSpec,
        TransformerSpec,
        TokenTransformerSpec,
        CategoricalUNetSpec,
        StagedUNetSpec,
        MLPSpec,
    ),
    *(PotentialSpec, ScalarUNetSpec, GlowSpec, EnergySpec, NoisyClassifierSpec, AutoencoderSpec, TinyAutoencoderSpec),
    FromModule,
)
TEXTS = _family(TextEncoderSpec)
SPACES = _family(Pixels, Tokens, Latents, Reals)
SOURCES = _family(
    Digits,
    CaptionedDigits,
    SwissRoll,
    Heartbeat,
    Idx,
    Cifar10,
    Cifar100,
    Svhn,
    Folder,
    Pages,
    Array,
    Numbers,
    HuggingFace,
    FromDataset,
    Text,
    Concatenated,
    Subset,
    TrainTestSplit,
    SeparateTestSet,
)
AUGMENTATIONS = _family(HorizontalFlip, Elastic)
OBJECTIVES = _family(
    *(Denoising, VariationalBound, Hybrid, ContinuousBound, OrderAgnostic, MaskedCrossEntropy, CategoricalBound),
    *(
        GradientDistillation,
        MaximumLikelihood,
        ContrastiveDivergence,
        DenoisingMatching,
        SlicedMatching,
        NoisyClassifierLoss,
        Reconstruction,
    ),
)
TIMES = _family(UniformTimes, LogNormal, LogitNormal)
LOSS_WEIGHTS = _family(MinSNR)
TRAININGS = _family(Training)
MONITORS = _family(Monitor)
PARTS = _family(ParameterGroup)
TRAINED = _family(PretrainedRun)
RECIPE = _family(Recipe, Baseline, NoisyClassifierRecipe, AutoencoderRecipe)

FAMILIES: dict[str, Components] = {
    "schedule": SCHEDULES,
    "scaling": SCALINGS,
    "law": LAWS,
    "survival": SURVIVALS,
    "process": PROCESSES,
    "grid": GRIDS,
    "prediction": PREDICTIONS,
    "level law": LEVEL_LAWS,
    "clock": CLOCKS,
    "variance": VARIANCES,
    "condition": CONDITIONS,
    "sampler": SAMPLERS,
    "divergence": DIVERGENCES,
    "coder": CODERS,
    "proxy": PROXIES,
    "map": MAPS,
    "pixel noise": PIXEL_NOISES,
    "network": NETWORKS,
    "text": TEXTS,
    "space": SPACES,
    "source": SOURCES,
    "augmentation": AUGMENTATIONS,
    "objective": OBJECTIVES,
    "times": TIMES,
    "loss weight": LOSS_WEIGHTS,
    "training": TRAININGS,
    "monitor": MONITORS,
    "part": PARTS,
    "trained": TRAINED,
    "recipe": RECIPE,
}

# Not by the tables' own methods, which import what is installed.
ALL = Components({name: maker for family in FAMILIES.values() for name, maker in dict.items(family)})

# What a component of a family has to have: the members of its protocol. Other families take none but ours, since a
# recipe and a run are made of these very classes.
ABILITIES: dict[str, tuple[str, ...]] = {
    "schedule": ("steps", "start", "logsnr", "time", "snap"),
    "scaling": ("coefficients",),
    "survival": ("steps", "start", "logsnr", "time", "snap", "masked", "masked_elements", "rate"),
    "law": ("stable", "symmetric", "at", "between", "sample", "log_density", "log_cdf", "log_mass"),
    "grid": ("__call__",),
    "prediction": ("coefficients", "check", "gain", "input_scale", "to_x0", "from_x0", "target"),
    "variance": ("posterior",),
    "condition": ("drop", "from_dataset", "from_images", "check", "example_rows", "null"),
    "sampler": ("order", "evaluations", "step"),
    "divergence": ("directions",),
    "coder": ("cost", "memory", "encode", "decode"),
    "proxy": ("columns", "measured", "needs_fit", "bind", "statistics", "complete", "fit", "score"),
    "pixel noise": ("__call__",),
    "network": ("build",),
    "text": ("build",),
    "source": ("load",),
    "augmentation": ("__call__",),
    "objective": ("__call__",),
    "times": ("__call__", "cdf"),
    "loss weight": ("factor",),
}

_REGISTERED: set[str] = set()  # by `register`
_RESERVED: set[str] = set()  # by `reserve`


@overload
def register(component: Component, family: str) -> Component: ...


@overload
def register(*, family: str) -> Callable[[Component], Component]: ...


def register(component: Component | None = None, family: str = "") -> Component | Callable[[Component], Component]:
    """Add a component of your own to a family: recipes, runs and the command line then know it by its name.

    Also a decorator: ``@register(family="sampler")``. The class goes by its own name; the one that the same module
    registered under it before is replaced, so that a cell of a notebook can be run again. A run that names it can be
    opened wherever it is registered; `diffprob.conform` says whether it does what its family has to.

    Args:
        component: a frozen dataclass of literals and components, with what its family does.
        family: "sampler", "proxy", "network", "source" or another key of `ABILITIES`.

    Returns:
        The component.

    Raises:
        InputError: no such family, or one that takes no others; a name that is taken (by another component, by anything
            else of diffprob's, or in recipes of before) or that a recipe cannot hold; no frozen dataclass, or one that
            lacks what its family does.
    """
    if family not in ABILITIES:
        closed = "takes none but diffprob's own" if family in FAMILIES else "is no family of components"
        raise InputError(f"{family!r} {closed} ({', '.join(ABILITIES)}){did_you_mean(family, ABILITIES)}")
    if component is None:
        return lambda component: register(component, family)
    check_component(component, family, ABILITIES[family])
    name = component.__name__
    if name in OLD_NAMES:  # a recipe written before would mean another component by it
        raise InputError(f"the name {name} is taken, by what is {OLD_NAMES[name]} now; another would be right")
    before = dict.get(ALL, name)
    if before is None and name in _RESERVED:
        raise InputError(f"the name {name} is taken, by diffprob.{name}; another would be right")
    if before is not None and not (name in _REGISTERED and _place(before) == _place(component)):
        raise InputError(f"the name {name} is taken, by {'.'.join(_place(before))}; another would be right")
    for table in FAMILIES.values():
        table.pop(name, None)  # where a cell is run again with another family
    FAMILIES[family][name] = ALL[name] = component
    _REGISTERED.add(name)
    return component


def is_source(value: object) -> bool:
    """Whether it is one of the registered sources of images."""
    kinds = tuple(kind for kind in dict.values(SOURCES) if isinstance(kind, type))
    return isinstance(value, kinds)


def reserve(names: Iterable[str]) -> None:
    """Keep names, those of the face, from components of others."""
    _RESERVED.update(names)


def _place(component: Callable[..., object]) -> tuple[str, str]:
    return component.__module__, component.__qualname__
