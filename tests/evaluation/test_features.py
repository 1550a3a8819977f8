"""Features: against numpy and scikit-learn, one pass for features and probabilities, digests that tell things apart."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from diffprob.base.errors import InputError, NumericalError
from diffprob.data.sources import Digits
from diffprob.evaluation.classify import classify
from diffprob.evaluation.features import (
    ClassifierFeatures,
    Features,
    Judge,
    PcaFeatures,
    PixelFeatures,
    describe,
    digest_of,
    extract,
)
from diffprob.net.classifier import ClassifierSpec

SPEC = ClassifierSpec(widths=(8, 16))


@pytest.fixture(scope="module")
def digits():
    return Digits("train").load()


@pytest.fixture(scope="module")
def judge():
    torch.manual_seed(0)
    return ClassifierFeatures(SPEC.build(), 17)


def test_features_and_judges_satisfy_their_protocols(digits, judge):
    assert isinstance(judge, Judge)
    pca = PcaFeatures.fit(digits.pixels[:50], 3, 17)
    for features in (judge, PixelFeatures((1, 8, 8), 17), pca):
        assert isinstance(features, Features)
        assert len(features.digest) == 64
        assert describe(features) == f"{features.name}, {features.dimension}-d, sha256 {features.digest[:8]}"
    assert not isinstance(pca, Judge)


def test_extract_follows_the_indices_and_reports_progress(digits):
    features, seen = PixelFeatures((1, 8, 8), 17), []
    order = np.array([5, 3, 1400, 3, 0])
    extracted = extract(features, digits, order, batch=2, progress=seen.append)
    expected = digits.pixels[order].reshape(5, -1) / 8 - 1
    assert extracted.dtype == torch.float32
    assert np.allclose(extracted, expected, atol=1e-6)
    assert seen == [2, 4, 5]
    assert torch.equal(extract(features, digits.pixels, order), extracted)
    assert extract(features, digits, batch=1000).shape == (1437, 64)


def test_one_pass_gives_features_and_classifier_probabilities(digits, judge):
    pixels = digits.pixels[:300]
    features = extract(judge, pixels, batch=64)
    assert features.shape == (300, judge.dimension) == (300, 64)
    expected = classify(judge.net, pixels, 17).softmax(1)
    assert torch.allclose(judge.probabilities(features), expected, atol=1e-5)
    assert judge.probabilities(features).sum(1).numpy() == pytest.approx(1)
    assert judge.classes == 10


def test_pca_matches_scikit_learn_up_to_sign(digits):
    ours, theirs = PcaFeatures.fit(digits, 10, 17), PCA(10, svd_solver="full")
    pixels = digits.pixels.reshape(len(digits), -1) / 8 - 1
    expected = theirs.fit_transform(pixels)
    features = extract(ours, digits).numpy()
    signs = np.sign((features * expected).sum(0))
    assert np.abs(features - signs * expected).max() < 1e-5
    assert ours.explained == pytest.approx(theirs.explained_variance_ratio_.sum(), rel=1e-6)
    largest = ours.axes.abs().argmax(0)
    assert bool((ours.axes[largest, torch.arange(10)] > 0).all())
    assert ours.digest == PcaFeatures.fit(digits, 10, 17).digest
    assert ours.fitted == 1437


def test_pca_from_inner_products_matches_direct_pca(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3, 5, 5), np.uint8)
    exact = PcaFeatures.fit(pixels, 6)
    monkeypatch.setattr("diffprob.evaluation.features._EXACT", 10)
    assert torch.allclose(PcaFeatures.fit(pixels, 6).axes, exact.axes, atol=1e-9)
    monkeypatch.setattr("diffprob.evaluation.features._ROOM", 20 * 75)
    few = PcaFeatures.fit(pixels, 6)
    assert few.fitted == 20
    assert torch.allclose(few.axes.T @ few.axes, torch.eye(6, dtype=torch.float64), atol=1e-9)


def test_pca_of_all_axes_keeps_distances():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 3, 3), np.uint8)
    plain, turned = extract(PixelFeatures((1, 3, 3)), pixels), extract(PcaFeatures.fit(pixels, 9), pixels)
    distances = [(x[:, None] - x).norm(dim=-1) for x in (plain, turned)]
    assert torch.allclose(*distances, atol=1e-5)


def test_digests_depend_on_weights_levels_and_shapes(judge):
    torch.manual_seed(0)
    same = ClassifierFeatures(SPEC.build(), 17)
    assert same.digest == judge.digest
    assert ClassifierFeatures(SPEC.build(), 17).digest != judge.digest  # the next weights of the generator
    assert ClassifierFeatures(same.net, 16).digest != judge.digest
    digests = {PixelFeatures(shape, k).digest for shape in ((1, 8, 8), (1, 4, 16)) for k in (17, 256)}
    assert len(digests) == 4
    x = torch.arange(6.0)
    others = [{"a": x.reshape(2, 3)}, {"b": x}, {"a": x.double()}, {"a": x + 1e-6}]
    assert digest_of({"a": x}) not in {digest_of(tensors) for tensors in others} | {digest_of({"a": x}, "with")}
    assert digest_of({"a": x, "b": -x}) == digest_of({"b": -x, "a": x})


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((2, 1, 8, 8)), "uint8 images"),
        (np.zeros((2, 8, 8), np.uint8), "uint8 images"),
        (np.zeros((2, 3, 8, 8), np.uint8), "3 channels|shape"),
        (np.full((2, 1, 8, 8), 17, np.uint8), r"level 17, .*17 levels \(0\.\.16\)"),
    ],
)
def test_images_of_another_shape_are_errors(judge, pixels, message):
    for features in (judge, PixelFeatures((1, 8, 8), 17)):
        with pytest.raises(InputError, match=message):
            features(pixels)


def test_empty_or_invalid_input_is_an_error(digits, judge):
    with pytest.raises(InputError, match="no images"):
        extract(judge, digits, np.array([], int))
    with pytest.raises(ValueError, match="0"):
        extract(judge, digits, batch=0)
    with pytest.raises(InputError, match="no 65 axes"):
        PcaFeatures.fit(digits, 65, 17)
    with pytest.raises(InputError, match="no 8 axes"):
        PcaFeatures.fit(digits.pixels[:8], 8, 17)
    with pytest.raises(InputError, match="a PCA of one image has no axes; more images, or the pixels"):
        PcaFeatures.fit(digits.pixels[:1], 1, 17)
    with pytest.raises(ValueError, match="levels"):
        PixelFeatures((1, 8, 8), 1)
    torch.manual_seed(0)
    broken = ClassifierFeatures(SPEC.build(), 17)
    broken.net.body[0].weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(NumericalError, match="images 0 to 3 are not finite"):
        extract(broken, digits.pixels[:4])
