"""How images are drawn from a run: sampler, times, variance, clipping, condition; what every task that draws shares."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import able, instance, real, whole
from diffprob.base.errors import InputError
from diffprob.conditions.condition import Labels
from diffprob.denoise.denoiser import Denoiser, NetworkModel
from diffprob.denoise.variance import Variance
from diffprob.process.grids import Uniform
from diffprob.process.path import LeastCost
from diffprob.process.times import native_steps
from diffprob.runs.files import library_version
from diffprob.runs.fits import STEPS, bind_grid, fitted
from diffprob.runs.folder import Run
from diffprob.sampling.ancestral import Ancestral
from diffprob.sampling.defaults import affordable, default
from diffprob.sampling.simulate import cost, plan
from diffprob.tasks.compute import Compute
from diffprob.tasks.conditioning import NONE, Conditioning, apply_guidance, command_options
from diffprob.tasks.drawing import calls, clips, make_times, seeds_text
from diffprob.tasks.options import option
from diffprob.tasks.reporter import Reporter


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What decides the images that are drawn.

    Args:
        n: images.
        seed: of the first image; image i has the seed ``seed + i``.
        sampler: such as ``UniPC(2)``; None: what suits the number of evaluations.
        steps: network evaluations for each image; None: 50, for an `Ancestral` that is given as many as training had.
        grid: which times are visited; None: what suits the sampler.
        variance: Var[x_0|x_t]; None: the run's.
        clip: False, True or the quantile of dynamic clipping, in (0, 1]: the predicted image is clamped to [-1, 1];
            None: that of a network is, that of an exact denoiser and points are not.
        conditioning: what to draw, and how strongly to be guided there.
        compute: where and how precisely.

    Raises:
        ValueError: a number outside its domain.
    """

    n: int = 64
    seed: int = 0
    sampler: Any = None
    steps: int | None = None
    grid: Any = None
    variance: Variance | None = None
    clip: bool | float | None = None
    conditioning: Conditioning = Conditioning()
    compute: Compute = Compute()

    def __post_init__(self) -> None:
        whole("n", self.n, 1)
        whole("seed", self.seed, 0, 2**62)
        if self.steps is not None:
            whole("steps", self.steps, 1)
        for name, value, ability, like in (
            ("sampler", self.sampler, "step", "DDIM()"),
            ("grid", self.grid, "__call__", "Uniform()"),
            ("variance", self.variance, "posterior", "Analytic()"),
        ):
            if value is not None:
                able(name, value, ability, like)
        instance("conditioning", self.conditioning, Conditioning)
        instance("compute", self.compute, Compute)
        if not isinstance(self.clip, bool):
            real("clip", self.clip, "(0, 1]", none=True)


@dataclass(frozen=True)
class SamplingPlan:
    """How the images are drawn, everything chosen.

    Args:
        model: the run's denoiser with its condition.
        guided: what samplers see: the same, or guided.
        branches: evaluations of the network for each of ``guided``.
        sampler: the sampler.
        times: the times of the grid.
        clip: False, True or the quantile of dynamic clipping.
        settings: everything that decides the images, JSON literals by name.
        words: the options of the command line that condition and guide in the same way.
    """

    model: NetworkModel
    guided: Denoiser
    branches: int
    sampler: Any
    times: Tensor
    clip: bool | float
    settings: dict[str, Any]
    words: tuple[str, ...] = ()

    @property
    def steps(self) -> int | None:
        """Network evaluations for each sample, those of all steps and the reconstruction; None: a tolerance decides."""
        return cost(self.sampler, len(self.times))

    def labels(self, n: int) -> np.ndarray | None:
        """The label that each of n images is drawn for, int64 (n,); None where there is none."""
        rows = self.model.condition_rows
        if rows is None or not isinstance(self.model.condition, Labels) or self.settings["told"] == NONE:
            return None
        return rows.expand(n).numpy()

    def classes(self, n: int) -> tuple[str, ...]:
        """Name of the class that each of n images is drawn for; empty where there is none."""
        labels, condition = self.labels(n), self.model.condition
        if labels is None or not isinstance(condition, Labels):
            return ()
        return tuple(map(condition.name, labels.tolist()))

    def calls(self, n: int, steps: int | None) -> int | None:
        """How often the network will be called for n samples of ``steps`` evaluations; None: a tolerance decides."""
        return calls(self.model, n * self.branches, steps)


