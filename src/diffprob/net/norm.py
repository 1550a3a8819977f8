"""Group normalisation with what surrounds it in the U-Net: the shift by the time embedding before, the SiLU after.

torch's group norm is slow for channels-last tensors on a CPU (torch 2.13: up to ten times the contiguous one in the
backward pass with bfloat16), where convolutions are fastest. `_FastNorm` computes the same from per-channel sums;
everywhere else, and wherever derivatives of derivatives or forward mode are asked for, `_plain` is the definition.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

# From this many pixels on, torch's channels-last forward pass takes its fast route.
_NATIVE_PIXELS = 1024
# Below this many elements the small operations of `_FastNorm` cost more than they save.
_FAST_ELEMENTS = 2**15


def group_norm(norm: nn.GroupNorm, x: Tensor, shift: Tensor | None = None, silu: bool = True) -> Tensor:
    """silu(norm(x + shift)), or without the SiLU; ``x`` (B, C, H, W), ``shift`` (B, C) or None."""
    if _transformed(x):
        # torch's forward-mode rule takes views that channels-last memory does not have.
        return _plain(x.contiguous(), norm.weight, norm.bias, shift, norm.num_groups, norm.eps, silu)
    apply = _FastNorm.apply if _fast(x) else _plain
    return apply(x, norm.weight, norm.bias, shift, norm.num_groups, norm.eps, silu)


def _plain(
    x: Tensor, weight: Tensor, bias: Tensor, shift: Tensor | None, groups: int, eps: float, silu: bool
) -> Tensor:
    if shift is not None:
        x = x + shift[:, :, None, None]
    y = F.group_norm(x, groups, weight, bias, eps)
    # Without gradients nobody else holds the norm's output: overwriting it spares a pass over new memory.
    return F.silu(y, inplace=not torch.is_grad_enabled()) if silu else y


def _transformed(x: Tensor) -> bool:
    """Whether forward mode or a transform of torch.func is at work, which autograd functions have to be taught."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._are_functorch_transforms_active() or forward_ad.unpack_dual(x).tangent is not None


def _fast(x: Tensor) -> bool:
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16) or x.numel() < _FAST_ELEMENTS:
        return False
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return last and not torch.compiler.is_compiling()


def _rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _image(rows: Tensor, like: Tensor) -> Tensor:
    return rows.unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)


def _sum(v: Tensor) -> Tensor:
    """Sum of (B, pixels, C) over the pixels, float32; bfloat16 in eight parts, since torch would copy all of it."""
    if v.dtype != torch.float32 and v.shape[1] % 8 == 0:
        v = v.unflatten(1, (8, -1)).sum(2)
    return v.sum(1, dtype=torch.float32)


