"""Folders of diffusers' DDPMPipeline: read without diffusers installed, and written so that diffusers opens them.

A folder has ``unet/config.json`` with ``unet/diffusion_pytorch_model.safetensors`` and
``scheduler/scheduler_config.json``; older ones (google/ddpm-cifar10-32) have all files at the top. Pickled weights are
never opened.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffprob.base.errors import InputError, did_you_mean
from diffprob.base.text import one_line
from diffprob.denoise.condition import Labels
from diffprob.denoise.denoiser import Denoiser, NetDenoiser
from diffprob.denoise.wrappers import Clip
from diffprob.interop.configs import VERSION, Scheduling, network_config, network_spec, scheduler_config, scheduling
from diffprob.net.unet import UNet, UNetSpec
from diffprob.recipe import tensors
from diffprob.recipe.manifest import saying, whole, write

WEIGHTS = "diffusion_pytorch_model.safetensors"
_MODERN = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_NAME = re.compile(r"(.*\battentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)")


class Pipeline(NamedTuple):
    """What a folder holds; ``size`` is (height, width) where it is known, ``scheduler`` None without one."""

    spec: UNetSpec
    state: dict[str, Tensor]
    scheduler: dict[str, Any] | None
    size: tuple[int, int] | None = None


def load_pipeline(folder: str | Path) -> Pipeline:
    """Read a DDPMPipeline or UNet2DModel folder: the network's settings, its weights and the scheduler's configuration.

    Raises:
        InputError: a file is missing, damaged or pickled, or a setting has no counterpart here; the message names it.
    """
    folder = Path(folder)
    _check_pipeline(folder)
    place = folder / "unet" if (folder / "unet").is_dir() else folder
    config = _read_json(place / "config.json")
    spec = network_spec(config, str(place / "config.json"))
    state = _read_weights(place, spec)
    scheduler = next(
        (
            path
            for path in (folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json")
            if path.exists()
        ),
        None,
    )
    return Pipeline(spec, state, _read_json(scheduler) if scheduler else None, _size(config, place))


def open_pipeline(folder: str | Path) -> Denoiser:
    """The denoiser of a folder, ready to sample from: `NetDenoiser`, inside `Clip` where the scheduler clips.

    A class-conditional network is told labels by `NetDenoiser.given`; which of them is a null one no folder says.

    Raises:
        InputError: as `load_pipeline` and `scheduling`.
    """
    pipeline = load_pipeline(folder)
    settings = scheduling(pipeline.scheduler or {}, f"scheduler_config.json of {folder}")
    net = pipeline.spec.build()
    net.load_state_dict(pipeline.state)
    parts = (settings.process, settings.prediction, settings.clock, settings.variance)
    condition = Labels(pipeline.spec.classes, drop=0.0) if pipeline.spec.classes else None
    model = NetDenoiser(net, *parts, condition=condition).eval()
    return model if settings.clip is None else Clip(model, -settings.clip, settings.clip)


def export_pipeline(folder: str | Path, model: NetDenoiser, size: tuple[int, int], clip: float | None = 1.0) -> None:
    """Write ``model`` as a folder that ``DDPMPipeline.from_pretrained`` opens.

    Args:
        folder: new or empty.
        model: a `UNet` with its process, prediction, clock and variance.
        size: height and width of the images.
        clip: bound on |x_0| in diffusers' sampler, None for no clipping.

    Raises:
        InputError: the folder is not empty, or a component that diffusers does not have.
    """
    folder = Path(folder)
    net = model.net
    if type(net) is not UNet:  # its heirs are told more, or answer something else
        raise InputError(f"only a UNet can be written for diffusers, not a {type(net).__name__}")
    settings = Scheduling(model.process, model.prediction, model.variance, clip)
    scheduler = scheduler_config(settings)
    if model.clock != settings.clock:
        raise InputError(f"diffusers tells its networks the labels of {settings.clock!r}, not of {model.clock!r}")
    index = {
        "_class_name": "DDPMPipeline",
        "_diffusers_version": VERSION,
        "scheduler": ["diffusers", "DDPMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
    }
    documents = {
        "model_index.json": index,
        "unet/config.json": network_config(net.spec, size),
        "scheduler/scheduler_config.json": scheduler,
    }

    def fill(temporary: Path) -> None:
        for name, document in documents.items():
            (temporary / name).parent.mkdir(exist_ok=True)
            write(temporary / name, [json.dumps(document, indent=2).encode() + b"\n"])
        write(temporary / "unet" / WEIGHTS, tensors.pieces(net.state_dict(), {"format": "pt"}))

    with saying(f"write {folder}"):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} exists already and is not an empty folder: choose another")
        whole(folder, fill)


def _check_pipeline(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected one that diffusers' save_pretrained wrote")
    index = folder / "model_index.json"
    if index.exists():
        name = _read_json(index).get("_class_name")
        if name not in ("DDPMPipeline", "DDIMPipeline"):
            raise InputError(f"{index}: only DDPMPipeline and DDIMPipeline can be read, this is a {name}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: expected a folder that diffusers' save_pretrained wrote") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {str(error).splitlines()[0]}") from error
    if not isinstance(document, dict):
        raise InputError(f"{path} must hold a JSON object, not a {type(document).__name__}")
    return document


def _read_weights(place: Path, spec: UNetSpec) -> dict[str, Tensor]:
    """The weights in float32 under the modern names, checked against ``spec``."""
    path = place / WEIGHTS
    if not path.exists():
        pickled = sorted(place.glob("*.bin"))
        if pickled:
            convert = "UNet2DModel.from_pretrained('old').save_pretrained('new')"
            where = one_line(str(pickled[0]), 150)
            raise InputError(f"{where} is a pickle, which is never opened: convert it with diffusers, {convert}")
        raise InputError(f"{path} is missing: expected weights as one safetensors file")
    state = {}
    for name, tensor in tensors.read(path).items():
        old = _OLD_NAME.fullmatch(name)
        modern = f"{old[1]}.{_MODERN[old[2]]}.{old[3]}" if old else name
        state[modern] = tensor.float() if tensor.is_floating_point() else tensor
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in spec.build().state_dict().items()}
    for name in sorted(expected.keys() | state.keys()):
        if name not in state:
            raise InputError(f"{path} lacks {name}, which config.json asks for")
        if name not in expected:
            raise InputError(f"{path} holds {name}, which config.json does not ask for{did_you_mean(name, expected)}")
        if state[name].shape != expected[name]:
            shapes = f"{tuple(state[name].shape)}, config.json asks for {tuple(expected[name])}"
            raise InputError(f"{path}: {name} has shape {shapes}")
    return state


def _size(config: Mapping[str, Any], place: Path) -> tuple[int, int] | None:
    size = config.get("sample_size")
    if size is None:
        return None
    pair = [size, size] if isinstance(size, int) else size
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise InputError(f"{place / 'config.json'}: sample_size must be one or two positive numbers, got {size!r}")
    return pair[0], pair[1]