def plan_sampling(
    run: Run,
    sampling: Sampling,
    reporter: Reporter,
    one: bool = False,
    images: Tensor | None = None,
    counts: Sequence[int] = (),
) -> SamplingPlan:
    """Choose whatever is left open, and load the network.

    Args:
        run: to draw from.
        sampling: what was asked for.
        reporter: who hears notes.
        one: whether all images have one condition.
        images: the condition of a run that enlarges images, in model space.
        counts: of each class, in whose shares classes are drawn where none is asked for; empty: all in turn.

    Raises:
        InputError: parts that do not go together, or a run without a model.
    """
    if sampling.clip:
        run.space.require_pixels("clipping")
        run.recipe.process.require_linear("clipping")
    compute = sampling.compute.for_images(run)
    chosen, grid, steps = _chain(run, sampling, reporter)
    if not getattr(chosen, "of_levels", False):
        run.recipe.process.require_linear(repr(chosen))
    sampler, n = plan(chosen, steps)
    grid = bind_grid(run, grid, compute.best)
    model = compute.load(run, sampling.variance)
    guided = apply_guidance(model, run, sampling.conditioning, sampling.n, compute, reporter, one, images, counts)
    model, clip = guided.conditional, clips(run) if sampling.clip is None else sampling.clip
    settings = {
        "Software": f"diffprob {library_version()}",
        "run": run.name,
        **run.weights_provenance(compute.best),
        "seeds": seeds_text(sampling.seed, sampling.n),
        "sampler": repr(sampler),
        "steps": None,
        "grid": repr(grid),
        "variance": repr(model.variance),
        **guided.settings,
        "clip": clip if isinstance(clip, bool) else f"dynamic {clip:g}",
        "chunk": model.evaluation.chunk,
        "precision": model.evaluation.precision,
        "device": str(compute.on()),
        "torch": torch.__version__,
    }
    times, words = make_times(grid, model.process, n), command_options(sampling.conditioning)
    sampling_plan = SamplingPlan(model, guided.guided, guided.branches, sampler, times, clip, settings, words)
    settings["steps"] = sampling_plan.steps
    return sampling_plan


def _chain(run: Run, sampling: Sampling, reporter: Reporter) -> tuple[Any, Any, int]:
    """Sampler, grid and number of evaluations; what is not given is chosen (docs/how-to-choose-a-sampler.md).

    Evaluations: 50 or as many as there are times, and for an `Ancestral` that is given as many as training had. Sampler
    and grid: what suits the evaluations; next to a given grid or variance `Ancestral`, next to a given sampler uniform
    times.
    """
    process, sampler, grid = run.recipe.process, Ancestral(), Uniform()
    steps = sampling.steps or affordable(process)
    if sampling.sampler is not None:
        sampler = sampling.sampler
        if sampler.evaluations is None and sampling.steps is not None:
            named = option("steps", steps)
            raise InputError(f"{named}: {sampler!r} takes as many as its tolerances need; leave {option('steps')} out")
        if isinstance(sampler, Ancestral):
            steps = sampling.steps or native_steps(process.schedule.steps)
    elif sampling.grid is None and sampling.variance is None:
        sampler, grid = default(steps, process, run.space.model_shape)
        if not process.is_linear and STEPS in fitted(run, sampling.compute.best):  # which elements to draw together
            paths = bind_grid(run, LeastCost(), sampling.compute.best)
            grid = paths if steps <= len(paths.paths) else grid
    if sampling.grid is not None:
        grid = sampling.grid
    if sampling.variance is not None and not (isinstance(sampler, Ancestral) or getattr(sampler, "spread", False)):
        reporter.note(f"{sampler!r} draws nothing from a variance; Ancestral() and DDIM(spread=True) do")
    return sampler, grid, steps
