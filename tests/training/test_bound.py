"""Training for likelihood: random terms against the whole bound, gradients, and where variances go."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from training.linear_net import for_gaussian
from truth.statistics import LIMIT, assert_mean

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng, normal_like
from diffprob.config.overrides import assign_all
from diffprob.config.recipe import build_model, check_trainable
from diffprob.config.registry import ALL
from diffprob.config.spec import parse, render
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.denoise.learned import LearnedDiagonal, LearnedRange, native_step
from diffprob.denoise.prediction import Epsilon, Mu, V
from diffprob.denoise.variance import UnitData, Zero
from diffprob.likelihood.bound import Decoder, variational_bound
from diffprob.net.layers import Output
from diffprob.process.calculus import increments
from diffprob.process.grids import Native
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import VPSDE, LinearBetas
from diffprob.space.pixels import Pixels
from diffprob.training.bound import Hybrid, VariationalBound
from diffprob.training.continuous import ContinuousBound
from diffprob.training.denoising import Denoising

CHAIN = LinearProcess(LinearBetas(10, 0.01, 0.5))
VARIANCES = [Zero(), UnitData(), LearnedRange(), LearnedDiagonal()]


def grey(n, levels=17, first=0):
    """n images of 4 pixels on the grey levels."""
    return Rng.of(first, n).fold("grey").integers((4,), levels).double() * (2 / (levels - 1)) - 1


def spoilt(variance, prediction=Epsilon()):
    """A model that is wrong in the mean and has some variance at every time."""
    model = for_gaussian(CHAIN, 0.4, variance, prediction, factor=0.9)
    with torch.no_grad():
        t = torch.arange(1, 11, dtype=torch.float64) / 10
        noise = increments(CHAIN, *native_step(CHAIN, t))[1].log() + 0.1
        model.net.extra.copy_(noise if isinstance(variance, LearnedDiagonal) else torch.linspace(-0.5, 0.7, 10))
    return model


@pytest.mark.parametrize("prediction", [Epsilon(), Mu(10)], ids=repr)
@pytest.mark.parametrize("variance", VARIANCES, ids=repr)
def test_random_term_is_an_unbiased_estimate_of_the_bound(variance, prediction):
    """Times T, over d: the mean over t and x_t is that of `variational_bound` without its prior."""
    n, model = 20_000, spoilt(variance, prediction)
    x0 = grey(n)
    with torch.no_grad():
        loss = 4 * VariationalBound(levels=17)(model, x0, Rng.of(1, n))
    bound = variational_bound(model, x0, Native()(CHAIN, 10), Rng.of(10**6, n), Decoder(17))
    whole = bound.steps + bound.reconstruction
    error = math.hypot(float(loss.std()), float(whole.std())) / math.sqrt(n)
    assert abs(float(loss.mean() - whole.mean())) < LIMIT * error
    assert error < 0.02 * float(whole.mean())


@pytest.mark.parametrize("variance", VARIANCES, ids=repr)
def test_each_term_equals_the_term_of_the_bound(variance):
    """At the same x_t, to rounding: which term it is, and that the last one is the decoder's."""
    n, model, decoder = 5, spoilt(variance), Decoder(17)
    x0, rng = grey(n), Rng.of(3, n)
    for i in range(1, 11):
        t = torch.full((n,), i / 10, dtype=torch.float64)
        bound = 4 * VariationalBound(levels=17).term(model, x0, t, rng)
        xt = CHAIN.marginal(x0, t).sample(rng.fold("noise"))
        posterior = model(xt, t)
        if i == 1:
            wanted = -decoder.law(CHAIN, posterior, t, t + 0.1).log_prob(x0)
        else:
            q = CHAIN.bridge(x0, xt, t - 0.1, t)
            p = CHAIN.reverse(posterior, xt, t - 0.1, t)
            z = (q.mean - p.mean) ** 2 / p.variance + q.variance / p.variance
            wanted = 0.5 * (z - 1 + (p.variance / q.variance).log() + 0 * x0).sum(1)
        torch.testing.assert_close(bound, wanted, rtol=1e-9, atol=1e-9)


