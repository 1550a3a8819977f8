"""The reader of captions against torch's own transformer layer, and what padding may not change."""

import pytest
import torch
from torch import Tensor, nn

from diffprob.net.text import TextEncoder, TextEncoderSpec

SPEC = TextEncoderSpec(words=5, length=4, width=8, layers=2, heads=2)


def encoder(spec: TextEncoderSpec = SPEC) -> TextEncoder:
    torch.manual_seed(0)
    net = spec.build().double()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5)
    return net


TOKENS = torch.tensor([[1, 2, 3, 4], [5, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]])


def reference(net: TextEncoder, tokens: Tensor) -> Tensor:
    """The same weights in torch's `TransformerEncoderLayer` (pre-norm), with torch's own masking."""
    spec = net.spec
    tokens = torch.cat([torch.zeros(len(tokens), 1, dtype=torch.int64), tokens], 1)
    padding = tokens == 0
    padding[:, 0] = False
    x = net.tokens.weight[tokens] + net.positions.weight[: tokens.shape[1]]
    for block in net.blocks:
        layer = nn.TransformerEncoderLayer(
            spec.width, spec.heads, 4 * spec.width, 0.0, "gelu", batch_first=True, norm_first=True, dtype=torch.float64
        )
        ours, names = block.state_dict(), {"norm1": "norm1", "norm2": "norm2", "linear1": "mlp.0", "linear2": "mlp.2"}
        theirs = {f"{a}.{part}": ours[f"{b}.{part}"] for a, b in names.items() for part in ("weight", "bias")}
        for part in ("weight", "bias"):
            theirs[f"self_attn.in_proj_{part}"] = ours[f"to_qkv.{part}"]
            theirs[f"self_attn.out_proj.{part}"] = ours[f"to_out.{part}"]
        layer.load_state_dict(theirs)
        x = layer(x, src_key_padding_mask=padding)
    return net.norm(x)


def test_encoder_matches_torchs_transformer() -> None:
    net = encoder()
    text = net(TOKENS)
    assert text.vectors.shape == (4, 5, 8)
    expected = reference(net, TOKENS)
    # Padding's own vectors are read by nobody.
    torch.testing.assert_close(text.vectors[text.mask], expected[text.mask], rtol=1e-12, atol=1e-12)
    assert text.mask.sum(1).tolist() == [5, 3, 2, 1]
    mean = torch.stack([row[:n].mean(0) for row, n in zip(expected, (5, 3, 2, 1), strict=True)])
    torch.testing.assert_close(text.pooled, mean, rtol=1e-12, atol=1e-12)


def test_encoding_does_not_depend_on_padding() -> None:
    """A caption of two words reads the same with two places left, with one, and with none."""
    net = encoder()
    long, short = net(TOKENS[1:2]), net(TOKENS[1:2, :2])
    torch.testing.assert_close(long.vectors[:, :3], short.vectors, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(long.pooled, short.pooled, rtol=1e-13, atol=1e-13)


def test_empty_caption_has_a_finite_distinct_encoding() -> None:
    net = encoder()
    text = net(torch.zeros(1, 4, dtype=torch.int64))
    assert all(part.isfinite().all() for part in text)
    assert (text.pooled - net(TOKENS).pooled[:3]).abs().amax(1).min() > 1e-3
    text.pooled.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_encoding_depends_on_word_order() -> None:
    net = encoder()
    assert (net(torch.tensor([[1, 2]])).pooled - net(torch.tensor([[2, 1]])).pooled).abs().max() > 1e-3


@pytest.mark.parametrize(("field", "value"), [("words", 0), ("length", 0), ("layers", -1), ("heads", 3), ("width", 0)])
def test_invalid_fields_are_errors(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{field} must .*{value}"):
        TextEncoderSpec(**{"words": 5, field: value})


@pytest.mark.parametrize("wrong", [torch.zeros(4, dtype=torch.int64), torch.zeros(2, 4), TOKENS.repeat(1, 2)])
def test_invalid_inputs_are_errors(wrong: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected words int64 of shape \(B, 4\) or shorter"):
        encoder()(wrong)
