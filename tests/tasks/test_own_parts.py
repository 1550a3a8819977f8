"""Data sets, networks and callbacks of the user's own in a training: our bits, and one line for what is wrong."""

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

import diffprob as dp
from diffprob.base.rng import derive
from diffprob.config.recipe import Recipe
from diffprob.runs.folder import open_run
from diffprob.tasks import training_run
from diffprob.tasks.reporter import SILENT

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (64, 1, 8, 8), dtype=np.uint8)
LABELS = np.arange(64) % 3
QUICK = {
    "training.batch": 8,
    "training.samples": "2",
    "training.checkpoint_every": 2,
    "training.sample_every": 0,
    "training.precision": "fp32",
}
SMALL = {"network.widths": (8, 8), "network.groups": 4}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training_run, "PREVIEW_STEPS", 2)
    monkeypatch.setattr(training_run, "_loss_curve", lambda *_: None)


def train(what: Any, out: str, steps: int = 4, overrides: dict[str, Any] | None = None, **fields: Any) -> dp.Model:
    overrides = {**QUICK, **(SMALL if overrides is None else overrides)}
    common = {"reporter": SILENT, "device": "cpu", "steps": steps}
    return dp.train(what, out=out, overrides=overrides, **common, **fields)


def weights(out: str) -> dict[str, torch.Tensor]:
    return open_run(out).weights()


def same(one: str, other: str) -> bool:
    first, second = weights(one), {name.replace("net.net.", "net."): value for name, value in weights(other).items()}
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class Pictures(Dataset):
    """As torchvision's: floats in [0, 1] and a class."""

    classes = ("cat", "dog", "owl")

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(self.pixels[index]).float().div(255), int(LABELS[index])


def test_a_data_set_of_torch_trains_to_the_bits_of_its_arrays_and_is_measured_like_them() -> None:
    np.savez("x.npz", images=PIXELS, labels=LABELS)
    array, dataset = train("x.npz", "array"), Pictures(PIXELS)
    model = train(dp.FromDataset(dataset), "given")
    assert same("array", "given")
    assert open_run("array").meta["data"] == open_run("given").meta["data"]
    assert np.array_equal(array.data(split="test").images, model.data(split="test").images)
    few = [dp.FromDataset(dataset), PIXELS, dp.Array("x.npz")]
    bits = [model.bits_per_dim(one, n=4, method=dp.ChainBound(steps=3)).mean for one in few]
    assert bits[0] == bits[1] == bits[2]
    assert train(dp.FromDataset(dataset), "given", 6).run.meta["step"] == 6
    assert same("array", "given") is False and train("x.npz", "array", 6) and same("array", "given")
    with pytest.raises(dp.InputError, match="given was trained on other data"):
        train(dp.FromDataset(Pictures(255 - PIXELS)), "given", 8)


def test_what_a_recipe_keeps_of_a_data_set_is_its_digest() -> None:
    model = train(dp.FromDataset(TensorDataset(torch.from_numpy(PIXELS))), "given")  # and nobody holds it any longer
    digest = open_run("given").recipe.data.source.digest
    assert digest == dp.Images(PIXELS).digest() and repr(digest) in Path("given/recipe.txt").read_text()
    with pytest.raises(dp.InputError, match=rf"TensorDataset was given in Python \(sha256 {digest[:12]}\)"):
        model.data(split="train")
    again = dp.FromDataset(TensorDataset(torch.from_numpy(PIXELS)))
    assert len(model.data(split="train")) + len(model.data(split="test")) == len(again.load())
    with pytest.raises(dp.InputError, match="not the images of before"):
        replace(again, dataset=TensorDataset(torch.from_numpy(PIXELS[:3])))


def test_every_form_of_an_item_gives_the_same_levels() -> None:
    from PIL import Image

    def every(form: Any) -> np.ndarray:
        return dp.FromDataset([form(image) for image in PIXELS[:3]]).load().pixels

    colour = RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    for form in (
        lambda x: x,
        lambda x: x[0],
        lambda x: x[0, :, :, None],
        lambda x: torch.from_numpy(x).long(),
        lambda x: torch.from_numpy(x).double() / 255,
        lambda x: torch.from_numpy(x / np.float32(255)).half(),
        lambda x: Image.fromarray(x[0]),
        lambda x: {"img": x, "y": 1},
        lambda x: (x, "owl"),
    ):
        assert np.array_equal(every(form), PIXELS[:3]), form(PIXELS[0])
    assert np.array_equal(dp.FromDataset([Image.fromarray(colour)]).load().pixels[0], colour.transpose(2, 0, 1))
    named = dp.FromDataset([{"pixels": PIXELS[0], "kind": name} for name in ("owl", "cat", "owl")], label="kind").load()
    assert named.class_names == ("cat", "owl") and named.labels is not None and named.labels.tolist() == [1, 0, 1]
    part = dp.FromDataset(Subset(Pictures(PIXELS), [1, 4])).load()
    assert part.class_names == Pictures.classes and part.labels is not None and part.labels.tolist() == [1, 1]
    deep = RNG.integers(0, 65536, (4, 18, 17), dtype=np.uint16)
    for form in (deep, torch.from_numpy(deep.astype(np.int64)), torch.from_numpy(deep / 65535)):
        read = dp.FromDataset([form], levels=65536).load()
        assert read.levels == 65536 and read.pixels.dtype == np.uint16 and np.array_equal(read.pixels[0], deep)
    few = dp.FromDataset([np.eye(4, dtype=bool)], levels=2).load()
    assert few.levels == 2 and np.array_equal(few.pixels[0, 0], np.eye(4))


