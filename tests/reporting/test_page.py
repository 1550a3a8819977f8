"""Pages as a browser will see them: whole, closed, escaped, readable; and what is said on them."""

import re
from dataclasses import replace

import numpy as np
import pytest
from reporting.conftest import HOSTILE, HOSTILE_DATA, HOSTILE_NAME, LOG, NETWORK, RECIPE, SAMPLES
from truth.page import Page, contrast

from diffprob.data import Digits
from diffprob.data.images import Images
from diffprob.reporting import repeat, summary
from diffprob.reporting.compare import compare_page
from diffprob.reporting.html import fill, stylesheet
from diffprob.reporting.page import report_page
from diffprob.reporting.sections import SECTIONS, Section, metric_curves
from diffprob.runs.measurements import Measurement
from diffprob.training.settings import Training

CLASSIFIER, INCEPTION = "classifier, 256-d, sha256 3fa9c1d2", "inception, 2048-d, sha256 6726825d"


def measured(run):
    drawn = {"sampler": "DDIM()", "evaluations": 50}
    first = Measurement("Frechet distance", 4.25, 10_000, 0, low=4.0, high=4.5, features=CLASSIFIER, split="test")
    run.record(replace(first, reference=0.5, details={**drawn, "bias": 0.23}))
    run.record(replace(first, value=31.75, low=None, high=None, features=INCEPTION, details=drawn))
    run.record(Measurement("bits/dim", 3.125, 360))
    return run


def test_report_is_a_valid_page(material):
    report = material(images=Digits().load())
    measured(report.run)
    page = Page(report_page(report))
    assert page.problems == []
    assert [a["id"] for a in page.all("h2")] == [
        section.id for section in SECTIONS if section.id not in {"measure", "coded"}
    ]
    assert "Trained to the end: 100 steps of 4 images in 25 s. Frechet distance: 4.25 (95%: 4 to 4.5; " in page.text
    assert "real images have 0.5." in page.text
    alts = [image["alt"] for image in page.all("img")]
    assert alts[:6] == [f"Sample of seed {seed}" for seed in range(7, 13)]
    assert "Predicted image of seed 8 at t = 0.5" in alts
    assert any(re.fullmatch(r"Noised copy of image \d+ of the data, class \d at t = 0.3", alt) for alt in alts)
    assert sum(alt.startswith("Image ") for alt in alts) == 32
    for text in ("1,437 of 8×8, grey, 17 levels", "abab" * 16, "25 s for 100 steps", "250 ms (median), 16 images/s"):
        assert text in page.text
    assert len(report_page(report)) < 300_000


def test_numbers_in_different_features_never_share_a_table(material):
    report = material()
    measured(report.run)
    body = str(SECTIONS[3].render(report))
    tables = re.findall(r"<table>.*?</table>", body, re.DOTALL)
    assert [sum(value in table for table in tables) for value in ("4.25", "31.75", "3.125")] == [1, 1, 1]
    holding = [next(k for k, table in enumerate(tables) if value in table) for value in ("4.25", "31.75", "3.125")]
    assert sorted(holding) == [0, 1, 2]
    assert CLASSIFIER in tables[0] and INCEPTION not in tables[0]
    for text in ("4 to 4.5", "0.23", "10,000", "test", "DDIM(), 50 evaluations", ">100<", ">0.5<"):
        assert text in tables[0], text
    assert "Nothing has been measured" in str(SECTIONS[3].render(material()))


def test_hostile_text_is_escaped(material):
    class_names = (HOSTILE, *"123456789")
    images = replace(Digits().load(), class_names=class_names, notes=(HOSTILE,))
    log = [*LOG, {"step": 100, f"metric/{HOSTILE}": 1.0, "measured": {HOSTILE: HOSTILE}}]
    report = material(name=HOSTILE_NAME, data=HOSTILE_DATA, images=images, note=HOSTILE, log=log)
    report = replace(report, command_name=f"-{HOSTILE}")
    details = {HOSTILE: [HOSTILE, {HOSTILE: None}], "sampler": HOSTILE, "bias": HOSTILE, "file": "/home/somebody/x.npz"}
    report.run.record(Measurement(HOSTILE, 1.0, 5, features=HOSTILE, split=HOSTILE, details=details))
    for page in (report_page(report), compare_page([report, report])):
        seen = Page(page)
        assert seen.problems == []
        assert HOSTILE in seen.text
        assert b"somebody" not in page and b"<script" not in page and b"/home" not in page
    assert HOSTILE_NAME in Page(report_page(report)).text


def test_control_and_direction_characters_are_escaped(material):
    marks = "\x1b[2J\u202e\u200b\x07"
    images = replace(Digits().load(), class_names=(f"zero{marks}", *"123456789"), notes=(f"note{marks}",))
    report = replace(material(images=images, note=marks), command_name=f"run{marks}")
    report.run.record(Measurement(f"name{marks}", 1.0, 5, features=marks, split=marks, details={marks: marks}))
    for page in (report_page(report), compare_page([report, report])):
        assert all(line.isprintable() for line in page.decode().split("\n"))
    assert "name\\x1b[2J\\u202e\\u200b\\x07" in page.decode()


def test_page_reveals_no_path_machine_or_user(material, tmp_path, monkeypatch):
    import getpass
    import platform

    monkeypatch.setattr(platform, "node", lambda: "a-host-name")
    page = report_page(material(data=HOSTILE_DATA)).decode()
    for word in ("a-host-name", str(tmp_path), tmp_path.name, f"/{getpass.getuser()}/", "somebody"):
        assert word not in page
    assert summary.without_paths(("/a/b", "C:\\a\\b", {"~/c": ["d/e"]}, 1.5)) == ("b", "b", {"c": ["d/e"]}, 1.5)


