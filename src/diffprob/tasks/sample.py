"""Images drawn from a run. Image i depends on the seed + i alone, not on how many are drawn with it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from diffprob.base.checks import instance, whole
from diffprob.base.rng import Rng
from diffprob.reporting.artifacts import array, arrays, grid_png
from diffprob.reporting.flat import followed
from diffprob.runs.folder import Run
from diffprob.sampling.simulate import State, simulate, start
from diffprob.tasks.display import OfImages, save
from diffprob.tasks.drawing import draw, limited, network_progress
from diffprob.tasks.plan import Sampling, SamplingPlan, plan_sampling
from diffprob.tasks.reporter import SILENT, Reporter

MOST_SHOWN = 256  # images in a notebook


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """What is to be drawn.

    Args:
        sampling: how many images, of what, and how.
        progressive: the first so many images are followed: the predicted x_0 at ten times along the chain is kept. Of
            points of the plane, which are shown together, all are.

    Raises:
        ValueError: a number outside its domain.
    """

    sampling: Sampling = Sampling()
    progressive: int = 0

    def __post_init__(self) -> None:
        instance("sampling", self.sampling, Sampling)
        whole("progressive", self.progressive)


@dataclass(frozen=True)
class PreparedSample:
    """A drawing that is about to be made.

    Args:
        run: to draw from.
        request: what was asked for.
        plan: the model, sampler and times.
    """

    run: Run
    request: SampleRequest
    plan: SamplingPlan

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides the images, JSON literals by name."""
        return self.plan.settings

    @property
    def network_calls(self) -> int | None:
        """For all images; None where a tolerance decides."""
        return self.plan.calls(self.request.sampling.n, self.plan.steps)

    @property
    def rng(self) -> Rng:
        """One stream an image."""
        sampling = self.request.sampling
        return Rng.of(sampling.seed, sampling.n, device=sampling.compute.on())

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name: the settings, and what will be spent."""
        spent = {"network_calls": self.network_calls, "evaluations": self.plan.steps}
        return {**self.settings, "run": self.run.place, "n": self.request.sampling.n, **spent}


@dataclass(frozen=True, eq=False)
class Samples(OfImages):
    """Images that were drawn.

    Args:
        images: grey levels 0..levels - 1, uint8 (n, C, H, W); of a model of points these, float32 (n, *shape).
        seeds: of the images, int64 (n,).
        labels: of the class that each was drawn for, int64 (n,); None where there is none.
        levels: how many grey levels there are; None of points.
        frames: predicted x_0 of the first images along the chain, each uint8 (rows, C, H, W); empty unless asked for.
        times: t of each frame.
        evaluations: of the model for each image, on average: samplers to a tolerance differ between images.
        network_calls: for all images.
        place: of the run.
        settings: everything that decides the images, JSON literals by name.
        texts: what they say, of a model of text; empty of others.
    """

    images: np.ndarray
    seeds: np.ndarray
    labels: np.ndarray | None
    levels: int | None
    frames: tuple[np.ndarray, ...]
    times: tuple[float, ...]
    evaluations: float
    network_calls: int
    place: str
    settings: dict[str, Any]
    texts: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name: the settings, and what was spent; no pixels."""
        spent = {"network_calls": self.network_calls, "evaluations": self.evaluations}
        return {**self.settings, "run": self.place, "n": len(self), **spent}

    def save(self, path: str | Path) -> None:
        """Write all images side by side (x.png), or the arrays images, seeds and metadata (x.npz), as the verb does.

        Raises:
            InputError: another suffix, points that are no images, or the disk refuses; what existed before is intact.
        """
        kinds: dict[str, Any] = {
            ".npy": lambda: array(self.images),
            ".npz": lambda: arrays(self.images, self.seeds, {**self.settings, "levels": self.levels}, self.labels),
        }
        if self.shows:
            shown = self.images[:MOST_SHOWN] if self.levels is None else self.images
            kinds = {".png": lambda: grid_png(shown, self.levels, self.settings), **kinds}
        if self.texts:
            kinds[".txt"] = self.text_file
        save(path, kinds)

    @property
    def shows(self) -> bool:
        """Whether they can be shown: points of an exact denoiser, whose shape may be anything, cannot."""
        return self.levels is not None or (self.images.dtype == np.float32 and 2 <= self.images.ndim <= 5)

    def text_file(self) -> bytes:
        """All texts, one after the other, an empty line between."""
        return ("\n\n".join(self.texts) + "\n").encode()

    def _repr_png_(self) -> bytes | None:
        return grid_png(self.images[:MOST_SHOWN], self.levels, {}) if self.shows else None

    def __repr__(self) -> str:
        if not self.levels:
            where = f"{self.settings['run']}, seeds {self.settings['seeds']}"
            return f"{len(self):,} points of {where} ({self.settings['sampler']})"
        if self.texts:
            return "\n\n".join(self.texts)
        shape = "x".join(map(str, self.images.shape[1:]))
        how = f"{self.settings['sampler']}, {self.evaluations:g} evaluations each"
        many = f"{len(self):,} image{'s' if len(self) > 1 else ''} {shape} in {self.levels} grey levels"
        return f"{many} of {self.settings['run']}, seeds {self.settings['seeds']} ({how})"


