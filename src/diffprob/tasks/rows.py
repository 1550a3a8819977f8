"""Rows of images, one for each time that chains start from: how they are planned, made and kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.process.grids import Trailing
from diffprob.reporting.artifacts import arrays, grid_png, paths_png
from diffprob.runs.folder import Run
from diffprob.sampling.ancestral import DDIM
from diffprob.sampling.between import sample_from, times_from
from diffprob.sampling.invert import invert
from diffprob.sampling.simulate import cost
from diffprob.space.space import Space
from diffprob.tasks.display import OfImages, save
from diffprob.tasks.drawing import check_finite, limited, network_progress
from diffprob.tasks.options import option
from diffprob.tasks.plan import Sampling, SamplingPlan, plan_sampling
from diffprob.tasks.reporter import SILENT, Reporter


@dataclass(frozen=True)
class Rows:
    """How rows of images are made: one row for each time.

    Args:
        plan: the model, sampler and grid.
        at: the times that chains start from, on the schedule.
        space: of the run.
        device: of the chains.
    """

    plan: SamplingPlan
    at: tuple[float, ...]
    space: Space
    device: torch.device

    @property
    def evaluations(self) -> list[int | None]:
        """Of the model for each image of each row; None where a tolerance decides."""
        process, times = self.plan.model.process, self.plan.times
        return [cost(self.plan.sampler, len(times_from(process, times, t))) for t in self.at]

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides the rows beside the images they start from, JSON literals by name."""
        return {**self.plan.settings, "at": list(self.at), "evaluations": self.evaluations}

    def calls(self, n: int, up: int = 0) -> int | None:
        """Of the network for n images a row, ``up`` of which are inverted first; None where a tolerance decides."""
        counts = [self.plan.calls(size, steps) for steps in self.evaluations for size in (n, up) if size]
        return None if None in counts else sum(count or 0 for count in counts)

    def to_model(self, levels: np.ndarray) -> Tensor:
        """Grey levels on the device, in [-1, 1]."""
        return self.space.to_model(torch.from_numpy(levels).to(self.device))

    def decode(self, xt: Tensor, t: float, rng: Rng) -> np.ndarray:
        """Grey levels of what a chain from t makes of x_t, uint8 (B, C, H, W)."""
        plan, x = self.plan, xt
        for state in sample_from(limited(plan.guided, plan.clip), plan.sampler, xt, t, plan.times, rng):
            x = state.x
        check_finite(x, rng, self.plan.model)
        return self.space.to_data(x).cpu().numpy()

    def encode(self, x0: Tensor, t: float) -> Tensor:
        """The latents at t of images, by DDIM upwards."""
        plan = self.plan
        return invert(limited(plan.guided, plan.clip), x0, times_from(plan.model.process, plan.times, t))

    def visible(self, xt: Tensor, t: float) -> np.ndarray:
        """x_t as a picture."""
        return self.space.nearest(self.plan.model.process.visible(xt, t)).cpu().numpy()


