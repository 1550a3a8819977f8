"""Images translated from Python: the same as the verb, to the bit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tasks.recording import RecordingReporter

from diffprob.base.errors import InputError
from diffprob.cli import translate as verb
from diffprob.cli.main import main
from diffprob.data.images import Images
from diffprob.data.sources import Digits
from diffprob.runs.folder import Run
from diffprob.sampling.ancestral import Ancestral
from diffprob.tasks import translation
from diffprob.tasks.compute import Compute
from diffprob.tasks.plan import Sampling
from diffprob.tasks.translation import DDIB, EGSDE, SDEdit, TranslateRequest, translate

CPU = Compute(device="cpu")
FEW = Sampling(seed=3, steps=5, compute=CPU)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (SDEdit(start=0.5, repeats=2), ("--method", "sdedit", "--start", "0.5", "--repeats", "2")),
        (EGSDE(classifier=None, realistic=0.0), ("--realistic", "0")),
        (DDIB(source_model="digits"), ("--method", "invert", "--source-model", "digits")),
    ],
)
def test_translate_matches_the_verb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], method: Any, options: tuple[str, ...]
) -> None:
    out = str(tmp_path / "t")
    common = ("-n", "2", "--seed", "3", "--steps", "5", "--device", "cpu", "--out", out, "--json")
    assert main(["translate", "digits", "digits", *options, *common]) == 0
    result = json.loads(capsys.readouterr().out)
    translated = translate(Run.open("digits"), TranslateRequest(images="digits", method=method, n=2, sampling=FEW))
    assert result == {**translated.to_json(), "out": out, "dry_run": False}
    assert json.loads((tmp_path / "t" / "facts.json").read_text()) == translated.settings
    for k, image in enumerate(translated.images):
        with Image.open(tmp_path / "t" / "images" / f"{k:05d}.png") as picture:
            assert np.array_equal(np.round(np.asarray(picture) / 255 * 16).astype(np.uint8), image[0])
    assert translated.seeds.tolist() == [3, 4]
    assert (tmp_path / "t" / "before-and-after.png").read_bytes() == translated.png()
    assert repr(translated).startswith("2 images of digits translated by digits (")


def test_images_in_memory_and_open_runs_are_accepted() -> None:
    run, images = Run.open("digits"), Digits("test").load()
    batch = Images(images.take([0, 1]), levels=17)
    method = DDIB(source_model=Run.open("digits"))
    named, taken = (
        translate(run, TranslateRequest(images=source, method=method, n=2, sampling=FEW))
        for source in ("digits", batch)
    )
    assert np.array_equal(named.images, taken.images) and np.array_equal(named.source, taken.source)


def test_reporter_gets_progress_and_notes() -> None:
    reporter = RecordingReporter()
    request = TranslateRequest(images="digits", n=1, method=SDEdit(start=0.01), sampling=FEW)
    translated = translate(Run.open("digits"), request, reporter)
    ((what, total, bar),) = reporter.bars
    assert (what, total, bar.done) == ("translate", translated.network_calls, translated.network_calls)
    assert ["start=0.01 lies below the grid's last time" in note for note in reporter.notes] == [True]


def test_invalid_requests_are_one_line_python_errors() -> None:
    with pytest.raises(ValueError, match="classifier is needed"):
        EGSDE(classifier=None)
    with pytest.raises(ValueError, match=r"start must lie in \(0, 1\], got 0"):
        SDEdit(start=0)
    with pytest.raises(ValueError, match="split must be one of auto, train, test, all, got 'tst'; did you mean 'test'"):
        TranslateRequest(images="digits", method=SDEdit(), split="tst")
    ancestral = Sampling(sampler=Ancestral(), compute=CPU)
    refused = {
        "ddib: source_model=RUN of the source's kind": (DDIB(), FEW),
        r"sampler=Ancestral\(\): ddib goes up and down by DDIM": (DDIB(source_model="digits"), ancestral),
        'source_model="mnist": another space or process': (DDIB(source_model="mnist"), FEW),
        "from_label=7: digits is told no labels": (DDIB(source_model="digits", from_label="7"), FEW),
        'classifier="digits": no classifier': (EGSDE(classifier="digits"), FEW),
    }
    for message, (method, sampling) in refused.items():
        with pytest.raises(InputError, match=f"^{message}"):
            translate(Run.open("digits"), TranslateRequest(images="digits", n=1, method=method, sampling=sampling))


def test_verb_options_match_the_task() -> None:
    assert tuple(method.name for method in (EGSDE, SDEdit, DDIB)) == verb.METHODS
    for name in ("REALISTIC", "FAITHFUL", "FACTOR", "START"):
        assert getattr(verb, name) == getattr(translation, name)
