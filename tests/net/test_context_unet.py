"""The multiplied-label U-Net: published parameter counts, and what a label and a neighbour may change."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprob.net.context_unet import ContextUNet, ContextUNetSpec

SMALL = ContextUNetSpec(features=8, classes=4, size=8)


def network(spec: ContextUNetSpec = SMALL) -> ContextUNet:
    """Random weights and running statistics, in evaluation mode."""
    torch.manual_seed(0)
    net = spec.build().double()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)  # pyright: ignore[reportArgumentType]
            nn.init.uniform_(module.running_var, 0.5, 2)  # pyright: ignore[reportArgumentType]
    return net.eval()


def inputs(n: int = 4, size: int = 8) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(n, 1, size, size).double(), torch.linspace(0.1, 1, n).double()


@pytest.mark.parametrize(("features", "classes", "count"), [(128, 11, 6_585_601), (256, 11, 26_311_169)])
def test_parameter_counts_match_published(features: int, classes: int, count: int) -> None:
    """6,585,601 and 26.3 million are those of the published code, for ten classes in one colour."""
    with torch.device("meta"):
        net = ContextUNetSpec(features=features, classes=classes).build()
    assert sum(p.numel() for p in net.parameters()) == count


@pytest.mark.parametrize(
    ("spec", "shape"),
    [(ContextUNetSpec(features=8), (1, 28, 28)), (ContextUNetSpec(3, 6, 8, 0, 12), (3, 12, 12))],
    ids=["mnist", "variance"],
)
def test_output_has_the_shape_of_the_input(spec: ContextUNetSpec, shape: tuple[int, ...]) -> None:
    net, x = spec.build(), torch.randn(2, *shape)
    label = torch.tensor([0, 10]) if spec.classes else None
    main, extra = net(x, torch.tensor(0.5), label)
    assert main.shape == x.shape
    assert (extra is None) == (spec.out_channels == spec.in_channels)
    factor = 2 ** (len(spec.widths) - 1)
    assert spec.size % factor == 0 and factor == 4


def test_null_label_is_encoded_as_zeros() -> None:
    """Told the null, the network is the one whose first layer of the label's embedding has no weights at all."""
    net, (x, t) = network(), inputs()
    assert torch.equal(net.code(torch.arange(4)), torch.eye(4)[:, :3])
    null = torch.full((4,), 3)
    output = net(x, t, null).main
    blind = network()
    for embedding in blind.labels:
        nn.init.zeros_(embedding[0].weight)  # pyright: ignore[reportIndexIssue]
    assert torch.equal(output, blind(x, t, torch.arange(4)).main)
    assert (output - net(x, t, torch.zeros(4, dtype=torch.int64)).main).abs().max() > 1e-6


def test_label_is_encoded_as_its_one_hot_vector() -> None:
    net, seen = network(), []
    net.labels[0].register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    net(*inputs(3), torch.tensor([0, 2, 3]))
    assert torch.equal(seen[0], torch.tensor([[1, 0, 0], [0, 0, 1], [0, 0, 0]]).double())


def test_label_embedding_multiplies_and_time_embedding_adds() -> None:
    """At the lowest resolution, where both meet the image first: embed(label) h + embed(time), beside the way down."""
    net, (x, t), seen = network(), inputs(2), {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
            seen[name] = (inputs[0], out)

        return hook

    for name, module in (("h", net.unfold), ("up", net.ups[0]), ("down", net.downs[1])):
        module.register_forward_hook(keep(name))
    net(x, t, torch.tensor([0, 1]))
    c = net.labels[0](net.code(torch.tensor([0, 1])).double())[:, :, None, None]
    expected = c * seen["h"][1] + net.times[0](t[:, None])[:, :, None, None]
    torch.testing.assert_close(seen["up"][0][:, :16], expected, rtol=1e-14, atol=1e-14)
    assert torch.equal(seen["up"][0][:, 16:], F.max_pool2d(seen["down"][1], 2))


def test_samples_are_independent_only_in_evaluation_mode() -> None:
    """Rounding apart, for another batch size takes other kernels; in training mode neighbours change a sample."""
    net, (x, t), label = network(), inputs(), torch.tensor([0, 1, 2, 3])
    whole, alone = net(x, t, label).main, net(x[1:2], t[1:2], label[1:2]).main
    torch.testing.assert_close(whole[1:2], alone, rtol=1e-11, atol=1e-11)
    net.train()
    assert (net(x, t, label).main[1:2] - net(x[1:3], t[1:3], label[1:3]).main[:1]).abs().max() > 1e-2


def test_every_parameter_gets_a_gradient() -> None:
    net = network().train()
    net(*inputs(), torch.tensor([0, 1, 2, 3])).main.square().sum().backward()
    # A bias before a batch norm has no effect: its gradient is rounding, of about 1e-16 in float64.
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > (0 if "bias" in name else 1e-6), name


@pytest.mark.parametrize(
    ("field", "value"), [("features", 12), ("classes", 1), ("classes", -1), ("size", 30), ("in_channels", 0)]
)
def test_invalid_fields_are_errors(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{field} must be .*{value}"):
        ContextUNetSpec(**{field: value})


def test_invalid_inputs_are_errors() -> None:
    net, (x, t) = network(), inputs()
    with pytest.raises(ValueError, match="expected labels: classes=4"):
        net(x, t)
    with pytest.raises(ValueError, match=r"expected x of shape \(B, 1, 8, 8\)"):
        net(x[:, :, :4], t, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="expected t"):
        net(x, t[:2], torch.zeros(4, dtype=torch.int64))
