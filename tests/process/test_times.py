"""What is no time, or no grid of times, is refused wherever it arrives, with what was meant."""

import pytest
import torch
from conform.components import PREDICTIONS, PROCESSES, SAMPLERS, name
from truth.models import TinyNet, exact_models, gaussian_data, net_denoiser, tensor

from diffprob.base.rng import Rng
from diffprob.denoise.clipping import Clip
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.denoise.learned import LearnedRange
from diffprob.likelihood.bound import Decoder, variational_bound
from diffprob.process.calculus import drift_and_diffusion, increments
from diffprob.process.chain import noisy_times
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import VPSDE, LogLinear
from diffprob.process.times import as_time
from diffprob.sampling.adaptive import AdaptiveODE
from diffprob.sampling.ancestral import DDIM
from diffprob.sampling.between import add_noise, mix, sample_from, times_from
from diffprob.sampling.invert import invert
from diffprob.sampling.simulate import State, draw, simulate
from diffprob.sampling.translate import sdedit

DDPM = LinearProcess()
IMAGES = torch.zeros(2, 1, 8, 8)
WRONG = {
    "whole": (torch.tensor(500), r"whole numbers: .*; step 500 of 1000 is t = 0.5"),
    "one": (torch.tensor(1), r"whole numbers: .*; step 1 of 1000 is t = 0.001"),
    "steps": (torch.tensor([3, 7]), r"whole numbers: .*; step 3 of 1000 is t = 0.003"),
    "float": (tensor(500.0), r"t = 500: a time in \[0, 1\] would be right; step 500 of 1000 is t = 0.5"),
    "batch": (tensor([0.5, 999.0]), r"t = 999: .*; step 999 of 1000 is t = 0.999"),
    "above": (tensor(1.5), r"t = 1.5: a time in \[0, 1\] would be right$"),
    "below": (tensor([-0.5, 0.5]), r"t = -0.5: a time in \[0, 1\] would be right$"),
    "nan": (tensor([0.5, float("nan")]), "t = nan: a time in"),
}
NETS = {
    repr(p): NetDenoiser(TinyNet(), DDPM, prediction=p) for p in PREDICTIONS
} | {"clipped": Clip(net_denoiser(DDPM))}  # fmt: skip
EXACT = exact_models(DDPM)
plane = torch.zeros(2, 2)


@pytest.mark.parametrize(("t", "message"), WRONG.values(), ids=list(WRONG))
@pytest.mark.parametrize("kind", [*NETS, *EXACT])
def test_invalid_time_is_an_error_in_every_denoiser(kind: str, t, message: str) -> None:
    model, x = (NETS[kind], IMAGES) if kind in NETS else (EXACT[kind], plane)
    with pytest.raises(ValueError, match=message):
        model(x, t)


@pytest.mark.parametrize(("t", "message"), WRONG.values(), ids=list(WRONG))
@pytest.mark.parametrize(
    "call",
    [
        DDPM.logsnr,
        DDPM.coefficients,
        lambda t: DDPM.marginal(plane, t),
        lambda t: DDPM.bridge(plane, plane, tensor(0.1), t),
        lambda t: DDPM.bridge(plane, plane, t, tensor(1.0)),
        lambda t: add_noise(DDPM, plane, t, Rng.of(0, 2)),
        lambda t: increments(DDPM, tensor(0.0), t),
        lambda t: drift_and_diffusion(DDPM, t),
        lambda t: NETS["clipped"].model.raw(IMAGES, t),
    ],
)
def test_invalid_time_is_an_error_in_every_function_of_time(call, t, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(t)


def test_times_outside_by_rounding_are_clamped_and_others_unchanged() -> None:
    t = tensor([0.0, 0.3, 1.0])
    assert as_time(t, 10) is t
    assert as_time(tensor([-1e-12, 1 + 1e-12]), None).tolist() == [0, 1]
    assert torch.equal(DDPM.logsnr(1 + 1e-12), DDPM.logsnr(1.0))
    assert torch.isinf(LinearProcess(VPSDE()).logsnr(-1e-17))
    t.requires_grad_(True)
    LinearProcess(VPSDE()).logsnr(t[1:2]).sum().backward()
    assert t.grad is not None


GRIDS = {
    "to the data": (tensor([1.0, 0.5, 0.0]), r"times end at 0, where .* has no noise: .* an end at 0.001"),
    "upwards": (tensor([0.1, 0.5, 1.0]), r"decrease: 0.1 is followed by 0.5; times.flip\(0\) would be right"),
    "twice": (tensor([1.0, 0.5, 0.5]), "times must decrease: 0.5 is followed by 0.5$"),
    "steps": (tensor([999.0, 500.0]), "t = 999: .*; step 999 of 1000 is t = 0.999"),
    "whole": (torch.tensor([999, 500]), "whole numbers"),
    "below": (tensor([0.5, -0.1]), "t = -0.1: a time"),
    "nan": (tensor([1.0, float("nan")]), "t = nan: a time"),
    "none": (tensor([]), r"a grid \(n,\) of at least one time, got the shape \(0,\)"),
    "one": (tensor(0.5), r"of at least one time, got the shape \(\)"),
}  # fmt: skip


@pytest.mark.parametrize(("times", "message"), GRIDS.values(), ids=list(GRIDS))
def test_invalid_grid_is_an_error_in_every_chain(times, message: str) -> None:
    model, x = gaussian_data(DDPM), torch.zeros(2, 3, dtype=torch.float64)
    rng = Rng.of(0, 2)
    for run in (
        lambda: list(simulate(model, DDIM(), x, times, rng)),
        lambda: draw(model, DDIM(), times, rng, (3,)),
        lambda: invert(model, x, times),
        lambda: variational_bound(model, x, times, rng, Decoder(None)),
    ):
        with pytest.raises(ValueError, match=message):
            run()


@pytest.mark.parametrize("process", PROCESSES, ids=name)
def test_grid_may_end_at_time_zero_only_with_noise_there(process) -> None:
    times = tensor([1.0, 0.5, 0.0])
    if isinstance(process.schedule, LogLinear):
        assert torch.equal(noisy_times(process, times), times)
    else:
        with pytest.raises(ValueError, match="has no noise"):
            noisy_times(process, times)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=name)
