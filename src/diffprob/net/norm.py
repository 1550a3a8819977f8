"""Group normalisation with what surrounds it in the U-Net: the shift by the time embedding before, the SiLU after.

torch's group norm is slow for channels-last tensors on a CPU (torch 2.13: up to ten times the contiguous one in the
backward pass with bfloat16), where convolutions are fastest. `_FastNorm` computes the same from per-channel sums;
everywhere else, and wherever third derivatives or forward mode are needed, `_plain` is the definition.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

# From this many pixels on, torch's channels-last forward pass takes its fast route.
_NATIVE_PIXELS = 1024
# Below this many elements the small operations of `_FastNorm` cost more than they save.
_FAST_ELEMENTS = 2**15

# Groups, eps, and whether the SiLU follows.
Settings = tuple[int, float, bool]


def group_norm(norm: nn.GroupNorm, x: Tensor, shift: Tensor | None = None, silu: bool = True) -> Tensor:
    """silu(norm(x + shift)), or without the SiLU; ``x`` (B, C, *sides), ``shift`` (B, C) or None."""
    if _transformed(x):
        # torch's forward-mode rule takes views that channels-last memory does not have.
        return _plain(x.contiguous(), norm.weight, norm.bias, shift, norm.num_groups, norm.eps, silu)
    apply = _FastNorm.apply if _fast(x) else _plain
    return apply(x, norm.weight, norm.bias, shift, norm.num_groups, norm.eps, silu)


def _plain(
    x: Tensor, weight: Tensor, bias: Tensor, shift: Tensor | None, groups: int, eps: float, silu: bool
) -> Tensor:
    if shift is not None:
        x = x + shift[(..., *[None] * (x.ndim - 2))]
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
    if x.ndim != 4:
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


class _Saved(NamedTuple):
    """The inputs of a group norm, mean and rstd (B, groups, 1), scale and offset (B, 1, C), and `_moments`' third."""

    x: Tensor
    weight: Tensor
    bias: Tensor
    shift: Tensor | None
    mean: Tensor
    rstd: Tensor
    scale: Tensor
    offset: Tensor
    first: Tensor | None


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
        first, shift32 = None, None if shift is None else shift.float()
        # With bfloat16 weights torch would round the moments too, and the backward pass needs them.
        precise = weight.dtype == torch.float32 or not any(ctx.needs_input_grad)
        if shift is None and precise and v.shape[1] >= _NATIVE_PIXELS:
            size = (x.shape[0], x.shape[1], v.shape[1])
            y, mean, rstd = torch.native_group_norm(x, weight, bias, *size, groups, eps)
            mean, rstd = mean.float()[:, :, None], rstd.float()[:, :, None]
            scale, offset = _affine(mean, rstd, weight, bias, shift32, v.dtype)
        else:
            mean, rstd, first = _moments(v, shift32, groups, eps)
            scale, offset = _affine(mean, rstd, weight, bias, shift32, v.dtype)
            y = _image(torch.addcmul(offset, v, scale), x)
        ctx.save_for_backward(x, weight, bias, shift, mean, rstd, scale, offset, None if shift is None else first)
        ctx.settings = (groups, eps, silu)
        return F.silu(y, inplace=True) if silu else y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        if torch.is_grad_enabled():
            return *_Gradient.apply(grads[0], ctx.settings, *ctx.saved_tensors), None, None, None
        return *_first(grads[0], _Saved(*ctx.saved_tensors), ctx.settings), None, None, None


def _first(grad: Tensor, saved: _Saved, settings: Settings) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The gradients with respect to x, weight, bias and shift."""
    x, weight, _, shift, mean, rstd, scale, offset, first = saved
    groups, _, silu = settings
    v, du = _rows(x), _rows(grad)
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
    if shift is not None and first is not None:
        dshift = scale[:, 0] * g1.flatten(1) + v.shape[1] * (slope * first + level)
        level = level + slope * shift
    dx = torch.addcmul(level.to(v.dtype)[:, None], v, slope.to(v.dtype)[:, None], out=product)
    dx.addcmul_(du, scale)
    return _image(dx, x), h.sum(0).flatten(), g1.sum(0).flatten(), dshift


class _Gradient(torch.autograd.Function):
    """`_first` as a function with a gradient of its own, since torch's takes many more passes over memory."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, settings: Settings, *tensors: Any) -> Any:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(grad, *tensors)
        ctx.settings = settings
        return _first(grad, _Saved(*tensors), settings)

    @staticmethod
    def backward(ctx: Any, *tangents: Tensor | None) -> Any:
        if all(tangent is None for tangent in tangents):
            return (None,) * 11
        grad, *tensors = ctx.saved_tensors
        # The derivatives after the second are torch's.
        derivative = _thrice if torch.is_grad_enabled() else _second
        dgrad, *others = derivative(tangents, grad, _Saved(*tensors), ctx.settings)
        return dgrad, None, *others, None, None, None, None, None


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


