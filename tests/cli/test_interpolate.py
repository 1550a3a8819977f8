"""`interpolate`, and `sample --from`: chains that start at images."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli.commands import contents
from PIL import Image

import diffprob as dp
from diffprob.data.images import Images

CPU = ("--device", "cpu")
FEW = ("--steps", "4", *CPU)
GRID = ("--sampler", "DPMppSDE()", "--grid", "Trailing()")  # at 1, 0.75, 0.5, 0.25 with FEW


def arrays(path: str) -> tuple[np.ndarray, np.ndarray, dict]:
    with np.load(path, allow_pickle=False) as stored:
        return stored["images"], stored["seeds"], json.loads(str(stored["metadata"]))


def digit(index: int) -> np.ndarray:
    """A held-out digit, uint8 (1, 8, 8)."""
    return dp.Digits("test").load().pixels[index]


def picture(name: str, pixels: np.ndarray) -> str:
    """A PNG of 8-bit pixels (H, W) or (H, W, 3)."""
    Image.fromarray(pixels.astype(np.uint8)).save(name)
    return name


def test_samples_from_a_noised_image_match_the_library(diffprob: Callable, trained: Path) -> None:
    common = ("sample", trained, "--from", "digits:5", "--at", "0.8", "0.3", "--seed", "7", *FEW, *GRID)
    result = diffprob(*common, "--out", "x.npz", "--json").json
    images, seeds, settings = arrays("x.npz")
    assert images.shape == (2, 10, 1, 8, 8), "a row for each time: the image, x_t, eight draws"
    assert seeds.tolist() == list(range(7, 15))
    assert (images[:, 0] == digit(5)).all()
    assert len({row.tobytes() for row in images[0, 2:]}) == 8, "eight noises"
    assert not np.array_equal(images[0, 1], images[1, 1])
    for name in ("from", "at", "evaluations", "sampler", "grid", "seeds", "model_sha256"):
        assert settings[name] == result[name]
    # 0.8 takes the place of 0.75.
    assert (settings["at"], settings["sampler"]) == ([0.8, 0.3], "DPMppSDE(history=2)")
    assert settings["evaluations"] == [3, 2]
    assert result["network_calls"] == 5, "eight images are one call"
    assert diffprob(*common, "--out", "x.png").code == 0
    with Image.open("x.png") as grid:
        assert (grid.text["from"], grid.text["at"]) == ("digits:5", "[0.8, 0.3]")
        assert grid.text["from_sha256"] == Images(dp.Digits("test").load().take([5])).digest()
        assert grid.width > 4 * grid.height


def test_chain_depends_only_on_its_seed_and_time(diffprob: Callable, trained: Path) -> None:
    common = ("sample", trained, "--from", "digits:5", *FEW)
    diffprob(*common, "--at", "0.8", "0.5", "--out", "eight.npz")
    diffprob(*common, "--at", "0.5", "-n", "3", "--out", "three.npz")
    assert np.array_equal(arrays("eight.npz")[0][1:, :5], arrays("three.npz")[0])
    before = contents(Path())
    diffprob(*common, "--at", "0.5", "-n", "3", "--out", "three.npz")
    assert contents(Path()) == before
    diffprob(*common, "--at", "0.5", "-n", "3", "--seed", "1", "--out", "other.npz")
    assert not np.array_equal(arrays("other.npz")[0][0, 1], arrays("three.npz")[0][0, 1]), "another x_t"


def test_image_files_are_read_like_data(diffprob: Callable, trained: Path) -> None:
    scaled = np.round(digit(5)[0] * (255 / 16))
    picture("grey.png", scaled)
    picture("rgb.png", np.repeat(scaled[..., None], 3, 2))
    Path("folder").mkdir()
    picture("folder/b.png", scaled)
    picture("folder/a.png", 255 - scaled)
    drawn = []
    for k, source in enumerate(("digits:5", "grey.png", "rgb.png", "folder:1")):
        assert diffprob("sample", trained, "--from", source, "-n", "1", *FEW, "--out", f"{k}.npz").code == 0
        drawn.append(arrays(f"{k}.npz")[0].tobytes())
    assert len(set(drawn)) == 1


def test_deterministic_samplers_and_short_chains_are_noted(diffprob: Callable, trained: Path) -> None:
    common = ("sample", trained, "--from", "digits:5", "-n", "2", *FEW, "--dry-run")
    assert "draws nothing: from one x_t all 2 images are the same" in diffprob(*common, "--sampler", "DDIM()").err
    plan = diffprob(*common, *GRID, "--at", "0.1")
    assert "t = 0.1 lies below the grid's last time, 0.25" in plan.err
    assert not list(Path().iterdir())
    assert "would draw 2 images from digits:5 at each t of 0.1" in plan.out


def test_reconstruction_matches_the_library(diffprob: Callable, trained: Path) -> None:
    common = ("sample", trained, "--from", "digits:5", "--reconstruct", *FEW)
    result = diffprob(*common, "--at", "1", "0.5", "--out", "x.npz", "--json").json
    images, _, settings = arrays("x.npz")
    assert images.shape == (2, 3, 1, 8, 8), "the image, its latent, what that decodes to"
    difference = images[:, 2].astype(float) - digit(5)
    assert result["rmse"] == settings["rmse"] == pytest.approx(np.sqrt((difference**2).mean((1, 2, 3))))
    assert settings["sampler"].startswith("DDIM(eta=0.0")
    assert (settings["evaluations"], result["network_calls"]) == ([4, 2], 12), "up and down"
    plain = diffprob(*common, "--out", "x.png")
    assert "took digits:5 up to t = 1 and back" in plain.out
    assert re.search(r"squared difference: \d+\.\d\d grey levels", plain.out)


def test_interpolation_matches_the_library(diffprob: Callable, trained: Path) -> None:
    common = ("interpolate", trained, "digits:5", "digits:9", *FEW)
    result = diffprob(*common, "--at", "0.5", "0.25", "--points", "5", "--out", "x.npz", "--json").json
    images, seeds, settings = arrays("x.npz")
    assert images.shape == (2, 7, 1, 8, 8), "a row for each time: the image, five points, the other image"
    assert (images[:, 0] == digit(5)).all()
    assert (images[:, -1] == digit(9)).all()
    assert seeds.tolist() == [0]
    assert (settings["a"], settings["b"], settings["noise"], settings["at"]) == (
        "digits:5",
        "digits:9",
        "shared",
        [0.5, 0.25],
    )
    test = dp.Digits("test").load()
    assert [settings[f"{name}_sha256"] for name in "ab"] == [Images(test.take([k])).digest() for k in (5, 9)]
    ends = ((images[:, [1, -2]].astype(float) - images[:, [0, -1]]) ** 2).mean((2, 3, 4)) ** 0.5
    assert np.allclose(result["rmse"], ends)
    assert result["network_calls"] == 3
    diffprob(*common, "--points", "5", "--seed", "0", "--out", "one.npz")
    assert np.array_equal(arrays("one.npz")[0][0], images[0]), "rows do not depend on each other"
    assert diffprob(*common).out.endswith("wrote interpolation.png\n")


def test_interpolation_ends_equal_sampling_from_each_image(diffprob: Callable, trained: Path) -> None:
    """l = 0 and 1 are what `sample --from` draws with the same noise."""
    diffprob("interpolate", trained, "digits:5", "digits:9", "--points", "2", "--batch", "2", *FEW, "--out", "x.npz")
    for k, source in enumerate(("digits:5", "digits:9")):
        arguments = ("--from", source, "--at", "0.5", "-n", "1", "--batch", "2", *FEW, "--out", f"{k}.npz")
        diffprob("sample", trained, *arguments)
        assert np.array_equal(arrays(f"{k}.npz")[0][0, 2], arrays("x.npz")[0][0, 1 + k])


def test_interpolation_modes_give_different_images(diffprob: Callable, trained: Path) -> None:
    drawn = {}
    for name, options in {
        "shared": (),
        "independent": ("--noise", "independent"),
        "rescaled": ("--noise", "rescaled"),
        "latent": ("--latent",),
    }.items():
        arguments = ("digits:5", "digits:9", "--at", "0.75", "--points", "3", *options, *FEW, "--out", f"{name}.npz")
        assert diffprob("interpolate", trained, *arguments).code == 0
        images, _, settings = arrays(f"{name}.npz")
        assert (settings["noise"], settings["latent"]) == ((None, True) if name == "latent" else (name, False))
        drawn[name] = images
    assert len({images[:, 2].tobytes() for images in drawn.values()}) == 4, "in the middle"
    assert len({drawn[name][:, 1].tobytes() for name in ("shared", "independent", "rescaled")}) == 1, "l = 0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--at", "0.5"], "--at goes with --from IMAGE"),
        (["--reconstruct"], "--reconstruct goes with --from IMAGE"),
        (["--from", "digits:0", "--at", "0"], r"--at: must lie in \(0, 1\], got 0"),
        (["--from", "digits:0", "--at", "0.5", "1.5"], r"--at: must lie in \(0, 1\], got 1.5"),
        (["--from", "digits:0", "--at", "nan"], r"--at: must lie in \(0, 1\], got nan"),
        (["--from", "digits:0", "--at", "half"], "--at: must be a number"),
        (["--from", "nowhere.png"], r"nowhere\.png: no such file"),
        (["--from", "nowhere/data:3"], "nowhere/data: no such file"),
        (["--from", "digits"], "--from digits: a picture .* or DATA:INDEX would be right"),
        (["--from", "digits:-1"], "DATA:INDEX would be right"),
        (["--from", "digits:360"], "--from digits:360: digits has 360 images, counted from 0"),
        (["--from", "digits:0", "--progressive"], "--progressive and --from exclude each other"),
        (["--from", "digits:0", "--out", "folder/"], "rows of images are one file"),
        (["--from", "digits:0", "--reconstruct", "-n", "2"], "-n and --reconstruct exclude each other"),
        (["--from", "digits:0", "--reconstruct", "--sampler", "UniPC(2)"], "--reconstruct goes up and down by DDIM"),
        (
            ["--from", "small.png"],
            r"small\.png: shape \(1, 6, 6\) and 256 .* takes \(1, 8, 8\) and 17",
        ),
        (["--from", "colour.png"], r"colour\.png: shape \(3, 8, 8\)"),
        (["--from", "fine.png"], r"fine\.png: .* and 256 grey levels, digits takes .* and 17"),
        (["--from", "broken.png"], r"broken\.png: not a PNG"),
        (["--from", "x.npy:0"], r"shape \(1, 9, 9\) .* digits takes \(1, 8, 8\)"),
        (["--from", "y.npy:0"], r"y\.npy: values up to 7, .* the 17 levels of digits"),
    ],
    ids=" ".join,
)
def test_invalid_sources_are_errors(diffprob: Callable, trained: Path, arguments: list[str], message: str) -> None:
    make_bad()
    before = contents(Path())
    done = diffprob("sample", trained, *arguments, *FEW)
    assert done.code == 2
    assert re.search(message, done.error), done.error
    assert contents(Path()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits:0"], "required: B"),
        (["digits:0", "digits:1", "--points", "1"], "--points: must be at least 2, got 1"),
        (["digits:0", "digits:1", "--at", "0"], r"--at: must lie in \(0, 1\], got 0"),
        (["digits:0", "digits:1", "--noise", "pink"], "invalid choice: 'pink'"),
        (["digits:0", "digits:1", "--noise", "shared", "--latent"], "--noise and --latent exclude each other"),
        (["digits:0", "digits:1", "--latent", "--sampler", "Ancestral()"], "--latent goes up and down by DDIM"),
        (["digits:0", "digits:1", "--latent", "--sampler", "DIMM()"], "did you mean 'DDIM'"),
        (["digits:0", "digits:1", "-n", "2"], "has no option -n"),
        (["digits:0", "digits:1", "--out", "x.jpg"], "cannot be written"),
        (["digits:0", "nowhere.png"], r"nowhere\.png: no such file"),
        (["digits:0", "colour.png"], r"shape \(3, 8, 8\)"),
        (["digits:0", "digits:400"], "B digits:400: digits has 360 images"),
    ],
    ids=" ".join,
)
def test_invalid_interpolations_are_errors(
    diffprob: Callable, trained: Path, arguments: list[str], message: str
) -> None:
    make_bad()
    before = contents(Path())
    done = diffprob("interpolate", trained, *arguments, *FEW)
    assert done.code == 2
    assert re.search(message, done.error), done.error
    assert contents(Path()) == before


def make_bad() -> None:
    """Images that do not fit a run of 8x8 digits in 17 grey levels."""
    picture("small.png", np.zeros((6, 6)))
    picture("colour.png", np.arange(192).reshape(8, 8, 3))
    picture("fine.png", np.arange(64).reshape(8, 8))
    Path("broken.png").write_text("not a picture")
    np.save("x.npy", np.zeros((2, 9, 9), np.uint8))
    np.save("y.npy", np.full((2, 8, 8), 7, np.uint8))


def test_noise_choices_match_the_library() -> None:
    from diffprob.cli import interpolate
    from diffprob.sampling import between

    assert interpolate.NOISES == between.NOISES