def test_step_to_noiseless_data_is_an_error(sampler) -> None:
    process = LinearProcess(VPSDE())
    with pytest.raises(ValueError, match="has no noise"):
        draw(net_denoiser(process), sampler, tensor([1.0, 0.5, 0.0]), Rng.of(0, 2), (1, 8, 8))


def test_adaptive_step_to_infinite_lambda_is_an_error() -> None:
    model = gaussian_data(LinearProcess(VPSDE()))
    with pytest.raises(ValueError, match=r"lambda must be finite at both ends, got .* and inf"):
        AdaptiveODE().step(model, State(torch.zeros(1, 3, dtype=torch.float64), tensor(0.5)), tensor(0.0), Rng.of(0, 1))


def test_chain_from_time_zero_is_an_error() -> None:
    for t in (0.0, tensor(0.0)):
        with pytest.raises(ValueError, match=r"t must lie in \(0, 1\], got 0"):
            times_from(DDPM, tensor([1.0, 0.5]), t)
    with pytest.raises(ValueError, match="step 500 of 1000"):
        sdedit(gaussian_data(DDPM), torch.zeros(1, 3), 500, DDIM(), tensor([1.0, 0.5]), Rng.of(0, 1))
    for weights in (tensor(0.5), tensor([0.5, float("nan")])):
        with pytest.raises(ValueError, match=r"weights must be finite numbers \(L,\)"):
            mix(torch.zeros(1, 3), torch.ones(1, 3), weights)
    with pytest.raises(ValueError, match="step 500 of 1000"):
        sample_from(gaussian_data(DDPM), DDIM(), torch.zeros(1, 3), 500, tensor([1.0, 0.5]), Rng.of(0, 1))


def test_learned_range_of_a_step_to_the_data_has_the_variance_of_x0() -> None:
    mean, extra = torch.zeros(2, 3, dtype=torch.float64), torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3)
    for t in (tensor(0.5), tensor([0.5, 0.001])):
        posterior = LearnedRange().posterior(DDPM, t, mean, extra)
        for s in (tensor(0.0), torch.zeros_like(t)):
            step = DDPM.reverse(posterior, mean, s, t)
            torch.testing.assert_close(step.variance, posterior.variance.expand(2, 3), rtol=1e-12, atol=0)
    t, s = tensor([0.5, 0.5]), tensor([0.0, 0.4])
    mixed = DDPM.reverse(LearnedRange().posterior(DDPM, t, mean, extra), mean, s, t)
    alone = DDPM.reverse(LearnedRange().posterior(DDPM, t[0], mean, extra), mean, s[1], t[0])
    torch.testing.assert_close(mixed.variance[1], alone.variance[1], rtol=1e-12, atol=0)
    assert bool(torch.isfinite(mixed.variance).all())


def test_step_of_length_zero_is_an_error() -> None:
    for t in (0.0, tensor([0.0, 0.0])):
        with pytest.raises(ValueError, match="expected s < t, got s=0, t=0"):
            DDPM.bridge_coefficients(t, t)
