"""The captioned U-Net against the plain one, and its attention to words against torch's."""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffprob.net.captioned import CaptionedUNet, CaptionedUNetSpec
from diffprob.net.text import TextEncoderSpec
from diffprob.net.unet import UNetSpec

BODY = UNetSpec(1, 1, (8, 16), 1, (False, True), groups=4, padding=1)
SPEC = CaptionedUNetSpec(BODY, TextEncoderSpec(words=5, length=4, width=12, layers=1, heads=2), heads=2)
TOKENS = torch.tensor([[1, 2, 3, 4], [5, 1, 0, 0], [0, 0, 0, 0]])


def network(spread: float | None = 0.3) -> CaptionedUNet:
    """With random weights everywhere, or (None) as built."""
    torch.manual_seed(0)
    net = SPEC.build().double().eval()
    for parameter in net.parameters() if spread else ():
        nn.init.normal_(parameter, std=spread or 0)
    return net


def inputs(n: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(n, 1, 8, 8).double(), torch.linspace(3, 999, n).double()


def test_initial_output_equals_the_unconditional_network() -> None:
    """Under the same names; with its first weights captions change nothing."""
    net, plain = network(None), BODY.build().double()
    nn.init.normal_(net.conv_out.weight)
    missing = plain.load_state_dict(net.state_dict(), strict=False)
    assert not missing.missing_keys
    assert all(name.startswith(("text.", "pooled.")) or ".words." in name for name in missing.unexpected_keys)
    x, t = inputs()
    assert torch.equal(net(x, t, TOKENS).main, plain(x, t).main)


def test_cross_attention_matches_torch() -> None:
    """`nn.MultiheadAttention` with the same weights and its own mask, on the normed pixels."""
    net = network()
    attention: Any = net.get_submodule("mid_block.attentions.0.words")
    torch.manual_seed(2)
    x, vectors = torch.randn(3, 16, 2, 3).double(), torch.randn(3, 5, 12).double()
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]).bool()
    theirs = nn.MultiheadAttention(16, 2, kdim=12, vdim=12, batch_first=True, dtype=torch.float64)
    own, names = attention.state_dict(), {"q_proj_weight": "to_q", "k_proj_weight": "to_k", "v_proj_weight": "to_v"}
    state = {name: own[f"{ours}.weight"] for name, ours in names.items()}
    state["in_proj_bias"] = torch.cat([own[f"{ours}.bias"] for ours in names.values()])
    state |= {f"out_proj.{part}": own[f"to_out.{part}"] for part in ("weight", "bias")}
    theirs.load_state_dict(state)
    pixels = attention.norm(x).flatten(2).transpose(1, 2) + places(attention, 2, 3)
    mixed = theirs(pixels, vectors, vectors, key_padding_mask=~mask, need_weights=False)[0]
    expected = x + mixed.transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(attention(x, vectors, mask), expected, rtol=1e-12, atol=1e-12)


def places(attention: Any, height: int, width: int) -> Tensor:
    """The part of the queries that says where a pixel is, written out pixel by pixel."""
    rows = []
    for i, j in itertools.product(range(height), range(width)):
        angles = [[math.pi * (k + 0.5) / n * wave for wave in (1, 2, 4)] for k, n in ((i, height), (j, width))]
        rows.append([f(a) for axis in angles for f in (math.sin, math.cos) for a in axis])
    return attention.place(torch.tensor(rows, dtype=torch.float64))


def test_cross_attention_depends_on_position() -> None:
    """Pixels that look alike attend alike, but for their places: without those an even image stays even."""
    attention: Any = network().get_submodule("mid_block.attentions.0.words")
    x, vectors, mask = torch.ones(1, 16, 4, 4).double(), torch.randn(1, 5, 12).double(), torch.ones(1, 5).bool()
    left, right = attention(x, vectors, mask)[..., 0], attention(x, vectors, mask)[..., -1]
    assert (left - right).abs().max() > 1e-4
    nn.init.zeros_(attention.place.weight)
    even = attention(x, vectors, mask)
    torch.testing.assert_close(even, even[..., :1, :1].expand_as(even), rtol=1e-12, atol=1e-12)


def test_every_attention_level_attends_to_the_caption() -> None:
    """The way down once, the middle once, the way up twice; the words come in there and nowhere else but the mean."""
    net, (x, t) = network(), inputs()
    reading = [name for name, _ in net.named_modules() if name.endswith(".words")]
    assert [name.split(".")[0] for name in reading] == ["down_blocks", "mid_block", "up_blocks", "up_blocks"]
    before = net(x, t, TOKENS).main
    for one in reading:
        other = network()
        nn.init.zeros_(other.get_parameter(f"{one}.to_v.weight"))
        assert (other(x, t, TOKENS).main - before).abs().max() > 1e-5, one
    other = network()
    nn.init.zeros_(other.pooled.weight)
    assert (other(x, t, TOKENS).main - before).abs().max() > 1e-5


def test_output_does_not_depend_on_padding_or_batch() -> None:
    """Rounding apart: other sizes of the same product take other kernels."""
    net, (x, t) = network(), inputs()
    whole = net(x, t, TOKENS).main
    assert whole.isfinite().all()
    alone = net(x[1:2], t[1:2], TOKENS[1:2, :2]).main
    torch.testing.assert_close(whole[1:2], alone, rtol=1e-10, atol=1e-10)
    assert (net(x, t, TOKENS.flip(0)).main - whole)[0].abs().max() > 1e-3


def test_every_parameter_gets_a_gradient() -> None:
    net, (x, t) = network(), inputs()
    net(x, t, TOKENS).main.square().sum().backward()
    for name, parameter in net.named_parameters():
        # softmax does not see a bias of the keys: its gradient is rounding
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 1e-8 or "to_k.bias" in name, name


def test_input_gradient_matches_finite_differences() -> None:
    """Along one direction, against the difference quotient: error h^2 plus rounding / h, here about 1e-9."""
    net, (x, t) = network(0.2), inputs(2)
    v, h = torch.randn_like(x), 1e-5

    def loss(y: Tensor) -> Tensor:
        return net(y, t, TOKENS[1:]).main.square().sum()

    (gradient,) = torch.autograd.grad(loss(x.requires_grad_()), x)
    quotient = (loss(x + h * v) - loss(x - h * v)) / (2 * h)
    torch.testing.assert_close((gradient * v).sum(), quotient, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("body", "heads", "message"),
    [
        (replace(BODY, classes=3), 2, "body.classes must be 0"),
        (replace(BODY, attention=(False, False), mid_attention=False), 2, "body.attention must have a level"),
        (BODY, 3, "heads must divide"),
    ],
)
def test_invalid_fields_are_errors(body: UNetSpec, heads: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CaptionedUNetSpec(body, SPEC.text, heads)


def test_missing_captions_are_an_error() -> None:
    with pytest.raises(ValueError, match="expected captions"):
        network()(*inputs())
    assert (SPEC.in_channels, SPEC.out_channels, SPEC.widths) == (1, 1, (8, 16))
