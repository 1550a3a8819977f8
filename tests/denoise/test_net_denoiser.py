"""Networks as denoisers: chunks, padding, clocks and precision."""

import pytest
import torch
from torch import Tensor, nn
from truth.models import TinyNet, net_denoiser, tensor

from diffprob.base.distributions import LocationScale
from diffprob.base.rng import Rng
from diffprob.denoise.clipping import Clip
from diffprob.denoise.denoiser import Evaluation, Index, NetDenoiser, Scale
from diffprob.denoise.prediction import X0, Epsilon, V
from diffprob.denoise.variance import UnitData, Zero
from diffprob.net.layers import Output
from diffprob.net.unet import UNetSpec
from diffprob.process.linear import LinearProcess

DDPM = LinearProcess()


def pictures(n: int, channels: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return Rng.of(20, n).normal((channels, 8, 8), dtype)


def unet(channels: int) -> nn.Module:
    """A small U-Net with attention, its zero layers filled."""
    torch.manual_seed(0)
    spec = UNetSpec(
        in_channels=channels, out_channels=channels, widths=(8, 16), layers=1, attention=(False, True), groups=4
    )
    net = spec.build().eval()
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return net


def test_clock_is_exact_for_every_index() -> None:
    """The network of the DDPM code takes 0..T-1, float32, from whichever arithmetic the time came."""
    for steps in (10, 1000, 4000):
        i = torch.arange(1, steps + 1, dtype=torch.float64)
        for t in (i / steps, i * (1 / steps), 1 - (steps - i) / steps, torch.linspace(1 / steps, 1, steps).double()):
            if t.dtype == torch.float64 and (t * steps - i).abs().max() < 1e-9:
                assert torch.equal(Index(steps)(t), i - 1)
                assert torch.equal(Index(steps)(t).float().double(), i - 1)
    one = Index(1000)(0.001)
    assert one.shape == ()
    assert float(one) == 0
    assert one.dtype == torch.float64


def test_clock_interpolates_between_indices() -> None:
    assert float(Index(1000)(tensor(0.12345))) == pytest.approx(122.45, abs=1e-9)
    assert float(Scale()(tensor(1.0))) == 999.0
    assert float(Scale(1000.0)(tensor(0.25))) == 250.0
    for bad in (lambda: Index(0), lambda: Scale(0.0), lambda: Scale(-3.0)):
        with pytest.raises(ValueError, match=r"got (0|-3)"):
            bad()


def test_network_gets_the_time_label_and_is_called_once() -> None:
    model = net_denoiser()
    model(pictures(3), tensor([0.001, 0.5, 1.0]))
    ((shape, dtype, label),) = model.net.calls
    assert shape == (3, 1, 8, 8)
    assert dtype == torch.float32
    assert label.tolist() == [0, 499, 999]
    model(pictures(3), tensor(0.7))
    assert model.net.calls[1][2].tolist() == [699] * 3


def test_posterior_matches_the_network_prediction() -> None:
    x, t = pictures(3, dtype=torch.float64), tensor([0.1, 0.5, 1.0])
    for prediction in (Epsilon(), X0(), V()):
        for variance in (Zero(), UnitData()):
            model = NetDenoiser(TinyNet().double(), DDPM, prediction, variance=variance)
            posterior = model(x, t)
            out = model.net(x, t * 1000 - 1).main
            torch.testing.assert_close(posterior.mean, prediction.to_x0(DDPM, x, t, out), rtol=1e-13, atol=0)
            expected = variance(DDPM, t).reshape(3, 1, 1, 1) + torch.zeros_like(posterior.std)
            torch.testing.assert_close(posterior.variance, expected, rtol=1e-14, atol=0)
            assert posterior.mean.dtype == posterior.std.dtype == torch.float64


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("n", [1, 2, 5, 8, 9, 16, 17])
def test_chunked_results_equal_whole_results_up_to_rounding(n: int, channels: int) -> None:
    """Every sample comes back, in order, at its own time; padding is dropped."""
    net = unet(channels).double()
    x, t = pictures(n, channels, torch.float64), torch.linspace(0.05, 0.95, n, dtype=torch.float64)
    whole = NetDenoiser(net, DDPM)(x, t).mean
    chunked = NetDenoiser(net, DDPM, evaluation=Evaluation(chunk=8))(x, t).mean
    torch.testing.assert_close(chunked, whole, rtol=1e-10, atol=1e-10)


def test_every_chunk_has_the_full_size() -> None:
    model = net_denoiser(chunk=8)
    for n in (1, 7, 8, 9, 20):
        model.net.calls.clear()
        model(pictures(n), tensor(0.5))
        assert [call[0][0] for call in model.net.calls] == [8] * -(-n // 8)
        assert all(len(call[2]) == 8 for call in model.net.calls)


@pytest.mark.parametrize("channels", [1, 3])
def test_sample_has_the_same_bits_in_any_batch(channels: int) -> None:
    model = NetDenoiser(unet(channels), DDPM, evaluation=Evaluation(chunk=16))
    x, t = pictures(64, channels), torch.linspace(0.05, 0.95, 64, dtype=torch.float64)
    with torch.no_grad():
        everything = model(x, t).mean
        for n in (1, 2, 7):
            for first in (0, 5, 64 - n):
                part = model(x[first : first + n], t[first : first + n]).mean
                assert torch.equal(part, everything[first : first + n]), (n, first)
        shuffled = torch.arange(63, -1, -1)
        assert torch.equal(model(x[shuffled], t[shuffled]).mean, everything[shuffled])
        same_time = model(x, tensor(0.5)).mean
        assert torch.equal(model(x[:1], tensor(0.5)).mean, same_time[:1])
        strided = torch.zeros(128, channels, 8, 8)[::2].copy_(x)
        assert torch.equal(model(strided, t).mean, everything)
        assert torch.equal(model(x.contiguous(memory_format=torch.channels_last), t).mean, everything)
        one = x[:1].expand(16, -1, -1, -1)
        assert torch.equal(model(one, tensor(0.5)).mean, model(one.clone(), tensor(0.5)).mean)


def test_sample_has_the_same_bits_on_one_thread_or_two() -> None:
    model = NetDenoiser(unet(1), DDPM, evaluation=Evaluation(chunk=16))
    threads = torch.get_num_threads()
    results = []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            with torch.no_grad():
                results.append(model(pictures(7), tensor(0.5)).mean)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_padding_does_not_leak() -> None:
    """Every row of the result comes from its own row of a chunk; those that only fill the last chunk are dropped."""

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor, t: Tensor) -> Output:
            row = torch.arange(len(x)).reshape(-1, 1, 1, 1)
            return Output(self.weight * x + row)

    model = NetDenoiser(Counting(), DDPM, X0(), evaluation=Evaluation(chunk=4))
    x = pictures(6)
    rows = (model(x, tensor(0.5)).mean - x).mean((1, 2, 3))
    assert rows.tolist() == pytest.approx([0, 1, 2, 3, 0, 1], abs=1e-6)


def test_gradients_flow_and_grad_mode_is_unchanged() -> None:
    for chunk in (None, 4):
        model = net_denoiser(chunk=chunk)
        x = pictures(6).requires_grad_()
        model(x, tensor(0.5)).mean.sum().backward()
        assert x.grad is not None
        assert (x.grad.flatten(1).abs().sum(1) > 0).all()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.net.parameters())
        with torch.no_grad():
            assert not model(x, tensor(0.5)).mean.requires_grad
        assert torch.is_grad_enabled()


