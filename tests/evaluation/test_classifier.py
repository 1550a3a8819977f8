"""Kept classifiers: trained once for a data set and its settings, measured on images they did not see."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from diffprob.base.errors import InputError
from diffprob.data.images import Images
from diffprob.data.sources import Digits
from diffprob.evaluation import classifier as module
from diffprob.evaluation.classifier import classifier_for, default_epochs, open_classifier, plan
from diffprob.evaluation.classify import FitSettings, judge
from diffprob.evaluation.features import extract

QUICK = FitSettings(epochs=1, batch=64, shift=1)


@pytest.fixture(scope="module")
def digits():
    train, test = Digits("train").load(), Digits("test").load()
    return Images(train.pixels[:300], train.labels[:300], 17, class_names=train.class_names), test


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFPROB_CACHE", str(tmp_path / "cache"))


def test_classifier_is_trained_once_and_reused(digits):
    train, test = digits
    seen = []
    first = classifier_for(train, test, QUICK, progress=seen.append)
    assert (first.fresh, first.tested, first.on, len(seen)) == (True, 360, "the test split", 5)
    assert first.accuracy == judge(first.net, test.pixels, test.labels, 17).accuracy
    assert first.path == plan(train, test, QUICK).path
    again = classifier_for(train, test, QUICK, progress=seen.append)
    assert (again.fresh, len(seen)) == (False, 5)
    fields = ("accuracy", "tested", "on", "class_names", "levels", "path")
    assert all(getattr(again, name) == getattr(first, name) for name in fields)
    assert again.class_names == tuple("0123456789")
    assert again.features().digest == first.features().digest
    assert torch.equal(extract(again.features(), test.pixels[:9]), extract(first.features(), test.pixels[:9]))


def test_file_name_depends_on_what_determines_the_weights(digits):
    train, test = digits
    other = Images(train.pixels[::-1].copy(), train.labels, 17, class_names=train.class_names)
    plans = [
        plan(*both) for both in ((train, test, QUICK), (train, test, replace(QUICK, seed=1)), (train, None, QUICK))
    ]
    plans += [plan(other, test, QUICK), plan(replace(train, levels=18), None, QUICK)]
    assert len({made.path for made in plans}) == len(plans)


def test_unknown_test_classes_are_left_out_and_noted(digits):
    """A classifier cannot be right about what it never saw; they counted as wrong without a word."""
    train, test = digits
    few = train.some(np.flatnonzero(train.labels < 8))
    for fresh in (True, False):
        made = classifier_for(few, test, QUICK)
        known = test.labels < 8
        assert made.accuracy == judge(made.net, test.pixels[known], test.labels[known], 17).accuracy
        assert (made.fresh, made.tested) == (fresh, known.sum())
        left = f"{(~known).sum()} test images of classes that it was not trained on are left out: 8, 9"
        assert made.notes == (left,)
    assert classifier_for(train, test, QUICK).notes == ()
    with pytest.raises(InputError, match="no test image is of a class that was trained"):
        plan(few, test.some(np.flatnonzero(~known)), QUICK)


def test_without_a_test_split_a_tenth_is_held_out(digits, monkeypatch):
    train, trained = digits[0], []
    fit = module.fit_classifier
    monkeypatch.setattr(module, "fit_classifier", lambda pixels, *rest: trained.append(pixels) or fit(pixels, *rest))
    judged = []
    monkeypatch.setattr(
        module, "judge", lambda net, pixels, *r, **k: judged.append(pixels) or judge(net, pixels, *r, **k)
    )
    made = classifier_for(train, None, QUICK)
    assert (made.tested, made.on) == (30, "images held back")
    both = np.concatenate([trained[0], judged[0]])
    assert (len(trained[0]), len(judged[0])) == (270, 30)
    assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in train.pixels)
    unlabelled = replace(digits[1], labels=None)
    assert classifier_for(train, unlabelled, QUICK).tested == 30


def test_file_of_other_settings_is_kept(digits, tmp_path):
    train, test = digits
    path = tmp_path / "c.safetensors"
    made = classifier_for(train, test, QUICK, path=path)
    assert (made.path, list(tmp_path.iterdir())) == (path, [path])
    before = path.read_bytes()
    assert not classifier_for(train, test, QUICK, path=path).fresh
    for changed, name in ((replace(QUICK, seed=1), "settings"), (None, "settings")):
        with pytest.raises(InputError, match=f"holds another classifier: its {name} is"):
            classifier_for(train, test, changed, path=path)
    with pytest.raises(InputError, match="another classifier: its data is"):
        classifier_for(replace(train, labels=train.labels[::-1].copy()), test, QUICK, path=path)
    assert path.read_bytes() == before


def test_damaged_file_is_an_error_and_damaged_cache_is_retrained(digits, tmp_path):
    train, test = digits
    first = classifier_for(train, test, QUICK)
    assert first.path is not None
    first.path.write_bytes(first.path.read_bytes()[:-50])
    with pytest.raises(InputError, match="safetensors file"):
        classifier_for(train, test, QUICK, path=first.path)
    again = classifier_for(train, test, QUICK)
    assert again.fresh
    assert again.notes[0].endswith("trained again")
    assert not classifier_for(train, test, QUICK).fresh
    assert again.features().digest == first.features().digest  # same data, same settings: same bits


def test_unwritable_cache_is_noted(digits, tmp_path):
    (tmp_path / "cache").write_text("")
    made = classifier_for(*digits, QUICK)
    assert made.path is None
    assert "is not kept" in made.notes[0]
    with pytest.raises((InputError, OSError)):
        classifier_for(*digits, QUICK, path=tmp_path / "cache" / "x.safetensors")


def test_other_files_are_errors(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(InputError, match="there is no classifier at"):
        open_classifier(path)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="does not hold a classifier"):
        open_classifier(path)
    for spec in ("__import__('os').getcwd()", "ClassifierSpec(widths=(8, 12))", "ClassifierSpec(widths=f())", "3", "("):
        save_file({"a": torch.zeros(2)}, path, {"spec": spec, "notes": "{}"})
        with pytest.raises(InputError, match="does not hold a classifier"):
            open_classifier(path)


@pytest.mark.parametrize(
    ("side", "widths"),
    [
        (8, (16, 32, 64)),
        (28, (16, 32, 64)),
        (32, (16, 32, 64)),
        (64, (16, 32, 64, 128)),
        (256, (16, 32, 64, 128, 256, 256)),
    ],
)
def test_network_depth_grows_with_the_image_size(side, widths):
    images = Images(np.zeros((20, 3, side, side), np.uint8), np.arange(20) % 2)
    made = plan(images)
    assert made.spec.widths == widths
    assert (made.spec.in_channels, made.spec.classes) == (3, 2)


def test_default_epochs_fall_with_the_number_of_images():
    assert [default_epochs(n) for n in (100, 1437, 10_000, 60_000, 10**6)] == [60, 42, 6, 3, 3]


@dataclass
class _Changed:
    """Pixels and labels to plan with."""

    n: int = 40
    labels: object = "two"
    shape: tuple = (1, 8, 8)

    def images(self) -> Images:
        labels = {"two": np.arange(self.n) % 2, "one": np.ones(self.n, int)}
        return Images(np.zeros((self.n, *self.shape), np.uint8), labels.get(self.labels))


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (_Changed(labels=None), None, "no labels"),
        (_Changed(n=19), None, "19 images are too few"),
        (_Changed(labels="one"), None, "all images are of class 1"),
        (_Changed(), _Changed(shape=(1, 9, 8)), r"test images are \(1, 9, 8\)"),
    ],
)
def test_unusable_data_is_an_error(train, test, message):
    with pytest.raises(InputError, match=message):
        plan(train.images(), None if test is None else test.images())


def test_default_folder_follows_the_environment(monkeypatch, digits):
    monkeypatch.setenv("DIFFPROB_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert plan(*digits).path.parent == Path("/x/diffprob")
