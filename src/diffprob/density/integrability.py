"""Is a noise prediction the gradient of anything? The asymmetry of its Jacobian, and integrals around loops."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffprob.base.checks import whole
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng, normal_like
from diffprob.base.shapes import flat_sum
from diffprob.denoise.denoiser import Denoiser, NetworkModel
from diffprob.sampling.between import add_noise


@dataclass(frozen=True)
class Integrability:
    """How far a noise prediction is from a gradient at one time.

    Args:
        t: the time.
        rho: E|Jv - J^T v|^2 / (4 E|Jv|^2): 0 for gradients, 1/2 for a matrix of independent entries, 1 where J is
            antisymmetric.
        rho_error: its standard error, over images, noise and directions.
        loop: root mean square of the loop integrals over path lengths; 0 for gradients.
        loop_error: its standard error.
        n: images.
    """

    t: float
    rho: float
    rho_error: float
    loop: float
    loop_error: float
    n: int


def integrability(
    model: Denoiser, x0: Tensor, times: Sequence[float], rng: Rng, probes: int = 1, nodes: int = 8
) -> list[Integrability]:
    """Asymmetry and loop integrals of the noise prediction around x_t, one result for each time.

    Args:
        model: any denoiser that gradients flow through; a network evaluates in its parameters' own dtype.
        x0: images in model space, (B, *event), B >= 2.
        times: in (0, 1].
        rng: one stream per image: noise, directions, corners.
        probes: directions v ~ N(0, I) for each image and time.
        nodes: evaluations on each edge of the triangle of three noisings of the same image.

    Exact when: rho in expectation; the loops up to the error of the quadrature, which falls fast with ``nodes``.

    Raises:
        InputError: fewer than two images, or a network evaluated in less than float32.
        ValueError: a time without noise, no probes or nodes.
    """
    whole("probes", probes, 1)
    whole("nodes", nodes, 1, 1000)
    if len(x0) < 2:
        raise InputError(f"standard errors need at least 2 images, got {len(x0)}")
    results = []
    for number, time in enumerate(times):
        t = torch.tensor(float(time), dtype=torch.float64)
        streams = rng.at(number)
        corners = torch.stack([add_noise(model.process, x0, t, streams.fold(f"corner {i}")) for i in range(3)], 1)
        parts = [asymmetry(model, corners[:, 0], t, streams.fold(f"direction {k}")) for k in range(probes)]
        above, below = (torch.stack(part).mean(0) for part in zip(*parts, strict=True))
        rho = float(above.mean() / (4 * below.mean()))
        # The error of a ratio of means, to first order.
        rho_error = _standard_error(above - 4 * rho * below) / float(4 * below.mean())
        squares = loop_integral(model, corners, t, nodes) ** 2
        loop = math.sqrt(float(squares.mean()))
        loop_error = _standard_error(squares) / (2 * loop) if loop else 0.0
        results.append(Integrability(float(time), rho, rho_error, loop, loop_error, len(x0)))
    return results


def asymmetry(model: Denoiser, xt: Tensor, t: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
    """|Jv - J^T v|^2 and |Jv|^2 for one direction v ~ N(0, I) each, J = d eps/d x_t, float64 (B,) both.

    J^T u by one backward pass with a graph of its own; it is linear in u, and backward through it is Jv: no differences
    with a step to choose. Since E|Jv - J^T v|^2 = |J - J^T|_F^2 and E|Jv|^2 = |J|_F^2, a quarter of the ratio of the
    means is the antisymmetric share of J, |(J - J^T)/2|_F^2 / |J|_F^2.

    Exact when: in expectation.
    """
    x = _in_own_dtype(model, xt).detach().requires_grad_()
    v = normal_like(rng, x).requires_grad_()
    # Attention by torch's fused kernels has gradients that have none.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        (across,) = torch.autograd.grad(_noise(model, x, t), x, v, create_graph=True)
        (along,) = torch.autograd.grad(across, v, v.detach())
    along, across = along.double(), across.detach().double()
    return flat_sum((along - across) ** 2), flat_sum(along**2)


def loop_integral(model: Denoiser, corners: Tensor, t: Tensor, nodes: int = 8) -> Tensor:
    """The integral of eps . dx around the triangles ``corners`` (B, 3, *event), over their circumference, float64 (B,).

    By Gauss-Legendre quadrature on each edge. 0 for gradients of a smooth function, up to the error of the quadrature.

    Exact when: eps is a polynomial of degree 2 nodes - 1 along the edges.
    """
    corners = _in_own_dtype(model, corners)
    places, weights = np.polynomial.legendre.leggauss(nodes)
    total = torch.zeros(len(corners), dtype=torch.float64, device=corners.device)
    length = torch.zeros_like(total)
    for i in range(3):
        start, edge = corners[:, i], corners[:, (i + 1) % 3] - corners[:, i]
        length += flat_sum(edge.double() ** 2).sqrt()
        for place, weight in zip(places.tolist(), weights.tolist(), strict=True):
            with torch.no_grad():
                field = _noise(model, start + (1 + place) / 2 * edge, t)
            total += weight / 2 * flat_sum(field.double() * edge.double())
    return total / length


def _noise(model: Denoiser, xt: Tensor, t: Tensor) -> Tensor:
    return model.process.predicted_noise(model(xt, t).mean, xt, t)


def _in_own_dtype(model: Denoiser, x: Tensor) -> Tensor:
    """x in the dtype of the network; without one, at least float32."""
    if isinstance(model, NetworkModel) and model.evaluation.precision != "fp32":
        precision = model.evaluation.precision
        raise InputError(f"rounding is no asymmetry: evaluate with precision='fp32', got {precision!r}")
    own = next(model.parameters(), x).dtype if isinstance(model, nn.Module) else x.dtype
    return x.to(torch.float64 if own == torch.float64 else torch.float32)


def _standard_error(values: Tensor) -> float:
    return float(values.std()) / math.sqrt(len(values))