@dataclass(frozen=True)
class PreparedRows:
    """Rows that are about to be made.

    Args:
        run: to draw from.
        rows: how each is made.
        settings: everything that decides the images, JSON literals by name.
        what: for whoever hears the progress.
        seed: of the first stream.
        n: streams.
        network_calls: for all rows; None where a tolerance decides.
        row: a time and the streams to a row, uint8 (columns, C, H, W).
        rmse: of a row to the root of the mean squared difference of its ends from the originals, in grey levels; None
            where it has none.
        counted: says ``n`` in a result, where it counts images.
    """

    run: Run
    rows: Rows
    settings: dict[str, Any]
    what: str
    seed: int
    n: int
    network_calls: int | None
    row: Callable[[float, Rng], np.ndarray]
    rmse: Callable[[np.ndarray], Any] | None = None
    counted: bool = True

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name: the settings, and what will be spent."""
        n = {"n": self.n} if self.counted else {}
        return {**self.settings, "run": self.run.place, **n, "network_calls": self.network_calls}


@dataclass(frozen=True, eq=False)
class ImageRows(OfImages):
    """Rows of images, one for each time that chains started from.

    Args:
        images: uint8 (rows, columns, C, H, W), grey levels 0..levels - 1. From one image: the image, x_t, the draws.
            A reconstruction: the image, its latent, the reconstruction. An interpolation: an image, what lies between,
            the other image.
        seeds: of the chains, int64 (n,).
        at: the times, on the schedule.
        levels: how many grey levels there are.
        network_calls: for all rows.
        place: of the run.
        settings: everything that decides the images, JSON literals by name.
        n: images drawn from each time; None for an interpolation.
    """

    images: np.ndarray
    seeds: np.ndarray
    at: tuple[float, ...]
    levels: int
    network_calls: int
    place: str
    settings: dict[str, Any]
    n: int | None

    @property
    def rmse(self) -> Any:
        """How far each row is off at its ends, in grey levels: a number a row, for an interpolation two; None for draws
        from one image."""
        return self.settings.get("rmse")

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name: the settings, and what was spent; no pixels."""
        n = {} if self.n is None else {"n": self.n}
        return {**self.settings, "run": self.place, **n, "network_calls": self.network_calls}

    def png(self) -> bytes:
        """All rows as a picture."""
        if self.n is None:
            return paths_png(self.images, self.levels, self.settings)
        images, columns = self.images.reshape(-1, *self.images.shape[2:]), self.images.shape[1]
        return grid_png(images, self.levels, self.settings, columns)

    def npz(self) -> bytes:
        """The arrays images (rows, columns, C, H, W), seeds and metadata."""
        return arrays(self.images, self.seeds, {**self.settings, "levels": self.levels})

    def save(self, path: str | Path) -> None:
        """Write all rows as a picture (x.png), or the arrays (x.npz), as the verb does.

        Raises:
            InputError: another suffix, or the disk refuses; what existed before is intact.
        """
        save(path, {".png": self.png, ".npz": self.npz})

    _repr_png_ = png

    def __repr__(self) -> str:
        rows, columns, *shape = self.images.shape
        times = ", ".join(f"{t:g}" for t in self.at)
        many = f"{rows} row{'s' if rows > 1 else ''} of {columns} images {'x'.join(map(str, shape))}"
        return f"{many} of {self.settings['run']}, from t = {times}"


def plan_rows(run: Run, sampling: Sampling, at: Sequence[float], reporter: Reporter) -> Rows:
    """Choose whatever a drawing leaves open for chains from the times ``at``, and load the network.

    Raises:
        InputError: parts that do not go together, or a run without a model.
    """
    plan = plan_sampling(run, sampling, reporter, one=True)
    snapped = plan.model.process.schedule.snap(torch.tensor(at, dtype=torch.float64)).tolist()
    last = float(plan.times[-1])
    for t in snapped:
        if t < last:
            reporter.note(
                f"t = {t:g} lies below the grid's last time, {last:g}: a single evaluation; use more {option('steps')}"
            )
    return Rows(plan, tuple(snapped), run.space, sampling.compute.on())


def draw_rows(prepared: PreparedRows, reporter: Reporter = SILENT) -> ImageRows:
    """Make the rows that were prepared.

    Raises:
        NumericalError: an image is not finite.
    """
    rows = prepared.rows
    rng = Rng.of(prepared.seed, prepared.n, device=rows.device)
    with network_progress(reporter, prepared.what, prepared.network_calls, rows.plan.model) as progress:
        images = [prepared.row(t, rng) for t in rows.at]
    settings = prepared.settings
    if prepared.rmse is not None:
        settings = {**settings, "rmse": [prepared.rmse(row) for row in images]}
    return ImageRows(
        images=np.stack(images),
        seeds=rng.seeds.cpu().numpy(),
        at=rows.at,
        levels=prepared.run.space.levels,
        network_calls=progress.done,
        place=prepared.run.place,
        settings=settings,
        n=prepared.n if prepared.counted else None,
    )


def by_ddim(sampling: Sampling, task: str) -> Sampling:
    """The same by DDIM, up and down, on `Trailing` times unless a grid is given.

    Args:
        sampling: what was asked for.
        task: what needs it, for the message.

    Raises:
        InputError: another sampler was asked for.
    """
    if sampling.sampler not in (None, DDIM()):
        argument = option("sampler", repr(sampling.sampler))
        raise InputError(f"{argument}: {task} goes up and down by DDIM(); leave {option('sampler')} out")
    return replace(sampling, sampler=DDIM(), grid=sampling.grid or Trailing())


def one_at_a_time(sampling: Sampling) -> Sampling:
    """One image a network call, unless told otherwise, where there is only one and no GPU."""
    compute = sampling.compute
    if compute.batch is None and compute.on().type == "cpu":
        return replace(sampling, compute=replace(compute, batch=1))
    return sampling
