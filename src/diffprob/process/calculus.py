"""The stochastic differential equation dx = f x dt + g dw whose marginals are those of a linear process."""

import torch
from torch import Tensor

from diffprob.process.linear import LinearProcess
from diffprob.process.times import as_time


def increments(process: LinearProcess, s: Tensor | float, t: Tensor | float) -> tuple[Tensor, Tensor]:
    """What the forward process does between s and t: (log(alpha_t/alpha_s), sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2).

    The first is the integral of f, the second the variance of the noise that is added: b = sigma_t^2 (1 - SNR_t/SNR_s),
    which is beta for neighbours of a DDPM. Float64, shaped like the times.

    Exact when: always; where alpha_t = 0 the first is -inf.

    Raises:
        ValueError: t is below s.

    Reference: Kingma et al., "Variational diffusion models" (2021), appendix A.
    """
    (alpha_s, _), (alpha_t, sigma_t) = process.coefficients(s), process.coefficients(t)
    change = process.change(s, t)
    return torch.log(alpha_t / alpha_s), -torch.expm1(change) * sigma_t * sigma_t


def drift_and_diffusion(process: LinearProcess, t: Tensor | float) -> tuple[Tensor, Tensor]:
    """f = d log alpha/dt and g^2 = -sigma^2 d logsnr/dt at times () or (B,), float64.

    A table has no slopes at its knots: there it is the chord of the interval of the table that ends at or contains t,
    f = T log(alpha_i/alpha_(i-1)) and g^2 = T beta_i, so that T steps of 1/T add up to the table's own coefficients.

    Raises:
        ValueError: on a continuous schedule, the data itself (t = 0 without noise), where the log-SNR has no slope.

    Exact when: the schedule is continuous; on VPSDE f = -beta(t)/2 and g^2 = beta(t). Where alpha is 0 there is no f.

    Reference: Song et al., "Score-based generative modeling through stochastic differential equations" (2021), section
    3; Kingma et al., "Variational diffusion models" (2021), appendix F, for g^2.
    """
    steps = process.schedule.steps
    t = as_time(t, steps).detach()
    if steps is not None:
        position = t * steps
        # A knot belongs to the interval below it, also where rounding put it just above.
        above = torch.where((position - position.round()).abs() < 1e-9, position.round(), position.ceil()).clamp_min(1)
        f, g2 = increments(process, (above - 1) / steps, above / steps)
        return f * steps, g2 * steps
    with torch.enable_grad():
        moving = t.clone().requires_grad_(True)
        logsnr = process.logsnr(moving)
        if bool((logsnr == torch.inf).any()):
            raise ValueError("t = 0 is the data, where the log-SNR is infinite and has no slope")
        (slope,) = torch.autograd.grad(logsnr.sum(), moving)
        at = logsnr.detach().requires_grad_(True)
        alpha, sigma = process.scaling.coefficients(at)
        # Variance exploding: alpha is 1 whatever the time.
        (gain,) = torch.autograd.grad(alpha.log().sum(), at) if alpha.requires_grad else (torch.zeros_like(at),)
    return gain * slope, -(sigma.detach() ** 2) * slope


def logsnr_decay(process: LinearProcess, t: Tensor | float) -> Tensor:
    """-d logsnr/dt = g^2/sigma^2 at times () or (B,), float64: the likelihood weighting of |eps - eh|^2/2.

    Exact when: as `drift_and_diffusion`; VPSDE has beta(t)/sigma^2.

    Reference: Song et al., "Maximum likelihood training of score-based diffusion models" (2021), theorem 1.
    """
    return drift_and_diffusion(process, t)[1] / process.sigma(t) ** 2
