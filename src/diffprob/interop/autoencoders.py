"""diffusers' AutoencoderKL, AutoencoderTiny and VQModel, by their folders; diffusers itself is not needed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffprob.base.checks import shown
from diffprob.base.errors import InputError
from diffprob.base.single import single
from diffprob.denoise.autoencoder import Autoencoder
from diffprob.denoise.denoiser import Evaluation
from diffprob.interop.diffusers import find_weights, read_json_object, read_weights
from diffprob.net.autoencoder import AutoencoderSpec
from diffprob.net.tiny_autoencoder import TinyAutoencoderSpec
from diffprob.storage.files import expanded, kind_of, path_within

KINDS = ("AutoencoderKL", "AutoencoderTiny", "VQModel")
PLACES = ("vae", "vqvae")  # of the autoencoder in the folder of a pipeline
# Settings of AutoencoderKL: the field of AutoencoderSpec and the value that a missing key stands for.
_KL = {
    "in_channels": ("in_channels", 3),
    "latent_channels": ("latent_channels", 4),
    "block_out_channels": ("widths", (64,)),
    "layers_per_block": ("layers", 1),
    "norm_num_groups": ("groups", 32),
    "mid_block_add_attention": ("mid_attention", True),
    "use_quant_conv": ("quant_conv", True),
}
_VQ = {key: _KL[key] for key in _KL if key != "use_quant_conv"} | {
    "latent_channels": ("latent_channels", 3),
    "num_vq_embeddings": ("codes", 256),
}
_TINY = {
    "in_channels": ("in_channels", 3),
    "latent_channels": ("latent_channels", 4),
    "encoder_block_out_channels": ("widths", (64, 64, 64, 64)),
    "num_encoder_blocks": ("encoder_blocks", (1, 3, 3, 3)),
    "num_decoder_blocks": ("decoder_blocks", (3, 3, 3, 1)),
}


class LoadedAutoencoder(NamedTuple):
    """What a folder holds: the network's settings and weights; mean and standard deviation of the latents as it says
    them, (c,); the side of its images where it says one; how the weights are kept ("fp16"), float32 here."""

    spec: AutoencoderSpec | TinyAutoencoderSpec
    state: dict[str, Tensor]
    mean: Tensor
    std: Tensor
    size: int | None
    variant: str


def is_autoencoder(folder: str | Path) -> bool:
    """Whether a folder is that of one of `KINDS`."""
    place = expanded(folder)
    path = path_within(place, "config.json")
    return place.is_dir() and kind_of(path) == "file" and read_json_object(path).get("_class_name") in KINDS


def autoencoder_of(folder: str | Path) -> Path | None:
    """Where in a pipeline's folder its autoencoder lies, which makes it one of latents; None: it has none."""
    return next((path for name in PLACES if is_autoencoder(path := expanded(folder) / name)), None)


def load_autoencoder(folder: str | Path) -> LoadedAutoencoder:
    """Read a folder that ``save_pretrained`` of one of `KINDS` wrote.

    Its ``scaling_factor`` s and ``shift_factor`` m are the latents' scale: (z - m) s is what diffusion models see.

    Raises:
        InputError: a file is missing, damaged or pickled, or a setting has no counterpart here; the message names it.
    """
    place = expanded(folder)
    path = path_within(place, "config.json")
    config = read_json_object(path)
    kind = config.get("_class_name")
    if kind not in KINDS:
        raise InputError(f"{path}: one of {', '.join(KINDS)} can be read, this is {shown(kind)}")
    tiny = kind == "AutoencoderTiny"
    spec = _tiny_spec(config, str(path)) if tiny else _spec(config, kind == "VQModel", str(path))
    weights, variant = find_weights(place, "")
    state = read_weights(weights, spec)
    mean, std = _scale(config, spec.latent_channels, 1.0 if tiny else 0.18215, str(path))
    size = config.get("sample_size")
    return LoadedAutoencoder(spec, state, mean, std, size if type(size) is int and size > 0 else None, variant)


