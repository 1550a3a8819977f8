"""Who is not let in, and what nobody gets: each of these is an attack."""

from pathlib import Path
from typing import Any

import pytest
from studio.client import COOKIE, HOST, TOKEN, ask, form

from diffprob.studio import guard
from diffprob.studio.app import studio
from diffprob.studio.jobs import MOST_WAITING, Jobs


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("opened")
    (folder / "secret.txt").write_text("nobody reads this")
    (folder.parent / "outside").mkdir()
    jobs = Jobs()
    yield studio(folder, (HOST, "localhost:8765"), TOKEN, jobs)
    jobs.close()


FOREIGN = ("evil.example", "evil.example:8765", "127.0.0.1", "127.0.0.1:80", "127.0.0.2:8765", "[::1]:8765", "")


@pytest.mark.parametrize("host", FOREIGN)
def test_other_hosts_are_refused(app: Any, host: str) -> None:
    """DNS rebinding: a name of somebody else's that points here."""
    assert ask(app, "/", headers={"host": host}).status == 421


def test_two_hosts_are_refused(app: Any) -> None:
    assert ask(app, "/", more=(("host", "evil.example"),)).status == 421


WRONG = ("", "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "é", "%00", "' or 1=1")


@pytest.mark.parametrize("token", WRONG)
def test_a_wrong_token_opens_nothing(app: Any, token: str) -> None:
    assert ask(app, f"/?token={token}", known=False).status == 403
    assert ask(app, "/", headers={"cookie": f"diffprob-studio-8765={token}"}, known=False).status == 403
    assert ask(app, "/", headers={"cookie": f"other={TOKEN}"}, known=False).status == 403


@pytest.mark.parametrize("path", ["/", "/static/style.css", "/runs/digits/", "/jobs/1/events", "/jobs/1/files/a.png"])
def test_nothing_is_shown_without_the_token(app: Any, path: str) -> None:
    answer = ask(app, path, known=False)
    assert answer.status == 403 and "digits" not in answer.text
    assert ask(app, f"{path}?token={TOKEN}&token={TOKEN}", known=False).status == 403


def test_the_token_opens_once_and_a_cookie_keeps_it(app: Any) -> None:
    answer = ask(app, f"/?token={TOKEN}", known=False)
    assert answer.status == 303 and answer.headers["location"] == "/"
    kept = answer.headers["set-cookie"]
    assert "HttpOnly" in kept and "SameSite=Strict" in kept
    assert ask(app, "/", headers={"cookie": kept.partition(";")[0]}, known=False).status == 200
    assert TOKEN not in ask(app, "/").text


ORIGINS = ("http://evil.example", "null", "https://127.0.0.1:8765", "http://127.0.0.1:9000", "http://127.0.0.1", "")


@pytest.mark.parametrize("origin", ORIGINS)
def test_forms_of_other_pages_are_refused(app: Any, origin: str) -> None:
    headers, body = form({"n": "1"})
    assert ask(app, "/runs/digits/draw", "POST", {**headers, "origin": origin}, body).status == 403
    assert ask(app, "/jobs/1/cancel", "POST", {"origin": origin}).status == 403


def test_a_form_without_an_origin_is_refused(app: Any) -> None:
    assert ask(app, "/runs/digits/draw", "POST", COOKIE, known=False).status == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_other_methods_are_refused(app: Any, method: str) -> None:
    assert ask(app, "/", method).status == 405


UPWARD = (
    "../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt", "....//secret.txt", "/etc/passwd", "//etc/passwd",
    "..\\secret.txt", "secret.txt", "digits/../../secret.txt", "digits%00", "~", ".", "",
    "C:\\Windows", "mnist/manifest.json",
)  # fmt: skip


@pytest.mark.parametrize("name", UPWARD)
def test_no_address_reads_a_file(app: Any, name: str) -> None:
    for path in (f"/runs/{name}/", f"/runs/{name}/draw", f"/runs/{name}/loss.png", f"/static/{name}"):
        answer = ask(app, path)
        assert answer.status in (404, 405, 422, 307) and b"nobody reads this" not in answer.body, path
        assert b"root:" not in answer.body and b"format" not in answer.body[:40]
    assert ask(app, f"/jobs/1/files/{name}").status in (404, 422)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    from diffprob.runs.folder import PRETRAINED, packaged
    from diffprob.studio.shelf import Shelf

    (tmp_path / "opened").mkdir()
    (tmp_path / "opened" / "out").symlink_to(PRETRAINED / "digits", target_is_directory=True)
    assert [run.name for run in Shelf(tmp_path / "opened").runs()] == packaged()


@pytest.mark.parametrize("length", ["-1", "1e9", "0x10", "99999999999", "²", " 5"])
def test_lengths_that_are_none_are_refused(app: Any, length: str) -> None:
    headers, body = form({"n": "1"})
    assert ask(app, "/runs/digits/draw", "POST", {**headers, "content-length": length}, body).status == 413


def test_too_many_bytes_are_not_read(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MOST_BYTES", 3 * 2**20)
    headers, body = form({"n": "1"}, ("a.png", bytes(8 * 2**20)))
    assert ask(app, "/runs/digits/measure", "POST", headers, body).status == 413


def test_a_client_that_does_not_end_its_request_is_sent_away(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SECONDS", 0.2)
    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert ask(app, "/runs/digits/draw", "POST", kind, b"--x", ends=False).status == 408


@pytest.mark.parametrize("path", ["/", "/runs/digits/", "/nothing", "/static/htmx.min.js"])
def test_every_answer_forbids_what_comes_from_elsewhere(app: Any, path: str) -> None:
    for known in (True, False):
        headers = ask(app, path, known=known).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers


def test_names_stay_text(tmp_path: Path) -> None:
    from diffprob.studio.pages import fill
    from diffprob.studio.shelf import Shelved

    name = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202e"
    page = fill("models", {"title": name, "folder": name, "runs": [Shelved("k", name, name)]})
    assert "<script>alert" not in page and "<img src=x" not in page and "\u202e" not in page


BAD = (
    ({"n": "0"}, "n: a number from 1 to 64"), ({"n": "65"}, "n:"), ({"n": "1e400"}, "n:"), ({"n": "nan"}, "n:"),
    ({"n": "2.5"}, "a whole number"), ({"n": "<b>"}, "n:"), ({"steps": "0"}, "steps:"),
    ({"steps": "99999999"}, "steps:"),
    ({"seed": "-1"}, "seed:"), ({"seed": "1" * 500}, "at most 200 characters"), ({"label": "cat"}, "label"),
)  # fmt: skip


@pytest.mark.parametrize(("fields", "says"), BAD)
def test_wrong_fields_are_one_line(app: Any, fields: dict[str, str], says: str) -> None:
    headers, body = form(fields)
    answer = ask(app, "/runs/digits/draw", "POST", {**headers, "hx-request": "true"}, body)
    assert answer.status == 422 and says in answer.text and "<b>" not in answer.text and 'role="alert"' in answer.text


@pytest.mark.parametrize("name", ["a.exe", "a.svg", "a", "a.png.sh", "../../a.html"])
def test_files_of_other_kinds_are_refused(app: Any, name: str) -> None:
    headers, body = form({}, (name, b"x"))
    answer = ask(app, "/runs/digits/measure", "POST", headers, body)
    assert answer.status == 422 and "a picture or an array would be right" in answer.text


def test_a_form_that_is_none_is_one_line(app: Any) -> None:
    for kind in ("multipart/form-data", "multipart/form-data; boundary=" + "x" * 10_000, "text/plain"):
        assert ask(app, "/runs/digits/draw", "POST", {"content-type": kind}, b"\x00\xff" * 100).status in (200, 422)


def test_no_more_jobs_wait_than_may(tmp_path: Path) -> None:
    import threading

    from diffprob.studio.jobs import JobResult

    jobs, go = Jobs(), threading.Event()

    def work(job: Any) -> JobResult:
        go.wait(10)
        return JobResult("problem", {"text": ""})

    app = studio(tmp_path, (HOST,), TOKEN, jobs)
    first = jobs.begin("block", work)
    while first.state == "queued":
        pass
    for _ in range(MOST_WAITING):
        jobs.begin("wait", work)
    headers, body = form({"n": "1", "steps": "1"})
    assert ask(app, "/runs/digits/draw", "POST", headers, body).status == 429
    go.set()
    jobs.close()