def _moments(v: Tensor, shift: Tensor | None, groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and 1/sqrt(var + eps) of v + shift per group, (B, groups, 1), and its mean per channel, (B, C)."""
    first = _sum(v) / v.shape[1]
    second = _sum(v * v) / v.shape[1]
    if shift is not None:
        second = second + shift * (2 * first + shift)
        first = first + shift
    mean = first.unflatten(1, (groups, -1)).mean(2, keepdim=True)
    square = second.unflatten(1, (groups, -1)).mean(2, keepdim=True)
    return mean, torch.rsqrt(torch.addcmul(square, mean, mean, value=-1).clamp_min_(0) + eps), first


class _FastNorm(torch.autograd.Function):
    """`_plain` for channels-last tensors: y = silu(scale v + offset), a scale and offset per sample and channel.

    With du = dL/du, G1 = sum du and H = sum du xhat over the pixels, and means <.> over the elements of a group,
    dx = weight rstd du - rstd <weight du> - rstd xhat <weight du xhat>, dweight = sum_B H, dbias = sum_B G1.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, shift: Tensor | None, groups: int, eps: float, silu: bool
    ) -> Tensor:
        v = _rows(x)
        first, moved = None, None if shift is None else shift.float()
        # With bfloat16 weights torch would round the moments too, and the backward pass needs them.
        precise = weight.dtype == torch.float32 or not any(ctx.needs_input_grad)
        if shift is None and precise and v.shape[1] >= _NATIVE_PIXELS:
            size = (x.shape[0], x.shape[1], v.shape[1])
            y, mean, rstd = torch.native_group_norm(x, weight, bias, *size, groups, eps)
            mean, rstd = mean.float()[:, :, None], rstd.float()[:, :, None]
            scale, offset = _affine(mean, rstd, weight, bias, moved, v.dtype)
        else:
            mean, rstd, first = _moments(v, moved, groups, eps)
            scale, offset = _affine(mean, rstd, weight, bias, moved, v.dtype)
            y = _image(torch.addcmul(offset, v, scale), x)
        ctx.save_for_backward(x, weight, bias, shift, mean, rstd, scale, offset, None if shift is None else first)
        ctx.settings = (groups, eps, silu)
        return F.silu(y, inplace=True) if silu else y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight, bias, shift, mean, rstd, scale, offset, first = ctx.saved_tensors
        groups, _, silu = ctx.settings
        if torch.is_grad_enabled():
            return *_twice(grads[0], x, weight, bias, shift, ctx.settings), None, None, None
        v, du = _rows(x), _rows(grads[0])
        if silu:
            u = torch.addcmul(offset, v, scale)
            du = torch.ops.aten.silu_backward.grad_input(du, u, grad_input=u)
        product = du * v
        g1, g2 = _sum(du), _sum(product)
        if shift is not None:
            g2 = g2 + shift * g1
        g1, g2 = g1.unflatten(1, (groups, -1)), g2.unflatten(1, (groups, -1))
        h = (g2 - mean * g1) * rstd
        gain = weight.unflatten(0, (groups, -1)) / (v.shape[1] * g1.shape[2])
        # dx = scale du + slope v + level
        slope = -rstd * rstd * (gain * h).sum(2, keepdim=True)
        level = -rstd * (gain * g1).sum(2, keepdim=True) - slope * mean
        slope, level = slope.expand_as(g1).flatten(1), level.expand_as(g1).flatten(1)
        dshift = None
        if shift is not None:
            dshift = scale[:, 0] * g1.flatten(1) + v.shape[1] * (slope * first + level)
            level = level + slope * shift
        dx = torch.addcmul(level.to(v.dtype)[:, None], v, slope.to(v.dtype)[:, None], out=product)
        dx.addcmul_(du, scale)
        return _image(dx, x), h.sum(0).flatten(), g1.sum(0).flatten(), dshift, None, None, None


def _affine(
    mean: Tensor, rstd: Tensor, weight: Tensor, bias: Tensor, shift: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The scale and offset (B, 1, C) that make weight (v + shift - mean) rstd + bias = scale v + offset."""
    groups = mean.shape[1]
    scale = rstd * weight.unflatten(0, (groups, -1))
    offset = bias.unflatten(0, (groups, -1)) - mean * scale
    scale, offset = scale.flatten(1), offset.flatten(1)
    if shift is not None:
        offset = torch.addcmul(offset, shift, scale)
    return scale.to(dtype)[:, None], offset.to(dtype)[:, None]


def _twice(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, shift: Tensor | None, settings: tuple[int, float, bool]
) -> Any:
    """The gradients of `_plain` with a graph of their own, for derivatives of derivatives."""
    inputs = [x, weight, bias] if shift is None else [x, weight, bias, shift]
    wanted = [i for i, tensor in enumerate(inputs) if tensor.requires_grad]
    y = _plain(x, weight, bias, shift, *settings)
    found = torch.autograd.grad(y, [inputs[i] for i in wanted], grad, create_graph=True)
    result: list[Tensor | None] = [None, None, None, None]
    for i, value in zip(wanted, found, strict=True):
        result[i] = value
    return result
