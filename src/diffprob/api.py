"""Every public name; `import diffprob` offers the same, imported when first used. `FACE` are those to begin with."""

from diffprob.base.distributions import Categorical, Dirac, Discretised, Distribution, Gaussian, LocationScale, Mixture
from diffprob.base.divergence import kl
from diffprob.base.errors import ConformanceError, DiffprobError, InputError, NoClosedForm, NumericalError
from diffprob.base.laws import Normal
from diffprob.base.rng import Rng, derive
from diffprob.conditions.captions import Captions
from diffprob.conditions.condition import Condition, Labels
from diffprob.conditions.low_resolution import LowResolution
from diffprob.config.families import families
from diffprob.config.pretrained import PretrainedRun
from diffprob.config.recipe import (
    AutoencoderRecipe,
    Baseline,
    NoisyClassifierRecipe,
    Recipe,
    build_model,
    build_noisy_classifier,
)
from diffprob.config.registry import register, reserve
from diffprob.conform import check_denoiser, check_process, check_proxy, check_sampler, check_times
from diffprob.data import Array, Cifar10, Cifar100, Digits, Folder, HuggingFace, Idx, Images, Svhn, check, open_data
from diffprob.data.augment import Elastic, HorizontalFlip
from diffprob.data.captioned import CaptionedDigits
from diffprob.data.combined import Concatenated, Subset, concatenate
from diffprob.data.dataset import FromDataset
from diffprob.denoise.autoencoder import Autoencoder
from diffprob.denoise.clipping import Clip, DynamicClip
from diffprob.denoise.denoiser import Evaluation, NetDenoiser, Scale
from diffprob.denoise.ideal import FiniteData, GaussianData, MixtureData, TwoPoint
from diffprob.denoise.learned import LearnedDiagonal, LearnedRange
from diffprob.denoise.moments import NoiseMoments
from diffprob.denoise.prediction import Epsilon, Score
from diffprob.denoise.variance import (
    Analytic,
    GaussianNLL,
    NoiseResidual,
    OptimalCovariance,
    SquaredNoise,
    UnitData,
)
from diffprob.density.anomaly import AnomalyMap
from diffprob.density.baselines import DensityModel, LogDensity, NegativeEnergy
from diffprob.density.integrability import Integrability, integrability
from diffprob.density.likelihood import BoundDensity, ComplexityCorrected, FlowDensity
from diffprob.density.noise import DenoisingScore, NoiseNorm, ReconstructionError
from diffprob.density.path import PathStatistics, Scoped, ScoreNorms
from diffprob.density.potential import V0, relative_log_prob
from diffprob.density.proxy import Proxy
from diffprob.density.simplex import SimplexNoise
from diffprob.density.typicality import Typical
from diffprob.evaluation.image_quality import psnr, ssim
from diffprob.evaluation.transport import sliced_wasserstein2, wasserstein_1d
from diffprob.guidance.classifier_free import AutoGuidance, ClassifierFree
from diffprob.guidance.egsde import FaithfulnessEnergy, LowPass, RealismEnergy
from diffprob.guidance.energy import Energies, Energy, EnergyGuided, LabelEnergy, ReconstructionGuidance
from diffprob.guidance.noisy_classifier import NoisyClassifier
from diffprob.likelihood.bound import Bound, Decoder, bound_terms, continuous_bound, variational_bound
from diffprob.likelihood.flow import FlowLikelihood, Hutchinson, flow_log_prob
from diffprob.likelihood.rate import RateDistortion, rate_distortion
from diffprob.net.autoencoder import AutoencoderNet, AutoencoderSpec
from diffprob.net.captioned import CaptionedUNet, CaptionedUNetSpec
from diffprob.net.concatenated import ConcatenatedUNet, ConcatenatedUNetSpec
from diffprob.net.context_unet import ContextUNet, ContextUNetSpec
from diffprob.net.energy import EnergyNet, EnergySpec
from diffprob.net.epsilon_theta import EpsilonTheta, EpsilonThetaSpec
from diffprob.net.from_module import FromModule
from diffprob.net.glow import Glow, GlowSpec
from diffprob.net.layers import Output
from diffprob.net.noisy import NoisyClassifierNet, NoisyClassifierSpec
from diffprob.net.potential import Potential, PotentialSpec
from diffprob.net.scalar_unet import ScalarUNet, ScalarUNetSpec
from diffprob.net.text import TextEncoder, TextEncoderSpec
from diffprob.net.tiny_autoencoder import TinyAutoencoder, TinyAutoencoderSpec
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
from diffprob.recipes import named
from diffprob.reporting.figures import loss_curve, progression, save_grid
from diffprob.runs.fits import bind_grid
from diffprob.runs.folder import AutoencoderRun, BaselineRun, NoisyClassifierRun, Run, open_run, packaged
from diffprob.runs.writer import RunWriter
from diffprob.sampling.adaptive import AdaptiveODE, DPMAdaptive
from diffprob.sampling.ancestral import DDIM, Ancestral
from diffprob.sampling.between import add_noise, interpolate_noised, sample_from, slerp
from diffprob.sampling.exponential import DPMpp, DPMppSDE, UniPC
from diffprob.sampling.grain import GrainSolver
from diffprob.sampling.invert import invert
from diffprob.sampling.langevin import AnnealedLangevin
from diffprob.sampling.restore import RePaint, denoised, draw_denoised, estimate_noise, unclip
from diffprob.sampling.sde import EulerMaruyama, PredictorCorrector, ReverseDiffusion
from diffprob.sampling.simulate import State, check_step, draw, simulate, start
from diffprob.sampling.singlestep import DPMFast, DPMpp2S, DPMSolver, Heun
from diffprob.sampling.translate import ddib, egsde, sdedit
from diffprob.space.dequantise import Dequantisation, dequantised
from diffprob.space.latents import Latents
from diffprob.space.pixels import Pixels
from diffprob.tasks.bounds import ChainBound
from diffprob.tasks.compute import Compute
from diffprob.tasks.conditioning import Conditioning
from diffprob.tasks.images import ImageBatch
from diffprob.tasks.likelihood import ContinuousTimeBound, ProbabilityFlow
from diffprob.tasks.model import Model, average, load, train
from diffprob.training.bound import Hybrid, VariationalBound
from diffprob.training.continuous import ContinuousBound
from diffprob.training.contrastive import ContrastiveDivergence
from diffprob.training.denoising import Denoising
from diffprob.training.distillation import GradientDistillation
from diffprob.training.loop import Trainer, make_accelerator
from diffprob.training.matching import DenoisingMatching, SlicedMatching
from diffprob.training.maximum import MaximumLikelihood
from diffprob.training.moments import noise_moments
from diffprob.training.noisy_classifier import NoisyClassifierLoss, is_correct
from diffprob.training.reconstruction import Reconstruction
from diffprob.training.settings import Monitor, ParameterGroup, Training

