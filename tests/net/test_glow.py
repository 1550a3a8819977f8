"""Glow is a bijection whose determinant is known, and its density is that of the noise it makes."""

import copy
import math
from itertools import product

import pytest
import torch
from torch import nn
from truth.statistics import assert_mean, assert_moments

from diffprob.base.rng import Rng
from diffprob.net.glow import GlowSpec, squeeze, unsqueeze
from diffprob.space.pixels import Pixels

VARIANTS = [
    GlowSpec(shape, 2, scales, 6, permutation, coupling, learn_top)
    for (shape, scales), (permutation, coupling, learn_top) in product(
        [((1, 2, 2), 1), ((2, 4, 4), 2), ((3, 2, 4), 1)],
        [("conv1x1", "affine", True), ("reverse", "additive", False), ("conv1x1", "additive", True)],
    )
]


def random_glow(spec, dtype=torch.float64, size=0.1):
    """A network whose every parameter has been moved, also those that begin at 0; far moves make the inverse steep."""
    torch.manual_seed(0)
    glow = spec.build().to(dtype).eval()
    with torch.no_grad():
        for parameter in glow.parameters():
            parameter += size * torch.randn_like(parameter)
    return glow


def images(spec, n=6, dtype=torch.float64):
    return Rng.of(3, n).normal(spec.shape, dtype)


@pytest.mark.parametrize("spec", VARIANTS, ids=repr)
def test_inverse_and_determinant_match_the_jacobian(spec):
    """Both ways by rounding alone, and the determinant is that of the dense Jacobian of images -> noise."""
    glow, x = random_glow(spec), images(spec)
    noise, log_det = glow.noise(x)
    d = math.prod(spec.shape)
    assert noise.shape == (6, d) and log_det.dtype == torch.float64
    torch.testing.assert_close(glow.inverse(noise), x, rtol=1e-10, atol=1e-10)
    again = Rng.of(9, 6).normal((d,), torch.float64)
    torch.testing.assert_close(glow.noise(glow.inverse(again))[0], again, rtol=1e-10, atol=1e-10)
    for one, expected in zip(x, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda y: glow.noise(y[None])[0][0], one).reshape(d, d)
        assert float((torch.linalg.slogdet(jacobian)[1] - expected).detach()) == pytest.approx(0, abs=1e-10)


def test_inverse_is_accurate_in_float32():
    spec = GlowSpec((1, 8, 8), 4, 3, 8)
    glow, x = random_glow(spec, torch.float32, 0.05), images(spec, dtype=torch.float32)
    torch.testing.assert_close(glow.inverse(glow.noise(x)[0]), x, rtol=1e-5, atol=1e-5)


def test_density_integrates_to_one():
    """Importance sampling in four dimensions: E[p(x)/q(x)] = 1, q a normal with 1.4 times the spread of the samples."""
    glow = random_glow(GlowSpec((1, 2, 2), 2, 1, 6), size=0.2)  # steeper: far from a normal
    made = glow.sample(Rng.of(0, 4000)).flatten(1)
    q = torch.distributions.MultivariateNormal(made.mean(0), 2 * made.T.cov())
    torch.manual_seed(1)
    x = q.sample((40_000,))
    with torch.no_grad():
        ratio = (glow.log_prob(x.view(-1, 1, 2, 2)) - q.log_prob(x)).exp()
    assert ratio.sum() ** 2 / ratio.square().sum() > 10_000  # of effective samples: the standard error can be trusted
    assert ratio.std() / len(ratio) ** 0.5 < 0.01
    assert_mean(ratio, 1.0)


def test_untrained_additive_is_standard_normal():
    """Rotations and couplings that add 0: log p is that of N(0, I), also in bits of levels drawn uniformly."""
    space = Pixels((1, 4, 4), 5)
    glow = GlowSpec(space.shape, 3, 2, 8, coupling="additive").build().double().eval()
    x = (2 * Rng.of(0, 4000).uniform(space.shape, torch.float64) - 1) * (1 + space.bin_width / 2)
    log_p = glow.log_prob(x)
    torch.testing.assert_close(log_p, torch.distributions.Normal(0, 1).log_prob(x).flatten(1).sum(1), rtol=0, atol=1e-4)
    second = (1 + space.bin_width / 2) ** 2 / 3  # E x^2 of the uniform law on all bins
    closed = (0.5 * math.log(2 * math.pi) + second / 2) / math.log(2) - math.log2(space.bin_width)
    assert_mean(space.bits_per_dim(-log_p), closed)