def gradients(objective, model, x0):
    model.zero_grad()
    objective(model, x0, Rng.of(7, len(x0))).mean().backward()
    return {name: p.grad.clone() for name, p in model.net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("variance", [LearnedRange(), LearnedDiagonal()], ids=repr)
def test_hybrid_trains_the_mean_by_one_loss_and_the_variance_by_the_other(variance):
    x0, model = grey(500), spoilt(variance, V())
    result = gradients(Hybrid(0.01, levels=17), model, x0)
    bound = gradients(VariationalBound(levels=17), model, x0)
    model.variance = Zero()
    simple = gradients(Denoising(), model, x0)
    torch.testing.assert_close(result["factor"], simple["factor"], rtol=1e-12, atol=0)
    torch.testing.assert_close(result["extra"], 0.01 * bound["extra"], rtol=1e-12, atol=0)
    assert (bound["factor"] / simple["factor"] - 1).abs() > 0.1, "the bound has a gradient of its own to stop"
    assert (result["extra"] != 0).all()


def test_hybrid_is_the_sum_of_its_losses():
    x0, model = grey(50), spoilt(LearnedRange())
    loss = Hybrid(0.3, levels=17)(model, x0, Rng.of(7, 50))
    bound = VariationalBound(levels=17)(model, x0, Rng.of(7, 50))
    model.variance = Zero()
    torch.testing.assert_close(loss, Denoising()(model, x0, Rng.of(7, 50)) + 0.3 * bound, rtol=1e-12, atol=0)


@pytest.mark.parametrize("variance", [LearnedRange(), LearnedDiagonal()], ids=repr)
def test_learned_variance_reaches_the_closed_form(variance):
    """Data N(0, c I) and the exact mean: the best step variance is ell^2 + c0^2 sigma^2 c/(alpha^2 c + sigma^2)."""
    c, n = 0.4, 100
    model = for_gaussian(CHAIN, c, variance)
    model.net.factor.requires_grad_(False)
    with torch.no_grad():
        model.net.extra.fill_(0.0 if isinstance(variance, LearnedRange) else -1.0)
    adam = torch.optim.Adam([model.net.extra], lr=0.3)
    for step in range(80):
        adam.param_groups[0]["lr"] = 0.3 * (1 - step / 80)
        rng = Rng.of(0, n).at(step)
        x0 = math.sqrt(c) * normal_like(rng.fold("data"), torch.zeros(n, 20, dtype=torch.float64))
        loss = VariationalBound(levels=17)(model, x0, rng).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    t = torch.arange(2, 11, dtype=torch.float64) / 10
    bridge, (alpha, sigma) = CHAIN.bridge_coefficients(t - 0.1, t), CHAIN.coefficients(t)
    best = (bridge.ell**2 + bridge.c0**2 * sigma**2 * c / (alpha**2 * c + sigma**2)).log()
    log_variance = model.net.extra.detach()[1:]
    if isinstance(variance, LearnedRange):
        small, large = 2 * bridge.ell.log(), increments(CHAIN, t - 0.1, t)[1].log()
        log_variance = small + (log_variance + 1) / 2 * (large - small)
    # About 15 of the steps, each with 10 images of 20 pixels at a time, decide: the variance of a log is 2 over that.
    assert (log_variance - best).abs().max() < LIMIT * math.sqrt(2 / (15 * 10 * 20))
    assert (best - 2 * bridge.ell.log()).max() > 1, "btil would not do"


def test_variance_below_beta_tilde_has_a_gradient():
    """Where the posterior of x_0 is cut at 0, the step of training is not."""
    model = spoilt(LearnedDiagonal())
    with torch.no_grad():
        model.net.extra.fill_(-12.0)
    bound = gradients(VariationalBound(levels=17), model, grey(200))["extra"]
    assert torch.isfinite(bound).all() and (bound[1:] < -1e-3).all(), "a larger variance is better"


def test_terms_are_accurate_in_float32():
    """T = 1000, a network's precision: each term to 1e-3 of the mean term, no NaN in its gradient."""
    process = LinearProcess()
    n = 1000
    x0, rng, t = grey(n), Rng.of(0, n), torch.arange(1, 1001, dtype=torch.float64) / 1000

    class Nearly(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = torch.nn.Parameter(torch.tensor(0.01))

        def forward(self, x, label):
            alpha, sigma = process.coefficients((label.double() + 1) / 1000)
            kept = (0.5 * alpha / (0.5 * alpha**2 + sigma**2)).to(x)[:, None] * x
            noise = (x - alpha.to(x)[:, None] * kept) / sigma.to(x)[:, None]
            return Output(noise + self.bias, torch.zeros_like(x) + self.bias)

    model = NetDenoiser(Nearly(), process, variance=LearnedRange())
    single = VariationalBound(levels=17).term(model, x0.float(), t, rng)
    single.mean().backward()
    assert torch.isfinite(model.net.bias.grad)
    double = VariationalBound(levels=17).term(model.double(), x0, t, rng)
    assert (single.double() - double).abs().max() < 1e-3 * double.mean()


def test_loss_of_a_sample_does_not_depend_on_its_batch():
    model, x0 = spoilt(LearnedRange()), grey(8)
    for objective in (VariationalBound(levels=17), Hybrid(levels=17)):
        together = objective(model, x0, Rng.of(0, 8))
        alone = objective(model, x0[3:4], Rng.of(3, 1))
        assert torch.allclose(together[3:4], alone, rtol=1e-12)


def test_untrainable_combinations_are_errors():
    x0, rng = grey(2), Rng.of(0, 2)
    continuous = for_gaussian(LinearProcess(VPSDE()))
    for objective in (VariationalBound(levels=17), Hybrid(levels=17)):
        with pytest.raises(InputError, match=r"is continuous: take ContinuousBound\(\)"):
            objective(continuous, x0, rng)
    with pytest.raises(InputError, match=r"take VariationalBound\(\)"):
        ContinuousBound()(spoilt(Zero()), x0, rng)
    with pytest.raises(InputError, match=r"Hybrid\(\) trains a learned variance, not Zero\(\)"):
        Hybrid(levels=17)(spoilt(Zero()), x0, rng)
    with pytest.raises(InputError, match=r"take objective=Hybrid\(\) or VariationalBound\(\)"):
        Denoising()(spoilt(LearnedRange()), x0, rng)
    with pytest.raises(ValueError, match="needs levels"):
        VariationalBound()(spoilt(Zero()), x0, rng)
    with pytest.raises(ValueError, match="as the trainer does"):
        VariationalBound(levels=17, history=10)(spoilt(Zero()), x0, rng)
    for wrong in ({"levels": 1}, {"history": -1}, {"uniform": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            VariationalBound(**wrong)
    with pytest.raises(ValueError, match="weight"):
        Hybrid(weight=0.0)


@pytest.mark.parametrize("prediction", [Mu(1000), Epsilon()], ids=repr)
@pytest.mark.parametrize(
    ("variance", "objective"),
    [(LearnedDiagonal(), VariationalBound()), (UnitData(), VariationalBound()), (UnitData(), Denoising()),
     (LearnedRange(), Hybrid()), (LearnedRange(), VariationalBound(history=10))],
)  # fmt: skip
def test_published_ablation_rows_are_valid_recipes(recipe, prediction, variance, objective):
    """Ho et al. 2020, table 2, and Nichol & Dhariwal 2021, table 2."""
    outputs = 2 if isinstance(variance, LearnedRange | LearnedDiagonal) else 1
    network = replace(recipe.network, out_channels=outputs)
    row = replace(recipe, prediction=prediction, variance=variance, objective=objective, network=network)
    check_trainable(row)
    assert parse(render(row), ALL) == row
    x0 = torch.zeros(3, 1, 8, 8)
    bind = getattr(objective, "bind", None)
    model = build_model(row)
    loss = (objective if bind is None else bind(model, row.space))(model, x0, Rng.of(0, 3))
    loss.mean().backward()
    assert loss.shape == (3,) and all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_dependent_fields_may_be_set_in_any_order(recipe):
    settings = [("variance", "LearnedRange()"), ("objective", "Hybrid()"), ("network.out_channels", "2")]
    for order in itertools.permutations(settings):
        whole = assign_all(recipe, order)
        check_trainable(whole)
        assert (whole.variance, whole.network.out_channels) == (LearnedRange(), 2)
    assert assign_all(recipe, settings[:2]).network.out_channels == 2  # set with the variance
    with pytest.raises(InputError, match="out_channels must be 1"):
        assign_all(recipe, settings[1:])
    with pytest.raises(InputError, match=r"out_channels must be 1 .* got 3"):
        assign_all(recipe, [("network.out_channels", "3")])
    with pytest.raises(InputError, match=r"does not train the variance"):
        check_trainable(assign_all(recipe, settings[::2]))


def test_learned_diagonal_accepts_steps_of_different_lengths():
    model = spoilt(LearnedDiagonal())
    x, t = grey(2), torch.tensor([0.5, 0.5], dtype=torch.float64)
    s = torch.tensor([0.4, 0.1], dtype=torch.float64)
    both = CHAIN.reverse(model(x, t), x, s, t).variance
    for i in range(2):
        alone = CHAIN.reverse(model(x[i : i + 1], t[i : i + 1]), x[i : i + 1], s[i : i + 1], t[i : i + 1]).variance
        torch.testing.assert_close(both[i : i + 1], alone, rtol=1e-14, atol=0)
    assert torch.allclose(both[0], model.net.extra[4].exp()), "the native one is what the network says"


def test_bind_sets_the_grey_levels():
    space = Pixels((1, 2, 2), 17)
    assert VariationalBound().bind(spoilt(Zero()), space) == VariationalBound(levels=17)
    assert Hybrid().bind(spoilt(LearnedRange()), space) == Hybrid(levels=17)
    assert VariationalBound(levels=3).bind(spoilt(Zero()), space) == VariationalBound(levels=3)


def test_mu_prediction_loss_matches_the_closed_form():
    """The row "mu, simple": |mu - muh|^2/d with mu = c0 x_0 + ct x_t, which is c0^2 |x_0 - x0h|^2/d."""
    n, model = 4000, for_gaussian(CHAIN, 0.4, Zero(), Mu(10))
    x0 = math.sqrt(0.4) * Rng.of(5, n).fold("data").normal((4,), torch.float64)
    loss = Denoising()(model, x0, Rng.of(0, n)).detach()
    t = torch.arange(1, 11, dtype=torch.float64) / 10
    alpha, sigma = CHAIN.coefficients(t)
    c0 = torch.cat([torch.ones(1, dtype=torch.float64), CHAIN.bridge_coefficients(t[1:] - 0.1, t[1:]).c0])
    assert_mean(loss, (c0**2 * sigma**2 * 0.4 / (alpha**2 * 0.4 + sigma**2)).mean())
