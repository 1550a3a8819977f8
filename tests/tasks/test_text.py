"""A model of one's own text: trained from a file, it writes, and costs bits for each character."""

import math
from pathlib import Path

import numpy as np
import pytest

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.tasks.likelihood_methods import FixedOrder
from diffprob.tasks.model import Model
from diffprob.tasks.reporter import SILENT

SMALL = {"data.length": 8, "network.width": 16, "network.layers": 1, "network.heads": 2, "training.samples": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    folder = tmp_path_factory.mktemp("text")
    (folder / "book.txt").write_text("abcdefgh" * 300)
    options = {"overrides": {**SMALL, "training.lr": 0.01}, "report": False, "device": "cpu", "reporter": SILENT}
    return dp.train(str(folder / "book.txt"), out=folder / "run", steps=40, **options)


def test_recipe_follows_the_length_and_keeps_the_characters(model: Model) -> None:
    recipe = model.run.recipe
    assert recipe.data.characters == recipe.space.characters == "abcdefgh"
    assert recipe.space.shape == (1, 1, 8) and recipe.network.length == recipe.process.survival.steps == 8
    texts = list((model.run.path / "samples").glob("*.txt"))
    assert len(texts) > 1 and all(len(text.read_text().split("\n\n")) == 2 for text in texts)


def test_it_learns_what_the_text_repeats(model: Model, tmp_path: Path) -> None:
    result = model.bits_per_dim(n=16, method=dp.ChainBound(terms=None))
    assert result.settings["unit"] == "bits/character" and "bits/character" in repr(result)
    assert result.mean < 0.5 * math.log2(8)  # every window is the same; an untrained network needs 3 bits
    exact = model.bits_per_dim(n=16, method=FixedOrder())
    assert exact.mean < math.log2(8) and exact.settings["role"] == "test"
    samples = model.sample(20, steps=8)
    assert len(samples.texts) == 20 and all(len(text) == 8 and set(text) <= set("abcdefgh") for text in samples.texts)
    samples.save(tmp_path / "s.txt")
    assert (tmp_path / "s.txt").read_text() == "\n\n".join(samples.texts) + "\n"
    right = np.mean([letter == "abcdefgh"[k] for text in samples.texts for k, letter in enumerate(text)])
    assert right > 0.5


def test_what_looks_at_images_says_so_in_one_line(model: Model) -> None:
    for ask in (
        lambda: model.evaluate(n=4),
        lambda: model.restore("x.png", dp.degradations.Inpaint(box=(0, 0, 1, 2))),
        lambda: model.report("page.html"),
    ):
        with pytest.raises(InputError, match="writes text"):
            ask()
    with pytest.raises(InputError, match=r"\.png|\.txt"):
        dp.load("digits", device="cpu", reporter=SILENT).sample(1, steps=2).save("x.txt")
