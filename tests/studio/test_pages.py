"""What the studio shows is what the verbs print: the same requests to the same tasks."""

import ast
import io
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from studio.client import HOST, TOKEN, ask, form
from truth.page import Page

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.studio import measuring
from diffprob.studio.app import studio
from diffprob.studio.jobs import CANCELLED, DONE, FAILED, Job, JobResult, Jobs
from diffprob.studio.serve import serve


@pytest.fixture(scope="module")
def jobs() -> Any:
    jobs = Jobs()
    yield jobs
    jobs.close()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, jobs: Jobs) -> Any:
    return studio(tmp_path_factory.mktemp("runs"), (HOST,), TOKEN, jobs)


def asked(app: Any, jobs: Jobs, path: str, fields: dict[str, str], file: tuple[str, bytes] | None = None) -> Job:
    """The job of a form, when it has ended."""
    headers, body = form(fields, file)
    answer = ask(app, path, "POST", headers, body)
    assert answer.status == 200, answer.text
    found = re.search(r"/jobs/(\d+)/events", answer.text)
    assert found is not None
    job = jobs.get(int(found[1]))
    assert job is not None
    return ended(job)


def by_line(text: str) -> Any:
    """What a line of Python such as dp.load("x").sample(3, steps=2) gives."""
    call: Any = ast.parse(text, mode="eval").body
    model = dp.load(ast.literal_eval(call.func.value.args[0]))
    keywords = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    return getattr(model, call.func.attr)(*map(ast.literal_eval, call.args), **keywords)


def ended(job: Job) -> Job:
    limit = time.monotonic() + 100
    while not job.has_ended:
        assert time.monotonic() < limit, job.state
        time.sleep(0.02)
    return job


@pytest.mark.parametrize(
    "path", ["/", "/runs/digits/", "/runs/digits/draw", "/runs/mnist_labels/draw", "/runs/digits/measure"]
)
def test_pages_have_what_a_screen_reader_needs(app: Any, path: str) -> None:
    answer = ask(app, path)
    text = answer.text
    assert answer.status == 200 and '<html lang="en">' in text and 'name="viewport"' in text and text.count("<h1>") == 1
    assert not re.search(r"<script(?! src=\"/static/)|style=|javascript:| on\w+=|https?://", text)
    page = Page(text.encode())
    assert all(image.get("alt") for image in page.all("img"))


def test_drawn_images_are_those_of_the_verb(app: Any, jobs: Jobs) -> None:
    job = asked(app, jobs, "/runs/mnist_labels/draw", {"n": "3", "steps": "2", "seed": "5", "label": "7"})
    assert job.state == DONE and job.result is not None
    expected = by_line(str(job.result.values["python"]))  # what the page says gives the same
    assert len(expected.images) == 3
    for seed, image in zip((5, 6, 7), expected.images, strict=True):
        shown = ask(app, f"/jobs/{job.number}/files/{seed}.png")
        assert shown.headers["content-type"] == "image/png"
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown.body))), image[0])
    page = ask(app, f"/jobs/{job.number}/events").text
    assert "event: end" in page and "Sample of seed 6, class 7" in page
    assert "diffprob sample mnist_labels -n 3 --seed 5 --steps 2 --label 7" in page