class Changing(Pictures):
    def __getitem__(self, index: int) -> Any:
        return torch.randint(0, 256, (1, 8, 8)), 0


class Broken(Pictures):
    def __getitem__(self, index: int) -> Any:
        if index:
            raise OSError("no such\ndisk")
        return super().__getitem__(index)


class Negative(Pictures):
    def __len__(self) -> int:
        return len(self.pixels) - 99


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Changing(PIXELS), "item 0 is another image when it is read again.*training.augment"),
        ([torch.full((1, 4, 4), 0.3)], r"item 0: 0.3 is none of the 256 grey levels k/255; uint8, or ToTensor"),
        ([torch.full((1, 4, 4), -1.0)], "item 0: -1 is none of the 256 grey levels"),
        ([torch.full((1, 4, 4), torch.nan)], "item 0 is not finite"),
        ([torch.full((1, 4, 4), 300)], "item 0: levels from 300 to 300; 0 to 255 would be right"),
        ([PIXELS[0], PIXELS[0, :, 1:]], r"item 1 has the shape \(1, 7, 8\), and item 0 \(1, 8, 8\)"),
        ([np.zeros((3, 4, 3), np.uint8)], "may be"),
        ([np.zeros((4, 4, 4, 4), np.uint8)], "no image: numbers"),
        ([{"a": 1}], 'item 0 has a: no image is found; image="key" would be right'),
        ([(PIXELS[0], 1), (PIXELS[0], "x")], "the labels of the items 0 and 1 are 1 and 'x'"),
        ([], "list is empty"),
        (Broken(PIXELS), "Broken: item 1 is not given .OSError: no such disk.; an image would be right"),
        (Negative(PIXELS), "Negative does not say how many items it has .ValueError"),
        (iter([1]), "map-style"),
        ({0: 1}, "map-style"),
        ("digits", "map-style"),
    ],
)
def test_what_is_no_data_set_of_images_is_refused_in_one_line(dataset: Any, message: str) -> None:
    with pytest.raises(dp.InputError, match=message) as caught:
        dp.FromDataset(dataset)
    assert "\n" not in str(caught.value)


def test_chosen_entries_are_there_or_named() -> None:
    with pytest.raises(dp.InputError, match="no 'picture' for the image: it has pixels, y"):
        dp.FromDataset([{"pixels": PIXELS[0], "y": 0}], image="picture")
    with pytest.raises(dp.InputError, match=r"the label is .*; a whole number or a name would be right"):
        dp.FromDataset([(PIXELS[0], np.zeros(3))], label=1)
    with pytest.raises(dp.InputError, match="size=8: FromDataset says that itself"):
        train(dp.FromDataset(Pictures(PIXELS)), "sized", size=8)


def test_a_module_of_the_librarys_own_gives_the_librarys_bits() -> None:
    recipe = replace(dp.named("digits"), network=dp.UNetSpec(1, 1, (8, 8), 1, (False, False), groups=4))
    train(recipe, "ours", overrides={})
    torch.manual_seed(derive(recipe.training.seed, "weights"))
    net = recipe.network.build()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    model = train(recipe, "own", overrides={}, network=net)
    assert same("ours", "own")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    drawn = [dp.load(place, device="cpu").sample(2, steps=3).images for place in ("ours", "own")]
    assert np.array_equal(*drawn) and np.array_equal(model.sample(2, steps=3).images, drawn[0])
    assert train(recipe, "own", 6, {}, network=net) and train(recipe, "ours", 6, {}) and same("ours", "own")


class Tiny(nn.Module):
    def __init__(self, classes: int = 0, width: int = 4) -> None:
        super().__init__()
        self.body = nn.Conv2d(2, 1, width - 1, padding=1)
        self.told = nn.Embedding(classes, 64) if classes else None

    def forward(self, x: torch.Tensor, t: torch.Tensor, *c: torch.Tensor) -> torch.Tensor:
        if self.told is not None:
            x = x + self.told(c[0]).view_as(x)
        return self.body(torch.cat([x, (t / 1000).view(-1, 1, 1, 1).expand_as(x).to(x.dtype)], 1))


