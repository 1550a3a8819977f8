"""Networks whose output is a gradient: finite differences, second derivatives, and every way a network is used."""

import copy

import pytest
import torch
from torch import Tensor, nn
from truth.models import gaussian_data
from truth.potential import gaussian_potential

from diffprob.base.rng import Rng
from diffprob.config.registry import ALL
from diffprob.config.spec import parse
from diffprob.denoise.denoiser import Evaluation, NetDenoiser
from diffprob.net import layers
from diffprob.net import norm as norms
from diffprob.net.layers import Output
from diffprob.net.potential import Potential, PotentialSpec
from diffprob.net.scalar_unet import ScalarUNetSpec
from diffprob.net.unet import UNetSpec
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import LinearBetas
from diffprob.sampling.ancestral import DDIM, Ancestral
from diffprob.sampling.simulate import simulate

UNET = UNetSpec(1, 1, widths=(8, 16), layers=1, attention=(False, True), groups=4)
BODIES = {
    "unet": UNET,
    "rgb": UNetSpec(3, 3, widths=(8, 8), layers=1, attention=(False, False), groups=4, padding=1),
    "scalar": ScalarUNetSpec(UNET, (8, 4)),
    "scalar-group": ScalarUNetSpec(UNET, (8, 4), norm="group", activation="softplus", pool="sum"),
    "scalar-batch": ScalarUNetSpec(UNET, (8, 4), norm="batch", activation="silu"),
}


def potential(name: str = "unet", scale: float = 0.2) -> Potential:
    """A small one in evaluation mode with random numbers in every parameter."""
    torch.manual_seed(0)
    net = PotentialSpec(BODIES[name]).build().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return net