def test_untrained_affine_is_linear():
    """Every coupling scales one half by sigmoid(2): the determinant has nothing else in it."""
    glow = GlowSpec((3, 8, 8), 3, 2, 8, permutation="reverse").build().double().eval()
    x = images(glow.spec)
    noise, log_det = glow.noise(x)
    shrunk = 3 * (3 * 8 * 8 + 3 * 8 * 8 // 2) / 2 * math.log(1 / (1 + math.exp(-2)))
    torch.testing.assert_close(log_det, torch.full((6,), shrunk, dtype=torch.float64))
    torch.testing.assert_close(glow.noise(2 * x)[0], 2 * noise)


def test_density_of_samples_matches_their_noise():
    glow = random_glow(GlowSpec((1, 4, 4), 2, 2, 6))
    rng = Rng.of(5, 8)
    x = glow.sample(rng)
    drawn = rng.normal((16,), torch.float64)
    torch.testing.assert_close(glow.noise(x)[0], drawn)
    torch.testing.assert_close(glow.noise(glow.sample(rng, temperature=0.5))[0], drawn / 2)
    torch.testing.assert_close(glow.sample(rng.select(slice(3, 5))), x[3:5])  # no image depends on its neighbours
    _, log_det = glow.noise(x)
    normal = torch.distributions.Normal(0, 1).log_prob(drawn).sum(1)
    torch.testing.assert_close(glow.log_prob(x), normal + log_det)


def test_density_of_an_image_does_not_depend_on_others():
    glow = random_glow(GlowSpec((1, 4, 4), 2, 2, 6))
    x = images(glow.spec).requires_grad_(True)
    (gradient,) = torch.autograd.grad(glow.log_prob(x)[2], x)
    others = gradient.flatten(1).abs().amax(1)
    assert others[2] > 0 and others[[0, 1, 3, 4, 5]].max() == 0


def test_first_batch_initialises_the_actnorms():
    """After the first batch in training mode, every channel behind an actnorm has mean 0 and variance 1 over it."""
    torch.manual_seed(0)
    glow = GlowSpec((1, 8, 8), 2, 2, 8).build().double()
    untouched = copy.deepcopy(glow.state_dict())
    x = 0.3 * images(glow.spec, 32) + 2
    glow.eval().log_prob(x)
    assert all(torch.equal(untouched[name], value) for name, value in glow.state_dict().items())
    glow.train().log_prob(x)
    first = copy.deepcopy(glow.state_dict())
    step = glow.scales[0][0]
    seen = []
    handles = [step.net[index].register_forward_hook(lambda _m, _i, out: seen.append(out.clone())) for index in (0, 2)]
    glow.log_prob(x)
    for handle in handles:
        handle.remove()
    seen.append((squeeze(x) + step.bias) * step.log_scale.exp())
    for out in seen:
        rows = out.detach().transpose(0, 1).flatten(1)
        torch.testing.assert_close(rows.mean(1), rows.new_zeros(len(rows)), atol=1e-10, rtol=0)
        torch.testing.assert_close(rows.var(1, correction=0), rows.new_ones(len(rows)), atol=1e-4, rtol=0)
    glow.log_prob(5 * x)
    assert all(torch.equal(first[name], value) for name, value in glow.state_dict().items())


def test_model_has_no_buffers():
    """An average of parameters misses nothing: no buffers, and a copy that takes them over answers the same."""
    torch.manual_seed(0)
    glow = GlowSpec((1, 4, 4), 2, 1, 8).build().train()
    average = copy.deepcopy(glow).eval()
    assert not list(glow.buffers())
    x = images(glow.spec, 8, torch.float32)
    glow.log_prob(x)
    for mine, theirs in zip(average.parameters(), glow.parameters(), strict=True):
        mine.data.lerp_(theirs.data, 1.0)
    expected = glow.eval().log_prob(x)
    assert torch.equal(average.log_prob(x), expected)
    assert torch.equal(average.train().log_prob(x), expected)  # nor is it set anew when its training goes on


def test_actnorm_initialisation_is_shared_between_processes(monkeypatch):
    """The moments are averaged over the processes: two halves of a batch set what the whole batch sets."""
    x = images(GlowSpec((1, 4, 4)), 8) * torch.linspace(0.5, 3, 8, dtype=torch.float64)[:, None, None, None]
    torch.manual_seed(0)
    start = GlowSpec((1, 4, 4), 1, 1, 4).build().double()
    whole, half = copy.deepcopy(start).train(), copy.deepcopy(start).train()
    whole.log_prob(x)

    def all_reduce(moments):  # what the other process, with the other half, has for the first actnorm
        flat = squeeze(x[4:]).transpose(0, 1).flatten(1)
        moments += torch.stack([flat.mean(1), flat.square().mean(1)]) if len(calls) == 0 else moments.clone()
        calls.append(1)

    calls = []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    half.log_prob(x[:4])
    assert len(calls) == 3
    torch.testing.assert_close(half.scales[0][0].bias, whole.scales[0][0].bias)
    torch.testing.assert_close(half.scales[0][0].log_scale, whole.scales[0][0].log_scale)


def test_low_precision_is_used_only_in_the_couplings():
    """Under autocast the noise is still that of a bijection with the log-det it says: differences are those of h."""
    glow = random_glow(GlowSpec((1, 8, 8), 2, 2, 8), torch.float32, 0.05)
    x = images(glow.spec, dtype=torch.float32)
    exact = glow.log_prob(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        noise, log_det = glow.noise(x)
        rough = glow.log_prob(x)
    assert noise.dtype == torch.float32 and log_det.dtype == torch.float64
    # 8 bits of mantissa in h, which 64 dimensions average: parts in a thousand of the 64 nats or so.
    assert 0 < (rough - exact).abs().max() < 1.0


def test_squeeze_is_a_permutation():
    x = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    squeezed = squeeze(x)
    assert squeezed.shape == (2, 12, 2, 3)
    assert torch.equal(squeezed[0, :4, 0, 0].sort().values, x[0, 0, :2, :2].flatten())
    assert torch.equal(unsqueeze(squeezed), x)


def test_training_reaches_the_entropy_of_a_normal_law():
    """Additive couplings and a learned top fit a correlated normal; the optimum is its entropy, met by 0.03 nats."""
    torch.manual_seed(0)
    cov = torch.tensor([[1.0, 0.8, 0, 0], [0.8, 1, 0, 0], [0, 0, 0.25, 0.1], [0, 0, 0.1, 0.5]], dtype=torch.float64)
    law = torch.distributions.MultivariateNormal(torch.tensor([1.0, 0, -1, 2], dtype=torch.float64), cov)
    glow = GlowSpec((1, 2, 2), 2, 1, 4).build().double().train()
    adam = torch.optim.Adam(glow.parameters(), lr=0.02)
    for step in range(100):
        adam.param_groups[0]["lr"] = 0.03 * (1 - step / 100)
        adam.zero_grad()
        x = law.sample((256,))
        (-glow.log_prob(x.view(-1, 1, 2, 2))).mean().backward()
        adam.step()
    x = law.sample((20_000,))
    with torch.no_grad():
        gap = law.log_prob(x) - glow.eval().log_prob(x.view(-1, 1, 2, 2))
    assert -4 * gap.std() / len(gap) ** 0.5 < gap.mean() < 0.03  # KL(data || model), never below 0
    made = glow.sample(Rng.of(0, 20_000)).flatten(1)
    assert_moments(made[:100], law.mean, cov, 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (1, 28)}, "shape"),
        ({"scales": 3}, "scales=3"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"permutation": "random"}, "permutation must be one of conv1x1, reverse, got 'random'"),
        ({"coupling": "cubic"}, "coupling"),
    ],
)
def test_invalid_settings_are_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        GlowSpec(**({"shape": (1, 28, 28)} | changes))


def test_wrong_image_shape_is_an_error():
    glow = GlowSpec((1, 4, 4), 1, 1, 4).build()
    with pytest.raises(ValueError, match=r"\(1, 4, 4\), got \(1, 8, 8\)"):
        glow.log_prob(torch.zeros(2, 1, 8, 8))


def test_network_builds_on_the_meta_device():
    with torch.device("meta"):
        glow = GlowSpec((3, 32, 32), 4, 3, 64).build()
    assert all(isinstance(p, nn.Parameter) and p.is_meta for p in glow.parameters())
