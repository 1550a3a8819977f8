"""The convolutional autoencoder against diffusers' own, and its bottlenecks against their formulas."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from diffprob.net.autoencoder import AutoencoderSpec, gaussian_kl

KIND = {"kl": "AutoencoderKL", "vq": "VQModel"}


def theirs(spec: AutoencoderSpec) -> torch.nn.Module:
    """diffusers' network of these settings, with random weights."""
    diffusers = pytest.importorskip("diffusers")
    levels = len(spec.widths)
    settings = {
        "in_channels": spec.in_channels,
        "out_channels": spec.in_channels,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": spec.widths,
        "layers_per_block": spec.layers,
        "latent_channels": spec.latent_channels,
        "norm_num_groups": spec.groups,
        "mid_block_add_attention": spec.mid_attention,
    }
    if spec.regulariser == "kl":
        settings |= {"use_quant_conv": spec.quant_conv, "use_post_quant_conv": spec.quant_conv}
    else:
        settings |= {"num_vq_embeddings": spec.codes}
    return getattr(diffusers, KIND[spec.regulariser])(**settings).eval()


@pytest.mark.parametrize(
    "spec",
    [
        AutoencoderSpec(3, 4, (8, 16, 16), 2, mid_attention=True),
        AutoencoderSpec(1, 2, (8, 16), 1, groups=4, quant_conv=False),
        AutoencoderSpec(3, 3, (8, 16), 1, "vq", codes=16, mid_attention=True),
    ],
    ids=["kl", "no 1x1", "vq"],
)
def test_weights_of_diffusers_give_its_answers(spec):
    torch.manual_seed(3)
    other, own = theirs(spec), spec.build().eval()
    with torch.no_grad():  # codes as far apart as the latents
        for name, value in other.named_parameters():
            if "embedding" in name:
                value.normal_()
    own.load_state_dict(other.state_dict())
    x = torch.randn(2, spec.in_channels, 8 * spec.divisor, 4 * spec.divisor)
    with torch.no_grad():
        coded = other.encode(x)
        z = coded.latent_dist.mean if spec.regulariser == "kl" else coded.latents
        mean, log_variance = own.moments(x)
        torch.testing.assert_close(mean, z, rtol=0, atol=1e-5)
        if log_variance is not None:
            torch.testing.assert_close(log_variance, coded.latent_dist.logvar, rtol=0, atol=1e-5)
        torch.testing.assert_close(own.decode(z), other.decode(z).sample, rtol=0, atol=1e-5)
    assert mean.shape[1:] == spec.latent_shape(tuple(x.shape[1:]))


def test_divergence_is_that_of_two_normals():
    mean, log_variance = torch.randn(7, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    normal = Normal(mean, (log_variance / 2).exp())
    truth = kl_divergence(normal, Normal(torch.zeros_like(mean), torch.ones_like(mean)))
    torch.testing.assert_close(gaussian_kl(mean, log_variance), truth)
    assert float(gaussian_kl(torch.zeros(()), torch.zeros(()))) == 0


def test_codes_are_the_nearest_and_pass_the_gradient_straight_through():
    torch.manual_seed(0)
    net = AutoencoderSpec(1, 3, (8, 8), 1, "vq", codes=11, groups=4).build().double()
    torch.nn.init.normal_(net.quantize.embedding.weight)
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    coded = net(x, torch.zeros(()))
    book, rows = net.quantize.embedding.weight, coded.mean.permute(0, 2, 3, 1)
    nearest = torch.cdist(rows.reshape(-1, 3), book).argmin(1)
    torch.testing.assert_close(coded.codes.permute(0, 2, 3, 1).reshape(-1, 3), book[nearest])
    assert len(set(nearest.tolist())) > 1
    torch.testing.assert_close(coded.images, net.decode(coded.mean))
    (through,) = torch.autograd.grad(coded.images.sum(), coded.mean, retain_graph=True)
    at = coded.codes.detach().requires_grad_()
    (direct,) = torch.autograd.grad(net._decode(at).sum(), at)
    torch.testing.assert_close(through, direct)
    assert torch.autograd.grad(coded.images.sum(), book, allow_unused=True)[0] is None


def test_latents_are_drawn_with_their_variance():
    torch.manual_seed(1)
    net = AutoencoderSpec(1, 2, (8, 8), groups=4).build().double()
    x, noise = torch.randn(3, 1, 8, 8, dtype=torch.float64), torch.randn(3, 2, 4, 4, dtype=torch.float64)
    mean, log_variance = net.moments(x)
    torch.testing.assert_close(net(x, noise).images, net.decode(mean + (log_variance / 2).exp() * noise))


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"regulariser": "l2"}, "regulariser"), ({"widths": (12, 8)}, "groups"), ({"codes": 1}, "codes")],
)
def test_wrong_settings_are_errors(changes, field):
    with pytest.raises(ValueError, match=field):
        AutoencoderSpec(**changes)
