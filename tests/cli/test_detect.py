"""`detect`: the numbers are those of the scores it writes, scores depend on their image alone, and what is refused."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from diffprob.cli.main import main
from diffprob.cli.progress import TERMINAL
from diffprob.data.sources import Digits
from diffprob.runs.folder import Run
from diffprob.tasks import scoring
from diffprob.tasks.compute import Compute

CPU = ("--resize", "--device", "cpu")
FEW = ("--proxy", "ScoreNorms(levels=2)", "--proxy", "NoiseNorm(noises=1)")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits upside down, of 256 grey levels as files of arrays have."""
    folder = tmp_path_factory.mktemp("odd")
    pixels = Digits("test").load().take(np.arange(70))[:, :, ::-1] * np.uint8(15)
    np.savez(folder / "odd.npz", images=np.ascontiguousarray(pixels))
    return folder / "odd.npz"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without figures and integrability, which take longer than everything else here; the first test has both."""
    monkeypatch.setattr("diffprob.tasks.detection_files.comparison_figures", lambda *_: [])
    monkeypatch.setattr("diffprob.tasks.detection._integrability", lambda *_: ())


def rows(folder: Path) -> dict[str, dict[int, dict[str, float]]]:
    """The numbers of scores.csv by set and image."""
    numbers: dict[str, dict[int, dict[str, float]]] = {}
    with (folder / "scores.csv").open() as file:
        for row in csv.DictReader(file):
            own = {name: float(value) for name, value in row.items() if name not in ("set", "image", "file")}
            numbers.setdefault(row["set"], {})[int(row["image"])] = own
    return numbers


def test_table_matches_the_written_scores(diffprob: Callable, tiny: Path, odd: Path) -> None:
    result = diffprob("detect", tiny, "--outside", odd, "-n", "60", "--fit-images", "50", *FEW, "--json", *CPU).json
    assert result["proxies"] == ["ScoreNorms(levels=2)", "NoiseNorm(noises=1)"]
    assert result["inside"]["n"] == result["outside"][0]["n"] == 60
    scores = rows(Path("detect-digits"))
    inside, outside = (list(scores[name].values()) for name in (result["inside"]["name"], "odd.npz"))
    for row in result["separation"]:
        values = [image[row["proxy"]] for image in (*inside, *outside)]
        expected = roc_auc_score([1] * 60 + [0] * 60, values)
        assert row["auroc"]["value"] == pytest.approx(expected, abs=1e-12)
        assert row["auroc"]["low"] <= row["auroc"]["value"] <= row["auroc"]["high"]
        assert 0 <= row["fpr95"]["value"] <= 1
    (pair,) = result["correlations"]
    a, b = ([image[name] for image in inside] for name in result["proxies"])
    assert pair["pearson"]["value"] == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-12)
    assert [row["t"] for row in result["integrability"]] == [0.01, 0.1, 0.5]
    assert all(0 <= row["rho"] <= 1 for row in result["integrability"])
    assert all(image["complexity"] > 0 for image in inside)
    written = json.loads(Path("detect-digits/detect.json").read_text())
    assert written["separation"] == result["separation"]
    assert {path.name for path in Path("detect-digits").iterdir()} == set(result["files"])


@pytest.mark.usefixtures("bare")
def test_scores_do_not_depend_on_the_batch_and_fits_are_reused(diffprob: Callable, tiny: Path, odd: Path) -> None:
    common = ("--outside", odd, "--fit-images", "50", *FEW, "--json", *CPU)
    first = diffprob("detect", tiny, "-n", "60", "--out", "a", *common)
    assert "training images" in first.err and (tiny / "fit-proxies.safetensors").exists()
    Run.open(tiny)  # the inventory has the new file
    again = diffprob("detect", tiny, "-n", "52", "--out", "b", *common)
    assert "training images" not in again.err
    many, few = rows(Path("a")), rows(Path("b"))
    for name, images in few.items():
        assert len(images) == 52 and all(many[name][place] == image for place, image in images.items())
    other = diffprob("detect", tiny, "-n", "52", "--out", "c", *common, "--seed", "1")
    assert "training images" in other.err and rows(Path("c")) != few


def test_images_are_ranked_among_held_out_images(diffprob: Callable, tiny: Path, odd: Path) -> None:
    map_ = ("--map", "AnomalyMap(steps=2, repeats=1)")
    done = diffprob("detect", tiny, odd, "-n", "64", "--proxy", "NoiseNorm(noises=1)", *map_, "--out", "ranked", *CPU)
    result = json.loads(Path("ranked/detect.json").read_text())
    (row,) = result["ranks"]
    scores = rows(Path("ranked"))
    inside = np.sort([image[row["proxy"]] for image in scores[result["inside"]["name"]].values()])
    own = np.array([image[row["proxy"]] for image in scores["odd.npz"].values()])
    expected = [(inside <= value).mean() for value in own]
    assert np.allclose(row["quantiles"], expected, atol=1e-12) and len(own) == 70
    assert row["least"][0] == result["images"][int(np.argmin(own))]
    assert row["most"][0] == result["images"][int(np.argmax(own))]
    assert (Path("ranked") / "extremes.png").exists() and "least typical" in done.out
    assert (Path("ranked") / "maps.png").exists() and len(result["map_means"]) == 8
    assert all(value > 0 for value in result["map_means"])
    assert "a gradient field" in done.out and [row["t"] for row in result["integrability"]] == [0.01, 0.1, 0.5]


@pytest.mark.usefixtures("bare")
def test_runs_with_a_density_use_their_own_proxy(
    diffprob: Callable, tiny: Path, odd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--set", "training.batch=4", "--set", "training.sample_every=0", *CPU[1:]]
    assert main(["distill", str(tiny), "--method", "gradient", "--steps", "2", *small]) == 0
    assert main(["baseline", "glow", "digits", "--steps", "2", "--set", "network.width=4", *small]) == 0
    assert main(["baseline", "ebm", "digits", "--steps", "2", "--set", "objective.steps=2", *small]) == 0
    others = ("runs/tiny-gradient", "runs/digits-glow", "runs/digits-ebm")
    few = ("-n", "50", "--proxy", "NoiseNorm(noises=1)", "--json", *CPU)
    done = diffprob("detect", tiny, "--outside", odd, "--with", *others, *few)
    assert "was trained on" not in done.err
    result = done.json
    assert result["proxies"][1:] == [
        "V0 of digits-gradient",
        "LogDensity of digits-glow",
        "NegativeEnergy of digits-ebm",
    ]
    assert len(result["separation"]) == 4
    assert "no density of its own" in diffprob("detect", tiny, "--outside", odd, "--with", tiny, *few[:-3], *CPU).error
    assert "which has no denoiser" in diffprob("sample", "runs/digits-glow").error
    shown = diffprob("show", "runs/digits-glow")
    assert shown.code == 0
    assert ("2 of 2 steps" in shown.out, "fitted" in shown.out, "a baseline of 8x8" in shown.out) == (True, False, True)
    run = Run.open(tiny)
    for digest, what in (("0" * 64, "other images"), (None, "images that are not known")):
        run.meta["data"] = digest
        scoring.subjects(run, [], others[1:2], Compute(device="cpu"), TERMINAL)
        assert f"note: runs/digits-glow was trained on {what}, not on those of digits" in capsys.readouterr().err


def test_invalid_input_is_a_one_line_error(diffprob: Callable, tiny: Path, odd: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.npz"
    pixels = Digits("test").load().take(np.arange(60)) * np.uint8(15)
    np.savez(few, images=pixels[:20])
    flat, large = (tmp_path / name for name in ("flat.npz", "large.npz"))
    np.savez(flat, images=np.full((60, 1, 8, 8), 133, np.uint8))
    np.savez(large, images=np.tile(pixels, (1, 1, 2, 2)))
    for arguments, message in (
        ((), "one of the two"),
        ((odd, "--outside", odd), "one of the two"),
        (("--outside", few), "20 images; a comparison needs at least 50"),
        (("--outside", odd, "-n", "20"), "at least 50"),
        (("--outside", flat), "every image is constant"),
        (("--outside", odd, "--proxy", "NoiseNrm()"), "NoiseNorm"),
        (("--outside", odd, "--proxy", "NoiseNorm(t=2)"), "t must lie in (0, 1]"),
        (("--outside", odd, "--proxy", "V0"), "potential"),
        (("--outside", odd, "--data", tmp_path / "none", *FEW[:2]), "no such"),
        (("--outside", odd, "--inside", odd), "same data twice"),
        (("--outside", odd, "--map", "AnomalyMap"), "--map belongs to DATA"),
        ((odd, "--map", "AnomalyMap(t=3)"), "t must lie in (0, 1]"),
        (("--outside", odd, "--out", few), "is a file"),
    ):
        done = diffprob("detect", tiny, *arguments, *CPU)
        assert done.code == 2 and message in done.error, (arguments, done.error)
    assert "shape (1, 16, 16) and 256 grey levels" in diffprob("detect", tiny, "--outside", large).error
    planned = diffprob("detect", tiny, "--outside", large, "--dry-run", "--json", *CPU).json
    assert planned["outside"][0]["converted"] == "scaled from 16x16, 256 grey levels made 17"


@pytest.mark.usefixtures("bare")
def test_images_are_named_and_flagged_at_the_set_rate(diffprob: Callable, tiny: Path, tmp_path: Path) -> None:
    from PIL import Image

    levels = np.r_[Digits("train").load().take(np.arange(7)), np.full((1, 1, 8, 8), 16)]
    levels[7, 0, ::2] = 0  # stripes, which no digit has
    (tmp_path / "slides/deep").mkdir(parents=True)
    names = [f"deep/{k}.png" if k == 7 else f"{k}.png" for k in range(8)]
    for name, image in zip(names, np.rint(levels * (255 / 16)).astype(np.uint8), strict=True):
        Image.fromarray(image[0]).save(tmp_path / "slides" / name)
    few = ("--proxy", "NoiseNorm(noises=1)", "-n", "60", "--out", "found", "--device", "cpu")
    done = diffprob("detect", tiny, "slides", "--false-alarms", "0.2", *few)
    result = json.loads(Path("found/detect.json").read_text())
    (row,), own = result["ranks"], sorted(names)
    assert result["image_files"] == own and result["outside"][0]["role"] == "other data"
    scores = {name: [] for name in ("slides", "tiny test")}
    with Path("found/scores.csv").open() as file:
        for line in csv.DictReader(file):
            scores.setdefault(line["set"], []).append((line["file"], float(line[row["proxy"]])))
    inside = [score for _, score in scores[result["inside"]["name"]]]
    assert [name for name, _ in scores["slides"]] == own
    p = [(sum(other <= score for other in inside) + 1) / 61 for _, score in scores["slides"]]
    assert row["p_values"] == pytest.approx(p)
    assert sorted(row["flagged"]) == [k for k, p_value in enumerate(p) if p_value <= 0.2]
    assert row["proxy"] in done.out and own[int(np.argmin(p))] in done.out and "(k + 1) / (n + 1)" in done.out
    one = diffprob("detect", tiny, "slides/3.png", *few, "--json").json
    assert one["image_files"] == ["3.png"] and one["ranks"][0]["p_values"] == [row["p_values"][own.index("3.png")]]
    assert "at a rate of at least 0.016" in diffprob("detect", tiny, "slides", "--false-alarms", "0.01", *few).error
    assert "very ones inside" in diffprob("detect", tiny, "digits", *few).error