def test_gradients_of_padded_chunks_match_the_whole_batch() -> None:
    gradients = []
    for chunk in (None, 4):
        model = net_denoiser(chunk=chunk).double()
        (model(pictures(6, dtype=torch.float64), tensor(0.5)).mean ** 2).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.net.parameters()]))
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_used_only_inside_the_network(precision: str) -> None:
    """Autocast rounds the network only: state and posterior keep their dtype, the label stays float32 (bf16(999) is
    1000)."""
    exact, half = (NetDenoiser(unet(1), DDPM, evaluation=Evaluation(precision=p)) for p in ("fp32", precision))
    x = pictures(4)
    with torch.no_grad():
        reference, rounded = exact.raw(x, tensor(0.5)).main, half.raw(x, tensor(0.5)).main
    assert rounded.dtype == torch.float32
    assert not torch.equal(reference, rounded)
    unit = {"bf16": 2**-8, "fp16": 2**-11}[precision]
    error = (reference - rounded).abs().max() / reference.abs().max()
    assert error < 32 * unit, f"{float(error / unit):.1f} units of rounding"
    model = net_denoiser()
    model.evaluation = Evaluation(precision=precision)
    posterior = model(x, tensor(1.0))
    assert model.net.calls[0][1] == torch.float32
    assert model.net.calls[0][2].tolist() == [999] * 4
    assert posterior.mean.dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")


def test_states_keep_their_dtype() -> None:
    for net_dtype in (torch.float32, torch.float64):
        model = NetDenoiser(TinyNet().to(net_dtype), DDPM)
        for dtype in (torch.float32, torch.float64):
            posterior = model(pictures(2, dtype=dtype), tensor(0.5))
            assert posterior.mean.dtype == posterior.std.dtype == dtype


def test_extra_outputs_are_kept() -> None:
    class Two(TinyNet):
        def forward(self, x: Tensor, t: Tensor) -> Output:
            return Output(super().forward(x, t).main, torch.full_like(x, 7.0))

    extra = NetDenoiser(Two(), DDPM).raw(pictures(2), tensor(0.5)).extra
    assert extra is not None
    assert (extra == 7).all()


def test_invalid_evaluation_settings_are_errors() -> None:
    for bad in (0, -1):
        with pytest.raises(ValueError, match=str(bad)):
            Evaluation(chunk=bad)
    with pytest.raises(ValueError, match="fp8"):
        Evaluation(precision="fp8")


def test_clip_changes_only_the_mean() -> None:
    model = NetDenoiser(TinyNet(), DDPM, variance=UnitData())
    x = pictures(4)
    posterior, clipped = model(x, tensor(0.9)), Clip(model)(x, tensor(0.9))
    assert posterior.mean.abs().max() > 1
    assert torch.equal(clipped.mean, posterior.mean.clamp(-1, 1))
    assert torch.equal(clipped.std, posterior.std)
    assert Clip(model).process is model.process
    assert Clip(model, 0.0, 0.5)(x, tensor(0.9)).mean.min() == 0
    with pytest.raises(ValueError, match="low < high"):
        Clip(model, 1.0, 1.0)


def test_clip_of_a_full_covariance_is_an_error() -> None:
    from truth.models import gaussian_data

    with pytest.raises(ValueError, match="Gaussian"):
        Clip(gaussian_data())(torch.zeros(1, 3, dtype=torch.float64), tensor(0.5))
    assert isinstance(Clip(net_denoiser())(pictures(1), tensor(0.5)), LocationScale)
