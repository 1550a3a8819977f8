"""diffusers' autoencoders from their folders, against diffusers itself."""

import json

import pytest
import torch

from diffprob.base.errors import InputError
from diffprob.denoise.denoiser import Evaluation
from diffprob.interop.autoencoders import is_autoencoder, load_autoencoder, open_autoencoder

diffusers = pytest.importorskip("diffusers")


def kl(**changes):
    """A tiny AutoencoderKL."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    settings = {"block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 3, "sample_size": 16, **blocks}
    return diffusers.AutoencoderKL(**{**settings, **changes}).eval()


def tiny():
    """A tiny AutoencoderTiny."""
    widths = {"encoder_block_out_channels": (8, 8, 8), "decoder_block_out_channels": (8, 8, 8)}
    return diffusers.AutoencoderTiny(
        **widths, num_encoder_blocks=(1, 2, 1), num_decoder_blocks=(1, 1, 2), latent_channels=5, scaling_factor=0.7
    ).eval()


@pytest.mark.parametrize("kind", ["kl", "shifted", "tiny"])
def test_outputs_are_those_of_diffusers(kind, tmp_path):
    torch.manual_seed(0)
    shifted = {"scaling_factor": 0.36, "shift_factor": 0.12, "use_quant_conv": False, "use_post_quant_conv": False}
    theirs = tiny() if kind == "tiny" else kl(**(shifted if kind == "shifted" else {}))
    theirs.save_pretrained(tmp_path)
    assert is_autoencoder(tmp_path)
    own = open_autoencoder(tmp_path, Evaluation(2))
    x = torch.rand(3, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        coded = theirs.encode(x)
        z = coded.latents if kind == "tiny" else coded.latent_dist.mean
        scaled = (z - (theirs.config.shift_factor or 0.0)) * theirs.config.scaling_factor
        torch.testing.assert_close(own.encode(x), scaled, rtol=0, atol=1e-5)
        torch.testing.assert_close(own.decode(scaled), theirs.decode(z).sample, rtol=0, atol=1e-5)
    assert own.net.latent_shape((3, 16, 16)) == tuple(z.shape[1:])
    assert load_autoencoder(tmp_path).size == (None if kind == "tiny" else 16)


def test_what_has_no_counterpart_is_an_error(tmp_path):
    kl().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    settings = json.loads(path.read_text())
    for change, words in (
        ({"act_fn": "gelu"}, "act_fn must be"),
        ({"up_block_types": ["AttnUpDecoderBlock2D"] * 2}, "up_block_types must be"),
        ({"norm_num_groups": 5}, "groups"),
        ({"scaling_factor": 0}, "scaling_factor and shift_factor are numbers"),
        ({"latents_std": [1.0]}, "the scale of 3 latent channels"),
        ({"block_out_channels": 8}, "must be"),
        ({"latent_channels": 4}, "config.json asks for"),
        ({"_class_name": "VQModel"}, "one of AutoencoderKL, AutoencoderTiny can be read"),
    ):
        path.write_text(json.dumps({**settings, **change}))
        with pytest.raises(InputError, match=words):
            load_autoencoder(tmp_path)
    assert not is_autoencoder(tmp_path)
    assert not is_autoencoder(tmp_path / "nowhere")
