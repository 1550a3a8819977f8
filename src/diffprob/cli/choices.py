"""The options that decide how images are drawn from a run: what `sample` and `evaluate` share."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError
from diffprob.cli.parser import add_seed, choose_device, component, share, whole
from diffprob.cli.progress import say
from diffprob.cli.steering import NONE, add_steering, steer

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from diffprob.denoise.denoiser import Denoiser, NetDenoiser
    from diffprob.runs.folder import Run, RunFolder


@dataclass(frozen=True)
class Choice:
    """What the options chose.

    Args:
        model: the run's denoiser, told its conditions.
        guided: what samplers see: the same, or guided.
        branches: evaluations of the network for each of ``guided``.
        sampler: the sampler.
        times: the times of the grid.
        clip: False, True or the quantile of dynamic clipping.
        facts: everything that decides the images, JSON literals by name.
        words: the options of `steering` that were given.
    """

    model: "NetDenoiser"
    guided: "Denoiser"
    branches: int
    sampler: Any
    times: "Tensor"
    clip: bool | float
    facts: dict[str, Any]
    words: tuple[str, ...] = ()

    @property
    def steps(self) -> int | None:
        """Network evaluations for each sample, those of all steps and the reconstruction; None: a tolerance decides."""
        from diffprob.sampling.simulate import cost

        return cost(self.sampler, len(self.times))

    def asked(self, n: int) -> "np.ndarray | None":
        """The label that each of n images is drawn for, int64 (n,); None where there is none."""
        from diffprob.conditions.condition import Labels

        rows = self.model.given_rows
        if rows is None or not isinstance(self.model.condition, Labels) or self.facts["told"] == NONE:
            return None
        return rows.expand(n).numpy()

    def calls(self, n: int, steps: int | None) -> int | None:
        """How often the network will be called for n samples of ``steps`` evaluations; None: a tolerance decides."""
        from diffprob.cli.drawing import calls

        return calls(self.model, n * self.branches, steps)


def add_drawing(parser: argparse.ArgumentParser, n: int | None = 64, steps: str = "50; Ancestral: 1000") -> None:
    """``-n --seed --sampler --steps --grid --variance --clip --dynamic-clip --batch --best --precision`` and those of
    `steering`; -n only where there is a default for it."""
    if n is not None:
        parser.add_argument("-n", type=whole(1), default=n, metavar="N", help=f"how many images ({n:,})")
    add_seed(parser, "seed of the first image; image i has the seed N + i (0)")
    parser.add_argument(
        "--sampler", metavar="S", help='such as "UniPC(2)"; unless given what suits --steps (diffprob show samplers)'
    )
    parser.add_argument("--steps", type=whole(1), metavar="N", help=f"network calls for each image ({steps})")
    parser.add_argument(
        "--grid", metavar="G", help='which times are visited ("Uniform()" with --sampler; best: the fitted path)'
    )
    parser.add_argument(
        "--variance",
        metavar="V",
        help="variance of x_0 given x_t, such as UnitData() or, fitted, Analytic(); by default the run's",
    )
    parser.add_argument(
        "--clip", action=argparse.BooleanOptionalAction, default=True, help="clamp the predicted image to [-1, 1] (on)"
    )
    parser.add_argument(
        "--dynamic-clip",
        nargs="?",
        const=0.995,
        type=share,
        metavar="Q",
        help="clamp to this quantile of each predicted image instead, and scale it back (0.995)",
    )
    parser.add_argument(
        "--batch", type=whole(1), metavar="N", help="images per network call: decides speed, and the last bits"
    )
    parser.add_argument(
        "--best", action="store_true", help="the best averaged weights by the metric that the training watched"
    )
    add_steering(parser)
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of the network (fp32)")


def choose(
    args: argparse.Namespace,
    run: "Run",
    one: bool = False,
    images: "Tensor | None" = None,
    counts: Sequence[int] = (),
) -> Choice:
    """The denoiser, sampler and times that the options of `add_drawing` and ``--device`` ask for.

    Args:
        args: the options.
        run: the run.
        one: whether all images are told the same.
        images: what a run that is told images is told, in model space.
        counts: of each class, in whose shares classes are drawn where none is asked for; empty: all in turn.

    Raises:
        InputError: an option that names nothing, or a run without a model.
    """
    import torch

    from diffprob.cli.drawing import make_times, seeds_text
    from diffprob.runs.fits import bind_grid
    from diffprob.sampling.simulate import plan

    chosen, grid, steps = _way(args, run)
    sampler, n = plan(chosen, steps)
    clip = _clip(args)
    grid = bind_grid(run, grid, args.best)
    steered = steer(_load(run, args), run, args, one, images, counts)
    model = steered.told
    facts = {
        "Software": f"diffprob {_version()}",
        "run": run.name,
        **weights_facts(run, args.best),
        "seeds": seeds_text(args.seed, args.n),
        "sampler": repr(sampler),
        "steps": None,
        "grid": repr(grid),
        "variance": repr(model.variance),
        **steered.facts,
        "clip": clip if isinstance(clip, bool) else f"dynamic {clip:g}",
        "chunk": model.evaluation.chunk,
        "precision": model.evaluation.precision,
        "device": str(choose_device(args.device)),
        "torch": torch.__version__,
    }
    times = make_times(grid, model.process, n)
    choice = Choice(model, steered.guided, steered.branches, sampler, times, clip, facts, steered.words)
    facts["steps"] = choice.steps
    return choice


def _load(run: "Run", args: argparse.Namespace) -> "NetDenoiser":
    variance = None if args.variance is None else component(args.variance, "--variance", "variance")
    return run.load(choose_device(args.device), args.batch or "auto", args.precision, args.best, variance)


def _way(args: argparse.Namespace, run: "Run") -> tuple[Any, Any, int]:
    """Sampler, grid and number of evaluations; what is not given is chosen (docs/how-to-choose-a-sampler.md).

    Evaluations: 50 or as many as there are times, and for an `Ancestral` that is given as many as training had. Sampler
    and grid: what suits the evaluations; next to a given grid or variance `Ancestral`, next to a given sampler uniform
    times.
    """
    from diffprob.process.grids import Uniform
    from diffprob.sampling.ancestral import Ancestral
    from diffprob.sampling.defaults import affordable, default

    process, sampler, grid = run.recipe.process, Ancestral(), Uniform()
    steps = args.steps or affordable(process)
    if args.sampler is not None:
        sampler = component(args.sampler, "--sampler", "sampler")
        if sampler.evaluations is None and args.steps is not None:
            raise InputError(f"--steps {steps}: {sampler!r} takes as many as its tolerances need; leave --steps out")
        if isinstance(sampler, Ancestral):
            steps = args.steps or process.schedule.steps or 1000
    elif args.grid is None and args.variance is None:
        sampler, grid = default(steps, process, run.space.shape)
    if args.grid is not None:
        grid = component("LeastCost()" if args.grid == "best" else args.grid, "--grid", "grid")
    if args.variance is not None and not (isinstance(sampler, Ancestral) or getattr(sampler, "spread", False)):
        say(f"note: {sampler!r} draws nothing from a variance; Ancestral() and DDIM(spread=True) do")
    return sampler, grid, steps


def _clip(args: argparse.Namespace) -> bool | float:
    if args.dynamic_clip is None:
        return args.clip
    if not args.clip:
        raise InputError("--dynamic-clip and --no-clip exclude each other")
    return args.dynamic_clip


def weights_facts(run: "RunFolder[Any]", best: bool = False) -> dict[str, Any]:
    """Which weights: their step, and the SHA-256 of their file."""
    from diffprob.runs.files import weights_step

    return {"step": weights_step(run.weights_path(best)), "model_sha256": run.sha256(best)}


def _version() -> str:
    from diffprob import __version__

    return __version__
