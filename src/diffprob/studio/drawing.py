"""Draw: samples of a run, and the chain while it draws them."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from diffprob.base.errors import InputError
from diffprob.conditions.condition import Labels
from diffprob.reporting.artifacts import grid_png, tile_png
from diffprob.reporting.repeat import quoted
from diffprob.runs.folder import Run
from diffprob.sampling.simulate import State
from diffprob.studio.forms import Form
from diffprob.studio.jobs import Job, JobResult
from diffprob.studio.shelf import Shelved
from diffprob.studio.uploads import Upload
from diffprob.tasks.conditioning import Conditioning
from diffprob.tasks.options import requesting
from diffprob.tasks.plan import Sampling
from diffprob.tasks.sample import PreparedSample, SampleRequest, draw_sample, prepare_sample

MOST, MOST_STEPS = 64, 2000
SHOWN = 8  # samples whose chain is shown
EVERY = 0.3  # seconds between two pictures of it
PNG = "image/png"


@dataclass(frozen=True)
class DrawForm:
    """What may be asked for.

    Args:
        classes: that can be chosen; none where the run knows no labels.
    """

    classes: tuple[str, ...]

    @classmethod
    def of(cls, run: Run) -> "DrawForm":
        """Of a run."""
        condition = run.recipe.condition
        if not isinstance(condition, Labels):
            return cls(())
        names = condition.names or tuple(map(str, range(condition.classes)))
        return cls(names)


def plan_draw(shelved: Shelved, run: Run, form: Form, uploads: dict[str, Upload]) -> tuple[str, Any]:
    """A job that draws, in words and to be done; it takes no files.

    Raises:
        InputError: a field that is none, or parts that do not go together.
    """
    if uploads:
        raise InputError("drawing takes no file; Measure and Between do")
    label, guidance = form.text("label"), form.number("guidance", 0.0, -10, 100)
    with requesting():
        sampling = Sampling(
            n=form.whole("n", 16, 1, MOST),
            seed=form.whole("seed", 0, 0, 2**53),
            steps=form.whole("steps", 50, 1, MOST_STEPS),
            conditioning=Conditioning(label=(label,) if label else None, guidance=guidance),
        )
        request = SampleRequest(sampling=sampling)
    prepare_sample(run, request)  # what is wrong is said at once

    def work(job: Job) -> JobResult:
        prepared = prepare_sample(run, request, job)
        samples = draw_sample(prepared, job, _Watch(job, run, prepared))
        if samples.levels is None or samples.images.ndim != 4:
            raise InputError(f"{shelved.name} draws no images; `diffprob sample` writes what it draws as arrays")
        levels, settings = samples.levels, samples.settings
        files = {
            f"{seed}.png": (PNG, tile_png(image, levels, {**settings, "seeds": str(seed)}))
            for seed, image in zip(samples.seeds.tolist(), samples.images, strict=True)
        }
        files["samples.png"] = (PNG, grid_png(samples.images, levels, settings))
        classes = [] if samples.labels is None else samples.labels.tolist()
        names = DrawForm.of(run).classes
        named = [names[label] if 0 <= label < len(names) else "" for label in classes]
        command, python = _same(shelved, request)
        values = {
            "seeds": samples.seeds.tolist(),
            "classes": named,
            "how": repr(samples),
            "command": command,
            "python": python,
        }
        return JobResult("drawn", values, files)

    return f"draw {sampling.n} images of {shelved.name}", work


def _same(shelved: Shelved, request: SampleRequest) -> tuple[str, str]:
    """The command and the Python that draw the same images."""
    sampling, condition = request.sampling, request.sampling.conditioning
    command = f"diffprob sample {quoted(shelved.name)} -n {sampling.n} --seed {sampling.seed} --steps {sampling.steps}"
    keywords = f"{sampling.n}, seed={sampling.seed}, steps={sampling.steps}"
    if condition.label:
        command += f" --label {quoted(condition.label[0])}"
        keywords += f", labels={condition.label[0]!r}"
    if condition.guidance:
        command += f" --guidance {condition.guidance:g}"
        keywords += f", guidance={condition.guidance:g}"
    return command, f"dp.load({shelved.name!r}).sample({keywords})"


class _Watch:
    """Shows the chain while it is drawn."""

    def __init__(self, job: Job, run: Run, prepared: PreparedSample) -> None:
        self.job, self.run, self.process = job, run, prepared.plan.model.process
        self.last = 0.0

    def __call__(self, state: State) -> None:
        self.job.check()
        now = time.monotonic()
        if now - self.last < EVERY or state.posterior is None or self.run.space.levels is None:
            return
        self.last = now
        self.job.show({"chain.png": (PNG, chain_picture(self.run.space, self.process, state))})


def chain_picture(space: Any, process: Any, state: State) -> bytes:
    """Rows of the first samples: x_t as it is seen, the predicted image, and of a model with a variance in a space with
    an interval its standard deviation, on a scale of its own, white where it is largest."""
    posterior: Any = state.posterior
    rows = [process.visible(state.x, state.t)[:SHOWN], posterior.mean[:SHOWN]]
    if space.bounded and process.is_linear:
        spread = torch.as_tensor(posterior.variance).to(rows[1]).expand_as(posterior.mean)[:SHOWN].clamp_min(0).sqrt()
        if float(spread.max()) > 0:
            rows.append(2 * spread / spread.max() - 1)
    pictures = [space.nearest(row).cpu().numpy() for row in rows]
    return grid_png(np.concatenate(pictures), space.levels, {}, len(rows[1]))