def prepare_sample(run: Run, request: SampleRequest = SampleRequest(), reporter: Reporter = SILENT) -> PreparedSample:
    """Check everything and load the network, without drawing.

    Raises:
        InputError: parts that do not go together, or a run without a model.
    """
    return PreparedSample(run, request, plan_sampling(run, request.sampling, reporter))


def sample(run: Run, request: SampleRequest = SampleRequest(), reporter: Reporter = SILENT) -> Samples:
    """Draw images from a run.

    Raises:
        InputError: parts that do not go together, or a run without a model.
        NumericalError: an image is not finite.
    """
    return draw_sample(prepare_sample(run, request, reporter), reporter)


def draw_sample(
    prepared: PreparedSample, reporter: Reporter = SILENT, watch: Callable[[State], None] | None = None
) -> Samples:
    """Draw what was prepared; ``watch`` sees every state of the chain.

    Raises:
        NumericalError: an image is not finite.
    """
    plan, space, rng = prepared.plan, prepared.run.space, prepared.rng
    characters: Any = space  # of a model of text
    rows = followed(space.shape, prepared.request.progressive, len(rng))
    with network_progress(reporter, "sample", prepared.network_calls, plan.model) as progress:
        drawn = draw(plan.guided, plan.sampler, plan.times, rng, space, plan.clip, rows, watch)
    return Samples(
        images=drawn.levels,
        seeds=rng.seeds.cpu().numpy(),
        labels=plan.labels(len(rng)),
        levels=space.levels,
        frames=tuple(drawn.frames),
        times=tuple(drawn.times),
        evaluations=drawn.evaluations,
        network_calls=progress.done,
        place=prepared.run.place,
        settings=prepared.settings,
        texts=tuple(characters.text(drawn.levels)) if getattr(space, "characters", "") else (),
    )


def chain(run: Run, request: SampleRequest = SampleRequest(), reporter: Reporter = SILENT) -> Iterator[State]:
    """The chain that `sample` runs, one state after every step; the caller drives it.

    Everything is checked, and the network loaded, before the first state is asked for. The last state stands at t = 0,
    and its ``x``, (n, C, H, W) in model space, is what `sample` has in grey levels (``run.space.to_data``).

    Raises:
        InputError: parts that do not go together, or a run without a model.
    """
    prepared = prepare_sample(run, request, reporter)
    plan, rng = prepared.plan, prepared.rng
    x: Tensor = start(plan.guided, rng, run.space.model_shape)
    return simulate(limited(plan.guided, plan.clip), plan.sampler, x, plan.times, rng)
