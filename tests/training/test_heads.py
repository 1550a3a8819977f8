"""Heads learn the exact posterior variance from each kind of target, and fitting leaves the network alone."""

import pytest
import torch
from torch import Tensor, nn
from truth.models import tensor
from truth.quadrature import plane

from diffprob.base.errors import NumericalError
from diffprob.base.rng import Rng, normal_like
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.denoise.ideal import MixtureData
from diffprob.net.head import HeadedUNet
from diffprob.net.unet import UNetSpec
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import LinearBetas
from diffprob.training.covariance import KINDS
from diffprob.training.heads import CovarianceFit, HeadState, feature_source, fit_heads, head_spec, train_heads

# Three times, so that every one of them gets a third of the samples; alpha^2 = 0.7, 0.385, 0.154.
PROCESS = LinearProcess(LinearBetas(3, 0.3, 0.6))
WEIGHTS = tensor([0.5, 0.3, 0.2])
MEANS = tensor([[-0.8, 0.4], [0.7, 0.6], [0.1, -0.9]])
VARIANCES = tensor([[0.3, 0.2], [0.15, 0.4], [0.5, 0.1]])
POINTS = 160 * 4096
MIXTURE = MixtureData.of(WEIGHTS, MEANS, torch.diag_embed(VARIANCES), PROCESS)


