"""Measure: how many bits an image has under a run, and where it stands among held-out images."""

from typing import Any

import numpy as np

from diffprob.reporting.artifacts import tile_png
from diffprob.reporting.repeat import quoted
from diffprob.runs.folder import Run
from diffprob.studio.drawing import PNG
from diffprob.studio.forms import Form
from diffprob.studio.jobs import Job, JobResult
from diffprob.studio.shelf import Shelved
from diffprob.studio.uploads import Upload
from diffprob.tasks.detection import DetectionRequest, detect
from diffprob.tasks.images import ImageBatch, ImageSelection
from diffprob.tasks.likelihood import LikelihoodRequest, likelihood

MOST = 16  # images at a time
BESIDE = 100  # held-out images that they are ranked among


def plan_measure(shelved: Shelved, run: Run, form: Form, uploads: dict[str, Upload]) -> tuple[str, Any]:
    """A job that measures uploaded images, or held-out ones of the run where nothing was uploaded.

    Args:
        shelved: the run.
        run: it, opened.
        form: "n" images at most, and "rank": also where they stand.
        uploads: files by name: "file", or none.

    Raises:
        InputError: a field that is none, or a run without images.
    """
    run.space.require_images("the studio's measuring")
    n, ranked, upload = form.whole("n", 8, 1, MOST), bool(form.text("rank")), uploads.get("file")

    def work(job: Job) -> JobResult:
        if upload is None:
            return _measured(shelved, run, ImageSelection(n=n), ranked, job)
        with upload.kept() as place:
            return _measured(shelved, run, ImageSelection(images=place, n=n, resize=True), ranked, job, upload.shown)

    return f"measure images under {shelved.name}", work


def _measured(
    shelved: Shelved, run: Run, images: ImageSelection, ranked: bool, job: Job, name: str | None = None
) -> JobResult:
    chosen = ImageBatch(*images.resolve(run, job))
    result = likelihood(run, LikelihoodRequest(images=ImageSelection(images=chosen)), job)
    levels, pixels = run.space.levels, chosen.images
    files = {f"{k}.png": (PNG, tile_png(image, levels, {})) for k, image in enumerate(pixels)}
    rows: list[dict[str, Any]] = [
        {
            "bits": float(result.per_image[k]),
            "parts": {name: float(part[k]) for name, part in result.parts.items()},
            "bytes": float(result.per_image[k]) * result.dimensions / 8,
        }
        for k in range(len(pixels))
    ]
    ranks: list[dict[str, Any]] = []
    if ranked:
        detected = detect(run, DetectionRequest(judged=chosen.selection.images.some(chosen.index), n=BESIDE), job)
        ranks = [
            {
                "proxy": ranking.proxy,
                "quantiles": ranking.quantiles.tolist(),
                "p_values": ranking.p_values.tolist(),
                "is_odd": np.isin(np.arange(len(pixels)), ranking.flagged).tolist(),
            }
            for ranking in detected.rankings
        ]
    file, argument = ("", "") if name is None else (f"{quoted(name)} --resize ", f"{name!r}, resize=True, ")
    values = {
        "rows": rows,
        "ranks": ranks,
        "mean": result.mean,
        "error": result.standard_error,
        "how": str(result.settings.get("variance")),
        "beside": BESIDE,
        "command": f"diffprob likelihood {quoted(shelved.name)} {file}-n {images.n}",
        "python": f"dp.load({shelved.name!r}).bits_per_dim({argument}n={images.n})",
    }
    return JobResult("measured", values, files)
