"""The stochastic differential equation of a process against the papers' own f and g."""

import pytest
import torch
from conform.components import PROCESSES, name
from truth.models import tensor

from diffprob.process.calculus import drift_and_diffusion, increments
from diffprob.process.linear import LinearProcess, StraightScaling, SubVariancePreserving, VarianceExploding
from diffprob.process.schedule import VPSDE, Cosine, LinearBetas, LogLinear, OrnsteinUhlenbeck, Straight, SubVP

T = torch.linspace(0.01, 0.99, 23, dtype=torch.float64)
BETA = 0.1 + 19.9 * T
GROWTH = torch.log(tensor(50 / 0.01))

PAPERS = [
    (LinearProcess(VPSDE()), -BETA / 2, BETA),
    # Song et al. 2021, eqs. 29 and 30.
    (LinearProcess(SubVP(), SubVariancePreserving()), -BETA / 2, BETA * (1 - torch.exp(-0.2 * T - 19.9 * T**2))),
    (LinearProcess(LogLinear(), VarianceExploding()), 0 * T, 2 * GROWTH * (0.01 * torch.exp(T * GROWTH)) ** 2),
    (LinearProcess(OrnsteinUhlenbeck(5.0)), -5 + 0 * T, 10 + 0 * T),
    # alpha = 1 - t and sigma = t: f = -1/(1 - t), g^2 = (t^2)' - 2 f t^2.
    (LinearProcess(Straight(), StraightScaling()), -1 / (1 - T), 2 * T / (1 - T)),
]


@pytest.mark.parametrize(("process", "f", "g2"), PAPERS, ids=lambda v: name(v) if isinstance(v, LinearProcess) else "")
def test_drift_and_diffusion_of_continuous_processes_match_the_papers(process, f, g2) -> None:
    with torch.no_grad():
        measured = drift_and_diffusion(process, T)
    torch.testing.assert_close(measured[0], f, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(measured[1], g2, rtol=1e-9, atol=1e-12)
    one = drift_and_diffusion(process, T[7])
    torch.testing.assert_close(torch.stack(one), torch.stack(measured)[:, 7])


@pytest.mark.parametrize("schedule", [LinearBetas(), LinearBetas(10, 0.01, 0.5), Cosine(50)], ids=repr)
def test_drift_and_diffusion_of_tables_match_their_betas(schedule) -> None:
    """g^2 = T beta_i and f = T log(1 - beta_i)/2 at the knots, and anywhere in the interval below them."""
    process, betas, steps = LinearProcess(schedule), schedule.betas(), schedule.steps
    knots = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    for t in (knots, knots - 0.3 / steps):
        f, g2 = drift_and_diffusion(process, t)
        torch.testing.assert_close(g2, steps * betas, rtol=1e-9, atol=0)
        torch.testing.assert_close(f, steps * torch.log1p(-betas) / 2, rtol=1e-9, atol=0)


@pytest.mark.parametrize("process", PROCESSES, ids=name)
def test_increments_map_marginal_to_marginal(process) -> None:
    """alpha_t = alpha_s e^F and sigma_t^2 = e^(2F) sigma_s^2 + G."""
    s, t = process.schedule.snap(tensor([0.1, 0.3, 0.5])), process.schedule.snap(tensor([0.3, 0.5, 0.9]))
    drift, noise = increments(process, s, t)
    torch.testing.assert_close(process.alpha(s) * drift.exp(), process.alpha(t), rtol=1e-12, atol=0)
    total = (2 * drift).exp() * process.sigma(s) ** 2 + noise
    torch.testing.assert_close(total, process.sigma(t) ** 2, rtol=1e-12, atol=0)