def open_autoencoder(folder: str | Path, evaluation: Evaluation = Evaluation()) -> Autoencoder:
    """The autoencoder of a folder, in eval mode and frozen.

    Raises:
        InputError: as `load_autoencoder`.
    """
    loaded = load_autoencoder(folder)
    with single():
        model = Autoencoder(loaded.spec.build(), loaded.spec.latent_channels, evaluation)
    model.load_state_dict(weights_of(loaded))
    return model.eval().requires_grad_(False)


def weights_of(loaded: LoadedAutoencoder) -> dict[str, Tensor]:
    """The weights as an `Autoencoder` names them."""
    scale = {"latent_mean": loaded.mean, "latent_std": loaded.std}
    return {**{f"net.{name}": value for name, value in loaded.state.items()}, **scale}


def _spec(config: Mapping[str, Any], vq: bool, where: str) -> AutoencoderSpec:
    values = {field: config.get(key, missing) for key, (field, missing) in (_VQ if vq else _KL).items()}
    widths = values["widths"]
    levels = len(widths) if isinstance(widths, list | tuple) else 0
    if vq:
        _check(config, "vq_embed_dim", values["latent_channels"], values["latent_channels"], where, none=True)
        _check(config, "norm_type", "group", "group", where)
        values["regulariser"] = "vq"
    else:
        _check(config, "use_post_quant_conv", values["quant_conv"], True, where)
    _check(config, "down_block_types", ["DownEncoderBlock2D"] * levels, ["DownEncoderBlock2D"], where)
    _check(config, "up_block_types", ["UpDecoderBlock2D"] * levels, ["UpDecoderBlock2D"], where)
    _check(config, "act_fn", "silu", "silu", where)
    _check(config, "out_channels", values["in_channels"], 3, where)
    return _made(AutoencoderSpec, values, where)


def _tiny_spec(config: Mapping[str, Any], where: str) -> TinyAutoencoderSpec:
    values = {field: config.get(key, missing) for key, (field, missing) in _TINY.items()}
    _check(config, "decoder_block_out_channels", list(values["widths"]), [64] * 4, where)
    _check(config, "act_fn", "relu", "relu", where)
    _check(config, "upsample_fn", "nearest", "nearest", where)
    _check(config, "upsampling_scaling_factor", 2, 2, where)
    _check(config, "out_channels", values["in_channels"], 3, where)
    return _made(TinyAutoencoderSpec, values, where)


def _check(config: Mapping[str, Any], key: str, wanted: Any, missing: Any, where: str, none: bool = False) -> None:
    """Refuse a setting that has no counterpart here; ``missing`` is what a missing key stands for, and null too if
    ``none``."""
    value = config.get(key, missing)
    value = missing if none and value is None else value
    value = list(value) if isinstance(value, tuple) else value
    if value != wanted:
        raise InputError(f"{where}: {key} must be {shown(wanted)} to be read here, got {shown(value)}")


def _made(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    known = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    try:
        return kind(**known)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from error


def _scale(config: Mapping[str, Any], channels: int, factor: float, where: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the latents, (c,), float32."""
    shift, given = config.get("shift_factor") or 0.0, config.get("scaling_factor", factor)
    means, stds = config.get("latents_mean"), config.get("latents_std")
    try:
        scale = 1.0 / float(given)
        mean = torch.tensor([shift] * channels if means is None else means, dtype=torch.float64)
        std = scale * torch.tensor([1.0] * channels if stds is None else stds, dtype=torch.float64)
    except (TypeError, ValueError, ZeroDivisionError, RuntimeError) as error:
        message = "scaling_factor and shift_factor are numbers, latents_mean and latents_std lists of them"
        raise InputError(f"{where}: {message}") from error
    if mean.shape != (channels,) or std.shape != (channels,) or not bool((std > 0).all() and mean.isfinite().all()):
        raise InputError(f"{where}: the scale of {channels} latent channels is {channels} positive numbers")
    return mean.float(), std.float()
