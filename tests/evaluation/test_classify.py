"""The classifier: fit on real digits, calibrated, reproducible; its judgement counted by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffprob.base.errors import InputError, NumericalError
from diffprob.base.rng import Rng
from diffprob.data.sources import Digits
from diffprob.evaluation.classifier import load_classifier, save_classifier
from diffprob.evaluation.classify import (
    FitSettings,
    _inverse_temperature,
    _shifted,
    classify,
    fit_classifier,
    judge,
)
from diffprob.net.classifier import Classifier, ClassifierSpec

SPEC = ClassifierSpec(widths=(8, 16))
QUICK = FitSettings(epochs=1, batch=64, shift=1)


@pytest.fixture(scope="module")
def digits():
    return Digits("train").load(), Digits("test").load()


@pytest.fixture(scope="module")
def fitted(digits):
    train, _ = digits
    settings = FitSettings(epochs=8, batch=64, lr=1e-2, shift=1, calibration=0.1)
    return fit_classifier(train.pixels, train.labels, SPEC, settings, levels=17)


def test_classifier_learns_the_digits_and_is_calibrated(digits, fitted):
    test = digits[1]
    judgement = judge(fitted, test.pixels, test.labels, levels=17)
    assert judgement.accuracy is not None
    assert judgement.accuracy > 0.9  # other seeds give 0.94 to 0.97
    assert sum(judgement.histogram) == pytest.approx(1)
    assert all(0.07 < share < 0.13 for share in judgement.histogram)
    # The mean confidence of a calibrated classifier is its accuracy. The 144 images held back and the 360 judged leave
    # a standard error of sqrt(0.05 * 0.95 * (1/144 + 1/360)) = 0.02.
    assert judgement.confidence == pytest.approx(judgement.accuracy, abs=0.06)


def test_same_settings_give_the_same_bits_and_leave_the_global_generator_unchanged(digits):
    train = digits[0]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    nets = [fit_classifier(train.pixels[:256], train.labels[:256], SPEC, QUICK, levels=17) for _ in range(2)]
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))
    other = fit_classifier(train.pixels[:256], train.labels[:256], SPEC, replace(QUICK, seed=1), levels=17)
    assert not torch.equal(nets[0].head.weight, other.head.weight)


def test_progress_is_reported_every_step(digits):
    train, seen = digits[0], []
    fit_classifier(
        train.pixels[:200], train.labels[:200], SPEC, replace(QUICK, epochs=2), levels=17, progress=seen.append
    )
    # 5% of 200 are held back: 190 images are three batches of 64, the last one smaller.
    assert [(p.epoch, p.step, p.steps) for p in seen] == [(e, 3 * e + s, 6) for e in (0, 1) for s in (1, 2, 3)]
    assert all(math.isfinite(p.loss) for p in seen)


def test_loss_that_is_not_finite_is_an_error(digits):
    train = digits[0]
    with pytest.raises(NumericalError, match="step"):
        fit_classifier(train.pixels[:256], train.labels[:256], SPEC, replace(QUICK, lr=1e38, epochs=3), levels=17)


@pytest.mark.parametrize("size", [8, 28, 33, 64])
def test_samples_are_independent_and_image_size_is_free(size):
    torch.manual_seed(0)
    net = ClassifierSpec(in_channels=3, classes=4, widths=(8, 16, 16)).build()
    x = torch.randn(5, 3, size, size)
    together = net(x)
    assert together.shape == (5, 4)
    alone = torch.cat([net(x[i : i + 1]) for i in range(5)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_shift_moves_each_image_by_its_own_offset():
    image = torch.arange(25.0).reshape(1, 1, 5, 5)
    rng = Rng.of(3, 400)
    shifted = _shifted(image.repeat(400, 1, 1, 1), 1, rng)
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")[0, 0]
    windows = {(i, j): padded[i : i + 5, j : j + 5] for i in range(3) for j in range(3)}
    offsets = [next(k for k, w in windows.items() if torch.equal(w, m[0])) for m in shifted]
    counts = [offsets.count(k) for k in windows]
    # 400 draws of 9 equally likely offsets: 44 +- 6.3 each.
    assert min(counts) > 44 - 5 * 6.3
    assert max(counts) < 44 + 5 * 6.3
    assert torch.equal(_shifted(image.repeat(2, 1, 1, 1), 1, rng.select(slice(7, 9))), shifted[7:9])


def test_temperature_matches_the_closed_form():
    """Logits (a, 0), right with frequency p: the cross-entropy is least where sigmoid(b a) = p."""
    logits = torch.tensor([[4.0, 0.0]]).repeat(10, 1).double()
    labels = torch.tensor([0] * 7 + [1] * 3)
    assert _inverse_temperature(logits, labels) == pytest.approx(math.log(0.7 / 0.3) / 4, rel=1e-9)


class _Fixed(Classifier):
    """Gives the class in the first pixel with the confidence in the second, in percent."""

    def forward(self, x):
        level = ((x + 1) * 127.5).round()[:, 0, 0]
        p = level[:, 1] / 100
        rest = ((1 - p) / (self.spec.classes - 1)).log()
        logits = rest[:, None].repeat(1, self.spec.classes)
        logits[torch.arange(len(x)), level[:, 0].long()] = p.log()
        return logits


def test_judge_counts_match_a_count_by_hand():
    pixels = np.zeros((8, 1, 8, 8), np.uint8)
    pixels[:, 0, 0, 0] = [0, 0, 1, 1, 1, 2, 2, 2]
    pixels[:, 0, 0, 1] = [91, 95, 50, 89, 99, 92, 85, 60]
    labels = np.array([0, 1, 1, 1, 1, 2, 2, 0])
    judgement = judge(_Fixed(ClassifierSpec(classes=3, widths=(8,))), pixels, labels)
    assert judgement.n == 8
    assert judgement.confident == pytest.approx(4 / 8)
    assert judgement.histogram == pytest.approx((2 / 8, 3 / 8, 3 / 8))
    assert judgement.accuracy == pytest.approx(6 / 8)
    assert judgement.confidence == pytest.approx(np.mean([91, 95, 50, 89, 99, 92, 85, 60]) / 100, rel=1e-5)
    assert judge(_Fixed(ClassifierSpec(classes=3, widths=(8,))), pixels).accuracy is None


def test_saved_classifier_loads_back_and_other_files_are_errors(tmp_path, digits, fitted):
    path, notes, test = tmp_path / "c.safetensors", {"data": "abc"}, digits[1]
    spec = fitted.spec
    save_classifier(fitted, path, notes)
    again = load_classifier(path, spec, notes)
    assert torch.equal(classify(fitted, test.pixels[:20], 17), classify(again, test.pixels[:20], 17))
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]
    for other in ((replace(spec, classes=9), notes), (spec, {"data": "xyz"})):
        with pytest.raises(InputError, match="another classifier"):
            load_classifier(path, *other)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="safetensors file"):
        load_classifier(path, spec, notes)
    with pytest.raises(InputError, match="no classifier"):
        load_classifier(tmp_path / "none", spec)
    with pytest.raises(InputError, match="cannot write"):
        save_classifier(fitted, tmp_path / "missing" / "c.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x.astype(np.float32), y), "uint8"),
        (lambda x, y: (x[:0], y[:0]), "uint8 images"),
        (lambda x, y: (x.repeat(3, 1), y), "3 channels"),
        (lambda x, y: (x, y[:-1]), "need 20 labels"),
        (lambda x, y: (x, y + 5), r"\[0, 10\)"),
    ],
)
def test_invalid_data_is_an_error(digits, change, message):
    pixels, labels = digits[0].pixels[:20], digits[0].labels[:20]
    with pytest.raises(InputError, match=message):
        fit_classifier(*change(pixels, labels), SPEC, QUICK, levels=17)


@pytest.mark.parametrize(
    "fields",
    [{"epochs": 0}, {"batch": 0}, {"lr": 0.0}, {"shift": -1}, {"calibration": 1.0}, {"precision": "fp8"}],
)
def test_invalid_settings_are_errors(fields):
    with pytest.raises(ValueError, match=str(next(iter(fields.values())))):
        FitSettings(**fields)


@pytest.mark.parametrize(
    "fields", [{"in_channels": 0}, {"classes": 1}, {"widths": (8, 12)}, {"widths": ()}, {"groups": 0}]
)
def test_invalid_specs_are_errors(fields):
    with pytest.raises(ValueError, match=r"must (be|have)"):
        ClassifierSpec(**fields)
