"""DINOv2 features of a tiny random model: the class token of the images as prepared; only whole DINOv2s are taken."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from diffprob.base.errors import InputError
from diffprob.evaluation.dino import DinoFeatures, _prepared
from diffprob.evaluation.features import Features, Judge, describe, extract


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(transformers, tmp_path_factory):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}
    net = transformers.Dinov2Model(transformers.Dinov2Config(**sizes, image_size=28, patch_size=14))
    path = tmp_path_factory.mktemp("dino") / "tiny"
    net.save_pretrained(path)
    return path


def test_resizing_matches_pillow():
    """Pillow's bicubic on floats, which antialiases, clipped; 1e-4 is a fortieth of a grey level."""
    pixels = np.random.default_rng(0).integers(0, 256, (300, 500), np.uint8)
    picture = Image.fromarray(pixels.astype(np.float32) / 255, mode="F").resize((224, 224), Image.Resampling.BICUBIC)
    prepared = _prepared((torch.from_numpy(pixels).float() / 255).expand(1, 3, -1, -1))
    for channel, mean, std in zip(prepared[0], (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True):
        assert np.abs(channel.numpy() * std + mean - np.asarray(picture).clip(0, 1)).max() < 1e-4


def test_feature_is_the_class_token(folder, transformers):
    features = DinoFeatures(folder, 17)
    assert isinstance(features, Features)
    assert not isinstance(features, Judge)
    pixels = np.random.default_rng(0).integers(0, 17, (3, 1, 8, 8), np.uint8)
    extracted = extract(features, pixels, batch=2)
    net = transformers.Dinov2Model.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = net(_prepared((torch.from_numpy(pixels).float() / 16).expand(-1, 3, -1, -1))).pooler_output
    assert torch.allclose(extracted, expected, atol=1e-5)
    line = describe(features)
    assert line == f"DINOv2 (tiny), 16-d, sha256 {features.digest[:8]}, resized to {features.resize}"


def test_digest_depends_on_weights_and_levels(folder):
    digests = [DinoFeatures(folder, levels).digest for levels in (17, 17, 256)]
    assert digests[0] == digests[1] != digests[2]


def test_incomplete_dino_folder_is_an_error(folder, transformers, tmp_path):
    with pytest.raises(InputError, match="no folder with a DINOv2 model at"):
        DinoFeatures(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no DINOv2 model can be loaded"):
        DinoFeatures(tmp_path)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(**sizes, image_size=28, patch_size=14)
    config.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is a vit; one of dinov2"):
        DinoFeatures(tmp_path)
    net = transformers.Dinov2Model.from_pretrained(folder)
    for path in tmp_path.iterdir():
        path.unlink()
    state = {name: value for name, value in net.state_dict().items() if name != "layernorm.weight"}
    net.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(InputError, match=r"lacks 1 weights, the first of them layernorm\.weight"):
        DinoFeatures(tmp_path)
    net.config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(net.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="no DINOv2 model can be loaded"):  # a pickle is not looked at
        DinoFeatures(tmp_path)


def test_missing_transformers_is_an_error_with_advice(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install 'diffprob\[transformers\]'"):
        DinoFeatures("facebook/dinov2-base")
