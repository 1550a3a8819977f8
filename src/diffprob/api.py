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
from diffprob.denoise.prediction import Data, Epsilon, Mean, Score, Velocity
from diffprob.denoise.variance import UnitData, Zero
from diffprob.denoise.wrappers import Clip
from diffprob.evaluate.transport import sliced_wasserstein2, wasserstein_1d
from diffprob.net.unet import UNet, UNetSpec
from diffprob.process.grids import Karras, Leading, LogSNR, Native, QuadraticTimes, Trailing, Uniform
from diffprob.process.linear import (
    LinearProcess,
    StraightScaling,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)
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
from diffprob.sample.ancestral import DDIM, Ancestral
from diffprob.sample.exponential import DPMpp, DPMppSDE, UniPC
from diffprob.sample.simulate import State, draw, simulate, start
from diffprob.sample.singlestep import DPMpp2S, DPMSolver, Heun
from diffprob.space.pixels import Pixels
from diffprob.train.denoising import Denoising
from diffprob.train.loop import Trainer, make_accelerator
from diffprob.train.settings import Monitor, Training

__all__ = [
    "Ancestral",
    "Array",
    "Categorical",
    "Cifar10",
    "Cifar100",
    "Clip",
    "Cosine",
    "DDIM",
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
    "Elastic",
    "Epsilon",
    "Evaluation",
    "FiniteData",
    "Folder",
    "Gaussian",
    "GaussianData",
    "Heun",
    "HorizontalFlip",
    "HuggingFace",
    "Idx",
    "Images",
    "Index",
    "InputError",
    "Karras",
    "Leading",
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
    "Normal",
    "NumericalError",
    "OrnsteinUhlenbeck",
    "Pixels",
    "Quadratic",
    "QuadraticTimes",
    "Recipe",
    "Rng",
    "Run",
    "RunWriter",
    "Scale",
    "ScaledLinear",
    "Score",
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
    "check",
    "derive",
    "draw",
    "kl",
    "loss_curve",
    "make_accelerator",
    "named",
    "open_data",
    "packaged",
    "progression",
    "save_grid",
    "simulate",
    "sliced_wasserstein2",
    "start",
    "wasserstein_1d",
]
