"""The density of a potential: exact on Gaussian data, in every prediction, in nats."""

import pytest
import torch
from scipy import stats
from truth.models import gaussian_data, net_denoiser
from truth.potential import gaussian_potential

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.config.registry import ALL
from diffprob.config.spec import parse
from diffprob.denoise.denoiser import Evaluation, NetDenoiser
from diffprob.denoise.ideal import GaussianData
from diffprob.denoise.prediction import EDM, X0, Epsilon, Score, V
from diffprob.density.potential import V0, noise_potential, relative_log_prob
from diffprob.net.potential import PotentialSpec
from diffprob.net.unet import UNetSpec
from diffprob.process.linear import LinearProcess, VarianceExploding
from diffprob.process.schedule import Cosine, LogLinear

PREDICTIONS = [Epsilon(), V(), X0(), Score(), EDM()]
PROCESSES = {
    "linear": LinearProcess(),
    "cosine": LinearProcess(Cosine(1000)),
    "exploding": LinearProcess(LogLinear(), VarianceExploding()),
}


def points(data: GaussianData, t: torch.Tensor, n: int = 20) -> torch.Tensor:
    """Draws of x_t."""
    rng = Rng.of(0, n)
    x0 = rng.fold("x").normal((3,), torch.float64) @ torch.linalg.cholesky(data.cov).T + data.mean
    alpha, sigma = data.process.coefficients(t)
    return alpha * x0 + sigma * rng.fold("noise").normal((3,), torch.float64)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("prediction", PREDICTIONS, ids=repr)
@pytest.mark.parametrize("t", [0.001, 0.3, 1.0])
def test_potential_of_gaussian_data_matches_log_density(process: str, prediction, t: float) -> None:
    """F_t = -sigma log q_t + C(t), so differences between images are those of log q_t, in nats."""
    data = gaussian_data(PROCESSES[process])
    model, t = gaussian_potential(data, prediction), torch.tensor(t, dtype=torch.float64)
    x = points(data, t)
    log_p, exact = relative_log_prob(model, x, t), data.log_prob(x, t)
    assert log_p.dtype == torch.float64 and log_p.shape == (20,)
    # Two cancelling quadratic forms of size |x|^2/sigma^2, each rounded: 1e-16 times 1e6 at the worst (VE: |x| = 80).
    torch.testing.assert_close(log_p - log_p[0], exact - exact[0], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("prediction", PREDICTIONS, ids=repr)
def test_gradient_of_the_potential_is_the_predicted_noise(prediction) -> None:
    data = gaussian_data()
    model, t = gaussian_potential(data, prediction), torch.tensor([0.01, 0.2, 0.9], dtype=torch.float64)
    x = points(data, torch.tensor(0.2), 3).requires_grad_()
    (gradient,) = torch.autograd.grad(noise_potential(model, x, t).sum(), x)
    alpha, sigma = (c[:, None] for c in data.process.coefficients(t))
    torch.testing.assert_close(gradient, ((x - alpha * model(x, t).mean) / sigma).detach(), rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(gradient, -sigma * data.score(x.detach(), t), rtol=1e-8, atol=1e-9)


def test_v0_matches_the_closed_form() -> None:
    """V_0 = sigma_1/2 (x - alpha m)^T S^-1 (x - alpha m): METHOD's reading, at t = 1/T; lower is denser."""
    data = gaussian_data()
    model, t = gaussian_potential(data), torch.tensor(0.001, dtype=torch.float64)
    x = points(data, t)
    alpha, sigma = data.process.coefficients(t)
    assert float(sigma) == pytest.approx(0.01, rel=1e-6)  # k of the report
    offset = x - alpha * data.mean
    exact = sigma / 2 * (offset @ torch.linalg.inv(data.marginal_cov(t)[0]) * offset).sum(1)
    proxy = V0()
    assert proxy.columns == ("V_0", "log_prob") and not proxy.needs_fit
    statistics = proxy.statistics(model, x, Rng.of(0, 20))
    torch.testing.assert_close(statistics[:, 0], exact, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(proxy(model, x, Rng.of(0, 20)), -exact / sigma, rtol=1e-9, atol=1e-9)
    assert stats.spearmanr(proxy(model, x, Rng.of(0, 20)), data.log_prob(x, t)).statistic == pytest.approx(1)
    torch.testing.assert_close(V0(0.3)(model, x, Rng.of(0, 20)), relative_log_prob(model, x, 0.3))


def test_potential_has_the_same_bits_in_any_batch() -> None:
    torch.manual_seed(0)
    net = PotentialSpec(UNetSpec(1, 1, widths=(8,), layers=1, attention=(True,), groups=4)).build().eval()
    for parameter in net.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    model = NetDenoiser(net, LinearProcess(), V(), evaluation=Evaluation(chunk=4))
    x = torch.randn(9, 1, 8, 8)
    whole = V0()(model, x, Rng.of(0, 9))
    assert whole.dtype == torch.float64 and whole.std() > 0 and not whole.requires_grad
    assert torch.equal(whole[5:], V0()(model, x[5:], Rng.of(5, 4)))
    assert torch.equal(whole[8:], V0()(model, x[8:], Rng.of(8, 1)))
    model.evaluation = Evaluation()
    torch.testing.assert_close(V0()(model, x, Rng.of(0, 9)), whole, rtol=1e-4, atol=1e-3)
    times = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    model.evaluation = Evaluation(chunk=2)
    single = torch.cat([relative_log_prob(model, x[i : i + 1], times[i]) for i in range(9)])
    assert torch.equal(relative_log_prob(model, x, times), single)


def test_model_without_a_potential_is_an_error() -> None:
    x = torch.zeros(2, 1, 4, 4)
    for model in (net_denoiser(), gaussian_data()):
        with pytest.raises(InputError, match="potential"):
            V0()(model, x, Rng.of(0, 2))
    for t in (0.0, 1.5, -1.0):
        with pytest.raises(ValueError, match="got"):
            V0(t)
    assert parse(repr(V0(0.01)), ALL) == V0(0.01)
