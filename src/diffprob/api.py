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
from diffprob.likelihood.bound import Bound, Decoder, bound_terms, continuous_bound, variational_bound
from diffprob.likelihood.flow import Exact, FlowLikelihood, Hutchinson, flow_log_prob
from diffprob.likelihood.rate import RateDistortion, rate_distortion
from diffprob.net.unet import UNet, UNetSpec
from diffprob.process.grids import GrainGrid, Karras, Leading, LogSNR, Native, QuadraticTimes, Trailing, Uniform
from diffprob.process.learned import Learned
from diffprob.process.linear import (
    LinearProcess,
    StraightScaling,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)
from diffprob.process.path import LeastCost, cheapest_paths, reconstruction_costs, step_costs
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
from diffprob.recipe.fits import bind_grid
from diffprob.recipe.recipe import Recipe, build_model
from diffprob.recipe.writer import RunWriter
from diffprob.recipes import named
from diffprob.report.figures import loss_curve, progression, save_grid
from diffprob.sample.adaptive import AdaptiveODE, DPMAdaptive
from diffprob.sample.ancestral import DDIM, Ancestral
from diffprob.sample.between import continued, mixed, noised, slerp
from diffprob.sample.exponential import DPMpp, DPMppSDE, UniPC
from diffprob.sample.grain import GrainSolver
from diffprob.sample.invert import invert
from diffprob.sample.langevin import AnnealedLangevin
from diffprob.sample.sde import EulerMaruyama, PredictorCorrector, ReverseDiffusion
from diffprob.sample.simulate import State, draw, simulate, start
from diffprob.sample.singlestep import DPMFast, DPMpp2S, DPMSolver, Heun
from diffprob.space.dequantise import Dequantisation, dequantised
from diffprob.space.pixels import Pixels
from diffprob.train.bound import Hybrid, VariationalBound
from diffprob.train.continuous import ContinuousBound
from diffprob.train.denoising import Denoising
from diffprob.train.loop import Trainer, make_accelerator
from diffprob.train.settings import Monitor, Training

__all__ = [
    "AdaptiveODE",
    "Analytic",
    "Ancestral",
    "AnnealedLangevin",
    "Array",
    "Bound",
    "Categorical",
    "Cifar10",
    "Cifar100",
    "Clip",
    "ContinuousBound",
    "Cosine",
    "DDIM",
    "DPMAdaptive",
    "DPMFast",
    "DPMSolver",
    "DPMpp",
    "DPMpp2S",
    "DPMppSDE",
    "Data",
    "Decoder",
    "Denoising",
    "Dequantisation",
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
    "Exact",
    "FiniteData",
    "FlowLikelihood",
    "Folder",
    "Gaussian",
    "GaussianData",
    "GrainGrid",
    "GrainSolver",
    "Heun",
    "HorizontalFlip",
    "HuggingFace",
    "Hutchinson",
    "Hybrid",
    "Idx",
    "Images",
    "Index",
    "InputError",
    "Karras",
    "Leading",
    "Learned",
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
    "RateDistortion",
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
    "VariationalBound",
    "Velocity",
    "Zero",
    "bind_grid",
    "bound_terms",
    "build_model",
    "cheapest_paths",
    "check",
    "continued",
    "continuous_bound",
    "dequantised",
    "derive",
    "draw",
    "flow_log_prob",
    "invert",
    "kl",
    "loss_curve",
    "make_accelerator",
    "mixed",
    "named",
    "noise_moments",
    "noised",
    "open_data",
    "packaged",
    "progression",
    "rate_distortion",
    "reconstruction_costs",
    "save_grid",
    "simulate",
    "slerp",
    "sliced_wasserstein2",
    "start",
    "step_costs",
    "variational_bound",
    "wasserstein_1d",
]