def case(net: Potential, size: int = 8, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Three images and labels."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, net.body.spec.in_channels, size, size, generator=generator, dtype=torch.float64)
    return x.to(dtype), torch.tensor([0.0, 421.0, 999.0], dtype=dtype)


def derivative(f, x: Tensor, v: Tensor, h: float = 1e-3) -> Tensor:
    """The derivative of f along v by differences of fourth order."""
    return (8 * (f(x + h * v) - f(x - h * v)) - (f(x + 2 * h * v) - f(x - 2 * h * v))) / (12 * h)


@pytest.mark.parametrize("name", BODIES)
def test_output_is_the_gradient_of_the_scalar(name: str) -> None:
    """Differences of fourth order with h = 0.001 in float64: h^4 = 1e-12 times a fifth derivative."""
    net = potential(name).double()
    x, t = case(net, dtype=torch.float64)
    main = net(x, t).main.detach()
    assert main.shape == x.shape and main.abs().max() > 1e-3
    for seed in range(3):
        v = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        with torch.no_grad():
            slope = derivative(lambda y: net.potential(y, t), x, v)
        torch.testing.assert_close((main * v).sum((1, 2, 3)), slope, rtol=1e-7, atol=1e-9)


def test_scalar_is_the_sum_of_the_body_outputs() -> None:
    net = potential()
    x, t = case(net)
    torch.testing.assert_close(net.potential(x, t), net.body(x, t).main.sum((1, 2, 3)))
    scalar = potential("scalar")
    torch.testing.assert_close(scalar.potential(x, t), scalar.body(x, t).main)


@pytest.mark.parametrize("name", BODIES)
def test_jacobian_products_match_finite_differences_and_are_symmetric(name: str) -> None:
    """With a graph to x: J^T v is the difference quotient of the field, and J is symmetric."""
    net = potential(name).double().requires_grad_(False)
    x, t = case(net, dtype=torch.float64)
    v, w = (torch.randn(x.shape, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in (2, 3))
    at = (x + 0).requires_grad_()
    main = net(2 * at, t).main  # not a leaf: the graph goes on below x
    (product,) = torch.autograd.grad(main, at, v, retain_graph=True)
    slope = derivative(lambda y: net(y, t).main, 2 * x, v)
    torch.testing.assert_close(product / 2, slope, rtol=1e-6, atol=1e-8)
    (other,) = torch.autograd.grad(main, at, w)
    torch.testing.assert_close((product * w).sum((1, 2, 3)), (other * v).sum((1, 2, 3)), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", BODIES)
def test_parameter_gradients_match_finite_differences(name: str) -> None:
    """The gradient of a loss of the field by differences along a random direction of all parameters at once."""
    net = potential(name).double()
    x, t = case(net, dtype=torch.float64)
    target = torch.randn(x.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def loss() -> Tensor:
        return (net(x, t).main - target).square().mean()

    loss().backward()
    frozen = [key for key, p in net.named_parameters() if not p.requires_grad]
    assert frozen == ["body.conv_out.bias" if name in {"unet", "rgb"} else "body.head.linear.bias"]
    trained = {key: p for key, p in net.named_parameters() if p.requires_grad}
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in trained.values())
    generator = torch.Generator().manual_seed(5)
    step = {key: torch.randn(p.shape, generator=generator, dtype=torch.float64) for key, p in trained.items()}
    expected = sum(float((step[key] * p.grad).sum()) for key, p in trained.items())
    values = []
    for h in (1e-5, -1e-5):
        with torch.no_grad():
            for key, p in trained.items():
                p.add_(h * step[key])
            values.append(float(loss()))
            for key, p in trained.items():
                p.sub_(h * step[key])
    assert (values[0] - values[1]) / 2e-5 == pytest.approx(expected, rel=1e-5)


def test_constant_added_to_the_scalar_changes_nothing() -> None:
    net = potential()
    x, t = case(net)
    before = net(x, t).main
    net.body.conv_out.bias.data += 3.0
    assert torch.equal(net(x, t).main, before)


def test_graph_is_kept_only_in_grad_mode() -> None:
    net = potential()
    x, t = case(net)
    with_graph = net(x, t).main
    assert with_graph.requires_grad
    with torch.no_grad():
        plain = net(x, t).main
        assert not plain.requires_grad and plain.grad_fn is None
        assert not net((x + 0).requires_grad_(), t).main.requires_grad
        assert not torch.is_grad_enabled() and not x.requires_grad
    torch.testing.assert_close(plain, with_graph.detach(), rtol=0, atol=1e-5)
    net.requires_grad_(False)
    assert not net(x, t).main.requires_grad
    assert net((x + 0).requires_grad_(), t).main.requires_grad
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("name", BODIES)
def test_samples_are_independent(name: str) -> None:
    net = potential(name).double()
    x, t = case(net, dtype=torch.float64)
    with torch.no_grad():
        whole = net(x, t).main
        alone = torch.cat([net(x[i : i + 1], t[i]).main for i in range(3)])
        swapped = net(torch.cat([x[:1], 5 - x[1:]]), t).main
    torch.testing.assert_close(whole, alone, rtol=0, atol=1e-13)
    torch.testing.assert_close(whole[:1], swapped[:1], rtol=0, atol=1e-13)


def test_batch_norm_couples_samples_in_training_mode() -> None:
    """Why the documentation warns of it: in training mode the field at one image depends on the others."""
    net = potential("scalar-batch").train()
    x, t = case(net)
    outputs = net(x, t).main, net(torch.cat([x[:1], 5 - x[1:]]), t).main
    assert (outputs[0][0] - outputs[1][0]).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["unet", "rgb", "scalar-group"])
def test_fast_group_norm_matches_the_definition_in_every_memory_format(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fast group norm and its second derivative against the definition: field and all gradients of a loss."""
    monkeypatch.setattr(layers, "_REPAYING_PIXELS", 0)
    reference, first = potential(name), None
    for elements, layout in ((10**9, torch.contiguous_format), (0, torch.channels_last)):
        monkeypatch.setattr(norms, "_FAST_ELEMENTS", elements)
        net = copy.deepcopy(reference).to(memory_format=layout)
        x, t = case(net)
        x = x.contiguous(memory_format=layout).requires_grad_()
        main = net(x, t).main
        (main - 1).square().mean().backward()
        results = [main.detach(), x.grad, *(p.grad for p in net.parameters() if p.requires_grad)]
        if first is None:
            first = results
        for one, other in zip(first, results, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("shifted", [True, False])
def test_higher_derivatives_of_the_fast_group_norm(silu: bool, shifted: bool) -> None:
    """Second ones in closed form, third ones by torch, against the definition in float64."""
    draw = torch.Generator().manual_seed(0)
    shapes = [(2, 8, 5, 6), (8,), (8,), (2, 8)][: 4 if shifted else 3]
    tensors, tangents = ([torch.randn(shape, generator=draw) for shape in shapes] for _ in range(2))
    weights = [torch.randn(2, 8, 5, 6, generator=draw), *tensors]
    derivatives: list[list[Tensor]] = []
    for apply, dtype in ((norms._plain, torch.float64), (norms._FastNorm.apply, torch.float32)):
        grad, *inputs = (tensor.to(dtype) for tensor in weights)
        inputs = [inputs[0].contiguous(memory_format=torch.channels_last), *inputs[1:]]
        leaves = [tensor.requires_grad_() for tensor in (grad, *inputs)]

        def second(graph: bool, only: slice, apply=apply, leaves=leaves, dtype=dtype) -> list[Tensor]:
            y = apply(*leaves[1:4], leaves[4] if shifted else None, 2, 1e-5, silu)
            first = torch.autograd.grad(y, leaves[1:], leaves[0], create_graph=True)[only]
            along = [tensor.to(dtype) for tensor in tangents][only]
            one = torch.autograd.grad(first, leaves, along, create_graph=graph, allow_unused=True)
            # The bias has none where no SiLU follows; a zero says the same.
            return [part for part in one if part is not None and part.any()]

        every = slice(None)
        parts = [part for only in (every, slice(1), slice(1, 2)) for part in second(False, only)]
        with_graph = [part for part in second(True, every) if part.requires_grad]
        third = torch.autograd.grad(with_graph, leaves, [torch.ones_like(p) for p in with_graph], allow_unused=True)
        derivatives.append([*parts, *(part for part in third if part is not None and part.any())])
    assert len(derivatives[0]) == len(derivatives[1]) > len(shapes) + 2
    for exact, fast in zip(*derivatives, strict=True):
        assert float((fast - exact).norm()) < 1e-5 * float(exact.norm())


@pytest.mark.parametrize("name", ["unet", "scalar"])
def test_bfloat16_field_and_gradients_are_close_to_float32(name: str) -> None:
    """Field and gradients within 0.1 of their norm: 20 layers there and back, each rounding by up to 2^-9 = 0.002."""
    net = potential(name)
    x, t = case(net)
    results = []
    for precision in ("fp32", "bf16"):
        model = NetDenoiser(net, LinearProcess(), evaluation=Evaluation(precision=precision))
        main = model.raw(x, (t.double() + 1) / 1000).main
        net.zero_grad()
        (main - 1).square().mean().backward()
        results.append((main.detach(), torch.cat([p.grad.flatten() for p in net.parameters() if p.requires_grad])))
        assert main.dtype == torch.float32
    for exact, rounded in zip(*results, strict=True):
        assert 0 < float((exact - rounded).norm()) < 0.1 * float(exact.norm())


def test_long_sequences_have_second_derivatives() -> None:
    """20x20 pixels with attention: more than the written-out form takes; torch's fused kernels would refuse."""
    torch.manual_seed(0)
    net = PotentialSpec(UNetSpec(1, 1, widths=(8,), layers=1, attention=(True,), groups=4)).build()
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    x = torch.randn(1, 1, 20, 20)
    net(x, torch.tensor(3.0)).main.square().mean().backward()
    attention = net.body.down_blocks[0].attentions[0]
    assert attention.to_q.weight.grad.abs().max() > 0


def test_denoiser_of_a_potential_has_the_same_bits_in_any_batch() -> None:
    """In fixed chunks the bits depend on no companion; the mean is x_0 by the noise prediction."""
    model = NetDenoiser(potential(), LinearProcess(), evaluation=Evaluation(chunk=2))
    x, _ = case(model.net)
    t = torch.tensor(0.3, dtype=torch.float64)
    with torch.no_grad():
        mean = model(x, t).mean
        assert torch.equal(mean[2:], model(x[2:], t).mean) and torch.equal(mean[:1], model(x[[0, 2]], t).mean[:1])
    alpha, sigma = model.process.coefficients(t)
    expected = (x - sigma.float() * model.net(x, torch.tensor(299.0)).main) / alpha.float()
    torch.testing.assert_close(mean, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sampler", [Ancestral(), DDIM(eta=0.0)], ids=repr)
def test_samples_of_the_exact_potential_match_the_exact_denoiser(sampler) -> None:
    """The exact potential of Gaussian data gives the samples of the exact denoiser, without a graph."""
    data = gaussian_data(LinearProcess(LinearBetas(20, 0.02, 0.5)))
    times, rng = torch.arange(20, 0, -1, dtype=torch.float64) / 20, Rng.of(3, 5)
    start = rng.fold("x").normal((3,), torch.float64)
    ends = []
    for model in (data, gaussian_potential(data)):
        *_, end = simulate(_with_means(model), sampler, start, times, rng)
        assert torch.isfinite(end.x).all() and not end.x.requires_grad
        ends.append(end.x)
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-9, atol=1e-10)


def _with_means(model):
    """The denoiser with its mean alone, since the exact one has a covariance that a network does not say."""
    from diffprob.denoise.variance import Zero

    class Means:
        process = model.process

        def __call__(self, xt: Tensor, t: Tensor):
            return Zero().posterior(self.process, t, model(xt, t).mean, None)

    return Means()


def test_any_module_can_be_the_body() -> None:
    class Body(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Output:
            return Output(x**3 / 3 + t[:, None] * x)

    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    main = Potential(Body())(x, torch.tensor([1.0, 10.0], dtype=torch.float64)).main
    torch.testing.assert_close(main, torch.tensor([[2.0, 5.0], [19.0, 26.0]], dtype=torch.float64))
    assert not main.requires_grad


def test_spec_survives_the_round_trip() -> None:
    spec = PotentialSpec(ScalarUNetSpec(UNetSpec()))
    assert (spec.in_channels, spec.out_channels, spec.widths) == (3, 3, (128, 256, 256, 256))
    assert parse(repr(spec), ALL) == spec
    with torch.device("meta"):
        net = PotentialSpec(UNetSpec()).build()
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 35_746_307 - 3
    with pytest.raises(ValueError, match="out_channels must be 3, got 6"):
        PotentialSpec(UNetSpec(out_channels=6))
    with pytest.raises(ValueError, match="body must be"):
        PotentialSpec(spec)
