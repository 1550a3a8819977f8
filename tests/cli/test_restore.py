"""`restore`: its images are the library's to the bit, its files are where they should be, and what it refuses."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cli.commands import TINY, contents
from PIL import Image

import diffprob as dp
from diffprob.cli.main import main
from diffprob.conditions.low_resolution import LowResolution
from diffprob.data.formats import decoded
from diffprob.data.images import Images
from diffprob.data.sources import Digits
from diffprob.evaluation.image_quality import psnr
from diffprob.guidance.energy import EnergyGuided, ReconstructionGuidance
from diffprob.sampling.exponential import DPMppSDE
from diffprob.sampling.restore import RePaint, denoised, draw_denoised, unclip
from diffprob.sampling.simulate import draw
from diffprob.tasks.compute import Compute
from diffprob.tasks.conditioning import Conditioning, apply_guidance
from diffprob.tasks.reporter import SILENT

N = 3
UNIT = 2 / 255
FEW = ("--sampler", "DPMppSDE()", "--grid", "Trailing()", "--steps", "3", "--device", "cpu")


@pytest.fixture(scope="module")
def enlarging(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps conditioned on images of half the size; not to be changed."""
    out = tmp_path_factory.mktemp("enlarging") / "tiny"
    settings = [text.replace("network.", "network.body.") for text in TINY]
    assert main(["train", "digits_superresolution", "--steps", "2", "--out", str(out), *settings]) == 0
    return out


@pytest.fixture
def noisy() -> np.ndarray:
    """Three images with noise, uint8, of which a part is black and white; written as pictures in ``noisy/``."""
    levels = np.random.default_rng(0).normal(100, 90, (N, 1, 8, 8)).clip(0, 255).astype(np.uint8)
    assert (levels == 0).any() and (levels == 255).any()
    return levels


def pictures(folder: str, levels: np.ndarray, names: tuple[str, ...] = ("a", "b", "sub/c")) -> None:
    for name, image in zip(names, levels, strict=True):
        path = Path(folder) / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(path)


def read(folder: str, names: tuple[str, ...] = ("a", "b", "sub/c")) -> np.ndarray:
    return np.stack([np.asarray(Image.open(Path(folder) / f"{name}.png"))[None] for name in names])


def test_network_batch_size_does_not_depend_on_the_number_of_images(
    diffprob: Callable, trained: Path, noisy: np.ndarray
) -> None:
    """The last bits of a picture would otherwise depend on how many there are."""
    pictures("three", noisy)
    pictures("one", noisy[:1], ("a",))
    common = ("--noise", 40, "--dry-run", "--json", "--out")
    chunks = [diffprob("restore", trained, name, *common, f"{name}-out").json["chunk"] for name in ("three", "one")]
    points = [
        diffprob("interpolate", trained, "digits:5", "digits:9", "--points", n, "--out", "x.npz", "--dry-run", "--json")
        for n in (2, 9)
    ]
    assert {*chunks, *(plan.json["chunk"] for plan in points)} == {16}


