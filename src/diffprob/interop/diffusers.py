"""Folders of diffusers' DDPMPipeline: read without diffusers installed, and written so that diffusers opens them.

A folder has ``unet/config.json`` with ``unet/diffusion_pytorch_model.safetensors`` and
``scheduler/scheduler_config.json``; older ones (google/ddpm-cifar10-32) have all files at the top. Pickled weights are
never opened. What diffusers has no place for, the classes by name and the grey levels, is kept beside them in
``diffprob.json``, which diffusers does not read.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffprob.base.checks import image_shape, listed, shown
from diffprob.base.errors import InputError, Missing, did_you_mean
from diffprob.base.levels import check_levels
from diffprob.base.single import single
from diffprob.base.text import one_line
from diffprob.conditions.condition import Condition, Labels
from diffprob.denoise.clipping import Clip
from diffprob.denoise.denoiser import Denoiser, NetDenoiser
from diffprob.interop.configs import VERSION, Scheduling, network_config, network_spec, scheduler_config, scheduling
from diffprob.net.unet import UNet, UNetSpec
from diffprob.storage import tensors
from diffprob.storage.files import expanded, kind_of, path_within, read_text, saying, whole, write_new

OWN = "diffprob.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
_MODERN = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_SCHEDULERS = ("scheduler/scheduler_config.json", "scheduler_config.json")
_VARIANT = re.compile(r"diffusion_pytorch_model\.([\w-]+)\.safetensors")
_PART = re.compile(r"diffusion_pytorch_model(\.[\w-]+)?-\d+-of-\d+\.safetensors")
_OLD_NAME = re.compile(r"(.*\battentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)")


class Pipeline(NamedTuple):
    """What a folder holds; ``size`` is (height, width) where it is known, ``scheduler`` None without one, ``variant``
    that of the weights ("fp16"), which are float32 here in any case; ``condition`` and ``levels`` where
    `export_pipeline` wrote the folder."""

    spec: UNetSpec
    state: dict[str, Tensor]
    scheduler: dict[str, Any] | None
    size: tuple[int, int] | None = None
    variant: str = ""
    condition: Labels | None = None
    levels: int | None = None


def load_pipeline(folder: str | Path) -> Pipeline:
    """Read a pipeline's or UNet2DModel's folder: the network's settings, its weights and the scheduler's configuration.

    The network of an LDMPipeline sees latents (`diffprob.interop.autoencoders.autoencoder_of`).

    Raises:
        InputError: a file is missing, damaged or pickled, or a setting has no counterpart here; the message names it.
    """
    folder = expanded(folder)
    _check_pipeline(folder)
    place = "unet/" if kind_of(folder / "unet") == "folder" else ""
    config = read_json_object(_file(folder, place + "config.json"))
    spec = network_spec(config, str(folder / place / "config.json"))
    path, variant = find_weights(folder, place)
    state = read_weights(path, spec)
    schedulers = [_file(folder, name) for name in _SCHEDULERS if kind_of(folder / name) is not None]
    scheduler = read_json_object(schedulers[0]) if schedulers else None
    return Pipeline(spec, state, scheduler, _size(config, folder / place), variant, *_own(folder, spec))


def open_pipeline(folder: str | Path) -> Denoiser:
    """The denoiser of a folder, ready to sample from: `NetDenoiser`, inside `Clip` where the scheduler clips.

    A class-conditional network takes labels by `NetDenoiser.condition_on`; which of them is a null one no folder says
    but those that `export_pipeline` wrote.

    Raises:
        InputError: as `load_pipeline` and `scheduling`.
    """
    pipeline = load_pipeline(folder)
    settings = scheduling(pipeline.scheduler or {}, f"scheduler_config.json of {folder}")
    with single():
        net = pipeline.spec.build()
    net.load_state_dict(pipeline.state)
    parts = (settings.process, settings.prediction, settings.clock, settings.variance)
    condition = pipeline.condition or (Labels(pipeline.spec.classes, drop=0.0) if pipeline.spec.classes else None)
    model = NetDenoiser(net, *parts, condition=condition).eval()
    return model if settings.clip is None else Clip(model, -settings.clip, settings.clip)


def export_pipeline(
    folder: str | Path,
    model: NetDenoiser,
    size: tuple[int, int],
    clip: float | None = 1.0,
    levels: int | None = None,
) -> None:
    """Write ``model`` as a folder that ``DDPMPipeline.from_pretrained`` opens.

    Args:
        folder: new or empty.
        model: a `UNet` with its process, prediction, clock and variance.
        size: height and width of the images.
        clip: bound on |x_0| in diffusers' sampler, None for no clipping.
        levels: grey levels of the images, where they are known.

    Raises:
        InputError: the folder is not empty, or a component that diffusers does not have.
    """
    folder = expanded(folder)
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
        OWN: _own_document(model.condition, levels),
    }

    def fill(temporary: Path) -> None:
        for name, document in documents.items():
            (temporary / name).parent.mkdir(exist_ok=True)
            write_new(temporary / name, [json.dumps(document, indent=2).encode() + b"\n"])
        write_new(temporary / "unet" / WEIGHTS, tensors.pieces(net.state_dict(), {"format": "pt"}))

    with saying(f"write {folder}"):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} exists already and is not an empty folder: choose another")
        whole(folder, fill)


def _check_pipeline(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected one that diffusers' save_pretrained wrote")
    index = _file(folder, "model_index.json")
    if kind_of(index) is not None:
        name = read_json_object(index).get("_class_name")
        if name not in ("DDPMPipeline", "DDIMPipeline", "LDMPipeline"):
            kinds = "only DDPMPipeline, DDIMPipeline and LDMPipeline can be read"
            raise InputError(f"{index}: {kinds}, this is a {shown(name)}")


def _file(folder: Path, name: str) -> Path:
    """A file of the folder; a link is followed only to a file of the folder itself or of the hub's cache around it.

    The cache (huggingface_hub) keeps contents in ``blobs`` and snapshots as folders of links to them.
    """
    path = path_within(folder, name)
    if kind_of(path) != "link":
        return path
    root, target = folder.resolve(), path.resolve()
    homes = [root, *([root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [])]
    return target if any(target.is_relative_to(home) for home in homes) else path  # which is then refused as a link


def read_json_object(path: Path) -> dict[str, Any]:
    """A file of such a folder.

    Raises:
        InputError: it is missing, or holds no JSON object.
    """
    try:
        document = json.loads(read_text(path))
    except Missing:
        raise InputError(f"{path} is missing: expected a folder that diffusers' save_pretrained wrote") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {one_line(error, 80)}") from error
    if not isinstance(document, dict):
        raise InputError(f"{path} must hold a JSON object, not a {type(document).__name__}")
    return document


def find_weights(folder: Path, place: str) -> tuple[Path, str]:
    """The file of the weights and its variant, such as "fp16", or "" for the plain one.

    Args:
        folder: of the pipeline or model.
        place: where in it, "" or such as "unet/".

    Raises:
        InputError: there is none, or not one alone.
    """
    path = _file(folder, place + WEIGHTS)
    if kind_of(path) is not None:
        return path, ""
    names = sorted(item.name for item in (folder / place).iterdir())
    variants = {match[1]: name for name in names if (match := _VARIANT.fullmatch(name))}
    if len(variants) == 1:
        (variant,) = variants
        return _file(folder, place + variants[variant]), variant
    where = one_line(str(folder / place), 120)
    if variants:
        known = listed(variants)
        raise InputError(
            f"{where} has the weights as {known}, and none as {WEIGHTS}: leave one, or save it under that name"
        )
    if any(_PART.fullmatch(name) for name in names):
        raise InputError(
            f"{where} has the weights in parts: save them as one file, save_pretrained(max_shard_size='50GB')"
        )
    if pickled := next((name for name in names if name.endswith((".bin", ".pt", ".ckpt"))), None):
        convert = "UNet2DModel.from_pretrained('old').save_pretrained('new')"
        raise InputError(
            f"{where}/{one_line(pickled, 60)} is a pickle, which is never opened: convert it with diffusers, {convert}"
        )
    raise InputError(f"{where}/{WEIGHTS} is missing: expected weights as one safetensors file")


def read_weights(path: Path, spec: Any) -> dict[str, Tensor]:
    """The weights in float32 under the modern names, checked against the network that ``spec`` builds.

    Raises:
        InputError: a weight that is missing, left over, or of another shape.
    """
    if (kind := kind_of(path)) != "file":
        raise InputError(f"{path} is a {kind}, not a file of its own: it is not read")
    state = {}
    for name, tensor in tensors.read(path).items():
        old = _OLD_NAME.fullmatch(name)
        modern = f"{old[1]}.{_MODERN[old[2]]}.{old[3]}" if old else name
        if not tensor.is_floating_point():
            raise InputError(f"{path}: {one_line(name, 60)} holds {tensor.dtype}: weights are floating-point numbers")
        state[modern] = tensor.float()
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in spec.build().state_dict().items()}
    for name in sorted(expected.keys() | state.keys()):
        known = one_line(name, 60)
        if name not in state:
            raise InputError(f"{path} lacks {known}, which config.json asks for")
        if name not in expected:
            raise InputError(f"{path} holds {known}, which config.json does not ask for{did_you_mean(name, expected)}")
        if state[name].shape != expected[name]:
            shapes = f"{shown(tuple(state[name].shape))}, config.json asks for {tuple(expected[name])}"
            raise InputError(f"{path}: {known} has shape {shapes}")
    return state


def _own_document(condition: Condition | None, levels: int | None) -> dict[str, Any]:
    document: dict[str, Any] = {"levels": levels}
    if isinstance(condition, Labels):
        own = {"classes": condition.classes, "drop": condition.drop, "names": list(condition.names)}
        document["labels"] = own
    return document


def _own(folder: Path, spec: UNetSpec) -> tuple[Labels | None, int | None]:
    """The labels that condition the network, and the grey levels, as `_own_document` wrote them; None where not said.

    Raises:
        InputError: damaged, or labels of another network.
    """
    path = _file(folder, OWN)
    if kind_of(path) is None:
        return None, None
    document = read_json_object(path)
    labels, levels = document.get("labels"), document.get("levels")
    try:
        check_levels(levels)
        if labels is None:
            return None, levels
        if not isinstance(labels, dict) or labels.keys() != {"classes", "drop", "names"}:
            raise ValueError(f"labels must be classes, drop and names, got {shown(labels)}")
        names = labels["names"]
        condition = Labels(labels["classes"], labels["drop"], tuple(names) if isinstance(names, list) else names)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {one_line(error, 200)}") from error
    if condition.rows != spec.classes:
        raise InputError(f"{path}: {condition.rows} labels, config.json has num_class_embeds {spec.classes}")
    return condition, levels


def _size(config: Mapping[str, Any], place: Path) -> tuple[int, int] | None:
    size = config.get("sample_size")
    if size is None:
        return None
    pair = [size, size] if isinstance(size, int) else size
    try:
        image_shape("sample_size", (1, *pair) if isinstance(pair, list) else pair)
    except ValueError as error:
        where = place / "config.json"
        raise InputError(f"{where}: sample_size must be one or two positive numbers, got {shown(size)}") from error
    return pair[0], pair[1]
