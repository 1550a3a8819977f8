"""Parameterisations: conversions written out from the papers, and the two reverse-step variances they meet."""

import warnings
from dataclasses import replace

import pytest
import torch
from truth.models import TinyNet, tensor
from truth.reference import cumulative, ddpm_betas

from diffprob.base.distributions import LocationScale
from diffprob.base.rng import Rng
from diffprob.denoise.clipping import Clip
from diffprob.denoise.denoiser import LogNoise, NetDenoiser
from diffprob.denoise.prediction import EDM, X0, Epsilon, Mu, Prediction, Score, V
from diffprob.denoise.variance import UnitData, Zero
from diffprob.process.linear import LinearProcess, StraightScaling, SubVariancePreserving, VarianceExploding
from diffprob.process.schedule import VPSDE, Cosine, LinearBetas, LogLinear, Straight, SubVP
from diffprob.recipes import named
from diffprob.sampling.ancestral import DDIM
from diffprob.sampling.simulate import draw

DDPM = LinearProcess()
ABAR = torch.from_numpy(cumulative(ddpm_betas()))
BETAS = torch.from_numpy(ddpm_betas())
DATA, NOISE = (Rng.of(i, 6).normal((2, 3), torch.float64) for i in (0, 1))
INDEX = torch.tensor([1, 2, 10, 300, 999, 1000])
T = INDEX.double() / 1000
SHAPE = (-1, 1, 1)
A, S = ABAR[INDEX].sqrt().reshape(SHAPE), (1 - ABAR[INDEX]).sqrt().reshape(SHAPE)
XT = A * DATA + S * NOISE


def step(values: torch.Tensor) -> torch.Tensor:
    return values.reshape(SHAPE)


EXPLODING = LinearProcess(LogLinear(0.002, 80.0), VarianceExploding())
STRAIGHT = LinearProcess(Straight(), StraightScaling())
TARGETS = {
    Epsilon(): NOISE,
    X0(): DATA,
    V(): A * NOISE - S * DATA,
    # Karras et al., table 1 and eq. 8: (x_0 - c_skip y)/c_out with y = x_t/alpha and sigma = s/alpha.
    EDM(): (DATA - 0.25 / ((S / A) ** 2 + 0.25) * XT / A) / (S / A * 0.5 / ((S / A) ** 2 + 0.25).sqrt()),
    Score(): -NOISE / S,
    # DDPM's eq. 11: mu = (x_t - beta/s eps)/sqrt(alpha).
    Mu(): (XT - step(BETAS[INDEX - 1]) / S * NOISE) / (1 - step(BETAS[INDEX - 1])).sqrt(),
}