def test_a_module_is_trained_with_labels_and_opened_again_with_one_made_as_it_was() -> None:
    np.savez("x.npz", images=PIXELS, labels=LABELS)
    assert train("x.npz", "told", overrides={}, network=Tiny(4), labels=True).class_names == ("0", "1", "2")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import diffprob as dp; from tasks.test_own_parts import Tiny\n"
        "try: dp.load('told', device='cpu').sample(1, steps=2)\n"
        "except dp.InputError as error: print(error)\n"
        "print(dp.load('told', device='cpu', network=Tiny(4)).sample(2, labels=2, steps=2).images.sum())"
    )
    tests = str(Path(__file__).parents[1])
    printed = subprocess.run([sys.executable, "-c", script, tests], capture_output=True, text=True, check=True).stdout
    refused, drawn = printed.splitlines()
    assert refused.startswith("the network is a Tiny of 275 parameters that was given in Python: dp.load(run, network=")
    assert int(drawn) == dp.load("told", device="cpu").sample(2, labels=2, steps=2).images.sum()
    with pytest.raises(dp.InputError, match=r"Tiny of .* is not that of"):
        dp.load("told", network=Tiny(5))
    with pytest.raises(dp.InputError, match="digits has a network of its own, UNetSpec, and takes no module"):
        dp.load("digits", network=Tiny())


@dataclass(frozen=True)
class OwnSpec:
    """A factory: its repr is what a recipe keeps."""

    in_channels: int = 1
    out_channels: int = 1
    widths: tuple[int, ...] = (4,)

    def build(self) -> nn.Module:
        return dp.FromModule(Tiny()).build()


def test_a_registered_factory_is_saved_by_its_name() -> None:
    from diffprob.config import registry

    dp.register(OwnSpec, family="network")
    try:
        model = train("digits", "own", overrides={}, network=OwnSpec())
        assert open_run("own").recipe.network == OwnSpec() and "network=OwnSpec(" in Path("own/recipe.txt").read_text()
        assert model.sample(1, steps=2).images.shape == (1, 1, 8, 8)
    finally:
        del registry.ALL["OwnSpec"], registry.NETWORKS["OwnSpec"]
        registry._REGISTERED.discard("OwnSpec")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Conv2d(1, 1, 3), "Conv2d cannot be called as net.x, t. with x .2, 1, 8, 8.: TypeError"),
        (Tiny(width=5), r"Tiny answers net\(x, t\) with the shape \(2, 1, 7, 7\); \(2, 1, 8, 8\) would be right"),
        (nn.Identity(), "Identity has no parameters"),
        (Tiny().requires_grad_(False), "Tiny has no parameters that could be trained"),
    ],
)
def test_modules_that_cannot_be_trained_are_refused_before_anything_is_written(network: Any, message: str) -> None:
    with pytest.raises(dp.InputError, match=message):
        train("digits", "refused", overrides={}, network=network)
    assert not Path("refused").exists()
    with pytest.raises(dp.InputError, match="a module removes noise"):
        train("heartbeat", "refused", overrides={}, network=Tiny())


def test_a_callback_hears_every_step_stops_and_may_raise_and_nothing_is_lost() -> None:
    heard: list[Any] = []

    def stop_at_3(at: Any) -> None:
        heard.append(at)
        if at.step == 3:
            at.stop()

    recipe = replace(dp.named("digits"), network=dp.UNetSpec(1, 1, (8, 8), 1, (False, False), groups=4))
    assert train(recipe, "heard", 6, {}, callback=stop_at_3).run.meta["step"] == 3
    assert [at.step for at in heard] == [1, 2, 3] and all(at.loss > 0 and at.steps == 6 for at in heard)

    def fail_at_5(at: Any) -> None:
        if at.step == 5:
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        train(recipe, "heard", 6, {}, callback=fail_at_5)
    assert open_run("heard").meta["step"] == 5
    train(recipe, "heard", 6, {})
    train(recipe, "alone", 6, {})
    assert same("alone", "heard")
    with pytest.raises(ValueError, match="callback"):
        train(recipe, "heard", 6, {}, callback=3)


def test_held_out_images_of_another_place_are_found_again_by_the_run() -> None:
    np.save("x.npy", PIXELS)
    test = dp.FromDataset(Pictures(255 - PIXELS))
    model = train("x.npy", "apart", held_out=test)
    assert np.array_equal(model.data(split="test").images, 255 - PIXELS)
    np.save("test.npy", 255 - PIXELS)
    assert len(train("x.npy", "place", held_out="test.npy").data(split="test")) == 64
    assert isinstance(open_run("place").recipe, Recipe)
