"""Kullback-Leibler divergences in closed form."""

import math

import torch
from torch import Tensor

from diffprob.base.distributions import Categorical, Distribution, Gaussian, LocationScale
from diffprob.base.errors import NoClosedForm
from diffprob.base.laws import Normal
from diffprob.base.shapes import flat_sum


def _gaussian(p: Distribution) -> Gaussian | None:
    if isinstance(p, Gaussian):
        return p
    if isinstance(p, LocationScale) and isinstance(p.law, Normal):
        return Gaussian(p.mean, torch.diag_embed((p.variance + torch.zeros_like(p.mean)).flatten(1)))
    return None


def kl(q: Distribution, p: Distribution) -> Tensor:
    """KL(q || p) in nats, (B,), in closed form.

    Diagonal normals: sum_i [log(s_p/s_q) + (s_q^2 + (m_q - m_p)^2)/(2 s_p^2) - 1/2]; full covariances:
    (tr(P^-1 Q) + |m_q - m_p|^2_{P^-1} - d + log det P - log det Q)/2; categoricals: sum q log(q/p), with 0 log 0 = 0.
    Infinite where p gives no mass to what q may draw.

    Raises:
        NoClosedForm: for every other pair.
    """
    if isinstance(q, LocationScale) and isinstance(p, LocationScale) and q.law == p.law == Normal():
        ratio = q.variance / p.variance
        gap = (q.mean - p.mean) / p.std
        terms = 0.5 * (ratio - 1 - torch.log(ratio) + gap * gap)
        # A p without spread in an element: infinity, unless q is the same point there.
        point = p.variance == 0
        same = (q.variance == 0) & (q.mean == p.mean)
        return flat_sum(torch.where(point, torch.where(same, 0.0, math.inf).to(terms), terms))
    if isinstance(q, Categorical) and isinstance(p, Categorical):
        log_q, log_p = q.log_probabilities, p.log_probabilities
        probability = log_q.exp()
        # 0 log 0 = 0: a value that q never takes adds nothing, one that only p never takes adds infinity.
        taken = probability > 0
        terms = (probability * (log_q.where(taken, 0) - log_p.where(taken, 0))).sum(-1)
        return flat_sum(terms) if terms.ndim > 1 else terms
    full_q, full_p = _gaussian(q), _gaussian(p)
    if full_q is None or full_p is None:
        raise NoClosedForm(f"no closed form for KL({type(q).__name__} || {type(p).__name__})")
    factor_p, factor_q = torch.linalg.cholesky(full_p.cov), torch.linalg.cholesky(full_q.cov)
    gap = (full_q.mean - full_p.mean).flatten(1)[..., None]
    z = torch.linalg.solve_triangular(factor_p, gap, upper=False)
    m = torch.linalg.solve_triangular(factor_p, factor_q, upper=False)
    half_p, half_q = (torch.diagonal(factor, dim1=-2, dim2=-1).log().sum(-1) for factor in (factor_p, factor_q))
    return 0.5 * (flat_sum(z * z) + (m * m).sum((-2, -1)) - gap.shape[1]) + half_p - half_q
