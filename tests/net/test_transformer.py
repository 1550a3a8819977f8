"""Transformers of images and tokens, and networks of masked levels: shapes, what they see, what they start as."""

import pytest
import torch
import torch.nn.functional as F

from diffprob.base.rng import Rng
from diffprob.conform import check_denoiser
from diffprob.denoise.categorical import CategoricalDenoiser
from diffprob.denoise.denoiser import Index, NetDenoiser
from diffprob.net.levels import CategoricalUNetSpec
from diffprob.net.transformer import TokenTransformerSpec, TransformerSpec
from diffprob.net.unet import UNetSpec
from diffprob.process.absorbing import AbsorbingProcess
from diffprob.process.linear import LinearProcess
from diffprob.training.masked import OrderAgnostic

SMALL = TransformerSpec(1, 1, 8, 2, 16, 2, 2)
UNET = UNetSpec(1, 1, (8,), 1, (False,), mid_attention=False, groups=4)


def stirred(net: torch.nn.Module) -> torch.nn.Module:
    """Random weights everywhere, in float64: what starts at zero hides mistakes."""
    generator = torch.Generator().manual_seed(0)
    for weight in net.double().parameters():
        weight.data = 0.3 * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    return net.eval()


def by_hand(net, tokens: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The body in plain operations, one token, head and block at a time."""
    body = net.body
    c = F.silu(body.time_embedding(t))
    x = tokens + body.positions
    width = x.shape[2]

    def norm(v):
        centred = v - v.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    for block in body.blocks:
        m = (c @ block.modulation.weight.T + block.modulation.bias)[:, None].split(width, 2)
        h = norm(x) * (1 + m[1]) + m[0]
        q, k, v = (h @ block.to_qkv.weight.T + block.to_qkv.bias).split(width, 2)
        heads = []
        for part in range(block.heads):
            own = slice(part * width // block.heads, (part + 1) * width // block.heads)
            scores = q[..., own] @ k[..., own].mT / (width // block.heads) ** 0.5
            heads.append(scores.softmax(-1) @ v[..., own])
        x = x + m[2] * block.to_out(torch.cat(heads, 2))
        h = norm(x) * (1 + m[4]) + m[3]
        x = x + m[5] * block.mlp(h)
    shift, scale = (c @ body.modulation.weight.T + body.modulation.bias)[:, None].split(width, 2)
    return norm(x) * (1 + scale) + shift


def test_tokens_are_those_of_plain_operations() -> None:
    net = stirred(TokenTransformerSpec(5, 6, 8, 2, 2).build())
    x, t = Rng.of(0, 3).integers((6,), 6).double(), torch.tensor([0.0, 3.0, 9.0], dtype=torch.float64)
    expected = net.last(by_hand(net, net.tokens.weight[x.long()], t))
    assert torch.allclose(net(x, t).main, expected, atol=1e-12)
    assert expected.shape == (3, 6, 5)


def test_image_is_cut_into_patches_and_put_together() -> None:
    net = stirred(TransformerSpec(2, 3, 4, 2, 8, 1, 2).build())
    x, t = Rng.of(0, 2).normal((2, 4, 4), torch.float64), torch.tensor([1.0, 7.0], dtype=torch.float64)
    patches = torch.stack([x[:, :, i : i + 2, j : j + 2].flatten(1) for i in (0, 2) for j in (0, 2)], 1)
    tokens = net.last(by_hand(net, net.patches(patches), t)).unflatten(2, (3, 2, 2))
    rows = [torch.cat([tokens[:, 2 * i], tokens[:, 2 * i + 1]], 3) for i in range(2)]
    assert torch.allclose(net(x, t).main, torch.cat(rows, 2), atol=1e-12)


def test_learned_variances_and_labels() -> None:
    both = TransformerSpec(1, 2, 8, 2, 16, 1, 2, classes=3).build()
    x, t = torch.zeros(2, 1, 8, 8), torch.tensor([1.0, 2.0])
    output = both(x, t, torch.tensor([0, 2]))
    assert output.main.shape == output.extra.shape == x.shape
    with pytest.raises(ValueError, match="labels"):
        both(x, t)
    with pytest.raises(ValueError, match="expected x"):
        SMALL.build()(torch.zeros(1, 1, 8, 4), t[:1])
    with pytest.raises(ValueError, match="sequences"):
        TokenTransformerSpec(3, 4, 8, 1, 2).build()(torch.zeros(1, 5), t[:1])


def test_networks_are_denoisers() -> None:
    torch.manual_seed(0)
    check_denoiser(NetDenoiser(SMALL.build(), LinearProcess()).eval())
    for body in (SMALL, UNET):
        net = CategoricalUNetSpec(body, 4).build()  # 4 logits for 2 channels in: no variance is meant
        with torch.no_grad():
            for weight in net.parameters():
                weight.normal_(0, 0.1)
        check_denoiser(CategoricalDenoiser(net, AbsorbingProcess(4)).eval())
    tokens = TokenTransformerSpec(3, 6, 8, 1, 2).build()
    check_denoiser(CategoricalDenoiser(tokens, AbsorbingProcess(3)).eval(), shape=(6,))


@pytest.mark.parametrize("body", [SMALL, UNET], ids=lambda body: type(body).__name__)
def test_masked_pixel_is_told_from_one_in_the_middle(body) -> None:
    net = stirred(CategoricalUNetSpec(body, 3).build())
    x, t = torch.ones(1, 1, 8, 8, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    masked = x.clone()
    masked[0, 0, 3, 4] = 3
    assert net(x, t).main.shape == (1, 1, 8, 8, 3)
    assert bool(((net(x, t).main - net(masked, t).main).abs() > 1e-6).any())


def test_logits_belong_to_their_channel_and_level() -> None:
    """Of two channels and three levels, the bias of channel c and level k is what logit (c, k) shows."""
    net = CategoricalUNetSpec(TransformerSpec(2, 2, 2, 1, 8, 1, 2), 3).build()
    net.body.last.bias.data = torch.arange(6.0)
    logits = net(torch.zeros(1, 2, 2, 2), torch.ones(1)).main
    assert torch.equal(logits[0, :, 0, 0], torch.arange(6.0).reshape(2, 3))
    uniform = CategoricalUNetSpec(UNET, 3).build()(torch.zeros(1, 1, 8, 8), torch.ones(1)).main
    assert torch.equal(uniform, torch.zeros(1, 1, 8, 8, 3))  # log K nats a pixel before training


def test_sequence_is_learned() -> None:
    """Two sequences, one the other's mirror: the loss falls from log K to about half a bit for the first element."""
    torch.manual_seed(0)
    data = torch.tensor([[0.0, 1.0, 2.0, 3.0], [3.0, 2.0, 1.0, 0.0]])
    model = CategoricalDenoiser(TokenTransformerSpec(4, 4, 16, 1, 2).build(), AbsorbingProcess(4), Index(4))
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    x0 = data.repeat(16, 1)
    losses = []
    for step in range(150):
        loss = OrderAgnostic()(model, x0, Rng.of(0, 32).at(step)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(torch.log(torch.tensor(4.0)).item(), abs=1e-5)
    assert sum(losses[-20:]) / 20 == pytest.approx(torch.log(torch.tensor(2.0)).item() / 4, abs=0.05)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TransformerSpec(size=10, patch_size=4),
        lambda: TransformerSpec(width=30, heads=4),
        lambda: TransformerSpec(patch_size=3),
        lambda: TransformerSpec(size=4096, patch_size=1),
        lambda: TokenTransformerSpec(levels=1),
        lambda: CategoricalUNetSpec(UNetSpec(1, 2), 4),
        lambda: CategoricalUNetSpec(SMALL, 257),
        lambda: CategoricalUNetSpec(3, 4),
    ],
)
def test_invalid_settings(make) -> None:
    with pytest.raises(ValueError):
        make()
