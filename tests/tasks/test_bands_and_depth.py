"""Thirteen bands and sixteen bits: every verb answers, and the numbers are those of closed forms."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tasks.test_families import USES, Case, tiny

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.cli.main import main
from diffprob.codec.universal import UniversalQuantisation
from diffprob.data import Array
from diffprob.reporting.artifacts import image_bytes
from diffprob.space.pixels import Pixels
from diffprob.tasks.fitting import AnalyticFit, FitRequest, fit
from diffprob.tasks.reporter import SILENT


def stack(n: int, seed: int, levels: int = 65536) -> np.ndarray:
    """Thirteen bands of 8x8 that share smooth waves, each with a gain of its own and noise."""
    rng = np.random.default_rng(seed)
    waves = rng.normal(size=(n, 3, 8, 8)).cumsum(2).cumsum(3) / 8
    bands = np.einsum("bk,nkhw->nbhw", np.random.default_rng(0).normal(size=(13, 3)), waves)
    bands += rng.normal(size=bands.shape) / 20
    return np.rint((np.tanh(bands / 3) + 1) / 2 * (levels - 1)).astype(np.uint16)


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    folder = tmp_path_factory.mktemp("bands")
    np.savez(folder / "stack.npz", x_train=stack(120, 1), x_test=stack(60, 2))
    recipe = tiny("edm")
    network = replace(recipe.network, in_channels=13, out_channels=13)
    source = Array(str(folder / "stack.npz"), channels=13)
    recipe = replace(recipe, name="stack", data=source, space=Pixels((13, 8, 8), 65536), network=network)
    model = dp.train(recipe, out=folder / "run", reporter=SILENT, device="cpu")
    return Case(model, stack(60, 2), stack(50, 3))


@pytest.mark.parametrize("use", [use for use in USES if use != "likelihood, order"])
def test_every_verb_answers_of_thirteen_bands_in_sixteen_bits(case: Case, use: str, tmp_path: Path) -> None:
    answer = USES[use](case, tmp_path)
    assert answer is not None
    if isinstance(answer, float | torch.Tensor):
        assert bool(torch.isfinite(torch.as_tensor(answer)).all())


def test_samples_keep_all_bands_as_arrays_and_three_as_pictures(case: Case, tmp_path: Path) -> None:
    samples = case.model.sample(4, steps=3)
    assert samples.images.dtype == np.uint16 and samples.images.shape == (4, 13, 8, 8)
    samples.save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as stored:
        assert np.array_equal(stored["images"], samples.images)
    samples.save(tmp_path / "x.png")
    shown = np.asarray(Image.open(tmp_path / "x.png"))[2, 2]  # the pixel within the separator
    assert shown.tolist() == np.round(samples.images[0, :3, 0, 0] * (255 / 65535)).astype(int).tolist()


def test_files_of_single_images_lose_no_level(case: Case, tmp_path: Path) -> None:
    """An array where no picture has the bands or bits, a PNG of 16 bits for grey; both are read again to the level."""
    out = tmp_path / "drawn"
    assert main(["sample", str(case.model.run.path), "-n", "2", "--steps", "3", "--out", f"{out}/"]) == 0
    assert sorted(path.name for path in out.glob("seed*")) == ["seed-00000000.npy", "seed-00000001.npy"]
    read = Array(str(out / "seed-00000001.npy"), channels=13).load()
    assert np.array_equal(read.pixels, case.model.sample(2, steps=3).images[1:])
    (tmp_path / "grey").mkdir()
    grey = case.levels[0, :1] >> 4
    (tmp_path / "grey" / "x.png").write_bytes(image_bytes(grey, 4096, {}))
    assert np.array_equal(dp.open_data(str(tmp_path / "grey"), channels=1, levels=4096).load().pixels[0], grey)


def test_other_depths_and_bands_are_refused_in_one_line(case: Case) -> None:
    for wrong, words in (
        (stack(2, 3)[:, :12], "12"),
        ((stack(2, 3) >> 8).astype(np.uint8), "256 grey levels"),
        (np.zeros((2, 17, 8, 8), np.uint16), "C = 1 to 16"),
    ):
        with pytest.raises((InputError, ValueError), match=words):
            case.model.bits_per_dim(wrong)


def test_exact_normal_data_of_sixteen_bits_cost_their_entropy() -> None:
    """log2(s sqrt(2 pi e)) - log2(2/65535) bits/dim: the width of a level is that of its bin.

    The flow ends at the smallest noise, sigma/alpha = 0.006 of the cosine's, which is 0.03 of s: it widens the law by
    4e-4 of itself, 4e-4 (z^2 - 1) log2(e)/2 bits of an element at z standard deviations, less than 0.01 of all here.
    The mean of the images is the entropy within 4 standard errors.
    """
    s, n = 0.2, 200
    cov = s**2 * torch.eye(4, dtype=torch.float64)
    data = dp.GaussianData(torch.zeros(1, 2, 2, dtype=torch.float64), cov)
    x = s * np.random.default_rng(0).normal(size=(n, 1, 2, 2))
    levels = np.rint((x.clip(-1, 1) + 1) * 65535 / 2).astype(np.uint16)
    model = dp.Model(data, shape=(1, 2, 2), levels=65536, reporter=SILENT)
    result = model.bits_per_dim(levels, method=dp.ProbabilityFlow(tolerance=1e-6))
    points = levels * (2 / 65535) - 1
    nats = math.log(s * math.sqrt(2 * math.pi)) + points**2 / (2 * s**2)
    exact = nats.mean((1, 2, 3)) / math.log(2) - math.log2(2 / 65535)
    assert np.asarray(result.per_image) == pytest.approx(exact, abs=0.01)
    entropy = math.log2(s * math.sqrt(2 * math.pi * math.e)) - math.log2(2 / 65535)
    assert abs(result.mean - entropy) < 4 * result.standard_error


def test_code_of_sixteen_bits_gives_back_every_level(case: Case, tmp_path: Path) -> None:
    """All bytes are exact, in thirteen bands too."""
    fit(case.model.run, FitRequest(what=("analytic",), analytic=AnalyticFit(n=8, times=24)))
    model = dp.load(case.model.run.path, device="cpu", reporter=SILENT)
    coded = model.encode(case.images[:2], steps=4, coder=UniversalQuantisation())
    assert np.array_equal(model.decode(coded.data).images, case.images[:2])
