"""Classes by name, from the data to what is drawn and measured: splits that lack one, numbers, uneven shares."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cli.commands import TINY
from PIL import Image

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.cli.progress import TERMINAL
from diffprob.conditions.condition import Labels, in_shares
from diffprob.config.classes import agreed, class_counts, labels_of, resolve_classes
from diffprob.config.recipe import Recipe, build_model, resumable
from diffprob.data import Array, Folder, Images
from diffprob.evaluation import classifier, classify
from diffprob.evaluation.features import ClassifierFeatures
from diffprob.net.classifier import ClassifierSpec
from diffprob.net.unet import UNetSpec
from diffprob.runs.folder import Run
from diffprob.runs.publish import write_run
from diffprob.runs.writer import RunWriter
from diffprob.space.pixels import Pixels
from diffprob.tasks import noisy_classifier
from diffprob.tasks.features import Auto
from diffprob.tasks.own_recipe import recipe_for
from diffprob.tasks.training import labelled
from diffprob.training.settings import Training

GREYS = (40, 128, 215)
FRUIT = dict(zip(("apple", "banana", "cherry"), GREYS, strict=True))
NUMBERS = dict(zip(("1", "2", "10"), GREYS, strict=True))
DRAWN = ("--sampler", "DDIM()", "--steps", "2", "--device", "cpu")


def pictures(folder: Path, names: dict[str, int], count: int = 20) -> None:
    """Grey 8x8 pictures; their brightness tells the class."""
    for name, grey in names.items():
        (folder / name).mkdir(parents=True)
        for k in range(count):
            noise = np.random.default_rng([grey, k, len(folder.name)]).integers(0, 20, (8, 8))
            Image.fromarray((grey + noise).astype(np.uint8)).save(folder / name / f"{k}.png")


def of_greys(labels: np.ndarray, **more: object) -> Images:
    noise = np.random.default_rng(len(labels)).integers(0, 20, (len(labels), 1, 8, 8))
    pixels = (np.array(GREYS)[labels][:, None, None, None] + noise).astype(np.uint8)
    return Images(pixels, labels.astype(np.int64), **more)  # pyright: ignore[reportArgumentType]


def certainty(pixels: np.ndarray, classes: int) -> torch.Tensor:
    """Logits of a classifier that is always right: class k is the k-th of three greys."""
    grey = torch.from_numpy(pixels.reshape(len(pixels), -1).mean(1))
    near = -(grey[:, None] - torch.tensor(GREYS, dtype=torch.float64)).abs()
    return torch.cat([near, near.new_full((len(near), classes - 3), -1e3)], 1) if classes > 3 else near


class Perfect(ClassifierFeatures):
    """Features by which the classes of three greys are distinguished without error."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(ClassifierSpec(1, len(names), (8, 8)).build(), 256, "cpu", names)
        self.dimension = self.classes

    def __call__(self, pixels: np.ndarray) -> torch.Tensor:
        return certainty(pixels, self.classes).float()

    def probabilities(self, features: torch.Tensor) -> torch.Tensor:
        return features.double().softmax(1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFPROB_CACHE", str(tmp_path / "cache"))


def recipe(source: Any, name: str = "greys") -> Recipe:
    """Of a tiny network conditioned on the classes of the images."""
    images = source.load()
    condition, shape = labels_of(images), images.event_shape
    network = UNetSpec(shape[0], shape[0], (8, 8), 1, (False, False), groups=4, classes=condition.rows)
    settings = Training(steps=2, batch=8, sample_every=0, precision="fp32")
    return Recipe(
        name=name, data=source, space=Pixels(shape, 256), network=network, training=settings, condition=condition
    )


def written(place: Path, of: Recipe) -> Path:
    """A run with random weights."""
    write_run(place, of, build_model(of).state_dict(), step=1)
    return place


def numbers(place: Path) -> Recipe:
    """The recipe of a run conditioned on the folders 1, 2 and 10."""
    pictures(place / "data", NUMBERS)
    return recipe(Folder(str(place / "data"), None, 1))


@pytest.mark.parametrize("missing", ["apple", "banana", "cherry"])
def test_perfect_classifier_has_accuracy_one_with_a_class_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """Whichever class the test split lacks."""
    pictures(tmp_path / "train", FRUIT)
    pictures(tmp_path / "test", {name: grey for name, grey in FRUIT.items() if name != missing})
    train, test = (Folder(str(tmp_path), None, 1, split).load() for split in ("train", "test"))
    monkeypatch.setattr(classifier, "fit_classifier", lambda pixels, labels, spec, *_: spec.build())
    monkeypatch.setattr(classify, "classify", lambda net, pixels, levels: certainty(pixels, net.spec.classes))
    made = classifier.classifier_for(train, test)
    assert (made.accuracy, made.tested, made.class_names) == (1.0, 40, ("apple", "banana", "cherry"))


def test_class_absent_from_training_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    train = of_greys(np.arange(40) % 2, class_names=("apple", "banana"))
    test = of_greys(np.arange(40) % 2, class_names=("apple", "durian"))
    monkeypatch.setattr(classifier, "fit_classifier", lambda pixels, labels, spec, *_: spec.build())
    monkeypatch.setattr(classify, "classify", lambda net, pixels, levels: certainty(pixels, net.spec.classes))
    made = classifier.classifier_for(train, test)
    assert (made.accuracy, made.tested, made.class_names) == (1.0, 20, ("apple", "banana", "durian"))
    assert made.notes == ("20 test images of classes that it was not trained on are left out: durian",)


def test_per_class_results_belong_to_the_named_class(
    diffprob: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`evaluate` of samples that are the test images themselves, with a test split that lacks the middle class."""
    pictures(tmp_path / "data" / "train", FRUIT, 40)
    pictures(tmp_path / "data" / "test", {name: FRUIT[name] for name in ("apple", "cherry")}, 40)
    made = recipe(Folder(str(tmp_path / "data"), None, 1))
    assert made.condition == Labels(3, names=("apple", "banana", "cherry"))
    written(tmp_path / "run", made)
    names = ("cherry", "banana", "apple")  # of a classifier whose classes stand in another order

    class Reversed(Perfect):
        def __call__(self, pixels: np.ndarray) -> torch.Tensor:
            return certainty(pixels, 3).flip(1).float()

    monkeypatch.setattr(Auto, "fit", lambda *_: Reversed(names))
    test = Folder("data", None, 1, "test").load()
    monkeypatch.setattr("diffprob.tasks.evaluation._draw", lambda *_: test.pixels)
    metrics = ("--metrics", "labels,classes,per-class", "--no-record", "--json")
    labels_options = ("--label", *(["apple"] * 40), *(["cherry"] * 40))
    result = diffprob("evaluate", "run", "-n", "80", *DRAWN, *labels_options, *metrics).json
    rows = {row["title"]: row["value"] for row in result["rows"]}
    assert rows["label accuracy"] == 1.0 and rows["distance of the class histograms"] == 0.0
    apart = [f"Frechet distance, class {name}" for name in ("apple", "cherry")]
    assert [rows[title] < 1e-6 for title in apart] == [True, True]
    assert "Frechet distance, class banana" not in rows and result["classes"] == list(names)


def test_numeric_label_selects_the_class_of_that_name(diffprob: Callable, tmp_path: Path) -> None:
    run = Run.open(written(tmp_path / "run", numbers(tmp_path)))
    assert run.recipe.condition == Labels(3, names=("1", "2", "10"))
    done = diffprob("sample", "run", "-n", "2", *DRAWN, "--label", "10", "1", "--out", "x.npz")
    assert done.code == 0 and "told: 10, 1 in turn" in done.out
    for wrong, message in (
        ("0", "no class '0' among 1, 2, 10"),
        ("3", "no class '3' among"),
        ("one", "among 1, 2, 10"),
    ):
        assert message in diffprob("sample", "run", "-n", "2", *DRAWN, "--label", wrong).error
    # The label that training gave to images of folder 10 is the one of --label 10.
    images = run.recipe.data.load()
    assert run.recipe.condition.from_dataset(images)[images.pixels[:, 0, 0, 0] > 200].tolist() == [2] * 20
    assert run.recipe.condition.number("10") == 2
    assert "3: 1, 2, 10" in diffprob("show", "run").out
    assert "names=('1', '2', '10')" in diffprob("show", "run", "--recipe").out
    assert "| classes | 3: 1, 2, 10 |" in Path("run/README.md").read_text()


def test_classes_without_names_are_numbers() -> None:
    assert Labels(3).number("2") == 2 and Labels(3).name(2) == "2"
    for wrong in ("3", "-1", "²", "apple", "9" * 30):
        with pytest.raises(InputError, match="only the numbers 0 to 2"):
            Labels(3).number(wrong)
    with pytest.raises(InputError, match="no class 'aple' among apple, pear; did you mean 'apple'"):
        Labels(3, names=("apple", "", "pear")).number("aple")
    assert Labels(3, names=("apple", "", "pear")).example_rows(5).tolist() == [0, 2, 0, 2, 0]
    for names in (("a", "b"), ("a", "a", "b"), ("", "", ""), ["a", "b", "c"]):
        with pytest.raises(ValueError, match="names must be"):
            Labels(3, names=names)  # pyright: ignore[reportArgumentType]


def test_class_absent_from_new_data_is_not_sampled(tmp_path: Path) -> None:
    """The recipe of another run has it; a run that was begun with the name goes on as it is."""
    pictures(tmp_path / "all", FRUIT)
    pictures(tmp_path / "some", {"apple": 40, "cherry": 215})
    begun = recipe(Folder(str(tmp_path / "all"), channels=1))
    images = Folder(str(tmp_path / "some"), channels=1).load()
    anew = resolve_classes(begun, images)
    assert anew.condition == Labels(3, names=("apple", "", "cherry"))
    assert anew.condition.example_rows(3).tolist() == [0, 2, 0]
    for old in (anew, begun):  # of before too, when the name was kept
        assert (
            resolve_classes(begun, images, old).condition
            == resolve_classes(anew, images, old).condition
            == old.condition
        )
        assert resumable(old, resolve_classes(begun, images, old)) is None
    other = replace(begun, condition=Labels(3, names=("apple", "durian", "cherry")))
    assert resumable(begun, resolve_classes(other, images, begun)) is not None
    assert resolve_classes(other, begun.data.load()).condition == other.condition


def test_old_run_keeps_its_class_numbers(tmp_path: Path) -> None:
    """It numbered folders as text: 1, 10, 2; nothing of it may become another class without a word."""
    now = numbers(tmp_path)
    images = now.data.load()
    before = replace(now, condition=Labels(3))
    assert before.condition.from_dataset(images)[images.pixels[:, 0, 0, 0] > 200].tolist() == [1] * 20
    assert resumable(before, now) is None and resolve_classes(now, images, before) == before
    named = resolve_classes(before, images)
    assert named.condition.names == ("1", "10", "2") and resumable(named, now) is not None
    store = RunWriter.open(tmp_path / "run", before, images.digest())
    store.close()
    again = RunWriter.open(tmp_path / "run", resolve_classes(now, images, before), images.digest())
    again.close()
    assert Run.open(tmp_path / "run").recipe.condition == Labels(3)
    train, test = agreed(before, images, images)
    assert (
        train.class_names == ("1", "10", "2") and test.labels.tolist() == before.condition.from_dataset(images).tolist()
    )


@pytest.mark.parametrize("first", [1, 2021])
def test_only_occurring_classes_are_sampled(tmp_path: Path, first: int) -> None:
    labels = np.arange(60) % 3
    np.savez(tmp_path / "x.npz", images=of_greys(labels).pixels, labels=labels + first)
    condition = labels_of(Array(str(tmp_path / "x.npz")).load())
    assert condition == Labels(3, names=tuple(str(first + k) for k in range(3)))
    assert condition.example_rows(4).tolist() == [0, 1, 2, 0]


def test_large_label_values_are_single_classes(tmp_path: Path) -> None:
    labels = np.arange(60) % 3
    np.savez(tmp_path / "x.npz", images=of_greys(labels).pixels, labels=labels * 11_000_000)
    source = Array(str(tmp_path / "x.npz"))
    made, _ = labelled(recipe_for("x", source, source.load()), None, tmp_path / "run")
    assert made.condition == Labels(3, names=("0", "11000000", "22000000"))
    assert getattr(made.network, "classes", None) == 4


def test_labels_unique_to_each_image_are_an_error(diffprob: Callable) -> None:
    np.savez("x.npz", images=np.zeros((20_000, 8, 8), np.uint8), labels=np.arange(20_000))
    error = diffprob("train", "--data", "x.npz", "--labels", "--dry-run").error
    assert "20,000 different labels in 20,000 images are too many classes" in error


def test_recipe_with_absent_classes_samples_none_of_them() -> None:
    images = of_greys(np.arange(30) % 3, class_names=("1", "2", "3"), label_values=(1, 2, 3))

    class FixedSource:
        condition = Labels(4)

    names = images.former_names(4)
    assert names == ("", "1", "2", "3")
    assert Labels(4, names=names).example_rows(4).tolist() == [1, 2, 3, 1]
    (train,) = agreed(FixedSource(), images)
    assert class_counts(FixedSource(), train.class_names, train) == (0, 10, 10, 10)
    assert in_shares(class_counts(FixedSource(), train.class_names, train), 4).tolist() == [1, 2, 3, 1]


@pytest.mark.parametrize("counts", [(380, 10, 10), (1, 1, 1), (7, 0, 2, 1), (5,), (0, 3), (1000, 999, 1)])
def test_every_prefix_has_the_class_shares(counts: tuple[int, ...]) -> None:
    drawn = in_shares(counts, 300)
    running_counts = torch.nn.functional.one_hot(drawn, len(counts)).cumsum(0)
    wanted = torch.arange(1, 301)[:, None] * torch.tensor(counts) / sum(counts)
    assert float((running_counts - wanted).abs().max()) < 1
    assert in_shares(counts, 100).equal(drawn[:100])
    if len(set(counts)) == 1:
        assert drawn.equal(torch.arange(300) % len(counts))


def test_invalid_counts_are_errors() -> None:
    for wrong in ((), (0, 0), (-1, 2)):
        with pytest.raises(ValueError, match="counts must be at least 0 and not all 0"):
            in_shares(wrong, 3)
    with pytest.raises(ValueError, match="counts must be 3"):
        Labels(3).in_shares((1, 2), 3)


def test_samples_and_monitor_follow_the_class_shares_of_the_data(
    diffprob: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class of 2.5% of the images must not be a third of the samples."""
    train, test = (np.where(np.arange(n) % 20 == 0, 1 + np.arange(n) // 20 % 2, 0) for n in (400, 240))
    x = (of_greys(labels).pixels for labels in (train, test))
    np.savez("x.npz", x_train=next(x), y_train=train, x_test=next(x), y_test=test)
    seen: list[list[int]] = []
    in_shares = Labels.in_shares
    monkeypatch.setattr(
        Labels,
        "in_shares",
        lambda self, counts, n: seen.append(in_shares(self, counts, n).tolist()) or in_shares(self, counts, n),
    )
    watched = 'training.monitor=Monitor(metrics=("sliced",), epochs=0.02, n=40, steps=2, features="pixels")'
    options = ("--data", "x.npz", "--labels", "--steps", "2", "--out", "run", *TINY, "--set", watched)
    assert diffprob("train", *options).code == 0
    assert [seen[0].count(k) for k in range(3)] == [38, 1, 1]
    assert "the data's shares: 0 0.95, 1 0.025, 2 0.025" in Path("run/log.jsonl").read_text()
    result = diffprob(
        "evaluate", "run", "-n", "80", *DRAWN, "--features", "pixels", "--metrics", "sliced", "--json"
    ).json
    assert [seen[-1].count(k) for k in range(3)] == [76, 2, 2]
    assert result["drawing"]["told"] == "the data's shares: 0 0.95, 1 0.025, 2 0.025"
    assert Run.open("run").measurements[0].details["told"] == result["drawing"]["told"]


def test_noisy_classifier_is_tested_on_classes_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The test split lacks the middle class and has one that training had not."""
    pictures(tmp_path / "train", FRUIT)
    pictures(tmp_path / "test", {"apple": 40, "cherry": 215, "durian": 0})
    source = Folder(str(tmp_path), None, 1)
    train = source.load()
    made = SimpleNamespace(
        recipe=SimpleNamespace(condition=labels_of(train, 0.0), data=source),
        space=Pixels((1, 8, 8), 256),
        load=lambda device: None,
        record=lambda *measurements: None,
        is_packaged=False,
    )

    def right(model: None, x0: torch.Tensor, labels: torch.Tensor, t: float, rng: Rng) -> int:
        grey = (x0.flatten(1).mean(1).double() + 1) * 127.5
        return int(((grey[:, None] - torch.tensor(GREYS)).abs().argmin(1) == labels).sum())

    monkeypatch.setattr(noisy_classifier, "_hits", right)
    test, training = noisy_classifier._held_out([source], TERMINAL), SimpleNamespace(device="cpu")
    result = noisy_classifier._tested(training, made, train, test, TERMINAL)  # pyright: ignore[reportArgumentType]
    assert result.accuracy == (1.0,) * 5 and result.tested == 40
    assert result.classes == ("apple", "banana", "cherry")
    assert "20 images of classes that it was not trained on are left out: durian" in capsys.readouterr().err


def test_control_characters_in_folder_names_are_escaped(diffprob: Callable, tmp_path: Path) -> None:
    pictures(tmp_path / "data", {"\x1b[31mred": 1, "plain": 99}, 30)
    done = diffprob("data-check", "data")
    assert done.code == 0 and "\x1b" not in done.out + done.err and r"\x1b[31mred: 30" in done.out
