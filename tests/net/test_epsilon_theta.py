"""The network with cumulative widths: its published parameter count, and its attention with and without a norm."""

import pytest
import torch
from torch import nn

from diffprob.net.epsilon_theta import EpsilonTheta, EpsilonThetaSpec
from diffprob.net.layers import Attention

SMALL = EpsilonThetaSpec(1, 1, 8, (1, 2), groups=4, dropout=0.0)


def network(spec: EpsilonThetaSpec = SMALL) -> EpsilonTheta:
    torch.manual_seed(0)
    net = spec.build().double()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net.eval()


@pytest.mark.parametrize(("norm", "count"), [(True, 105_272_579), (False, 105_272_579 - 2 * (3 * 1024 + 256))])
def test_parameter_counts_match_published(norm: bool, count: int) -> None:
    """The published code's; without the norms that it never applies, of which three have 1024 channels, one has 256."""
    spec = EpsilonThetaSpec(norm_attention=norm)
    with torch.device("meta"):
        net = spec.build()
    assert spec.widths == (64, 128, 256, 1024)
    attentions = [m for m in net.modules() if isinstance(m, Attention)]
    assert sorted(m.to_q.in_features for m in attentions) == [256, 1024, 1024, 1024]
    assert all(m.heads == 1 for m in attentions)
    assert sum(p.numel() for p in net.parameters()) == count


def test_attention_without_norm_matches_the_formula() -> None:
    """x + softmax(q k^T / sqrt(C)) v over the pixels of x itself, written out; with the norm it is another number."""
    net = network(EpsilonThetaSpec(1, 1, 8, (1, 2), groups=4, dropout=0.0, norm_attention=False))
    attention = next(m for m in net.modules() if isinstance(m, Attention))
    x = torch.randn(2, 16, 3, 3).double()
    pixels = x.flatten(2).transpose(1, 2)
    q, k, v = attention.to_q(pixels), attention.to_k(pixels), attention.to_v(pixels)
    mixed = torch.einsum("bij,bjc->bic", torch.softmax(torch.einsum("bic,bjc->bij", q, k) / 4, -1), v)
    expected = x + attention.to_out[0](mixed).transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(attention(x), expected, rtol=1e-12, atol=1e-12)
    with pytest.raises(RuntimeError, match="Missing key"):
        network().load_state_dict(net.state_dict())


def test_output_shapes_with_and_without_learned_variance() -> None:
    x = torch.randn(2, 3, 8, 8).double()
    spec = EpsilonThetaSpec(3, 6, 8, (1, 2, 2), blocks=2, groups=4, dropout=0.0, classes=3)
    main, extra = network(spec)(x, torch.tensor(5.0), torch.tensor([0, 2]))
    assert main.shape == x.shape
    assert extra is not None and extra.shape == x.shape


def test_every_parameter_gets_a_gradient_and_labels_matter() -> None:
    net = network(EpsilonThetaSpec(1, 1, 16, (1, 2), groups=4, dropout=0.0, classes=2))
    x, t = torch.randn(2, 1, 8, 8).double(), torch.tensor([1.0, 700.0]).double()
    output = net(x, t, torch.tensor([0, 1])).main
    assert (output - net(x, t, torch.tensor([1, 1])).main)[0].abs().max() > 1e-3
    output.square().sum().backward()
    for name, parameter in net.named_parameters():
        # softmax does not see a bias of the keys: its gradient is rounding
        assert parameter.grad is not None and (parameter.grad.abs().max() > 1e-6 or "to_k.bias" in name), name
    torch.manual_seed(0)
    fresh = EpsilonThetaSpec(1, 1, 16, (1, 2), groups=4, dropout=0.0, classes=2).build().double()
    assert torch.equal(fresh(x, t, torch.tensor([0, 1])).main, fresh(x, t, torch.tensor([1, 1])).main)


@pytest.mark.parametrize(
    ("field", "value"),
    [("features", 60), ("multipliers", ()), ("multipliers", (1, 0)), ("dropout", 1.0), ("classes", -1), ("blocks", 0)],
)
def test_invalid_fields_are_errors(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{field}(\[\d\])? must"):
        EpsilonThetaSpec(**{field: value})  # pyright: ignore[reportArgumentType]


def test_invalid_inputs_are_errors() -> None:
    net, x = network(), torch.randn(2, 1, 8, 8).double()
    with pytest.raises(ValueError, match="divisible by 2"):
        net(x[:, :, :7], torch.tensor(1.0))
    with pytest.raises(ValueError, match="expected no labels"):
        net(x, torch.tensor(1.0), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="expected t"):
        net(x, torch.ones(3))