@pytest.mark.parametrize("prediction", TARGETS, ids=repr)
def test_target_matches_the_papers(prediction: Prediction) -> None:
    torch.testing.assert_close(prediction.target(DDPM, DATA, NOISE, T), TARGETS[prediction], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("prediction", TARGETS, ids=repr)
def test_to_x0_and_from_x0_invert_each_other(prediction: Prediction) -> None:
    torch.testing.assert_close(prediction.to_x0(DDPM, XT, T, TARGETS[prediction]), DATA, rtol=0, atol=1e-10)
    torch.testing.assert_close(prediction.from_x0(DDPM, XT, T, DATA), TARGETS[prediction], rtol=1e-9, atol=1e-10)


def test_conversions_between_predictions_match_the_formulas() -> None:
    """Each formula of the reference, through the hub."""
    out = Rng.of(3, 6).normal((2, 3), torch.float64)

    def convert(source: Prediction, target: Prediction, value: torch.Tensor) -> torch.Tensor:
        return target.from_x0(DDPM, XT, T, source.to_x0(DDPM, XT, T, value))

    def same(measured: torch.Tensor, expected: torch.Tensor) -> None:
        torch.testing.assert_close(measured, expected, rtol=1e-9, atol=1e-10)

    same(convert(Epsilon(), X0(), out), (XT - S * out) / A)
    same(convert(X0(), Epsilon(), out), (XT - A * out) / S)
    same(convert(V(), X0(), out), A * XT - S * out)
    same(convert(V(), Epsilon(), out), S * XT + A * out)
    same(convert(Epsilon(), Score(), out), -out / S)
    same(convert(Score(), X0(), out), (XT + S**2 * out) / A)
    beta = step(BETAS[INDEX - 1])
    same(convert(Epsilon(), Mu(), out)[1:], ((XT - beta / S * out) / (1 - beta).sqrt())[1:])
    same(convert(Score(), Mu(), out)[1:], ((XT + beta * out) / (1 - beta).sqrt())[1:])
    same(convert(Mu(), Epsilon(), out)[1:], ((XT - (1 - beta).sqrt() * out) * S / beta)[1:])


def test_mu_prediction_is_the_mean_of_the_next_step() -> None:
    mu = Mu().target(DDPM, DATA, NOISE, T)
    s = (INDEX[1:] - 1).double() / 1000
    torch.testing.assert_close(mu[1:], DDPM.bridge(DATA[1:], XT[1:], s, T[1:]).mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(mu[0], DATA[0], rtol=0, atol=0)


@pytest.mark.parametrize("prediction", TARGETS, ids=repr)
def test_float32_conversion_errors_are_below_1e_4(prediction: Prediction) -> None:
    x0, noise = DATA.float(), NOISE.float()
    for i in range(1, 1001, 37):
        t = tensor(i / 1000)
        xt = DDPM.marginal(x0, t).mean + DDPM.sigma(t).float() * noise
        target = prediction.target(DDPM, x0, noise, t)
        assert target.dtype == torch.float32
        # x_0 from the noise divides by alpha, 0.0064 at t = 1. From mu it divides by c0, 1.3e-4 there, and two ulps of
        # what is subtracted are more than 1e-4.
        a, b = prediction.coefficients(DDPM, t)
        subtracted = float(a.abs() * xt.abs().max() + b.abs() * target.abs().max())
        tolerance = 1e-4 if not isinstance(prediction, Mu) else max(1e-4, 2 * 2**-23 * subtracted)
        torch.testing.assert_close(prediction.to_x0(DDPM, xt, t, target), x0, rtol=0, atol=tolerance)
        error = (prediction.from_x0(DDPM, xt, t, x0) - target).abs().max() / target.abs().max()
        assert error < 1e-4


@pytest.mark.parametrize(
    ("process", "velocity"),
    [
        (LinearProcess(Straight(), StraightScaling()), lambda a, s: (a / (a**2 + s**2), -s / (a**2 + s**2))),
        (LinearProcess(VPSDE()), lambda a, s: (a, -s)),
        (LinearProcess(SubVP(), SubVariancePreserving()), lambda a, s: (a / (a**2 + s**2), -s / (a**2 + s**2))),
    ],
    ids=["straight", "vp", "sub-vp"],
)
def test_velocity_inverts_for_every_scaling(process: LinearProcess, velocity: object) -> None:
    """v = alpha eps - sigma x_0 inverts for every scaling, not only where alpha^2 + sigma^2 = 1."""
    t = torch.linspace(0.05, 1, 6, dtype=torch.float64)
    alpha, sigma = (c.reshape(SHAPE) for c in process.coefficients(t))
    xt, v = alpha * DATA + sigma * NOISE, alpha * NOISE - sigma * DATA
    torch.testing.assert_close(V().to_x0(process, xt, t, v), DATA, rtol=1e-10, atol=1e-12)
    a, b = V().coefficients(process, t)
    torch.testing.assert_close(torch.stack([a, b]), torch.stack(velocity(*process.coefficients(t))), rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    "process", [*map(LinearProcess, (LinearBetas(), Cosine(), VPSDE())), EXPLODING, STRAIGHT], ids=repr
)
def test_edm_input_and_target_have_unit_variance_at_every_noise(process: LinearProcess) -> None:
    """For data of variance sd^2, by the coefficients alone: Var[c_in x_t] = Var[target] = 1, and so is what a network
    that reaches its target adds, in units of B."""
    t = torch.linspace(process.schedule.start, 1, 41, dtype=torch.float64).clamp_min(1e-9)
    (alpha, sigma), sd = process.coefficients(t), 0.37
    prediction = EDM(sd)
    (a, b), scale = prediction.coefficients(process, t), prediction.input_scale(process, t)
    one = torch.ones_like(t)
    torch.testing.assert_close(scale**2 * (alpha**2 * sd**2 + sigma**2), one, rtol=1e-12, atol=0)
    target = ((1 - a * alpha) / b) ** 2 * sd**2 + (a * sigma / b) ** 2
    torch.testing.assert_close(target, one, rtol=1e-9, atol=0)
    # The output is uncorrelated with what is shown, so Var[x_0] = A^2 Var[x_t] + B^2.
    torch.testing.assert_close(a**2 * (alpha**2 * sd**2 + sigma**2) + b**2, sd**2 * one, rtol=1e-12, atol=0)


def test_edm_is_v_with_the_other_sign_for_unit_data() -> None:
    """Variance preserving with sigma_data = 1: the network sees x_t and predicts -v (1e-12)."""
    a, b = EDM(1.0).coefficients(DDPM, T)
    torch.testing.assert_close(torch.stack([a, -b]), torch.stack(V().coefficients(DDPM, T)), rtol=1e-12, atol=0)
    torch.testing.assert_close(EDM(1.0).input_scale(DDPM, T), torch.ones_like(T), rtol=1e-12, atol=0)
    velocity = V().target(DDPM, DATA, NOISE, T)
    torch.testing.assert_close(EDM(1.0).target(DDPM, DATA, NOISE, T), -velocity, rtol=1e-9, atol=1e-10)


def test_edm_loss_is_the_published_weight_of_the_error_in_x0() -> None:
    """lambda(sigma) |D - x_0|^2 with lambda = (sigma^2 + sd^2)/(sigma sd)^2 is |F - target|^2: the weight is 1."""
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    sigma, sd = EXPLODING.sigma(t), 0.5
    _, b = EDM(sd).coefficients(EXPLODING, t)
    torch.testing.assert_close((sigma**2 + sd**2) / (sigma * sd) ** 2 * b**2, torch.ones_like(t), rtol=1e-12, atol=0)


def test_network_is_shown_the_scaled_state_and_the_log_of_the_noise() -> None:
    """The clock says ln(sigma)/4 and the input has the variance of c_in x_t, for one time and for many alike."""
    net = TinyNet()
    seen = []
    net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model = NetDenoiser(net, EXPLODING, EDM(), LogNoise())
    t = tensor([0.1, 0.5, 0.9])
    x = Rng.of(0, 3).normal((1, 4, 4))
    together = model(x, t).mean
    sigma = EXPLODING.sigma(t)
    torch.testing.assert_close(seen[0], x / (sigma**2 + 0.25).sqrt().float().reshape(-1, 1, 1, 1))
    torch.testing.assert_close(net.calls[0][2].double(), sigma.log() / 4, rtol=1e-6, atol=1e-7)
    alone = torch.cat([model(x[k : k + 1], t[k]).mean for k in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_mu_prediction_with_zero_steps_is_an_error() -> None:
    with pytest.raises(ValueError, match="0"):
        Mu(0)


PROCESSES = [
    DDPM,
    LinearProcess(Cosine()),
    LinearProcess(VPSDE()),
    LinearProcess(LogLinear(), VarianceExploding()),
    LinearProcess(SubVP(), SubVariancePreserving()),
    LinearProcess(Straight(), StraightScaling()),
]


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
@pytest.mark.parametrize(("s", "t"), [(0.001, 0.002), (0.2, 0.5), (0.5, 0.51), (0.001, 0.999)])
def test_fixed_variances_match_the_papers(process: LinearProcess, s: float, t: float) -> None:
    """Zero gives btil; unit data the variance of x_s given x_t for N(0, I) data.

    For variance-preserving processes the latter is the forward variance beta_{t|s} itself.
    """
    (a_s, sigma_s), (a_t, sigma_t) = process.coefficients(s), process.coefficients(t)
    x = torch.zeros(1, 1, dtype=torch.float64)
    forward = sigma_t**2 - (a_t / a_s * sigma_s) ** 2

    def variance(choice: Zero | UnitData) -> float:
        posterior = LocationScale(x, choice(process, tensor(t)).sqrt())
        return float(process.reverse(posterior, x, s, t).variance)

    assert variance(Zero()) == pytest.approx(float(forward * sigma_s**2 / sigma_t**2), rel=1e-9)
    total_s, total_t = a_s**2 + sigma_s**2, a_t**2 + sigma_t**2
    conditional = total_s - (a_s * a_t + (a_t / a_s) * sigma_s**2) ** 2 / total_t
    assert variance(UnitData()) == pytest.approx(float(conditional), rel=1e-8)
    if abs(float(total_t) - 1) < 1e-12:
        assert variance(UnitData()) == pytest.approx(float(forward), rel=1e-9)


def test_fixed_variances_match_the_ddpm_code() -> None:
    """fixed_small and fixed_large of the released code, from their own tables."""
    betas, posterior = LinearBetas().betas(), UnitData()
    x = torch.zeros(1, 1, dtype=torch.float64)
    for i in (2, 3, 10, 500, 1000):
        s, t = (i - 1) / 1000, i / 1000
        large = DDPM.reverse(LocationScale(x, posterior(DDPM, tensor(t)).sqrt()), x, s, t).variance
        small = DDPM.reverse(LocationScale(x, Zero()(DDPM, tensor(t)).sqrt()), x, s, t).variance
        assert float(large) == pytest.approx(float(betas[i - 1]), rel=1e-11)
        assert float(small) == pytest.approx(float(betas[i - 1] * (1 - ABAR[i - 1]) / (1 - ABAR[i])), rel=1e-11)


@pytest.mark.parametrize("prediction", [Epsilon(), Score(), V(), X0(), Mu()], ids=repr)
def test_prediction_that_divides_by_zero_signal_is_an_error(prediction: Prediction) -> None:
    """alpha(1) = 0 on straight paths: a training would end with a network from which nothing can be drawn."""
    straight = LinearProcess(Straight(), StraightScaling())
    prediction.check(LinearProcess(Cosine()))
    if isinstance(prediction, Epsilon | Score):
        for make in (lambda: prediction.check(straight), lambda: NetDenoiser(TinyNet(), straight, prediction)):
            with pytest.raises(ValueError, match=r"divides by alpha, which is 0 at t = 1 .*V\(\) or X0\(\)"):
                make()
        with pytest.raises(ValueError, match=r"prediction .*divides by alpha, .*V\(\) or X0\(\)"):
            replace(named("digits"), process=straight, prediction=prediction)
    else:
        NetDenoiser(TinyNet(), straight, prediction)
        assert replace(named("digits"), process=straight, prediction=prediction).prediction == prediction


@pytest.mark.parametrize("prediction", [Epsilon(), V(), X0(), Mu()], ids=repr)
def test_process_with_infinite_noise_is_an_error(prediction: Prediction) -> None:
    process = LinearProcess(Straight(), VarianceExploding())
    with pytest.raises(ValueError, match="infinite noise at t = 1"):
        NetDenoiser(TinyNet(), process, prediction)
    with pytest.raises(ValueError, match="infinite noise at t = 1"):
        replace(named("digits"), process=process, prediction=prediction)


def test_large_error_amplification_warns() -> None:
    """Predicted noise on the cosine schedule, 1/alpha = 20,291 at pure noise; clipped or begun later it is well."""
    cosine, rng = LinearProcess(Cosine()), Rng.of(0, 2)
    model = NetDenoiser(TinyNet(), cosine)
    times = tensor([1.0, 0.5])
    with pytest.warns(UserWarning, match=r"Epsilon\(\) takes 20,291 times .* at t = 1, .*Clip\(model\).*V\(\)"):
        draw(model, DDIM(), times, rng, (1, 8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(Clip(model), DDIM(), times, rng, (1, 8, 8))
        draw(model, DDIM(), tensor([0.95, 0.5]), rng, (1, 8, 8))
        draw(NetDenoiser(TinyNet(), cosine, V()), DDIM(), times, rng, (1, 8, 8))
        draw(NetDenoiser(TinyNet(), LinearProcess()), DDIM(), times, rng, (1, 8, 8))
