"""The studio's addresses: pages, jobs and what they made. What is computed stands in the modules of the views."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse

from diffprob.base.errors import DiffprobError, InputError
from diffprob.base.text import one_line
from diffprob.runs.folder import Run
from diffprob.storage.files import is_file, read_bytes
from diffprob.studio.between import plan_between
from diffprob.studio.drawing import DrawForm, plan_draw
from diffprob.studio.forms import Form
from diffprob.studio.guard import Guard, TooMuch
from diffprob.studio.jobs import Busy, Job, Jobs
from diffprob.studio.measuring import plan_measure
from diffprob.studio.pages import fill, static
from diffprob.studio.shelf import Shelf, Shelved
from diffprob.studio.uploads import KINDS, Upload
from diffprob.tasks.catalogue import look_up
from diffprob.tasks.run_summary import HEAD

OFTEN = 0.15  # seconds between two looks at a job that is watched
VIEWS = (("", "Model"), ("draw", "Draw"), ("measure", "Measure"), ("between", "Between"))


def studio(folder: Path, hosts: tuple[str, ...], token: str, jobs: Jobs) -> Guard:
    """The application, behind its guard.

    Args:
        folder: whose runs it shows.
        hosts: under which it is asked, "127.0.0.1:8000".
        token: that opens it.
        jobs: what is computed.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    shelf = Shelf(folder)
    _add_pages(app, shelf)
    _add_plans(app, shelf, jobs)
    _add_jobs(app, jobs)

    @app.exception_handler(DiffprobError)
    async def _refused(request: Request, error: Exception) -> Response:
        return _problem(request, one_line(str(error)), 422)

    @app.exception_handler(Busy)
    async def _busy(request: Request, error: Exception) -> Response:
        return _problem(request, str(error), 429)

    @app.exception_handler(TooMuch)
    async def _too_much(request: Request, error: Exception) -> Response:
        return _problem(request, str(error), getattr(error, "status", 413))

    return Guard(app, hosts, token)


def _problem(request: Request, text: str, status: int) -> Response:
    template = "problem" if "hx-request" in request.headers else "refused"
    return HTMLResponse(fill(template, {"text": text, "title": "That did not work"}), status)


def _add_pages(app: FastAPI, shelf: Shelf) -> None:
    @app.get("/")
    def models() -> Response:
        runs = shelf.runs()
        return HTMLResponse(fill("models", {"title": "Models", "runs": runs, "folder": str(shelf.folder)}))

    @app.get("/static/{name}")
    def files(name: str) -> Response:
        known = static(name)
        return PlainTextResponse("no such file", 404) if known is None else Response(known[1], media_type=known[0])

    @app.get("/runs/{key}/")
    def model(key: str) -> Response:
        shelved, run = shelf.run_of(key)
        about = look_up(shelved.place)
        picture = _kept(run, "loss.png")
        values = {"about": about["about"], "quality": about["quality"], "head": HEAD, "has_loss": picture is not None}
        more = {"next": about["next"], "text": about["text"]}
        return _page("model", shelved, "", {**values, **more})

    @app.get("/runs/{key}/loss.png")
    def loss(key: str) -> Response:
        picture = _kept(shelf.run_of(key)[1], "loss.png")
        return PlainTextResponse("no such file", 404) if picture is None else Response(picture, media_type="image/png")

    @app.get("/runs/{key}/draw")
    def draw(key: str) -> Response:
        shelved, run = shelf.run_of(key)
        return _page("draw", shelved, "draw", {"classes": DrawForm.of(run).classes})

    @app.get("/runs/{key}/measure")
    def measure(key: str) -> Response:
        return _page("measure", shelf.run_of(key)[0], "measure", {"kinds": ",".join(KINDS)})

    @app.get("/runs/{key}/between")
    def between(key: str) -> Response:
        return _page("between", shelf.run_of(key)[0], "between", {"kinds": ",".join(KINDS)})


def _page(template: str, shelved: Shelved, view: str, values: dict[str, Any]) -> Response:
    shell = {"title": shelved.name, "run": shelved, "views": VIEWS, "view": view}
    return HTMLResponse(fill(template, {**shell, **values}))


def _kept(run: Run, name: str) -> bytes | None:
    path = run.path / name
    return read_bytes(path) if is_file(path) and not path.is_symlink() else None


def _add_plans(app: FastAPI, shelf: Shelf, jobs: Jobs) -> None:
    def began(plan: tuple[str, Callable[[Job], Any]]) -> Response:
        return HTMLResponse(fill("job", {"job": jobs.begin(*plan)}))

    plans = {"draw": plan_draw, "measure": plan_measure, "between": plan_between}

    @app.post("/runs/{key}/{view}")
    async def ask(key: str, view: str, request: Request) -> Response:
        plan = plans.get(view)
        if plan is None:
            return PlainTextResponse("no such view", 404)
        fields, uploads = await _form(request)
        return await asyncio.to_thread(lambda: began(plan(*shelf.run_of(key), fields, uploads)))


async def _form(request: Request) -> tuple[Form, dict[str, Upload]]:
    """The fields and files of a form.

    Raises:
        InputError: it is none, or a file of another kind.
    """
    from starlette.exceptions import HTTPException

    try:
        sent = await request.form(max_files=2, max_fields=20)
    except (HTTPException, ValueError) as error:
        raise InputError("this is no form that a page of the studio sends") from error
    files: dict[str, Any] = {name: value for name, value in sent.items() if not isinstance(value, str)}
    contents = {name: (file.filename or "", await file.read()) for name, file in files.items()}
    uploads = {name: Upload(*content) for name, content in contents.items() if content[1]}
    return Form(sent), uploads


def _add_jobs(app: FastAPI, jobs: Jobs) -> None:
    def known(number: int) -> Job:
        job = jobs.get(number)
        if job is None:
            raise InputError("this job is unknown, or too long ago; ask again")
        return job

    @app.get("/jobs/{number}/events")
    async def events(number: int) -> Response:
        headers = {"x-accel-buffering": "no"}
        return StreamingResponse(_events(known(number)), media_type="text/event-stream", headers=headers)

    @app.post("/jobs/{number}/cancel")
    async def cancel(number: int) -> Response:
        jobs.cancel(known(number))
        return Response(status_code=204)

    @app.get("/jobs/{number}/frame")
    async def frame(number: int, k: int) -> Response:
        job = known(number)
        count = 0 if job.result is None else job.result.values.get("count", 0)
        if not isinstance(count, int) or not 0 <= k < count:
            raise InputError(f"there are {count} pictures, counted from 0; got {k}")
        return HTMLResponse(fill("frame", {"job": job, "k": k, "count": count}))

    @app.get("/jobs/{number}/files/{name}")
    async def files(number: int, name: str) -> Response:
        job = known(number)
        made = {} if job.result is None else job.result.files
        content = {**made, **job.live}.get(name)
        if content is None:
            return PlainTextResponse("no such file", 404)
        return Response(content[1], media_type=content[0])


async def _events(job: Job) -> AsyncIterator[str]:
    seen = -1
    while True:
        version, ended = job.version, job.has_ended
        if version != seen:
            seen = version
            yield _event("end" if ended else "progress", _shown(job))
        if ended:
            return
        await asyncio.sleep(OFTEN)


def _shown(job: Job) -> str:
    if job.result is not None and job.has_ended:
        return fill(job.result.template, {**job.result.values, "job": job})
    return fill("progress", {"job": job})


def _event(name: str, html: str) -> str:
    lines = "".join(f"data: {line}\n" for line in html.splitlines())
    return f"event: {name}\n{lines}\n"
