"""Inception features: whose weights are taken, what is done to the images, and what is refused, each in one line."""

import builtins
import hashlib
import re
import shlex
import sys
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from diffprob.base.errors import InputError
from diffprob.evaluation import inception as module
from diffprob.evaluation.features import Judge, describe, extract
from diffprob.evaluation.inception import ORIGIN, PUBLISHED, InceptionFeatures, weights_digest
from diffprob.net.inception import InceptionV3


@pytest.fixture(scope="module")
def state():
    with torch.device("meta"):
        net = InceptionV3()
    net.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for name, value in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            value.zero_()
        elif name.endswith("running_var"):
            value.fill_(1)
        else:
            value.uniform_(-0.05, 0.05, generator=generator)
    return net.state_dict()


@pytest.fixture(scope="module")
def file(state, tmp_path_factory):
    """Weights that say they were made of the published file; without the counters, which some files lack."""
    path = tmp_path_factory.mktemp("inception") / "weights.safetensors"
    kept = {name: value for name, value in state.items() if "num_batches_tracked" not in name}
    save_file(kept, path, {ORIGIN: PUBLISHED})
    return path


@pytest.fixture(scope="module")
def features(file):
    return InceptionFeatures.open(file, levels=17)


def test_image_preprocessing_matches_published(features, monkeypatch):
    """From the definition: [0, 1], bilinear to 299 with half-pixel centres, [-1, 1]; grey is three equal channels."""
    seen = []
    monkeypatch.setattr(features.net, "features", lambda x: seen.append(x) or x.mean((2, 3)).repeat(1, 683)[:, :2048])
    pixels = np.random.default_rng(0).integers(0, 17, (33, 1, 8, 8), np.uint8)
    assert features(pixels).shape == (33, 2048)
    assert [tuple(x.shape) for x in seen] == [(32, 3, 299, 299), (1, 3, 299, 299)]
    where = ((np.arange(299) + 0.5) * 8 / 299 - 0.5).clip(0, 7)
    low = where.astype(int)
    high, part = np.minimum(low + 1, 7), where - low
    image = pixels[0, 0] / 16
    rows = image[low] * (1 - part[:, None]) + image[high] * part[:, None]
    expected = 2 * (rows[:, low] * (1 - part) + rows[:, high] * part) - 1
    for channel in seen[0][0]:
        assert np.abs(channel.numpy() - expected).max() < 1e-5


def test_one_pass_gives_features_and_score_probabilities(features, state):
    pixels = np.random.default_rng(0).integers(0, 17, (1, 3, 40, 60), np.uint8)
    extracted = extract(features, pixels)
    x = F.interpolate(torch.from_numpy(pixels).float() / 16, (299, 299), mode="bilinear") * 2 - 1
    logits = features.net(x)
    assert torch.allclose(extracted @ state["fc.weight"].T + state["fc.bias"], logits, atol=1e-4)
    expected = (logits.double() - state["fc.bias"].double()).softmax(1)
    assert isinstance(features, Judge)
    assert torch.allclose(features.probabilities(extracted), expected, atol=1e-6)
    assert features.classes == 1008


def test_published_weights_are_recognised_and_others_need_consent(features, file, state, tmp_path):
    digest = weights_digest(state)
    assert features.published
    assert features.weights == digest
    assert describe(features).startswith(f"InceptionV3 (published weights, {digest[:8]}), 2048-d, sha256 ")
    assert describe(features).endswith("resized to 299x299, bilinear, corners not aligned, no antialiasing")
    other = tmp_path / "other.safetensors"
    cases = [({ORIGIN: "0" * 64}, digest[:7], "a file of SHA-256 00000000"), (None, "f" * 16, "does not say")]
    for metadata, accept, message in cases:
        save_file(state, other, metadata)
        with pytest.raises(InputError, match=f"{message}.*6726825d.*accept {digest[:16]}"):
            InceptionFeatures.open(other, accept=accept)
    opened = InceptionFeatures.open(other, 17, accept=digest[:8].upper())
    assert opened.name == f"InceptionV3 (NOT the published weights, {digest[:8]})"
    assert opened.digest == features.digest  # the same numbers
    assert InceptionFeatures(opened.net, True).digest != features.digest  # other levels