def to_model(levels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(levels).float() * UNIT - 1


def to_levels(x: torch.Tensor) -> np.ndarray:
    return ((x.double() + 1) / UNIT).round().clamp(0, 255).byte().numpy()


def library(run: Path, chunk: int = N) -> tuple[dp.Clip, DPMppSDE, torch.Tensor, dp.Rng]:
    model = dp.Run.open(run).load(chunk=chunk)
    return dp.Clip(model), DPMppSDE(), dp.Trailing()(model.process, 3), dp.Rng.of(7, N)


def test_mean_matches_the_library(diffprob: Callable, trained: Path, noisy: np.ndarray) -> None:
    pictures("noisy", noisy)
    model, _, _, rng = library(trained)
    for name, noise in (("known", 40.0), ("estimated", None)):
        option = () if noise is None else ("--noise", noise)
        result = diffprob("restore", trained, "noisy", *option, "--seed", "7", "--out", name, "--json", *FEW[-2:]).json
        std = None if noise is None else noise * UNIT
        whole, stds = unclip(model, to_model(noisy), std, rng, UNIT / 2 - 1, 1 - UNIT / 2)
        assert np.array_equal(read(name), to_levels(denoised(model, whole, stds).mean))
        assert result["stds"] == pytest.approx((stds / UNIT).tolist())
        assert result["network_calls"] == (3 if noise else 6)
    assert not np.array_equal(read("known"), read("estimated"))


def test_draws_match_the_library(diffprob: Callable, trained: Path, noisy: np.ndarray) -> None:
    pictures("noisy", noisy)
    common = ("restore", trained, "noisy", "--draw", "--seed", "7", *FEW)
    assert diffprob(*common, "--noise", "40", "--out", "known").code == 0
    model, sampler, times, rng = library(trained)
    whole, _ = unclip(model, to_model(noisy), 40 * UNIT, rng, UNIT / 2 - 1, 1 - UNIT / 2)
    wanted = draw_denoised(model, sampler, whole, 40 * UNIT, times, rng)
    assert np.array_equal(read("known"), to_levels(wanted))
    assert diffprob(*common, "--out", "estimated").code == 0
    model, *_ = library(trained, 1)
    for k, image in enumerate(read("estimated")):
        own = rng.select(slice(k, k + 1))
        whole, stds = unclip(model, to_model(noisy[k : k + 1]), None, own, UNIT / 2 - 1, 1 - UNIT / 2)
        assert np.array_equal(image[None], to_levels(draw_denoised(model, sampler, whole, float(stds[0]), times, own)))


def test_inpainting_matches_the_library(diffprob: Callable, trained: Path, noisy: np.ndarray) -> None:
    pictures("images", noisy)
    missing = np.zeros((1, 1, 8, 8), dtype=bool)
    missing[..., 2:5, 1:7] = True
    Image.fromarray(missing[0, 0] * np.uint8(255)).save("mask.png")
    common = ("restore", trained, "images", "--seed", "7", *FEW)
    for name, options in {
        "repaint": ("--box", "2,1,3,6", "--method", "repaint", "--jumps", "1"),
        "guided": ("--mask", "mask.png", "--method", "guided"),
        "average": ("--mask", "mask.png", "--average", "2"),
    }.items():
        assert diffprob(*common, *options, "--out", name).code == 0
    model, sampler, times, rng = library(trained)
    known, image = torch.from_numpy(~missing), to_model(noisy)
    inpaint = RePaint(sampler, known, image, 1)
    settings = {name: json.loads(Path(name, "facts.json").read_text()) for name in ("repaint", "guided")}
    assert settings["repaint"]["box"] == "2,1,3,6" and settings["guided"]["mask"] == "mask.png"
    assert settings["guided"]["mask_sha256"] == Images(missing * np.uint8(255)).digest()
    assert np.array_equal(read("repaint"), to_levels(draw(model, inpaint, times, rng, (1, 8, 8))))
    guided = dp.Clip(EnergyGuided(model.model, ReconstructionGuidance(known, image, model.process)))
    draws = [draw(guided, sampler, times, stream, (1, 8, 8)) for stream in (rng, rng.fold("average 1"))]
    for name, x in (("guided", draws[0]), ("average", torch.stack(draws).mean(0))):
        assert np.array_equal(read(name), to_levels(torch.where(known, image, x)))
        assert np.array_equal(read(name)[:, ~missing[0]], noisy[:, ~missing[0]])


def test_masks_may_differ_between_images(diffprob: Callable, trained: Path, noisy: np.ndarray) -> None:
    pictures("images", noisy)
    masks = np.zeros_like(noisy)
    for k in range(N):
        masks[k, :, :, : 2 + k] = 128 + 10 * k
    masks[:, :, :, 7] = 127
    pictures("masks", masks)
    common = ("restore", trained, "images", "--jumps", "0", *FEW)
    result = diffprob(*common, "--mask", "masks", "--out", "each", "--json").json
    assert result["missing"] == [2 / 8, 3 / 8, 4 / 8]
    assert (result["method"], result["jumps"]) == ("repaint", 0)
    assert diffprob(*common, "--box", "0,0,8,3", "--out", "box").code == 0
    assert np.array_equal(read("each")[1], read("box")[1])


def test_super_resolution_matches_the_library(diffprob: Callable, enlarging: Path) -> None:
    """From images of the run's size, made small; and the same from the small ones themselves, in another format."""
    digits = Digits("test").load()
    small = np.rint(digits.take(range(N)).reshape(N, 1, 4, 2, 4, 2).mean((3, 5))).astype(np.uint8)
    common = ("restore", enlarging, "digits", "-n", N, "--seed", "7", *FEW)
    plain = diffprob(*common, "--out", "large")
    assert re.search(r"bicubic +\d+\.\d\d dB, standard error \d\.\d\d\n +restored +\d+\.\d\d dB", plain.out)
    result = diffprob(*common, "--average", "2", "--out", "mean", "--json").json
    run, (_, sampler, times, rng) = dp.Run.open(enlarging), library(enlarging)
    rows = (torch.from_numpy(small) / 8.0 - 1).repeat_interleave(2, 2).repeat_interleave(2, 3)
    model = dp.Clip(run.load(chunk=N).condition_on(rows))
    draws = [draw(model, sampler, times, stream, (1, 8, 8)) for stream in (rng, rng.fold("average 1"))]
    for x, name in ((draws[0], "large"), (torch.stack(draws).mean(0), "mean")):
        wanted = run.space.to_data(x).numpy()
        tiles = read(name, tuple(f"{k:05d}" for k in range(N)))
        assert np.array_equal(np.rint(tiles / (255 / 16)), wanted), name
    mean, error = result["psnr"]["restored"]
    ratios = psnr(wanted, digits.take(range(N)), 17)
    assert (mean, error) == (pytest.approx(ratios.mean()), pytest.approx(ratios.std(ddof=1) / N**0.5))


def test_small_images_are_enlarged(diffprob: Callable, enlarging: Path, noisy: np.ndarray) -> None:
    pictures("small", noisy[:, :, ::2, ::2])
    done = diffprob("restore", enlarging, "small", "--steps", "2", "--device", "cpu")
    assert f"enlarged 3 images of small, by {enlarging}" in done.out
    assert read("restored").shape == (N, 1, 8, 8)
    assert "decibels" not in done.out
    plain = diffprob("sample", enlarging, "-n", "2", "--steps", "2", "--device", "cpu", "--json").json
    assert plain["told"] == "none"


def test_add_noise_degrades_clean_images_and_reports_errors(diffprob: Callable, trained: Path) -> None:
    """Noise of one size on every value, rounded and cut off as a file has it; then as if such a file were given."""
    n, common = 40, ("restore", trained, "digits", "--add-noise", "2", "--device", "cpu", "--seed", "7")
    result = diffprob(*common, "-n", n, "--json").json
    clean = Digits("test").load().take(range(n))
    z = dp.Rng.of(7, n).fold("added").normal((1, 8, 8)).numpy()
    noisy = np.rint(clean + 2 * z).clip(0, 16)
    assert result["psnr"]["noisy"][0] == pytest.approx(psnr(noisy, clean, 17).mean(), abs=1e-6)
    settings = json.loads(Path("restored/facts.json").read_text())
    assert settings["psnr"] == result["psnr"]
    assert settings["noise"] == 2
    assert settings["images_sha256"] == result["images_sha256"] == Images(clean).digest()
    assert (settings["images"], settings["split"], settings["converted"]) == ("digits", "test", None)
    np.save("given.npy", noisy[:5, 0].astype(np.uint8))
    np.save("clean.npy", clean[:5, 0])
    compared = diffprob(
        "restore", trained, "given.npy", "--clean", "clean.npy", "--noise", "20", "--out", "x", "--json"
    )
    assert compared.json["psnr"]["noisy"][0] == pytest.approx(psnr(noisy[:5], clean[:5], 256).mean())
    settings = json.loads(Path("x/facts.json").read_text())
    assert (settings["clean"], settings["clean_sha256"]) == ("clean.npy", Images(clean[:5]).digest())
    assert (settings["clean_split"], settings["clean_converted"]) == ("all", None)
    assert "noise of 2 of 16 grey levels" in diffprob(*common, "-n", "2", "--out", "y").out


def test_restore_writes_images_and_settings(diffprob: Callable, trained: Path, noisy: np.ndarray) -> None:
    pictures("noisy", noisy)
    dry = diffprob("restore", trained, "noisy", "--noise", "30", "--dry-run", "--device", "cpu")
    assert "would take the noise out of 3 images of noisy" in dry.out
    assert not Path("restored").exists()
    before = contents(Path("noisy"))
    result = diffprob("restore", trained, "noisy", "--device", "cpu", "--out", "x/y/", "--json").json
    assert contents(Path("noisy")) == before
    assert set(contents(Path("x"))) == {"y.png", "y/a.png", "y/b.png", "y/sub/c.png", "y/facts.json"}
    settings = json.loads(Path("x/y/facts.json").read_text())
    assert settings["names"] == ["a", "b", "sub/c"]
    assert settings["stds"] == result["stds"]
    second = Image.open("x/y/b.png").text  # pyright: ignore[reportAttributeAccessIssue]
    assert second["seeds"] == "1"
    assert float(second["std"]) == settings["stds"][1]
    assert Image.open("x/y.png").height > 2 * 8, "two rows"
    assert "noise estimated at" in diffprob("restore", trained, "noisy/a.png", "--device", "cpu").out
    assert set(contents(Path("restored"))) == {"a.png", "facts.json"}
    after = contents(Path())
    assert "restored is there already" in diffprob("restore", trained, "noisy", "--device", "cpu").error
    (Path("x") / "z.png").write_bytes(b"")
    assert "x/z.png is there already" in diffprob("restore", trained, "noisy", "--out", "x/z").error
    (Path("x") / "z.png").unlink()
    assert contents(Path()) == after


def test_default_settings_of_restore(diffprob: Callable, trained: Path) -> None:
    common = ("restore", trained, "digits", "-n", "2", "--dry-run", "--json", "--device", "cpu")
    drawn = diffprob(*common, "--draw").json
    assert (drawn["sampler"], drawn["steps"], drawn["method"]) == ("DDIM(eta=1.0, spread=False)", 200, "draw")
    filled = diffprob(*common, "--box", "0,0,2,2").json
    assert (filled["sampler"], filled["steps"], filled["method"]) == ("DDIM(eta=1.0, spread=False)", 50, "guided")
    assert filled["network_calls"] == 50
    again = diffprob(*common, "--box", "0,0,2,2", "--jumps", "3", "--average", "2").json
    assert (again["method"], again["network_calls"]) == ("repaint", 2 * (49 * 4 + 1))
    steered = diffprob(*common[:-2], "--json", "--box", "0,0,2,2", "--sampler", "DDIM()", "--device", "cpu")
    assert "DDIM(eta=0.0, spread=False) is deterministic" in steered.err


def test_only_the_requested_images_are_opened(
    diffprob: Callable, trained: Path, noisy: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("--noise", "30", "--device", "cpu")
    pictures("noisy", noisy)
    assert diffprob("restore", trained, "noisy", "--out", "all", *common).code == 0
    reading, paths = decoded.read_picture, []
    monkeypatch.setattr(decoded, "read_picture", lambda path, tally: (paths.append(path.name), reading(path, tally))[1])
    assert diffprob("restore", trained, "noisy", "-n", "2", "--out", "two", *common).code == 0
    assert paths == ["a.png", "b.png"]
    assert set(contents(Path("two"))) == {"a.png", "b.png", "facts.json"}
    assert np.array_equal(read("two", ("a", "b")), read("all", ("a", "b")))


def test_run_conditioned_on_images_cannot_sample_alone() -> None:
    run: Any = SimpleNamespace(name="large", recipe=SimpleNamespace(condition=LowResolution((1, 8, 8))))
    with pytest.raises(dp.InputError, match="draws none by itself: diffprob restore large IMAGES"):
        apply_guidance(None, run, Conditioning(), 1, Compute(), SILENT)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "data 'nowhere': no such file"),
        (["large"], r"large: 9x9 pixels, but \S+ has 8x8 pixels; crop them"),
        (["images", "--noise", "0"], "--noise: must be above 0"),
        (["images", "--noise", "some"], "--noise: must be a number of grey levels"),
        (
            ["images", "--noise", "0.5"],
            r"--noise 0\.5: \S+ knows noise of 0\.819 to .* of 255 .*; --draw also takes less",
        ),
        (["images", "--noise", "1e9"], r"--noise 1e\+09: \S+ knows noise of .* grey levels$"),
        (["images", "--noise", "9", "--mask", "mask.png"], "--noise does not go with --mask"),
        (["images", "--jumps", "2"], r"--jumps does not go with noise \(neither --mask nor --box"),
        (["images", "--mask", "mask.png", "--box", "0,0,2,2"], "--mask and --box exclude each other"),
        (["images", "--add-noise", "20", "--noise", "20"], "--add-noise and --noise exclude each other"),
        (["images", "--steps", "5"], "--steps goes with --draw"),
        (["images", "--box", "0,0,2,2", "--method", "guided", "--jumps", "2"], "--jumps goes with --method repaint"),
        (["images", "--box", "0,0,2"], "TOP,LEFT,HEIGHT,WIDTH"),
        (["images", "--box", "5,0,4,2"], "leaves the 8x8 pixels"),
        (["images", "--box", "0,0,8,8"], "hides the whole image"),
        (["images", "--box", "0,0,0,8"], "hides nothing"),
        (["images", "--mask", "black.png"], "--mask black.png hides nothing"),
        (["images", "--mask", "large"], "large: 9x9 pixels"),
        (["images", "--mask", "two"], "--mask two: 2 masks for 3 images; one, or 3"),
        (["images", "--clean", "two", "--noise", "20"], "--clean two: 2 images for the 3 of images"),
        (["images", "--clean", "digits", "--noise", "20"], "--clean digits: 17 grey levels, but images has 256"),
        (["images", "--out", "x.png"], "needs a folder"),
        (["images", "--out", "images"], "--out images: images is there already"),
    ],
    ids=" ".join,
)
def test_invalid_input_is_an_error(
    diffprob: Callable, trained: Path, noisy: np.ndarray, arguments: list[str], message: str
) -> None:
    pictures("images", noisy)
    pictures("large", np.zeros((1, 1, 9, 9), np.uint8), ("a",))
    pictures("two", noisy[:2], ("a", "b"))
    pictures(".", np.stack([np.zeros((1, 8, 8), np.uint8), noisy[0]]), ("black", "mask"))
    before = contents(Path())
    done = diffprob("restore", trained, *arguments, "--device", "cpu")
    assert done.code == 2
    assert re.search(message, done.error), done.error
    assert contents(Path()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["large"], "large: 9x9 pixels; digits_superresolution enlarges 4x4 to 8x8"),
        (["digits", "--noise", "2"], "--noise does not go with digits_superresolution, which enlarges images"),
        (["digits", "--box", "0,0,2,2"], "--box does not go with digits_superresolution, which enlarges images"),
        (["digits", "--clean", "digits"], "leave --clean out"),
        (
            ["digits", "--label", "3"],
            "digits_superresolution is told images: diffprob restore digits_superresolution IMAGES",
        ),
    ],
    ids=" ".join,
)
def test_invalid_super_resolution_input_is_an_error(
    diffprob: Callable, enlarging: Path, arguments: list[str], message: str
) -> None:
    pictures("large", np.zeros((1, 1, 9, 9), np.uint8), ("a",))
    done = diffprob("restore", enlarging, *arguments, "--device", "cpu")
    assert done.code == 2
    assert re.search(message, done.error), done.error


def test_colour_images_for_a_grey_run_are_an_error(diffprob: Callable, trained: Path) -> None:
    """From pictures as from arrays; grey pictures kept in colour are grey."""
    for name, image in (("grey", np.full((8, 8, 3), 9, np.uint8)), ("colour", np.eye(8, 24, dtype=np.uint8) * 9)):
        Path(name).mkdir()
        Image.fromarray(image.reshape(8, 8, 3)).save(f"{name}/0.png")
    assert diffprob("restore", trained, "grey", "--noise", "2", "--dry-run").code == 0
    assert "colour: colour images, but digits has grey" in diffprob("restore", trained, "colour", "--dry-run").error