# fmt: off
__all__ = [
    "AdaptiveODE", "Analytic", "Ancestral", "AnnealedLangevin", "AnomalyMap", "Array", "AutoGuidance", "Autoencoder",
    "AutoencoderNet", "AutoencoderRecipe", "AutoencoderRun", "AutoencoderSpec", "Baseline", "BaselineRun", "Bound",
    "BoundDensity", "CaptionedDigits", "CaptionedUNet", "CaptionedUNetSpec", "Captions", "Categorical", "ChainBound",
    "Cifar10", "Cifar100", "ClassifierFree", "Clip", "ComplexityCorrected", "Compute", "Concatenated",
    "ConcatenatedUNet", "ConcatenatedUNetSpec", "Condition", "Conditioning", "ConformanceError", "ContextUNet",
    "ContextUNetSpec", "ContinuousBound", "ContinuousTimeBound", "ContrastiveDivergence", "Cosine", "DDIM",
    "DPMAdaptive", "DPMFast", "DPMSolver", "DPMpp", "DPMpp2S", "DPMppSDE", "Decoder", "Denoising", "DenoisingMatching",
    "DenoisingScore", "DensityModel", "Dequantisation", "DiffprobError", "Digits", "Dirac", "Discretised",
    "Distribution", "DynamicClip", "Elastic", "Energies", "Energy", "EnergyGuided", "EnergyNet", "EnergySpec",
    "Epsilon", "EpsilonTheta", "EpsilonThetaSpec", "EulerMaruyama", "Evaluation", "FaithfulnessEnergy", "FiniteData",
    "FlowDensity", "FlowLikelihood", "Folder", "FromDataset", "FromModule", "Gaussian", "GaussianData", "GaussianNLL",
    "Glow", "GlowSpec", "GradientDistillation", "GrainGrid", "GrainSolver", "Heun", "HorizontalFlip", "HuggingFace",
    "Hutchinson", "Hybrid", "Idx", "ImageBatch", "Images", "InputError", "Integrability", "Karras", "LabelEnergy",
    "Labels", "Latents", "Leading", "Learned", "LearnedDiagonal", "LearnedRange", "LeastCost", "LinearBetas",
    "LinearProcess", "LocationScale", "LogDensity", "LogLinear", "LogSNR", "LowPass", "LowResolution",
    "MaximumLikelihood", "Mixture", "MixtureData", "Model", "Monitor", "Native", "NegativeEnergy", "NetDenoiser",
    "NoClosedForm", "NoiseMoments", "NoiseNorm", "NoiseResidual", "NoisyClassifier", "NoisyClassifierLoss",
    "NoisyClassifierNet", "NoisyClassifierRecipe", "NoisyClassifierRun", "NoisyClassifierSpec", "Normal",
    "NumericalError", "OptimalCovariance", "OrnsteinUhlenbeck", "Output", "ParameterGroup", "PathStatistics", "Pixels",
    "Potential", "PotentialSpec", "PredictorCorrector", "PretrainedRun", "ProbabilityFlow", "Proxy", "Quadratic",
    "QuadraticTimes", "RateDistortion", "RePaint", "RealismEnergy", "Recipe", "Reconstruction", "ReconstructionError",
    "ReconstructionGuidance", "ReverseDiffusion", "Rng", "Run", "RunWriter", "ScalarUNet", "ScalarUNetSpec", "Scale",
    "ScaledLinear", "Scoped", "Score", "ScoreNorms", "SimplexNoise", "SlicedMatching", "SquaredNoise", "State",
    "Straight", "StraightScaling", "SubVP", "SubVariancePreserving", "Subset", "Svhn", "TextEncoder", "TextEncoderSpec",
    "TinyAutoencoder", "TinyAutoencoderSpec", "Trailing", "Trainer", "Training", "TwoPoint", "Typical", "UNet",
    "UNetSpec", "UniPC", "Uniform", "UnitData", "V0", "VPSDE", "VarianceExploding", "VariancePreserving",
    "VariationalBound", "add_noise", "average", "bind_grid", "bound_terms", "build_model", "build_noisy_classifier",
    "cheapest_paths", "check", "check_denoiser", "check_process", "check_proxy", "check_sampler", "check_step",
    "check_times", "concatenate", "continuous_bound", "ddib", "denoised", "dequantised", "derive", "draw",
    "draw_denoised", "egsde", "estimate_noise", "flow_log_prob", "integrability", "interpolate_noised", "invert",
    "is_correct", "kl", "load", "loss_curve", "make_accelerator", "named", "noise_moments", "open_data", "open_run",
    "packaged", "progression", "psnr", "rate_distortion", "reconstruction_costs", "register", "relative_log_prob",
    "sample_from", "save_grid", "sdedit", "simulate", "slerp", "sliced_wasserstein2", "ssim", "start", "step_costs",
    "train", "unclip", "variational_bound", "wasserstein_1d",
]
# fmt: on

