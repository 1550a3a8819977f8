"""Instances of everything in the tables of `diffprob.config.registry`: what the conformance suite runs over.

A new entry takes part with its default arguments. ``MORE`` adds further settings of an entry; it never has to be
touched for a new one, unless the entry has no defaults.
"""

import inspect
from collections.abc import Callable
from typing import Any

from diffprob.config import registry as tables
from diffprob.config.pretrained import PretrainedRun
from diffprob.data.sources import Digits
from diffprob.net.autoencoder import AutoencoderSpec
from diffprob.net.noisy import NoisyClassifierSpec
from diffprob.net.text import TextEncoderSpec
from diffprob.net.unet import UNetSpec
from diffprob.process.linear import (
    LinearProcess,
    StraightScaling,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)
from diffprob.space.pixels import Pixels
from diffprob.training.denoising import Denoising
from diffprob.training.settings import Training

MORE: dict[str, list[dict[str, Any]]] = {
    "LinearBetas": [{"steps": 10, "first": 0.01, "last": 0.5}],
    "Cosine": [{"steps": 50}],
    "VPSDE": [{"beta_min": 0.5, "beta_max": 3.0}],
    "OrnsteinUhlenbeck": [{"horizon": 1.5}],
    "Geometric": [{"steps": 10, "sigma_min": 0.01, "sigma_max": 1.0}],
    "MixtureOfGaussians": [{"phi": 0.3, "weights": (0.2, 0.5, 0.3), "places": (1.0, 0.0, -3.0)}, {"reading": "markov"}],
    "Gamma": [{"theta": 0.3}],
    "Staircase": [{"steps": 1}, {"steps": 5}],
    "Karras": [{"rho": 2.0}],
    "Mu": [{"steps": 100}],
    "Index": [{"steps": 17}],
    "LogNormal": [{"mean": 0.4, "std": 0.3}],
    "LogitNormal": [{"mean": -1.0, "std": 1.7}],
    "MinSNR": [{"gamma": float("inf")}],
    "EDM": [{"sigma_data": 1.3}],
    "DPMpp": [{"points": 1}, {"points": 3}],
    "DPMppSDE": [{"history": 1}],
    "UniPC": [{"p": 1}, {"variant": "bh1"}],
    "DPMSolver": [{"order": 1}, {"order": 3}],
    "Heun": [{"churn": 0.2}],
    "DDIM": [{"eta": 0.5}, {"eta": 1.0}, {"eta": 0.0, "spread": True}, {"eta": 0.7, "spread": True}],
}

# Where a schedule was made for one scaling; any other combination is a process as well.
SCALING = {
    "SubVP": SubVariancePreserving(),
    "LogLinear": VarianceExploding(),
    "Geometric": VarianceExploding(),
    "Straight": StraightScaling(),
}


def instances(family: dict[str, Callable[..., Any]]) -> list[Any]:
    """Every component of a table with its defaults, if it has them, then the further settings."""
    for key, maker in family.items():
        assert not _required(maker) or key in MORE, f"{key} has no defaults: it needs settings in MORE"
    components = [maker() for maker in family.values() if not _required(maker)]
    return components + [family[name](**setting) for name in family for setting in MORE.get(name, [])]


def _required(maker: Callable[..., Any]) -> list[str]:
    """Arguments without a default."""
    parameters = inspect.signature(maker).parameters
    return [key for key, parameter in parameters.items() if parameter.default is inspect.Parameter.empty]


SCHEDULES = instances(tables.SCHEDULES)
SCALINGS = instances(tables.SCALINGS)
LAWS = instances(tables.LAWS)
SURVIVALS = instances(tables.SURVIVALS)
GRIDS = [grid for grid in instances(tables.GRIDS) if "paths" not in vars(grid)]  # those that need no fit
PREDICTIONS = instances(tables.PREDICTIONS)
CLOCKS = instances(tables.CLOCKS)
VARIANCES = instances(tables.VARIANCES)
SAMPLERS = [one for one in instances(tables.SAMPLERS) if not getattr(one, "needs_masks", False)]
TIMES = instances(tables.TIMES)
LOSS_WEIGHTS = instances(tables.LOSS_WEIGHTS)
PROCESSES = [LinearProcess(s, SCALING.get(type(s).__name__, VariancePreserving())) for s in SCHEDULES]


def name(component: object) -> str:
    """Test id: the repr, a process by its schedule."""
    return repr(component.schedule) if isinstance(component, LinearProcess) else repr(component)


_SMALL = UNetSpec(in_channels=1, out_channels=1, widths=(32, 64), attention=(False, True), groups=8)
# What has no default, by the name of the field, or of component and field where one of that name is something else.
REQUIRED: dict[str, Any] = {
    "steps": 7,
    "levels": 3,
    "path": 'a folder/it\'s \\ "quoted" é\n',
    "name": "x",
    "shape": (1, 8, 8),
    "data": Digits(),
    "space": Pixels((1, 8, 8), 17),
    "network": _SMALL,
    "training": Training(steps=5),
    "prefix": "net.mid_block",
    "sha256": "0123456789abcdef",
    "run": "digits",
    "objective": Denoising(),
    "teacher": PretrainedRun("digits", "0123456789abcdef"),
    "body": _SMALL,
    "sigma": 0.3,
    "features": 3,
    "Captions.words": ("a", "seven"),
    "TextEncoderSpec.words": 7,
    "source": Digits(),
    "test": Digits("test"),
    "sources": (Digits(), Digits("test")),
    "autoencoder": PretrainedRun("digits", "0123456789abcdef"),
    "latent": (2, 4, 4),
    "AutoencoderRecipe.network": AutoencoderSpec(widths=(8, 16)),
    "NoisyClassifierRecipe.network": NoisyClassifierSpec(UNetSpec(1, 1, (32,), 1, (False,), groups=8)),
    "digest": "0" * 64,
    "text": TextEncoderSpec(7, length=3, width=8, heads=2),
}


# Arguments with a default without which one other is needed.
BEGIN = {"FromDataset": ("digest",), "FromModule": ("digest",)}


def example(maker: Callable[..., Any]) -> Any:
    """The component with its defaults, and something for what has none."""
    missing = [*_required(maker), *BEGIN.get(maker.__name__, ())]
    keys = {key: own if (own := f"{maker.__name__}.{key}") in REQUIRED else key for key in missing}
    return maker(**{key: REQUIRED[keys[key]] for key in missing})