def test_lone_surrogate_and_empty_log_give_a_valid_page(material):
    page = Page(report_page(material(log=[], note="a\ud800b, not on this machine")))
    assert page.problems == []
    for text in ("a\\ud800b", "No log of the training", "not on this machine", "without a record"):
        assert text in page.text
    assert any(image["alt"].startswith("Noised copy of sample of seed 7") for image in page.all("img"))


def test_extra_section_is_added_by_a_function(material):
    extra = Section("rate", "Rate and distortion", lambda report: fill("data", {"rows": [("bits", "3")], "tiles": ()}))
    none = Section("none", "Nothing", lambda report: None)
    page = Page(report_page(material(), (*SECTIONS, extra, none)))
    assert page.problems == []
    assert [a["id"] for a in page.all("h2")][-1] == "rate"


def test_large_and_colour_images_are_shown(material, tmp_path):
    levels = np.random.default_rng(0).integers(0, 17, (2, 1, 80, 80)).astype(np.uint8)
    page = Page(report_page(material(samples=replace(SAMPLES, levels=levels, frames=[], times=[]), images=None)))
    assert page.problems == []
    assert "data:image/jpeg" in page.all("img")[0]["src"]
    assert "progression" not in [a["id"] for a in page.all("h2")]


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_colours_have_enough_contrast(scheme):
    blocks = re.findall(r":root \{(.*?)\}", stylesheet(), re.DOTALL)
    colour = dict(re.findall(r"--(\w+): (#\w+);", blocks[scheme]))
    for text in ("ink", "soft", "link"):
        for ground in ("page", "panel"):
            assert contrast(colour[text], colour[ground]) >= 4.5, (text, ground)
    for k in range(8):
        assert contrast(colour[f"c{k}"], colour["page"]) >= 3, k
    assert contrast("#fff", "#000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # the usual example of just too little


def test_metrics_measured_in_different_features_are_different_curves():
    log = [
        {"step": 10, "metric/KID": 0.5, "measured": {"features": "a"}},
        {"step": 20, "metric/KID": 0.4, "measured": {"features": "a"}},
        {"step": 30, "metric/KID": 0.9, "measured": {"features": "b"}},
    ]
    assert metric_curves([*LOG, *log]) == [
        ("KID (features: a)", [(10.0, 0.5), (20.0, 0.4)]),
        ("KID (features: b)", [(30.0, 0.9)]),
    ]


def test_commands_can_be_pasted():
    import shlex

    def arguments(command):
        return shlex.split(command.text)

    (again,) = repeat.to_train(RECIPE)
    assert arguments(again) == ["diffprob", "train", "./recipe.txt", "--out", "runs/again"]
    from diffprob.recipes import named

    changed = replace(named("digits"), network=replace(NETWORK, widths=(8, 8), attention=(False, True)))
    changed = replace(changed, training=Training(**{**vars(changed.training), "clip": float("inf")}))
    (command,) = repeat.to_train(changed)
    options = arguments(command)
    assert options[:3] == ["diffprob", "train", "digits"]
    from diffprob.config.overrides import assign

    rebuilt = named("digits")
    for option in (options[k + 1] for k, word in enumerate(options) if word == "--set"):
        path, _, text = option.partition("=")
        rebuilt = assign(rebuilt, path, text)
    assert rebuilt == changed
    (sample,) = repeat.to_sample("-$(id);x", SAMPLES)
    assert arguments(sample)[:6] == ["diffprob", "sample", "./-$(id);x", "-n", "6", "--seed"]
    assert "--no-clip" in arguments(repeat.to_sample("x", replace(SAMPLES, clip=False))[0])


def test_page_states_condition_and_guidance(material):
    """And how it was steered: the picture is not what the network draws by itself."""
    plain = report_page(material()).decode()
    assert "5 steps on Uniform()" in plain and ", told" not in plain and ", guidance" not in plain
    steered = replace(SAMPLES, condition="7", guidance="0.5, within 0 <= t <= 0.8", steps=None)
    page = report_page(material(samples=steered)).decode()
    assert "to a tolerance on Uniform(), told 7, guidance 0.5, within 0 &lt;= t &lt;= 0.8" in page


def test_existing_measurements_are_not_proposed_again(material):
    report = material()
    (command,) = repeat.to_measure(report, [])
    assert command.text == "diffprob evaluate runs/run-1 -n 10000"
    (command,) = repeat.to_measure(report, [Measurement("KID", 0.1, 500)])
    assert command.what.endswith(": so far of at most 500 samples")
    assert repeat.to_measure(report, [Measurement("KID", 0.1, 10_000)]) == []
    assert repeat.to_measure(replace(report, verbs=()), []) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.1234, "0.12 s"),
        (42.4, "42 s"),
        (59.6, "1 min 0 s"),
        (185, "3 min 5 s"),
        (4811, "1 h 20 min"),
        (3e5, "3.5 days"),
    ],
)
def test_durations_are_formatted_for_reading(seconds, text):
    assert summary.duration(seconds) == text


def test_images_of_the_data_are_labelled(material):
    images = Images(np.zeros((3, 1, 8, 8), np.uint8), np.array([0, 1, 5]), 17)
    page = Page(report_page(material(images=images)))
    assert {a["alt"] for a in page.all("img") if a["alt"].startswith("Image ")} == {
        "Image 0 of the data, class 0",
        "Image 1 of the data, class 1",
        "Image 2 of the data, class 5",
    }
