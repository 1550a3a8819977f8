"""diffusers' autoencoders from their folders, against diffusers itself."""

import json
from itertools import pairwise

import pytest
import torch

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.denoise.denoiser import Evaluation
from diffprob.interop.autoencoders import is_autoencoder, load_autoencoder, open_autoencoder
from diffprob.process.grids import Uniform
from diffprob.runs.folder import Run, open_run
from diffprob.space.pixels import Pixels
from diffprob.tasks.exchange import ImportRequest, import_run
from diffprob.tasks.training import TrainRequest, train

diffusers = pytest.importorskip("diffusers")


def kl(**changes):
    """A tiny AutoencoderKL."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    settings = {"block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 3, "sample_size": 16, **blocks}
    return diffusers.AutoencoderKL(**{**settings, **changes}).eval()


def tiny(**changes):
    """A tiny AutoencoderTiny."""
    widths = {"encoder_block_out_channels": (8, 8, 8), "decoder_block_out_channels": (8, 8, 8), **changes}
    return diffusers.AutoencoderTiny(
        **widths,
        num_encoder_blocks=(1, 2, 1),
        num_decoder_blocks=(1, 1, 2),
        latent_channels=5,
        scaling_factor=0.7,
    ).eval()


def vq(**changes):
    """A tiny VQModel, its codes as far apart as its latents."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    settings = {"block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 3, "sample_size": 16, **blocks}
    model = diffusers.VQModel(num_vq_embeddings=20, scaling_factor=0.5, **{**settings, **changes}).eval()
    torch.nn.init.normal_(model.quantize.embedding.weight)
    return model


def coded(theirs, x):
    """Its latents, before they are scaled."""
    answer = theirs.encode(x)
    return answer.latents if hasattr(answer, "latents") else answer.latent_dist.mean


SHIFTED = {"scaling_factor": 0.36, "shift_factor": 0.12, "use_quant_conv": False, "use_post_quant_conv": False}
MADE = {"kl": kl, "shifted": lambda: kl(**SHIFTED), "tiny": tiny, "vq": vq}


@pytest.mark.parametrize("kind", MADE)
def test_outputs_are_those_of_diffusers(kind, tmp_path):
    torch.manual_seed(0)
    theirs = MADE[kind]()
    theirs.save_pretrained(tmp_path)
    assert is_autoencoder(tmp_path)
    own = open_autoencoder(tmp_path, Evaluation(2))
    x = torch.rand(3, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        z = coded(theirs, x)
        scaled = (z - (theirs.config.get("shift_factor") or 0.0)) * theirs.config.scaling_factor
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
        ({"_class_name": "VQModel", "norm_type": "spatial"}, "norm_type must be"),
        ({"_class_name": "VQModel", "vq_embed_dim": 2}, "vq_embed_dim must be"),
        ({"_class_name": "AutoencoderDC"}, "one of AutoencoderKL, AutoencoderTiny, VQModel can be read"),
    ):
        path.write_text(json.dumps({**settings, **change}))
        with pytest.raises(InputError, match=words):
            load_autoencoder(tmp_path)
    assert not is_autoencoder(tmp_path)
    assert not is_autoencoder(tmp_path / "nowhere")


QUICK = {"training.batch": 4, "training.precision": "fp32", "training.sample_every": 0, "training.samples": 2}


@pytest.mark.parametrize("kind", ["kl", "tiny"])
def test_an_imported_autoencoder_is_a_run_to_train_in(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    theirs = kl(in_channels=1, out_channels=1, sample_size=8) if kind == "kl" else tiny(in_channels=1, out_channels=1)
    theirs.save_pretrained("vae")
    result = import_run(ImportRequest(folder="vae", out="ae", size=8, levels=17, step=3))
    run = open_run("ae")
    assert (run.space, run.meta["step"]) == (Pixels((1, 8, 8), 17), 3)
    latent = (3, 4, 4) if kind == "kl" else (5, 2, 2)
    assert result.to_json()["latent"] == list(latent) and "autoencoder.run=ae" in result.use
    x = torch.rand(2, 1, 8, 8) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(run.load()(x), theirs.decode(coded(theirs, x)).sample, rtol=0, atol=1e-5)
    widths = {"network.widths": (8,), "network.attention": (False,), "network.groups": 4}
    shape = {"space.latent": latent, "network.in_channels": latent[0], "network.out_channels": latent[0]}
    overrides = {**QUICK, "space.autoencoder.run": "ae", **shape, **widths}
    train(TrainRequest(recipe="digits_latent", out="run", steps=1, device="cpu", overrides=overrides))
    assert dp.load("run").sample(2, steps=2).images.shape == (2, 1, 8, 8)


@pytest.mark.parametrize("kind", ["vq", "kl"])
def test_a_pipeline_of_latents_draws_what_diffusers_draws(kind, tmp_path, monkeypatch):
    """Unconditional latent diffusion (LDMPipeline), with its own autoencoder, and with the other."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(2)
    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    ).eval()  # fmt: skip
    scheduler = diffusers.DDIMScheduler(20, 5e-3, 0.3, clip_sample=False)
    encoder = MADE[kind]()
    diffusers.LDMPipeline(vqvae=vq(), unet=unet, scheduler=scheduler).save_pretrained("ldm")
    if kind == "kl":
        (tmp_path / "ldm" / "vqvae").rename("other")
        encoder.save_pretrained("ldm/vae")
    else:
        encoder.save_pretrained("ldm/vqvae")
    pipeline = diffusers.LDMPipeline(vqvae=encoder, unet=unet, scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(2, torch.Generator().manual_seed(7), 0.0, 20, output_type="np").images
    result = import_run(ImportRequest(folder="ldm", out="run", step=5))
    assert result.to_json()["shape"] == [3, 16, 16] and result.to_json()["latent"] == [3, 8, 8]
    (tmp_path / "ldm").rename("gone")
    run = Run.open("run")
    model, x = run.load(), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    times = Uniform()(model.process, 20)
    with torch.no_grad():
        for t, s in pairwise(times):
            x = model.process.reverse(dp.Dirac(model(x, t).mean), x, s, t, eta=0.0).mean
        x = model(x, times[-1]).mean
        images = open_run("run/autoencoder").load().decode(x)
    ours = (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=0, atol=1e-5)
    assert float(ours.std()) > 0.02
    assert dp.load("run").sample(2, steps=2).images.shape == (2, 3, 16, 16)


def test_imports_that_do_not_fit_are_refused_in_a_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kl().save_pretrained("vae")
    tiny().save_pretrained("tiny")
    kl(in_channels=17, out_channels=17).save_pretrained("seventeen")
    for request, words in (
        ({"folder": "tiny"}, "does not say the size"),
        ({"folder": "vae", "size": 8}, "says that its images are 16x16"),
        ({"folder": "tiny", "size": 10}, "sizes divisible by 4"),
        ({"folder": "seventeen"}, "17 channels"),
        ({"folder": "vae", "null_label": True}, "told no labels"),
    ):
        with pytest.raises(InputError, match=words):
            import_run(ImportRequest(out="out", **request))
        assert not (tmp_path / "out").exists()