def test_a_chain_is_shown_while_it_is_drawn(app: Any, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffprob.studio import drawing

    shown: list[dict[str, Any]] = []
    monkeypatch.setattr(drawing, "EVERY", 0.0)
    monkeypatch.setattr(Job, "show", lambda self, files: shown.append(files))
    asked(app, jobs, "/runs/digits/draw", {"n": "2", "steps": "3"})
    assert len(shown) == 3 and all(files["chain.png"][1].startswith(b"\x89PNG") for files in shown)


def test_bits_are_those_of_the_verb(app: Any, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = dp.load("digits")
    images = model.data(n=3).images
    Image.fromarray((images[0, 0].astype(int) * 255 // 16).astype(np.uint8)).save(tmp_path / "one.png")
    job = asked(app, jobs, "/runs/digits/measure", {"n": "3"})
    assert job.state == DONE and job.result is not None
    rows: Any = job.result.values["rows"]
    assert [row["bits"] for row in rows] == model.bits_per_dim(n=3).per_image.tolist()
    assert all(row["bits"] == pytest.approx(sum(row["parts"].values()), abs=1e-12) for row in rows)
    job = asked(app, jobs, "/runs/digits/measure", {"n": "3"}, ("one.PNG", (tmp_path / "one.png").read_bytes()))
    assert job.state == DONE, job.error
    assert job.result is not None and "256 grey levels made 17" in " ".join(job.notes)
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="made 17"):
        expected = by_line(str(job.result.values["python"]).replace("one.PNG", "one.png"))
    assert job.result.values["mean"] == expected.mean


def test_ranks_among_held_out_images_are_those_of_the_verb(
    app: Any, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "BESIDE", 50)
    job = asked(app, jobs, "/runs/digits/measure", {"n": "2", "rank": "yes"})
    assert job.state == DONE and job.result is not None, job.error
    model = dp.load("digits")
    chosen = model.data(n=2)
    expected = model.detect(chosen.selection.images.some(chosen.index), n=50).rankings
    ranks: Any = job.result.values["ranks"]
    assert [rank["proxy"] for rank in ranks] == [ranking.proxy for ranking in expected]
    assert [rank["quantiles"] for rank in ranks] == [ranking.quantiles.tolist() for ranking in expected]
    assert "of 50 held-out images" in ask(app, f"/jobs/{job.number}/events").text


def test_mixtures_are_those_of_the_verb(app: Any, jobs: Jobs) -> None:
    model = dp.load("digits")
    images = model.data().selection.images
    ends = images.some([3]), images.some([5])
    job = asked(app, jobs, "/runs/digits/between", {"first": "3", "second": "5", "at": "0.4", "seed": "2"})
    assert job.state == DONE and job.result is not None, job.error
    expected = model.interpolate(*ends, at=(0.4,), points=11, seed=2).images[0]
    assert job.result.values["count"] == len(expected) == 13
    for k, image in enumerate(expected):
        shown = np.asarray(Image.open(io.BytesIO(ask(app, f"/jobs/{job.number}/files/{k}.png").body)))
        assert np.array_equal(shown, (image[0].astype(int) * 255 + 8) // 16)
    frame = ask(app, f"/jobs/{job.number}/frame?k=6")
    assert frame.status == 200 and f"/jobs/{job.number}/files/6.png" in frame.text and "Mixture 6 of 11" in frame.text
    for k in ("13", "-1", "x", ""):
        assert ask(app, f"/jobs/{job.number}/frame?k={k}").status == 422


def test_what_cannot_be_mixed_is_one_line(app: Any, jobs: Jobs) -> None:
    job = asked(app, jobs, "/runs/digits/between", {"first": "360"})
    assert job.state == FAILED and job.error == "first: there are 360 held-out images, counted from 0; got 360"
    headers, body = form({"n": "1"}, ("a.png", b"x"))
    assert "takes no file" in ask(app, "/runs/digits/draw", "POST", headers, body).text


@pytest.mark.parametrize(("name", "content"), [("a.png", b"no picture"), ("a.npz", b"PK\x03\x04rest"), ("a.npy", b"")])
def test_damaged_files_end_in_one_line(app: Any, jobs: Jobs, name: str, content: bytes) -> None:
    if not content:
        content = b"\x93NUMPY"
    job = asked(app, jobs, "/runs/digits/measure", {}, (name, content))
    assert job.state == FAILED and job.error and "\n" not in job.error and "Traceback" not in job.error
    assert name in job.error and "diffprob-studio" not in job.error, job.error


def test_a_job_ends_soon_after_it_is_cancelled(app: Any, jobs: Jobs) -> None:
    headers, body = form({"n": "64", "steps": "1000"})
    answer = ask(app, "/runs/digits/draw", "POST", headers, body)
    number = int(re.findall(r"/jobs/(\d+)/", answer.text)[0])
    job = jobs.get(number)
    assert job is not None
    while job.bar is None or job.bar.done < 2:
        time.sleep(0.02)
    began = time.monotonic()
    assert ask(app, f"/jobs/{number}/cancel", "POST").status == 204
    assert ended(job).state == CANCELLED and time.monotonic() - began < 30  # of one network call; a busy machine's
    assert "Cancelled" in ask(app, f"/jobs/{number}/events").text


def test_an_error_of_ours_is_of_one_job_alone(jobs: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(job: Job) -> JobResult:
        raise ZeroDivisionError("planted")

    assert ended(jobs.begin("break", broken)).state == FAILED
    assert ended(jobs.begin("go on", lambda job: JobResult("problem", {"text": "done"}))).state == DONE
    assert "planted" in capsys.readouterr().err


def test_runs_of_the_folder_are_found_and_strangers_are_one_line(tmp_path: Path, jobs: Jobs) -> None:
    from diffprob.runs.folder import PRETRAINED

    inside = tmp_path / "a folder" / "<b>mine"
    inside.parent.mkdir()
    import shutil

    shutil.copytree(PRETRAINED / "digits", inside)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{")
    app = studio(tmp_path, (HOST,), TOKEN, jobs)
    text = ask(app, "/").text
    assert "a folder/&lt;b&gt;mine" in text and "<b>" not in text
    keys = re.findall(r'href="/runs/([^/]+)/"', text)
    assert all(re.fullmatch(r"[a-z0-9_-]+", key) for key in keys)
    mine, broken = (next(key for key in keys if key.startswith(name)) for name in ("a-folder", "broken"))
    assert ask(app, f"/runs/{mine}/").status == 200 and ask(app, f"/runs/{broken}/").status == 422


def test_a_place_that_cannot_be_served_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        serve(tmp_path / "none", 0, print)
    with pytest.raises(InputError, match="cannot be had"):
        serve(tmp_path, 99_999_999, print)