# What says too little without the name of its family: `dp.predictions.V`.
IN_FAMILIES = {
    **dict.fromkeys(("X0", "V", "Mu", "EDM"), "predictions"),
    "Exact": "divergences",
    **dict.fromkeys(("Index", "LogNoise", "Constant"), "clocks"),
    "Zero": "variances",
    **dict.fromkeys(("UniformTimes", "LogNormal", "LogitNormal"), "times"),
    "MinSNR": "loss_weights",
    "Geometric": "schedules",
    **dict.fromkeys(("MixtureOfGaussians", "Gamma"), "laws"),
}

FACE = (
    *(
        "Model",
        "load",
        "train",
        "ChainBound",
        "ContinuousTimeBound",
        "ProbabilityFlow",
        "Compute",
        "Conditioning",
        "ImageBatch",
    ),
    *("Run", "Recipe", "Training", "Trainer", "open_run", "packaged", "named", "Images", "FromDataset"),
    *("open_data", "Pixels", "Rng"),
    *("GaussianData", "MixtureData", "FiniteData", "TwoPoint", "NetDenoiser", "LinearProcess", "Clip"),
    *("simulate", "draw", "State", "variational_bound", "continuous_bound", "flow_log_prob", "rate_distortion"),
    *("psnr", "ssim", "save_grid", "register", "DiffprobError", "InputError", "NumericalError"),
)

reserve({*__all__, *families(), "degradations", "translations"})  # dp.NAME is one thing
