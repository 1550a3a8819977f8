"""Between: what a run makes of mixtures of two images with noise."""

from contextlib import ExitStack
from typing import Any

from diffprob.base.errors import InputError
from diffprob.data.images import Images
from diffprob.reporting.artifacts import tile_png
from diffprob.reporting.repeat import quoted
from diffprob.runs.folder import Run
from diffprob.studio.drawing import PNG
from diffprob.studio.forms import Form
from diffprob.studio.jobs import Job, JobResult
from diffprob.studio.shelf import Shelved
from diffprob.studio.uploads import Upload
from diffprob.tasks.editing import InterpolateRequest, prepare_interpolate
from diffprob.tasks.images import ImageSelection
from diffprob.tasks.options import requesting
from diffprob.tasks.plan import Sampling
from diffprob.tasks.rows import draw_rows

POINTS = 11


def plan_between(shelved: Shelved, run: Run, form: Form, uploads: dict[str, Upload]) -> tuple[str, Any]:
    """A job that mixes two images, and decodes the mixtures.

    Args:
        shelved: the run.
        run: it, opened.
        form: "at", the time whose noise they get; "seed"; and where no file was sent, "first" and "second": which
            held-out images of the run.
        uploads: files by name, "first_file" and "second_file".

    Raises:
        InputError: a field that is none, or a run that mixes nothing.
    """
    run.space.require_images("the studio's mixing")
    places = {name: form.whole(name, k, 0, 10**9) for k, name in enumerate(("first", "second"))}
    at, seed = form.number("at", 0.5, 0.01, 1.0), form.whole("seed", 0, 0, 2**53)

    def work(job: Job) -> JobResult:
        with ExitStack() as stack:
            ends: dict[str, Any] = {}
            for name, place in places.items():
                upload = uploads.get(f"{name}_file")
                ends[name] = stack.enter_context(upload.kept()) if upload else _held_out(run, place, name, job)
            with requesting():
                mixing = InterpolateRequest(
                    **ends, at=(at,), points=POINTS, sampling=Sampling(n=1, seed=seed), resize=True
                )
            rows = draw_rows(prepare_interpolate(run, mixing, job), job)
        files = {
            f"{k}.png": (PNG, tile_png(image, rows.levels, rows.settings)) for k, image in enumerate(rows.images[0])
        }
        words = [uploads[f"{name}_file"].shown if f"{name}_file" in uploads else "IMAGE" for name in places]
        command = f"diffprob interpolate {quoted(shelved.name)} {' '.join(map(quoted, words))} --at {at:g}"
        values = {
            "count": len(rows.images[0]),
            "at": at,
            "command": f"{command} --points {POINTS} --seed {seed} --resize",
        }
        return JobResult("mixed", values, {**files, "all.png": (PNG, rows.png())})

    return f"mix two images under {shelved.name}", work


def _held_out(run: Run, place: int, name: str, job: Job) -> Images:
    """A held-out image of the run by its place."""
    selection, _ = ImageSelection().resolve(run, job)
    if place >= len(selection):
        raise InputError(f"{name}: there are {len(selection):,} held-out images, counted from 0; got {place}")
    return selection.images.some([place])
