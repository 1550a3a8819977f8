"""`likelihood` and `rate`: the parts add up, companions change nothing, and what is refused."""

import csv
import io
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diffprob.cli.main import main
from diffprob.runs.folder import Run

CPU = ("--device", "cpu")


@pytest.fixture(scope="module")
def fitted(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with an analytic variance and paths."""
    folder = Path(shutil.copytree(trained, tmp_path_factory.mktemp("likelihood") / "tiny"))
    assert main(["fit", str(folder), "steps", "-n", "2", "--times", "40", *CPU]) == 0
    return folder


@pytest.mark.parametrize("method", ["bound", "continuous", "flow"])
def test_parts_sum_to_the_total_for_every_method(diffprob: Callable, trained: Path, method: str) -> None:
    more = ("--tolerance", "1e-2") if method == "flow" else ("--terms", "3")
    result = diffprob("likelihood", trained, "-n", "3", "--method", method, "--json", "--no-record", *more, *CPU).json
    bits = [image["bits_per_dim"] for image in result["images"]]
    assert result["n"] == len(bits) == 3 and result["split"] == "test" and result["levels"] == 17
    assert result["bits_per_dim"] == pytest.approx(np.mean(bits), abs=1e-12)
    assert result["standard_error"] == pytest.approx(np.std(bits, ddof=1) / math.sqrt(3), abs=1e-12)
    assert sum(result["terms_bits_per_dim"].values()) == pytest.approx(result["bits_per_dim"], abs=1e-12)
    for image in result["images"]:
        assert sum(image[part] for part in result["terms_bits_per_dim"]) == pytest.approx(image["bits_per_dim"])
    assert result["seed"] == 0 and result["method"] and result["dequantisation"]
    assert ("variance" in result) == (method != "flow")


def test_result_of_an_image_does_not_depend_on_the_others(diffprob: Callable, trained: Path) -> None:
    common = ("--json", "--no-record", "--terms", "2", "--split", "train", *CPU)
    many = {i["index"]: i for i in diffprob("likelihood", trained, "-n", "40", *common).json["images"]}
    few = diffprob("likelihood", trained, "-n", "7", *common).json["images"]
    assert len(many) == 40 and all(many[image["index"]] == image for image in few)
    again = diffprob("likelihood", trained, "-n", "7", "--seed", "1", *common).json["images"]
    assert [image["index"] for image in again] != [image["index"] for image in few]


def test_fitted_path_and_variance_are_the_default(diffprob: Callable, fitted: Path, trained: Path) -> None:
    plain = diffprob("likelihood", trained, "--dry-run", "--json", *CPU).json
    assert (plain["grid"], plain["steps"], plain["variance"], plain["terms"]) == ("Native()", 1000, "Zero()", 50)
    plan = diffprob("likelihood", fitted, "--dry-run", "--json", *CPU).json
    assert (plan["grid"], plan["steps"]) == ("LeastCost(whole=True)", 256)
    assert plan["variance"] == "Analytic(bound=1.0, last=inf, moment='residual')" and plan["terms"] == 50
    plan = diffprob("likelihood", fitted, "--steps", "10", "--variance", "UnitData()", "--dry-run", "--json", *CPU).json
    assert (plan["grid"], plan["steps"], plan["variance"]) == ("LeastCost(whole=True)", 10, "UnitData()")
    assert plan["evaluations"] == 10
    plan = diffprob("likelihood", fitted, "--steps", "300", "--dry-run", "--json", *CPU).json
    assert (plan["grid"], plan["steps"]) == ("Uniform()", 300)


def test_likelihood_writes_table_and_record(diffprob: Callable, tiny: Path) -> None:
    done = diffprob("likelihood", tiny, "-n", "4", "--terms", "1", "--out", "x.csv", *CPU)
    assert done.code == 0 and "bits/dim" in done.out and "variational bound" in done.out
    rows = list(csv.DictReader(io.StringIO(Path("x.csv").read_text())))
    assert len(rows) == 4 and {"index", "bits_per_dim", "prior", "steps", "reconstruction"} == set(rows[0])
    (measured,) = [m for m in json.loads((tiny / "measured.json").read_text()) if m["name"].startswith("bits/dim")]
    assert measured["n"] == 4 and measured["low"] < measured["value"] < measured["high"]
    assert "bits/dim" in (tiny / "README.md").read_text()
    Run.open(tiny)
    diffprob("likelihood", tiny, "-n", "2", "--terms", "1", "--out", "x.json", "--no-record", *CPU)
    assert json.loads(Path("x.json").read_text())["n"] == 2


def test_rates_sum_to_the_bound(diffprob: Callable, trained: Path) -> None:
    common = ("-n", "3", "--steps", "6", "--json", *CPU)
    result = diffprob("rate", trained, "--rows", "4", "--out", "r.json", *common).json
    bound = diffprob("likelihood", trained, "--terms", "all", "--no-record", *common).json
    assert result["total"] == pytest.approx(bound["bits_per_dim"], rel=1e-12)
    assert result["total_error"] == pytest.approx(bound["standard_error"], rel=1e-12)
    assert result["reconstruction"] == pytest.approx(bound["terms_bits_per_dim"]["reconstruction"], rel=1e-9)
    assert len(result["points"]) == 6 and [row["steps"] for row in result["rows"]] == [0, 2, 3, 5]
    rates = [point["rate"] for point in result["points"]]
    assert rates == sorted(rates) and json.loads(Path("r.json").read_text())["total"] == result["total"]
    assert diffprob("rate", trained, *common[:-3], "--out", "r.png", *CPU).code == 0
    assert Path("r.png").read_bytes().startswith(b"\x89PNG")


REFUSED = [
    (("--terms", "0"), "--terms 0"),
    (("--terms", "some"), "--terms some"),
    (("--method", "flow", "--variance", "Zero()"), "--variance belongs to --method bound"),
    (("--method", "continuous", "--steps", "5"), "--steps belongs to --method bound"),
    (("--repeats", "2"), "--repeats belongs to --method flow"),
    (("--method", "continuous", "--terms", "all"), "infinitely many"),
    (("--method", "flow", "--tolerance", "2"), "--tolerance must lie in [1e-12, 1), got 2.0"),
    (("--method", "flow", "--divergence", "Exakt()"), "did you mean 'Exact'"),
    (("--eta", "0"), "--eta must be above 0: a chain without noise (DDIM) has no density"),
    (("--eta", "1.5"), "--eta must lie in (0, 1], got 1.5"),
    (("--method", "flow", "--eta", "0.5"), "--eta belongs to --method bound"),
    (("--decoder-std", "0"), "--decoder-std 0"),
    (("--steps", "1001"), "1000 times"),
    (("--variance", "Analytic()"), "has no analytic fit"),
    (("--grid", "best"), "has no steps fit"),
    (("--out", "x.txt"), ".json or .csv"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=" ".join)
def test_invalid_input_is_an_error(diffprob: Callable, trained: Path, arguments: tuple[str, ...], message: str) -> None:
    done = diffprob("likelihood", trained, "-n", "2", "--no-record", *arguments, *CPU)
    assert done.code == 2 and message in done.error


def test_images_of_another_format_are_errors(diffprob: Callable, trained: Path) -> None:
    from PIL import Image

    Path("colour").mkdir()
    for k in range(3):
        Image.new("RGB", (8, 8), (k, 0, 0)).save(f"colour/{k}.png")
    np.save("large.npy", np.zeros((3, 1, 9, 9), np.uint8))
    np.save("levels.npy", np.full((3, 1, 8, 8), 7, np.uint8))
    np.save("real.npy", np.full((3, 1, 28, 28), 0.501, np.float32))
    for data, message in (
        ("colour", "shape"),
        ("large.npy", "shape"),
        ("levels.npy", "grey levels"),
    ):
        done = diffprob("likelihood", trained, data, "-n", "2", "--no-record", *CPU)
        assert done.code == 2 and message in done.error, done.error
    done = diffprob("likelihood", "mnist", "real.npy", "--no-record", *CPU)
    assert done.code == 2 and "between whole grey levels" in done.error
    assert "x.txt" in diffprob("rate", trained, "--out", "x.txt", *CPU).error


def test_record_names_its_images(diffprob: Callable, tiny: Path) -> None:
    """The run's own by any way, other data by theirs; one picture is enough."""
    few = ("-n", "3", "--terms", "1", "--json", *CPU)
    own = diffprob("likelihood", tiny, *few).json
    again = diffprob("likelihood", tiny, "digits", *few).json
    assert (own["role"], own["data"]) == ("test", "Digits(split='test')") and again["images"] == own["images"]
    assert diffprob("sample", tiny, "-n", "4", "--steps", "2", "--out", "drawn/", *CPU).code == 0
    names = sorted(path.name for path in Path("drawn").glob("*.png"))
    for option in ((), ("--held-out",)):
        result = diffprob("likelihood", tiny, *option, "drawn", *few[:2], "--out", "x.csv", *few[2:]).json
        assert (result["role"], result["data"], result["converted"]) == ("other data", "drawn", None)
        assert [image["file"] for image in result["images"]] == [names[image["index"]] for image in result["images"]]
    rows = list(csv.DictReader(io.StringIO(Path("x.csv").read_text())))
    assert [row["file"] for row in rows] == [image["file"] for image in result["images"]]
    one = diffprob("likelihood", tiny, Path("drawn") / names[2], *few[2:]).json
    assert one["n"] == 1 and one["standard_error"] is None and one["images"][0]["file"] == names[2]
    items = {(item.role, item.data): item for item in Run.open(tiny).measurements}
    assert {("test", "Digits(split='test')"), ("other data", "drawn")} <= set(items)
    assert items["test", "Digits(split='test')"].digest == own["data_sha256"]
    assert "other data: drawn (sha256 " in (tiny / "README.md").read_text()
    assert "images of drawn (other data) under" in diffprob("likelihood", tiny, "drawn", *few[:4], *CPU).out


def test_one_image_has_no_standard_error(diffprob: Callable, tiny: Path) -> None:
    command = ("rate", tiny, "-n", "1", "--steps", "4", "--device", "cpu", "--out", "rate.json")
    done = diffprob(*command)
    assert done.code == 0 and "bits/dim: rate" in done.out and "(of one image) bits/dim" in done.out
    rows = [line.split() for line in done.out.splitlines()]
    assert [row[3] for row in rows if row[0].isdecimal() and len(row) == 5] == ["-"] * 4
    result = json.loads(Path("rate.json").read_text())
    assert result["total_error"] is None and {row["rate_error"] for row in result["points"]} == {None}
