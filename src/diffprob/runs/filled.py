"""The weights of a run put into a model that was built without any."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils import convert_conv2d_weight_memory_format

from diffprob.base.errors import InputError
from diffprob.base.finite import check_tensors
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.density.baselines import DensityModel
from diffprob.guidance.noisy_classifier import NoisyClassifier
from diffprob.storage import tensors

if TYPE_CHECKING:
    from diffprob.runs.folder import RunFolder

Model = TypeVar("Model", NetDenoiser, DensityModel, NoisyClassifier)


def filled(model: Model, run: "RunFolder[Any]", best: bool) -> Model:
    """The model on no device with the run's averaged weights, channels-last, in eval mode and frozen.

    Raises:
        InputError: weights that are not those of the recipe's network.
        NumericalError: one of them is not finite: no number that is computed with them would mean anything.
    """
    _check_weights(model.state_dict(), run.weights_path(best))  # before any memory is taken for them
    weights = run.weights(best)
    check_tensors(weights, f"the weights in {run.weights_path(best)} are")
    model.load_state_dict(weights, strict=True, assign=True)
    convert_conv2d_weight_memory_format(model, torch.channels_last)
    return model.eval().requires_grad_(False)


def _check_weights(wanted: dict[str, Tensor], path: Path) -> None:
    found = tensors.read_shapes(path)
    for name, tensor in wanted.items():
        if name not in found:
            raise InputError(f"{path} lacks the tensor {name}: it is not of the network in recipe.txt")
        dtype, shape = found[name]
        if dtype != tensors.spelt(tensor.dtype):
            raise InputError(
                f"{path}: tensor {name} is {dtype}, the network in recipe.txt has {tensors.spelt(tensor.dtype)}"
            )
        if shape != tuple(tensor.shape):
            shapes = f"{shape}, the network in recipe.txt {tuple(tensor.shape)}"
            raise InputError(f"{path}: tensor {name} has shape {shapes}")
    extra = next((name for name in found if name not in wanted), None)
    if extra:
        raise InputError(f"{path} has a tensor {extra}, which the network in recipe.txt does not")
