"""Which average of a training's weights is best: averages of several lengths by the loss of images never trained on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from diffprob.base.checks import flag, several, text, whole
from diffprob.base.errors import InputError
from diffprob.denoise.denoiser import NetworkModel
from diffprob.runs.folder import Run
from diffprob.runs.images import OwnImages
from diffprob.runs.publish import write_run
from diffprob.tasks.averaging import average_at, kept_averages
from diffprob.tasks.compute import Compute
from diffprob.tasks.exchange import new_folder
from diffprob.tasks.reporter import SILENT, Reporter
from diffprob.training.averages import check_width
from diffprob.training.batches import Batches
from diffprob.training.settings import Training

BATCH = 16


@dataclass(frozen=True, kw_only=True)
class AveragesRequest:
    """Which averages to compare.

    Args:
        length: standard deviations of their profiles over the length of the training, such as (0.03, 0.08).
        out: the folder of a new run with the best; None: they are only compared.
        step: at which the training is taken to end; None: the last one kept.
        n: held-out images at most.
        data: where the run's own images lie, if not where its recipe says.
        seed: decides which images, times and noise.
        dry_run: whether to measure and write nothing.
        compute: where and how precisely.

    Raises:
        FieldError: a number out of its range, or no length.
    """

    length: tuple[float, ...]
    out: str | None = None
    step: int | None = None
    n: int = 1000
    data: str | None = None
    seed: int = 0
    dry_run: bool = False
    compute: Compute = Compute()

    def __post_init__(self) -> None:
        several("length", self.length, check_width, 1, 100, "(0.03, 0.08)")
        if self.out is not None:
            text("out", self.out)
        whole("step", self.step, 1, none=True)
        whole("n", self.n, BATCH)
        whole("seed", self.seed, 0, 2**62)
        flag("dry_run", self.dry_run)


@dataclass(frozen=True)
class AverageLoss:
    """How good one average is.

    Args:
        length: of its profile; None: the weights of the run as they are.
        error: distance of its profile to the one asked for, relative to that one's norm.
        loss: mean of the recipe's objective over the held-out images; None: not measured.
        worse, worse_error: its mean less that of the best, image by image, and the standard error of this.
    """

    length: float | None
    error: float
    loss: float | None = None
    worse: float | None = None
    worse_error: float | None = None


@dataclass(frozen=True)
class AveragesResult:
    """The averages in the order in which they were asked for, after the weights of the run.

    Args:
        request: what was asked for.
        run: its place.
        step: at which the averages stand.
        rows: one for each.
        best: the length with the least loss among those asked for; None: not measured.
        settings: which images, JSON literals by name.
    """

    request: AveragesRequest
    run: str
    step: int
    rows: tuple[AverageLoss, ...]
    best: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        return {
            "dry_run": self.request.dry_run,
            "run": self.run,
            "step": self.step,
            "averages": [dict(vars(row)) for row in self.rows],
            "best": self.best,
            "out": self.request.out,
            **self.settings,
            "lines": self.lines,
        }

    @property
    def lines(self) -> list[str]:
        """The result in words."""
        lines = []
        for row in self.rows:
            name = "as trained" if row.length is None else f"length {row.length:g}"
            loss = "" if row.loss is None else f"loss {row.loss:.5f}, "
            worse = "the best" if row.worse == 0 else f"worse by {row.worse or 0:.5f} +- {row.worse_error or 0:.5f}"
            off = "" if row.length is None else f", its profile {row.error:.2g} off"
            lines.append(f"{name}: {loss}{worse}{off}" if loss else f"{name}{off}")
        if self.best is not None:
            which = "{n:,} images of {data} ({role})".format(**self.settings)
            lines.append(f"least loss of {which}: length {self.best:g}, at step {self.step:,}")
        return [*lines, f"wrote {self.request.out}"] if self.request.out and self.best is not None else lines


def compare_averages(run: Run, request: AveragesRequest, reporter: Reporter = SILENT) -> AveragesResult:
    """Measure averages of several lengths, all on the same images, times and noise, and write the best as a run.

    The measure is the loss that the recipe trains, of images held out from the training: what is best by it draws not
    always the best images.

    Raises:
        InputError: the training kept no averages, none up to that step; no held-out images; or a folder that is not
            empty.
    """
    if request.out is not None:
        new_folder(request.out)
    step, _ = kept_averages(run, request.step)
    averages = {length: average_at(run, length, step, reporter) for length in dict.fromkeys(request.length)}
    rows = [AverageLoss(None, 0.0), *(AverageLoss(length, made.error) for length, made in averages.items())]
    if request.dry_run:
        return AveragesResult(request, run.place, step, tuple(rows))
    held_out = OwnImages(run, request.data).test
    if held_out is None or len(held_out) < BATCH:
        raise InputError(f"{run.place} has no {BATCH} held-out images that would tell which average is best")
    n = min(request.n, len(held_out)) // BATCH * BATCH
    model = request.compute.load(run)
    losses = []
    with reporter.progress("averages", len(rows), "average") as progress:
        for done, weights in enumerate([run.weights(), *(made.weights for made in averages.values())], 1):
            losses.append(held_out_losses(run, model, weights, held_out.images, n, request.seed))
            progress.update(done)
    best = min(range(1, len(rows)), key=lambda k: float(losses[k].mean()))
    measured = [_row(row, own, losses[best]) for row, own in zip(rows, losses, strict=True)]
    length = rows[best].length
    assert length is not None
    if request.out is not None:
        write_run(request.out, run.recipe, averages[length].weights, run.meta.get("data"), step)
    return AveragesResult(request, run.place, step, tuple(measured), length, {**held_out.provenance, "n": n})


@torch.no_grad()
def held_out_losses(
    run: Run, model: NetworkModel[Any], weights: Mapping[str, Tensor], images: Any, n: int, seed: int
) -> Tensor:
    """The objective's loss of the first n images of a shuffle, with times and noise of their own, float64 (n,).

    Args:
        run: whose objective.
        model: its denoiser, into which the weights are loaded.
        weights: named as in ``model.state_dict()``.
        images: at least n.
        n: a multiple of `BATCH`.
        seed: decides images, times and noise.
    """
    model.load_state_dict(dict(weights))
    bind, device = getattr(run.recipe.objective, "bind", None), next(model.parameters()).device
    objective = run.recipe.objective if bind is None else bind(model, run.space)
    batches = Batches(images, run.space, Training(steps=1, batch=BATCH, seed=seed), condition=run.recipe.condition)
    losses = []
    for k in range(n // BATCH):
        (part,) = batches(k, device, torch.float32)
        conditional = model if part.rows is None else model.condition_on(part.rows)
        losses.append(objective(conditional, part.x0, part.rng).double().cpu())
    return torch.cat(losses)


def _row(row: AverageLoss, losses: Tensor, best: Tensor) -> AverageLoss:
    worse = losses - best
    error = float(worse.std() / len(worse) ** 0.5)
    return AverageLoss(row.length, row.error, float(losses.mean()), float(worse.mean()), error)