class _Channels:
    """Per-channel numbers (B, groups, C / groups) of a group norm: sums over the pixels, means over a group, and back.

    Args:
        saved: of the norm; xhat = rstd v + level in the rows v of its input.
        groups: of the norm.
    """

    def __init__(self, saved: _Saved, groups: int) -> None:
        self.rows, self.groups, self.rstd = _rows(saved.x), groups, saved.rstd
        self.level = -saved.mean * saved.rstd
        if saved.shift is not None:
            self.level = self.level + self.of(saved.shift) * saved.rstd
        self.shape = (len(saved.x), groups, saved.x.shape[1] // groups)
        self.count = self.rows.shape[1] * self.shape[2]

    def of(self, channels: Tensor) -> Tensor:
        """(C,) or (B, C) -> (groups, C / groups) or (B, groups, C / groups), float32."""
        return channels.float().unflatten(-1, (self.groups, -1))

    def sums(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of the rows (B, pixels, C), and of their product with xhat."""
        plain, with_v = self.of(_sum(rows)), self.of(_sum(rows * self.rows))
        return plain, self.rstd * with_v + self.level * plain

    def mean(self, sums: Tensor) -> Tensor:
        """Means over a group, (B, groups, 1), from sums per channel."""
        return sums.sum(2, keepdim=True) / self.count

    def spread(self, channels: Tensor) -> Tensor:
        """(B, 1, C), to multiply rows."""
        return channels.expand(self.shape).flatten(1)[:, None].to(self.rows.dtype)

    def hats(self, slope: Tensor, level: Tensor) -> Tensor:
        """slope xhat + level, as new rows."""
        return torch.addcmul(self.spread(level + slope * self.level), self.rows, self.spread(slope * self.rstd))


def _second(tangents: tuple[Tensor | None, ...], grad: Tensor, saved: _Saved, settings: Settings) -> Any:
    """The gradients of S = sum of the tangents times what `_first` returns, by grad, x, weight, bias and shift.

    Along the tangents (z of x and shift, gw, gb) u = w xhat + b changes by q = w rstd (z - <z> - xhat <z xhat>) + gw
    xhat + gb, and S = sum grad silu'(u) q. So dS/dgrad = silu'(u) q; S depends on x by way of u, with c = grad silu''
    q, and through q, with du = grad silu', by way of xhat and rstd. <.> are means over a group, a is w du.
    """
    x, weight, bias, shift, mean, rstd, scale, offset, first = saved
    channels, silu, g = _Channels(saved, settings[0]), settings[2], _rows(grad)
    z = torch.zeros_like(g) if tangents[0] is None else _rows(tangents[0])
    if tangents[3] is not None:
        z = z + tangents[3].to(z.dtype)[:, None]
    w = channels.of(weight)
    gw, gb = (torch.zeros_like(w) if part is None else channels.of(part) for part in tangents[1:3])
    u = torch.addcmul(offset, channels.rows, scale)
    du = torch.ops.aten.silu_backward(g, u) if silu else g
    (z0, zh), (d0, dh), dz = channels.sums(z), channels.sums(du), channels.of(_sum(du * z))
    mean_z, mean_zh, mean_a, mean_ah = (channels.mean(part) for part in (z0, zh, w * d0, w * dh))
    gain, tilt, back = w * rstd, gw - w * rstd * mean_zh, -rstd * mean_ah
    q = channels.hats(tilt, gb - gain * mean_z).addcmul_(z, channels.spread(gain))
    dgrad, c = (torch.ops.aten.silu_backward(q, u), _bend(u).mul_(g).mul_(q)) if silu else (q, None)
    c0, ch = (torch.zeros_like(z0),) * 2 if c is None else channels.sums(c)
    # dS/dxhat = w c + tilt du + back z; what rstd alone changes is k rstd.
    k = channels.mean(w * dz) - mean_a * mean_z - mean_ah * mean_zh
    h0, hh = w * c0 + tilt * d0 + back * z0, w * ch + tilt * dh + back * zh
    slope, level = -rstd * (channels.mean(hh) + k * rstd), -rstd * channels.mean(h0)
    dx = channels.hats(slope, level)
    dx.addcmul_(du, channels.spread(rstd * tilt)).addcmul_(z, channels.spread(rstd * back))
    if c is not None:
        dx.addcmul_(c, channels.spread(gain))
    dweight = (ch + rstd * (dz - mean_z * d0 - mean_zh * dh)).sum(0).flatten().to(weight.dtype)
    dshift = None
    if shift is not None and first is not None:
        hats = slope * (channels.of(first) - mean) * rstd
        dshift = (rstd * h0 + g.shape[1] * (level + hats)).flatten(1).to(shift.dtype)
    return _image(dgrad, x), _image(dx, x), dweight, c0.sum(0).flatten().to(bias.dtype), dshift


def _bend(u: Tensor) -> Tensor:
    """silu''(u) = s (1 - s) (2 + u (1 - 2 s)), s = sigmoid(u)."""
    s = torch.sigmoid(u)
    return torch.addcmul(u, u, s, value=-2).add_(2).mul_(s).mul_(1 - s)


def _thrice(tangents: tuple[Tensor | None, ...], grad: Tensor, saved: _Saved, settings: Settings) -> Any:
    """What `_second` returns, with a graph of its own: torch's derivatives of `_plain`."""
    inputs = [tensor for tensor in (grad, *saved[:4]) if tensor is not None]
    inputs = [tensor if tensor.requires_grad else tensor.detach().requires_grad_() for tensor in inputs]
    y = _plain(inputs[1], inputs[2], inputs[3], inputs[4] if len(inputs) > 4 else None, *settings)
    grads = torch.autograd.grad(y, inputs[1:], inputs[0], create_graph=True)
    pairs = [(one, tangent) for one, tangent in zip(grads, tangents, strict=False) if tangent is not None]
    outputs, along = zip(*pairs, strict=True)
    result = torch.autograd.grad(outputs, inputs, along, create_graph=True, allow_unused=True)
    return result if len(inputs) > 4 else (*result, None)