def test_other_networks_are_errors(state, tmp_path):
    path = tmp_path / "x.safetensors"
    changes = {
        "lacks Mixed_6a.branch3x3.conv.weight": {"Mixed_6a.branch3x3.conv.weight": None},
        r"fc.weight is torch.float32 \(1000, 2048\), not torch.float32 \(1008, 2048\)": {
            "fc.weight": torch.zeros(1000, 2048)
        },
        "has no AuxLogits.fc.bias": {"AuxLogits.fc.bias": torch.zeros(3)},
        "fc.bias is torch.float16": {"fc.bias": torch.zeros(1008, dtype=torch.float16)},
    }
    for message, change in changes.items():
        changed = {name: value for name, value in (state | change).items() if value is not None}
        with pytest.raises(InputError, match=message):
            module._fill(changed, path)
    with pytest.raises(InputError, match="there is no file"):
        InceptionFeatures.open(tmp_path / "none.safetensors")
    path.write_bytes(b"garbage")
    with pytest.raises(InputError, match="safetensors file"):
        InceptionFeatures.open(path)


def test_pickle_is_an_error_with_a_conversion_command(tmp_path, monkeypatch):
    path = tmp_path / "pt_inception-2015-12-05-6726825d.pth"  # the published name
    monkeypatch.chdir(tmp_path)
    torch.save({"a": torch.arange(6.0).reshape(2, 3).T}, path)
    with pytest.raises(InputError, match="never opened; in its folder, once: python -c") as refusal:
        InceptionFeatures.open(path)
    assert "\n" not in str(refusal.value)
    _, flag, code = shlex.split(re.search(r"python -c .*", str(refusal.value))[0])
    assert flag == "-c"
    exec(code, {})  # noqa: S102 - the very command that the message gives
    tensors, origin = module._read(tmp_path / f"{path.name}.safetensors")
    assert torch.equal(tensors["a"], torch.arange(6.0).reshape(2, 3).T)
    assert origin == hashlib.sha256(path.read_bytes()).hexdigest()
    path.rename(tmp_path / "weights")  # known by its first bytes, too
    with pytest.raises(InputError, match="a pickle, never opened"):
        InceptionFeatures.open(tmp_path / "weights")


def test_weights_are_downloaded_from_the_hub(file, monkeypatch):
    calls = []

    def download(repository, name):
        calls.append((repository, name))
        return str(file)

    hub = types.SimpleNamespace(list_repo_files=lambda _: ["README.md", "a.safetensors"], hf_hub_download=download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert module._from_hub("some/inception") == file
    assert module._from_hub("some/inception/folder/b.safetensors") == file
    assert calls == [("some/inception", "a.safetensors"), ("some/inception", "folder/b.safetensors")]
    with pytest.raises(InputError, match="hf:OWNER/REPOSITORY"):
        InceptionFeatures.open("hf:inception")
    hub.list_repo_files = lambda _: ["a.safetensors", "b.safetensors"]
    with pytest.raises(InputError, match=r"holds 2 \.safetensors files; name one"):
        InceptionFeatures.open("hf:some/inception")

    def offline(_):
        raise OSError("no\nnetwork")

    hub.list_repo_files = offline
    with pytest.raises(InputError, match=r"cannot be loaded \(OSError: no network"):
        InceptionFeatures.open("hf:some/inception")


def test_missing_hub_package_is_an_error_with_advice(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "huggingface_hub":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="pip install huggingface_hub"):
        InceptionFeatures.open("hf:some/inception")


@pytest.mark.parametrize("name", ["$(touch x).pth", "`x`.pth", "a';x='.pth", 'a".pth', "a b.pth", "x" * 60 + ".pth"])
def test_unsafe_file_name_gets_no_command(name, tmp_path):
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(InputError, match="a name of at most 40 letters, digits, dots and dashes gets advice"):
        InceptionFeatures.open(tmp_path / name)
