"""Configurations of diffusers' UNet2DModel and DDPMScheduler as diffprob's components, and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffprob.base.checks import flag, real, shown
from diffprob.base.errors import InputError
from diffprob.base.laws import Normal
from diffprob.base.text import one_line
from diffprob.denoise.denoiser import Index
from diffprob.denoise.learned import LearnedDiagonal, LearnedRange
from diffprob.denoise.prediction import X0, Epsilon, Prediction, V
from diffprob.denoise.variance import UnitData, Variance, Zero
from diffprob.net.unet import UNetSpec
from diffprob.process.linear import LinearProcess, VariancePreserving
from diffprob.process.schedule import Cosine, LinearBetas, Quadratic, ScaledLinear, Schedule

VERSION = "0.32.0"  # the oldest release that the written configurations were made for

_PREDICTIONS = {"epsilon": Epsilon(), "sample": X0(), "v_prediction": V()}
_VARIANCES: dict[str, Variance] = {
    "fixed_small": Zero(),
    "fixed_large": UnitData(),
    "learned_range": LearnedRange(),
    "learned": LearnedDiagonal(),
}

# Settings of UNet2DModel: the field of UNetSpec and the value that a missing key stands for.
_FIELDS = {
    "in_channels": ("in_channels", 3),
    "out_channels": ("out_channels", 3),
    "block_out_channels": ("widths", (224, 448, 672, 896)),
    "layers_per_block": ("layers", 2),
    "add_attention": ("mid_attention", True),
    "attention_head_dim": ("head_dim", 8),
    "norm_num_groups": ("groups", 32),
    "downsample_padding": ("padding", 1),
    "norm_eps": ("eps", 1e-5),
    "dropout": ("dropout", 0.0),
    "freq_shift": ("freq_shift", 0),
    "flip_sin_to_cos": ("cosine_first", True),
    "center_input_sample": ("center_input", False),
    "num_class_embeds": ("classes", None),
}
# Settings that must be as they are here; None is what a missing key stands for in each of them.
_FIXED_NETWORK = {
    "act_fn": ("silu", "swish"),
    "time_embedding_type": ("positional",),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "downsample_type": ("conv",),
    "upsample_type": ("conv",),
    "resnet_time_scale_shift": ("default",),
    "class_embed_type": (None,),
}
_FIXED_SCHEDULER = {"thresholding": (False,), "rescale_betas_zero_snr": (False,), "trained_betas": (None,)}
# How a shorter chain picks its times, and numbers of switched-off features: diffprob's grids and samplers decide those.
_IGNORED_SCHEDULER = {
    "timestep_spacing",
    "steps_offset",
    "set_alpha_to_one",
    "dynamic_thresholding_ratio",
    "sample_max_value",
}


@dataclass(frozen=True)
class Scheduling:
    """A scheduler's configuration in diffprob's components; ``clip`` is the bound on |x_0|, None for no clipping."""

    process: LinearProcess = LinearProcess()
    prediction: Prediction = Epsilon()
    variance: Variance = Zero()
    clip: float | None = 1.0

    @property
    def clock(self) -> Index:
        """Labels 0..T-1."""
        steps = self.process.schedule.steps
        return Index(1000 if steps is None else steps)


def network_spec(config: Mapping[str, Any], where: str = "config.json") -> UNetSpec:
    """The `UNetSpec` of a UNet2DModel configuration.

    Raises:
        InputError: a block or a setting that `UNet` does not have, by name.
    """
    if config.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise InputError(f"{where}: only UNet2DModel can be read, this is {shown(config['_class_name'])}")
    _check_fixed(config, _FIXED_NETWORK, {*_FIELDS, "down_block_types", "up_block_types", "sample_size"}, where)
    widths = config.get("block_out_channels", list(_FIELDS["block_out_channels"][1]))
    if not isinstance(widths, list | tuple):
        raise InputError(f"{where}: block_out_channels must be a list, got {shown(widths)}")
    default = ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"]
    down = config.get("down_block_types", default)
    attention = _attention(down, ("DownBlock2D", "AttnDownBlock2D"), "down_block_types", where)
    up = config.get("up_block_types", [name.replace("Down", "Up") for name in default[::-1]])
    above = _attention(up, ("UpBlock2D", "AttnUpBlock2D"), "up_block_types", where)
    if attention != above[::-1]:
        raise InputError(f"{where}: up_block_types must mirror down_block_types, got {shown(up)} for {shown(down)}")
    values = {field: config.get(key, missing) for key, (field, missing) in _FIELDS.items()}
    values |= {
        "widths": tuple(widths),
        "attention": attention,
        "classes": 0 if values["classes"] is None else values["classes"],
    }
    # A null head_dim is one head; every other setting is a number.
    try:
        return UNetSpec(**values)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from error


def network_config(spec: UNetSpec, size: tuple[int, int] | None) -> dict[str, Any]:
    """The UNet2DModel configuration of a `UNetSpec`, the inverse of `network_spec`.

    Raises:
        InputError: the network has what UNet2DModel has not.
    """
    if spec.fourier:
        raise InputError(f"a network with Fourier features (fourier={spec.fourier}) has no counterpart in diffusers")
    if spec.dims != 2:
        raise InputError(f"a network of {spec.dims} dimensions (dims={spec.dims}) has no counterpart in diffusers")
    if spec.patch_size > 1:
        raise InputError(f"a network of patches (patch_size={spec.patch_size}) has no counterpart in diffusers")
    config: dict[str, Any] = {"_class_name": "UNet2DModel", "_diffusers_version": VERSION}
    config |= {key: getattr(spec, field) for key, (field, _) in _FIELDS.items()}
    config |= {key: values[0] for key, values in _FIXED_NETWORK.items()}
    config["num_class_embeds"] = spec.classes or None
    config["down_block_types"] = ["AttnDownBlock2D" if here else "DownBlock2D" for here in spec.attention]
    config["up_block_types"] = ["AttnUpBlock2D" if here else "UpBlock2D" for here in spec.attention[::-1]]
    if size is not None:
        config["sample_size"] = size[0] if size[0] == size[1] else list(size)
    return config


def scheduling(config: Mapping[str, Any], where: str = "scheduler_config.json") -> Scheduling:
    """diffprob's process, prediction, variance and clip for a DDPMScheduler or DDIMScheduler configuration.

    Raises:
        InputError: a setting without counterpart here, by name.
    """
    name = config.get("_class_name", "DDPMScheduler")
    if name not in ("DDPMScheduler", "DDIMScheduler"):
        raise InputError(f"{where}: only DDPMScheduler and DDIMScheduler can be read, this is {shown(name)}")
    known = {"num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type", "variance_type"}
    _check_fixed(config, _FIXED_SCHEDULER, known | _IGNORED_SCHEDULER | {"clip_sample", "clip_sample_range"}, where)
    steps = config.get("num_train_timesteps", 1000)
    first, last = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    kind = _choice(config, "beta_schedule", "linear", ("linear", "scaled_linear", "squaredcos_cap_v2"), where)
    prediction = _choice(config, "prediction_type", "epsilon", tuple(_PREDICTIONS), where)
    variance = _choice(config, "variance_type", "fixed_small", tuple(_VARIANCES), where)
    schedule: Schedule
    try:
        if kind == "squaredcos_cap_v2":
            schedule = Cosine(steps)
        else:
            schedule = (LinearBetas if kind == "linear" else ScaledLinear)(steps, first, last)
        clips, bound = config.get("clip_sample", True), config.get("clip_sample_range", 1.0)
        flag("clip_sample", clips)
        real("clip_sample_range", bound, "(0, 1e6]")
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from error
    return Scheduling(
        LinearProcess(schedule), _PREDICTIONS[prediction], _VARIANCES[variance], float(bound) if clips else None
    )


def scheduler_config(settings: Scheduling) -> dict[str, Any]:
    """The DDPMScheduler configuration of diffprob's components, the inverse of `scheduling`.

    Raises:
        InputError: a component that DDPMScheduler does not have, by its repr.
    """
    process, schedule = settings.process, settings.process.schedule
    if process.scaling != VariancePreserving() or process.law != Normal():
        raise InputError(f"DDPMScheduler only knows variance-preserving normal noise, not {process!r}")
    if isinstance(schedule, Cosine) and (schedule.shift, schedule.clip) == (0.008, 0.999):
        betas: dict[str, Any] = {"beta_schedule": "squaredcos_cap_v2", "beta_start": 1e-4, "beta_end": 0.02}
    elif isinstance(schedule, LinearBetas) and type(schedule) in (LinearBetas, ScaledLinear, Quadratic):
        kind = "linear" if type(schedule) is LinearBetas else "scaled_linear"
        betas = {"beta_schedule": kind, "beta_start": schedule.first, "beta_end": schedule.last}
    else:
        raise InputError(
            f"DDPMScheduler has no schedule like {schedule!r}: only linear, scaled_linear and Cosine() can be written"
        )
    prediction = _named(_PREDICTIONS, settings.prediction, "prediction")
    variance = _named(_VARIANCES, settings.variance, "variance")
    clipped = settings.clip is not None
    return {
        "_class_name": "DDPMScheduler",
        "_diffusers_version": VERSION,
        "num_train_timesteps": schedule.steps,
        **betas,
        "prediction_type": prediction,
        "variance_type": variance,
        "clip_sample": clipped,
        "clip_sample_range": settings.clip if clipped else 1.0,
    }


def _attention(names: Any, known: tuple[str, str], key: str, where: str) -> tuple[bool, ...]:
    if not isinstance(names, list):
        raise InputError(f"{where}: {key} must be a list, got {shown(names)}")
    for name in names:
        if name not in known:
            raise InputError(f"{where}: {key} has {shown(name)}; only {known[0]} and {known[1]} can be read")
    return tuple(name == known[1] for name in names)


def _check_fixed(config: Mapping[str, Any], fixed: Mapping[str, tuple[Any, ...]], known: set[str], where: str) -> None:
    """Refuse what is switched on and has no counterpart; unknown keys are harmless while they are null or false."""
    for key, value in config.items():
        if key in fixed:
            if value not in fixed[key]:
                raise InputError(f"{where}: {key} must be {fixed[key][0]!r}, got {shown(value)}")
        elif key not in known and not key.startswith("_") and value not in (None, False):
            raise InputError(f"{where}: {one_line(key, 60)}={shown(value)} has no counterpart in diffprob")


def _choice(config: Mapping[str, Any], key: str, default: str, choices: tuple[str, ...], where: str) -> str:
    value = config.get(key, default)
    if value not in choices:
        raise InputError(f"{where}: {key} must be one of {', '.join(choices)}, got {shown(value)}")
    return value


def _named(table: Mapping[str, Any], value: Any, kind: str) -> str:
    for name, choice in table.items():
        if choice == value:
            return name
    raise InputError(
        f"DDPMScheduler has no {kind} like {value!r}: only {', '.join(map(repr, table.values()))} can be written"
    )
