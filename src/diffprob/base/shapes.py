"""The only broadcast in the library: from one number per sample to one per element."""

import math
from typing import Any

import torch
from torch import Tensor

from diffprob.base.checks import shown
from diffprob.base.errors import FieldError
from diffprob.base.finite import check_tensors


def per_sample(t: Tensor, like: Tensor) -> Tensor:
    """Shape a () or (B,) tensor so that it multiplies ``like`` of shape (B, *event), in ``like``'s dtype and device.

    The cast matters: a float64 (B, 1, 1, 1) tensor would silently promote a float32 state.

    Raises:
        ValueError: ``t`` has more than one dimension, or a batch size that is not that of ``like``; or ``like`` holds
            whole numbers, in which coefficients below 1 are 0.
    """
    check_floats(like)
    if t.ndim > 1 or (t.ndim == 1 and t.shape[0] not in (1, like.shape[0])):
        raise ValueError(f"expected shape () or ({like.shape[0]},), got {tuple(t.shape)}")
    t = t.to(like.device, like.dtype)
    return t.reshape(t.shape + (1,) * (like.ndim - 1)) if t.ndim else t


def scaled(x: Tensor, t: Tensor) -> Tensor:
    """x times one number (), or one per sample (B,): the same bits as ``per_sample(t, x) * x``, in one operation."""
    check_floats(x)
    return x * (t if is_one_time(t) else per_sample(t, x))


def check_floats(x: Tensor) -> None:
    """Refuse whole numbers, such as grey levels, where points of a continuous space are meant.

    Raises:
        ValueError: another type than a floating one.
    """
    if not x.is_floating_point():
        raise ValueError(f"x must be of a floating type, got {x.dtype}: grey levels become that by Pixels.to_model")


def check_points(x: Tensor, name: str = "x") -> None:
    """Refuse what is no set of points (B, *event) of a continuous space; on another device its values are waited for.

    Raises:
        ValueError: another type than a floating one.
        NumericalError: a value that is not finite.
    """
    check_floats(x)
    check_tensors({name: x}, "the points are")


def tensor_of(name: str, value: Any) -> Tensor:
    """A field that is a tensor; an array of numpy and lists of numbers become one, lists in float64.

    Raises:
        FieldError: anything else.
    """
    if isinstance(value, Tensor):
        return value
    try:
        return torch.as_tensor(value, dtype=torch.float64 if isinstance(value, list | tuple | int | float) else None)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:  # what torch raises of text or ragged lists
        raise FieldError(name, f"must be a tensor, an array or lists of numbers, got {shown(value)}") from error


def is_one_time(t: Any) -> bool:
    """Whether t is a number, or a () tensor on the CPU without gradient: a key under which coefficients are kept."""
    if not isinstance(t, Tensor):
        return isinstance(t, float | int)
    return t.ndim == 0 and t.is_cpu and not t.requires_grad


def channels_last(x: Tensor) -> Tensor:
    """Images (B, C, H, W) in channels-last memory, whatever strides the caller happened to use.

    Strides choose the kernels, and with them the last bits. With one channel both formats are the same memory; the view
    says channels-last.
    """
    if x.shape[1] > 1:
        return x.contiguous(memory_format=torch.channels_last)
    height, width = x.shape[2:]
    if x.requires_grad:
        return x.contiguous().reshape(-1, height, width, 1).permute(0, 3, 1, 2)
    return x.contiguous().as_strided(x.shape, (height * width, 1, width, 1))  # the same in one operation


def sigmoid(x: Tensor) -> Tensor:
    """1/(1 + exp(-x)), each element with the same bits alone as among others.

    On a CPU torch takes the elements of contiguous memory in vectors and what is left over one by one, and the two
    differ in the last bit of one float64 value in forty; memory with gaps is always taken one by one.
    """
    return torch.sigmoid(torch.stack([x, x], -1)[..., 0] if x.ndim else x)


def filled(x: Tensor, size: int) -> Tensor:
    """``x`` (B, ...) with its last entry repeated up to ``size`` of them."""
    missing = size - len(x)
    return torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) if missing > 0 else x


def flat_sum(x: Tensor) -> Tensor:
    """Sum over everything but the batch: (B, *event) -> (B,)."""
    return x.reshape(len(x), math.prod(x.shape[1:])).sum(1)  # -1 would be ambiguous for no samples


def ordered_sum(x: Tensor) -> Tensor:
    """Sum over everything but the batch, float64 (B,), in an order that no batch size and no device changes."""
    x = x.double().reshape(len(x), math.prod(x.shape[1:]))
    while x.shape[1] > 1:
        half = x.shape[1] // 2
        x = torch.cat([x[:, :half] + x[:, half : 2 * half], x[:, 2 * half :]], 1)
    return x[:, 0]
