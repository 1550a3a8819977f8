"""Every public name; `import diffprob` offers the same, imported when first used."""

from diffprob.base.distributions import Categorical, Dirac, Discretised, Distribution, Gaussian, LocationScale, Mixture
from diffprob.base.divergence import kl
from diffprob.base.errors import DiffprobError, InputError, NoClosedForm, NumericalError
from diffprob.base.laws import Normal
from diffprob.base.rng import Rng, derive
from diffprob.data import Array, Cifar10, Cifar100, Digits, Folder, HuggingFace, Idx, Images, Svhn, check, open_data
from diffprob.data.augment import Elastic, HorizontalFlip
from diffprob.denoise.denoiser import Evaluation, Index, NetDenoiser, Scale
from diffprob.denoise.ideal import FiniteData, GaussianData, MixtureData, TwoPoint
from diffprob.denoise.learned import LearnedDiagonal, LearnedRange
from diffprob.denoise.moments import NoiseMoments, noise_moments
from diffprob.denoise.prediction import Data, Epsilon, Mean, Score, Velocity
from diffprob.denoise.variance import Analytic, NoiseResidual, OptimalCovariance, SquaredNoise, UnitData, Zero
from diffprob.denoise.wrappers import Clip, DynamicClip
from diffprob.evaluate.transport import sliced_wasserstein2, wasserstein_1d
from diffprob.net.unet import UNet, UNetSpec
from diffprob.process.grids import GrainGrid, Karras, Leading, LogSNR, Native, QuadraticTimes, Trailing, Uniform
from diffprob.process.linear import (
    LinearProcess,
    StraightScaling,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)
from diffprob.process.path import LeastCost, cheapest_paths, step_costs
from diffprob.process.schedule import (
    VPSDE,
    Cosine,
    LinearBetas,
    LogLinear,
    OrnsteinUhlenbeck,
    Quadratic,
    ScaledLinear,
    Straight,
    SubVP,
)
from diffprob.recipe.checkpoint import Run, packaged
from diffprob.recipe.recipe import Recipe, build_model
from diffprob.recipe.writer import RunWriter
from diffprob.recipes import named
from diffprob.report.figures import loss_curve, progression, save_grid
from diffprob.sample.adaptive import AdaptiveODE, DPMAdaptive
from diffprob.sample.ancestral import DDIM, Ancestral
from diffprob.sample.exponential import DPMpp, DPMppSDE, UniPC
from diffprob.sample.grain import GrainSolver
from diffprob.sample.langevin import AnnealedLangevin
from diffprob.sample.sde import EulerMaruyama, PredictorCorrector, ReverseDiffusion
from diffprob.sample.simulate import State, draw, simulate, start
from diffprob.sample.singlestep import DPMFast, DPMpp2S, DPMSolver, Heun
from diffprob.space.pixels import Pixels
from diffprob.train.denoising import Denoising
from diffprob.train.loop import Trainer, make_accelerator
from diffprob.train.settings import Monitor, Training

__all__ = [
    "AdaptiveODE",
    "Analytic",
    "Ancestral",
    "AnnealedLangevin",
    "Array",
    "Categorical",
    "Cifar10",
    "Cifar100",
    "Clip",
    "Cosine",
    "DDIM",
    "DPMAdaptive",
    "DPMFast",
    "DPMSolver",
    "DPMpp",
    "DPMpp2S",
    "DPMppSDE",
    "Data",
    "Denoising",
    "DiffprobError",
    "Digits",
    "Dirac",
    "Discretised",
    "Distribution",
    "DynamicClip",
    "Elastic",
    "Epsilon",
    "EulerMaruyama",
    "Evaluation",
    "FiniteData",
    "Folder",
    "Gaussian",
    "GaussianData",
    "GrainGrid",
    "GrainSolver",
    "Heun",
    "HorizontalFlip",
    "HuggingFace",
    "Idx",
    "Images",
    "Index",
    "InputError",
    "Karras",
    "Leading",
    "LearnedDiagonal",
    "LearnedRange",
    "LeastCost",
    "LinearBetas",
    "LinearProcess",
    "LocationScale",
    "LogLinear",
    "LogSNR",
    "Mean",
    "Mixture",
    "MixtureData",
    "Monitor",
    "Native",
    "NetDenoiser",
    "NoClosedForm",
    "NoiseMoments",
    "NoiseResidual",
    "Normal",
    "NumericalError",
    "OptimalCovariance",
    "OrnsteinUhlenbeck",
    "Pixels",
    "PredictorCorrector",
    "Quadratic",
    "QuadraticTimes",
    "Recipe",
    "ReverseDiffusion",
    "Rng",
    "Run",
    "RunWriter",
    "Scale",
    "ScaledLinear",
    "Score",
    "SquaredNoise",
    "State",
    "Straight",
    "StraightScaling",
    "SubVP",
    "SubVariancePreserving",
    "Svhn",
    "Trailing",
    "Trainer",
    "Training",
    "TwoPoint",
    "UNet",
    "UNetSpec",
    "UniPC",
    "Uniform",
    "UnitData",
    "VPSDE",
    "VarianceExploding",
    "VariancePreserving",
    "Velocity",
    "Zero",
    "build_model",
    "cheapest_paths",
    "check",
    "derive",
    "draw",
    "kl",
    "loss_curve",
    "make_accelerator",
    "named",
    "noise_moments",
    "open_data",
    "packaged",
    "progression",
    "save_grid",
    "simulate",
    "sliced_wasserstein2",
    "start",
    "step_costs",
    "wasserstein_1d",
]
