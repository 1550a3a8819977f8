"""What can be compared, what cannot and why; and the page of a comparison."""

from dataclasses import replace

import pytest
from reporting.conftest import LOG, RECIPE
from truth.page import Page

from diffprob.denoise.prediction import V
from diffprob.reporting.compare import compare, compare_page
from diffprob.runs.measurements import Measurement

DATA = "ab" * 32
BASE = Measurement("KID", 0.5, 1000, 0, features="classifier", split="test", details={"reference images": 360})


def test_comparable_measurements_share_a_row():
    comparison = compare(
        [("a", DATA, [BASE, replace(BASE, seed=1, value=0.75)]), ("b", DATA, [replace(BASE, value=0.25)])]
    )
    assert comparison.apart == ()
    ((row,),) = comparison.rows.values()
    assert (row.name, row.n, row.split) == ("KID", "1,000", "test")
    assert [[value.value for value in cell] for cell in row.cells] == [["0.5", "0.75"], ["0.25"]]


@pytest.mark.parametrize(
    ("changes", "digest", "why"),
    [
        ({"features": "inception"}, DATA, "features: classifier here, inception in b"),
        ({"features": ""}, DATA, "features: classifier here, none in b"),
        ({"n": 500}, DATA, "n: 1,000 here, 500 in b"),
        ({"split": "train"}, DATA, "split: test here, train in b"),
        ({"details": {"reference images": 100}}, DATA, "real images: 360 here, 100 in b"),
        ({"name": "recall"}, DATA, "measured on this run only"),
        ({}, "cd" * 32, "data: sha256 abababababab here, sha256 cdcdcdcdcdcd in b"),
        ({}, None, "data: sha256 abababababab here, not known in b"),
    ],
)
def test_incomparable_measurements_are_listed_with_the_reason(changes, digest, why):
    comparison = compare([("a", DATA, [BASE]), ("b", digest, [replace(BASE, **changes)])])
    assert comparison.rows == {}
    assert comparison.apart[0] == ("a: KID = 0.5 (seed 0)", why)
    assert len(comparison.apart) == 2


def test_unknown_data_is_not_comparable():
    comparison = compare([("a", None, [BASE]), ("b", None, [BASE])])
    assert comparison.rows == {}
    assert comparison.apart[0][1] == "data: not known here, not known in b"


def test_comparison_page_is_valid_and_complete(material):
    one = material(name="plain")
    two = material(name="other", prediction=V(), training=replace(RECIPE.training, lr=1e-3))
    for report, value in ((one, 0.5), (two, 0.25)):
        report.run.record(replace(BASE, value=value))
    materials = [one, two, replace(two, log=[])]
    page = Page(compare_page(materials))
    assert page.problems == []
    assert "2 settings differ; 1 measurement can be compared." in page.text
    for text in (
        "prediction Epsilon() V() V()",
        "training.lr 0.0002 0.001 0.001",
        "objective or prediction",
    ):
        assert text in page.text
    assert "runs/run-2 (2)" in page.text, "two runs of one name are distinguished"
    assert sum("sample of seed 7" in image["alt"] for image in page.all("img")) == 3
    assert len([a for a in page.all("polyline") if "c1" in a["class"]]) == 3, "two curves in each figure"
    with pytest.raises(ValueError, match="2 to 8"):
        compare_page(materials[:1])


def test_run_compared_with_itself(material):
    report = material(log=LOG)
    page = Page(compare_page([report, report]))
    assert page.problems == []
    assert "Every setting is the same." in page.text
    assert "no measurements can be compared" in page.text