def posterior(xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance (..., 2) and responsibilities (..., 3) of `MIXTURE` at xt (..., 2), written for speed."""
    alpha, sigma = (c.to(xt).reshape(-1, *(1,) * xt.ndim) for c in PROCESS.coefficients(t))
    alpha, sigma = (c.reshape(()) if t.ndim == 0 else c for c in (alpha, sigma))
    means, variances = MEANS.to(xt), VARIANCES.to(xt)
    total = alpha**2 * variances + sigma**2
    offset = xt[..., None, :] - alpha * means
    r = (WEIGHTS.to(xt).log() - 0.5 * (offset**2 / total + total.log()).sum(-1)).softmax(-1)
    component_means = means + alpha * variances / total * offset
    mean = (r[..., None] * component_means).sum(-2)
    return mean, (r[..., None] * (sigma**2 * variances / total + component_means**2)).sum(-2) - mean**2, r


def source(xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The exact mean; as features what a network would have found: mean, responsibilities, x_t and the time."""
    mean, _, r = posterior(xt, t)
    hot = nn.functional.one_hot((t * 3).round().long() - 1, 3).to(xt)
    hot = hot.reshape(-1, *(1,) * (xt.ndim - 2), 3).expand(*xt.shape[:-1], 3)
    return mean, torch.cat([mean, r, xt, hot], -1)


class Perceptron(nn.Module):
    """Features (..., 10) -> o (..., 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, 16), nn.SiLU(), nn.Linear(16, 16), nn.SiLU(), nn.Linear(16, 2))

    def forward(self, features: Tensor) -> Tensor:
        return 1 + self.layers(features)


class Positive(Perceptron):
    """The same, above 0."""

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.softplus(5 * super().forward(features)) / 5


def heads(kinds: tuple[str, ...] = KINDS) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {kind: Positive() if kind == "nll" else Perceptron() for kind in kinds}


def points(n: int, seed: int) -> Tensor:
    """Data of `MIXTURE`, (n, 2) float64."""
    g = torch.Generator().manual_seed(seed)
    k = torch.multinomial(WEIGHTS, n, replacement=True, generator=g)
    return MEANS[k] + VARIANCES[k].sqrt() * torch.randn(n, 2, generator=g, dtype=torch.float64)


def batches(n: int, size: int = 512, first: int = 0) -> list[Tensor]:
    """Batches first, ..., n - 1 of images that are eight independent points: (size, 8, 2) float32."""
    return [points(8 * size, 100 + i).float().reshape(size, 8, 2) for i in range(first, n)]


@pytest.fixture(scope="module")
def fitted() -> dict[str, nn.Module]:
    """Three perceptrons after `POINTS` points."""
    trained, fit = heads(), CovarianceFit(steps=POINTS // 4096, pilot=4, bins=3, lr=1e-2, warmup=20)
    train_heads(PROCESS, source, trained, batches(fit.pilot + fit.steps), fit)
    return trained


def average(value: Tensor, t: Tensor, at: Tensor, weight: float) -> Tensor:
    """E over q(x_t) of value (n^2, 2) on a plane of points."""
    return (MIXTURE.log_prob(at, t).exp()[:, None] * value).sum(0) * weight


def test_fast_posterior_matches_the_library() -> None:
    x = points(50, 1)
    for t in (tensor(1 / 3), tensor(1.0), torch.ones(50, dtype=torch.float64)):
        mean, variance, _ = posterior(x, t)
        torch.testing.assert_close(mean, MIXTURE(x, t).mean, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(variance, MIXTURE(x, t).variance, rtol=1e-12, atol=1e-14)


def test_fitted_head_matches_monte_carlo(fitted) -> None:
    """Steps with the learned variance, averaged over x_t: within 0.5% of E(x_s - mu)^2 for every kind, time and eta of
    the Markov chain; o itself within 4 standard errors of what the training saw; and the right shape over x_t."""
    at, weight = plane(-6, 6, 81)
    x0, n = points(100_000, 7), 100_000
    for k, t in enumerate(tensor([1 / 3, 2 / 3, 1.0])):
        alpha, sigma = PROCESS.coefficients(t)
        unit = sigma**2 / (alpha**2 + sigma**2)
        xt = alpha * x0 + sigma * Rng.of(8 + k * n, n).normal((2,), torch.float64)
        bridge = PROCESS.bridge_coefficients(0.75 * t, t)
        z = Rng.of(9 + 3 * n + k * n, n).normal((2,), torch.float64)
        step = bridge.c0 * x0 + bridge.ct * xt + bridge.ell * z
        squares = (step - bridge.c0 * posterior(xt, t)[0] - bridge.ct * xt) ** 2 - bridge.ell**2 * (z * z - 1)
        exact = posterior(at, t)[1]
        true = average(exact, t, at, weight)
        assert squares.mean(1).std() / n**0.5 < 0.0025 * squares.mean()
        for kind, head in fitted.items():
            _, features = source(at.float(), t.expand(len(at)))
            with torch.no_grad():
                learned = unit * head(features).double()
            mean = average(learned, t, at, weight)
            variance = (bridge.ell**2 + bridge.c0**2 * mean).mean()
            # No condition of the likelihood's optimum says that its average is right, as the bias does of squares.
            near = 0.02 if kind == "nll" else 0.005
            assert abs(float(variance / squares.mean()) - 1) < near, f"{kind} at {float(t):.2f}"
            # Mean squares of o near 2.5, 7 and 0.6; a third of the points, of which the falling rate counts about half.
            spread = {"npr": 1.6, "sn": 3.5, "ocm": 0.8, "nll": 6.4}[kind] / (POINTS / 6) ** 0.5
            assert (mean - true).abs().max() < 4 * spread * unit, f"{kind} at {float(t):.2f}"
            error = average((learned - exact) ** 2, t, at, weight).sum()
            constant = average((exact - true) ** 2, t, at, weight).sum()
            assert error < {"npr": 0.5, "sn": 1.5, "ocm": 0.4, "nll": 0.5}[kind] * constant, f"{kind} at {float(t):.2f}"


def test_resumed_fit_has_the_bits_of_an_unbroken_fit() -> None:
    fit = CovarianceFit(steps=8, pilot=2, bins=3, warmup=3, seed=4)
    whole, seen = heads(), []
    last = train_heads(PROCESS, source, whole, batches(10, 32), fit, lambda step, losses: seen.append((step, losses)))
    state: HeadState | None = None
    for until, first in ((3, 0), (8, 5)):
        state = train_heads(PROCESS, source, heads(), batches(10, 32, first), fit, state=state, until=until)
        assert state.step == until
    assert state is not None
    for kind in KINDS:
        for name, value in whole[kind].state_dict().items():
            assert torch.equal(value, state.heads[kind][name])
    assert last.optimiser.keys() == state.optimiser.keys()
    assert all(torch.equal(value, state.optimiser[name]) for name, value in last.optimiser.items())
    assert [step for step, _ in seen] == list(range(1, 9))
    assert set(seen[0][1]) == set(KINDS)


def test_head_is_fitted_the_same_alone_and_with_others() -> None:
    fit = {kinds: CovarianceFit(kinds, steps=4, pilot=1, bins=4) for kinds in (("sn",), ("npr", "sn"))}
    states = [train_heads(PROCESS, source, heads(kinds), batches(5, 16), fit[kinds]) for kinds in fit]
    alone, together = (state.heads["sn"] for state in states)
    torch.manual_seed(0)
    fresh = [Perceptron() for _ in range(2)][1]
    single = train_heads(PROCESS, source, {"sn": fresh}, batches(5, 16), fit["sn",])
    assert all(torch.equal(value, single.heads["sn"][name]) for name, value in together.items())
    assert not all(torch.equal(value, alone[name]) for name, value in together.items())


def test_empty_bins_take_the_mean_square_of_their_neighbours() -> None:
    """Three times fill three of seven bins: 2, 4 and 6 (counted from 0)."""
    fit = CovarianceFit(steps=1, pilot=3, bins=7)
    logs = {k: v.log() for k, v in train_heads(PROCESS, source, heads(), batches(4, 32), fit).squares.items()}
    for value in logs.values():
        torch.testing.assert_close(value[[0, 1]], value[[2, 2]])
        torch.testing.assert_close(value[[3, 5]], (value[[2, 4]] + value[[4, 6]]) / 2)
        assert len(value.unique()) == 5


def unet_denoiser() -> NetDenoiser:
    """A small U-Net in training mode with dropout, its zero layers filled."""
    torch.manual_seed(1)
    spec = UNetSpec(1, 1, widths=(8, 16), layers=1, attention=(False, True), groups=4, dropout=0.3)
    net = spec.build().train()
    for parameter in net.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    net.mid_block.eval()
    return NetDenoiser(net, LinearProcess())


def images(n: int) -> list[Tensor]:
    return [0.5 * normal_like(Rng.of(50 + 4 * i, 4), torch.zeros(4, 1, 8, 8)) for i in range(n)]


@pytest.mark.parametrize("blocks", [0, 1])
def test_fit_leaves_the_network_unchanged_and_is_repeatable(blocks: int) -> None:
    model = unet_denoiser()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    fit = CovarianceFit(steps=2, pilot=1, bins=4, warmup=1, lr=1e-2)
    first = fit_heads(model, images(3), fit, blocks)
    torch.rand(3)
    second = fit_heads(model, images(3), fit, blocks)
    assert modes == [module.training for module in model.modules()]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    for kind in KINDS:
        head = head_spec(model, kind, blocks).build()
        head.load_state_dict(first.heads[kind])
        assert all(torch.equal(value, second.heads[kind][name]) for name, value in first.heads[kind].items())
        output = HeadedUNet(model.net, head).eval()(images(1)[0], torch.tensor(500.0))
        assert (output.extra - 1).abs().max() > 1e-3
    headed = NetDenoiser(HeadedUNet(model.net, head), model.process)
    assert head_spec(headed, "npr", blocks) == head_spec(model, "npr", blocks)
    assert (head_spec(model, "nll").blocks, head_spec(model, "npr").blocks) == (1, 0)


def test_feature_source_returns_features_and_the_unclipped_mean() -> None:
    model = unet_denoiser().eval()
    x, t = 3 * images(1)[0], tensor([0.001, 0.3, 0.9, 1.0])
    mean, features = feature_source(model)(x, t)
    assert torch.equal(mean, model(x, t).mean)
    assert mean.abs().max() > 5
    assert features.shape == (4, 8, 8, 8)


def test_loss_that_is_not_finite_stops_the_fit() -> None:
    fit = CovarianceFit(("npr",), steps=5, pilot=2, bins=4)
    for bad, where in ((1, "pilot"), (4, "step 3")):
        data = batches(7, 16)
        data[bad][0, 0] = float("nan")
        with pytest.raises(NumericalError, match=f"{where} .* not finite for the npr head"):
            train_heads(PROCESS, source, heads(("npr",)), data, fit)


def test_invalid_arguments_are_errors() -> None:
    fit = CovarianceFit(("npr",), steps=5, pilot=2)
    with pytest.raises(ValueError, match="ended after 4, the fit needs 7"):
        train_heads(PROCESS, source, heads(("npr",)), batches(4, 8), fit)
    with pytest.raises(ValueError, match=r"expected heads for \('npr',\), got \('sn',\)"):
        train_heads(PROCESS, source, heads(("sn",)), batches(1, 8), fit)
    with pytest.raises(ValueError, match="got a Perceptron"):
        fit_heads(NetDenoiser(Perceptron(), PROCESS), [], fit)
    for bad in (
        lambda: CovarianceFit(()), lambda: CovarianceFit(("npr", "npr")), lambda: CovarianceFit(("nrp",)),
        lambda: CovarianceFit(steps=0), lambda: CovarianceFit(pilot=0), lambda: CovarianceFit(lr=0.0),
        lambda: CovarianceFit(bins=0), lambda: CovarianceFit(lr=float("inf")), lambda: CovarianceFit(seed=-1),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="got"):
            bad()


def test_learning_rate_warms_up_and_decays() -> None:
    fit = CovarianceFit(steps=100, warmup=10, lr=1.0)
    assert fit.rate(1) == pytest.approx(0.1)
    assert fit.rate(51) == pytest.approx(0.5)
    assert fit.rate(100) == pytest.approx(0.01)
