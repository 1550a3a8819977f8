"""The face for Python: a trained run, an exact denoiser or any network, as a probability model that can be asked.

Every method fills the request of a task from its keywords, with the task's defaults, so that a number does not depend
on the door it was asked through.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, Unpack

import torch
from torch import Tensor, nn

from diffprob.base.checks import able, instance
from diffprob.base.distributions import Distribution
from diffprob.base.errors import InputError
from diffprob.base.shapes import per_sample
from diffprob.config.recipe import AnyRecipe
from diffprob.data.images import Source
from diffprob.denoise.denoiser import Clock
from diffprob.denoise.prediction import Prediction
from diffprob.net.from_module import FromModule
from diffprob.process.chain import nearest
from diffprob.process.linear import LinearProcess
from diffprob.runs.folder import Run
from diffprob.sampling.simulate import State
from diffprob.space.real_numbers import Reals
from diffprob.storage import files
from diffprob.tasks.averages import AveragesRequest, compare_averages
from diffprob.tasks.averaging import AverageRequest
from diffprob.tasks.averaging import average as average_weights
from diffprob.tasks.callback import Callback
from diffprob.tasks.codes import Codes
from diffprob.tasks.compute import Compute
from diffprob.tasks.edits import Edits
from diffprob.tasks.face import Drawing, Face, draws
from diffprob.tasks.fitting import FitRequest, FitResult, fit
from diffprob.tasks.given_network import check_same
from diffprob.tasks.in_memory import InMemoryRun, in_memory, is_pipeline, pipeline_in_memory
from diffprob.tasks.measures import Measures
from diffprob.tasks.progress import reporter_of
from diffprob.tasks.reporter import Reporter
from diffprob.tasks.reporting import PageResult, ReportRequest, html_path, report
from diffprob.tasks.run_summary import short_text
from diffprob.tasks.sample import SampleRequest, Samples, chain, sample
from diffprob.tasks.signals import ctrl_c
from diffprob.tasks.training import TrainRequest
from diffprob.tasks.training import train as run_training
from diffprob.tasks.training_plan import TrainResult
from diffprob.tasks.training_run import Halt


class Model(Measures, Edits, Codes):
    """A diffusion model as a probability model; `load` opens one that was trained.

    Args:
        denoiser: an exact denoiser, a `NetDenoiser`, or any torch module ``net(x, t)`` that answers with a tensor, an
            object that has ``.sample``, or an `Output`. It is copied when it is asked, and stays as it is.
        shape: of one image (C, H, W) or point.
        levels: number of grey levels of images; None: points that are no images, of which no bits/dim can be told.
        process: the noise that a network removes; a denoiser has its own.
        prediction: what a network's answer stands for (``Epsilon()``).
        clock: what a network is told about t in (0, 1] (``Index(T)``: t T - 1).
        scheduler: one of diffusers' instead of these three.
        compute: where and how precisely it is evaluated.
        reporter: who hears notes and progress; None: `diffprob.tasks.progress.Session`.
        progress: True: show how far things are, wherever; False: never; None: in a notebook and on a terminal.

    Raises:
        InputError: parts that do not go together.
    """

    def __init__(
        self,
        denoiser: Any,
        *,
        shape: Sequence[int],
        levels: int | None = None,
        process: LinearProcess | None = None,
        prediction: Prediction | None = None,
        clock: Clock | None = None,
        scheduler: Any = None,
        compute: Compute = Compute(),
        reporter: Reporter | None = None,
        progress: bool | None = None,
    ) -> None:
        if isinstance(denoiser, Face):
            raise InputError("this is a Model already: it is asked as it is")
        instance("compute", compute, Compute, 'a Compute(device="cpu")')
        self.run = in_memory(denoiser, shape, levels, process, prediction, clock, scheduler)
        self.compute, self.reporter = compute, reporter_of(reporter, progress)

    @classmethod
    def of(cls, run: Run, compute: Compute = Compute(), reporter: Reporter | None = None) -> Self:
        """The model of an open run."""
        model = cls.__new__(cls)
        model.run, model.compute, model.reporter = run, compute, reporter_of(reporter, None)
        return model

    @draws
    def sample(self, n: int = 64, *, progressive: int = 0, **drawing: Unpack[Drawing]) -> Samples:
        """Draw images; those of `diffprob sample`, to the bit.

        Args:
            n: how many.
            progressive: the first so many are followed on their way.
            seed: of the first; image i has the seed ``seed + i``.
            labels: classes, in turn, by name or number; None: all in turn.
            guidance: W of classifier-free guidance, (1 + W) conditional - W unconditional.
            steps, sampler, grid, variance, clip: as in `diffprob.tasks.plan.Sampling`; by default what suits the steps,
                and the predicted images of a network are clamped.
            conditioning: in the place of ``labels`` and ``guidance``, all that there is to say.

        Raises:
            InputError: parts that do not go together.
            NumericalError: an image is not finite.
        """
        sampling = self._sampling(n, drawing)
        return sample(self.run, SampleRequest(sampling=sampling, progressive=progressive), self.reporter)

    @draws
    def chain(self, n: int = 64, **drawing: Unpack[Drawing]) -> Iterator[State]:
        """The chain that `sample` runs, one `State` after every step; its ``x`` (n, *shape) is in model space.

        Args:
            n, drawing: as in `sample`.

        Raises:
            InputError: parts that do not go together.
        """
        sampling = self._sampling(n, drawing)
        return chain(self.run, SampleRequest(sampling=sampling), self.reporter)

    @torch.no_grad()
    def denoise(self, xt: Tensor, t: Tensor | float) -> Distribution:
        """p(x_0 | x_t) for x_t (B, *shape) in model space and t () or (B,) in (0, 1].

        A run with a condition answers for images of any (its null condition), as for `score`, `log_prob` and bits/dim.

        Raises:
            InputError: x_t of another shape, or a run that cannot do without a condition.
            ValueError: t is no time.
        """
        xt = self._points(xt)
        return self.denoiser()(xt, torch.as_tensor(self._time(t, len(xt)), dtype=torch.float64))

    @torch.no_grad()
    def score(self, xt: Tensor, t: Tensor | float) -> Tensor:
        """grad log p_t(x_t) = (alpha E[x_0 | x_t] - x_t)/sigma^2, (B, *shape): Tweedie's formula (Efron 2011, eq. 1.4).

        No gradient flows through it.

        Raises:
            InputError: as `denoise`, or noise that is not normal.
            ValueError: t is no time, or 0, where there is no noise.
        """
        self.process.require_linear("the score")
        self.process.check_law("the score")
        xt = self._points(xt)
        time = nearest(self.process, self._time(t, len(xt)))
        alpha, sigma = self.process.coefficients(time)
        mean = self.denoise(xt, time).mean
        return (per_sample(alpha, xt) * mean - xt) / per_sample(sigma**2, xt)

    def fit(self, *what: str, record: bool = False, seed: int = 0, place: str | Path | None = None) -> FitResult:
        """Fit the best reverse variances, and the best steps, to the run; as `diffprob fit`.

        Args:
            what: some of "analytic", "npr", "sn", "ocm", "nll", "steps".
            record: write also into a run that comes with the library.
            seed: decides which images, times and noise.
            place: where the run's own images lie, if not where its recipe says.

        Raises:
            InputError: a model in memory, or a run that cannot be written.
        """
        if isinstance(self.run, InMemoryRun):
            raise InputError("a model in memory has no folder that a fit could be kept in")
        data = None if place is None else str(place)
        request = FitRequest(what=what, record=record, seed=seed, data=data, compute=self.compute)
        result = fit(self.run, request, self.reporter)
        self.run = replace(Run.open(self.run.path), typed=self.run.typed)
        return result

    @draws
    def report(
        self, path: str | Path, *, n: int = 64, data: str | None = None, **drawing: Unpack[Drawing]
    ) -> PageResult:
        """Write the report of the run: one HTML page, as that of `diffprob report --out`.

        Args:
            path: of the page.
            n: samples, at most 1,024.
            data: where the run's data is now; "none": it is not looked for; None: where the recipe says.
            drawing: the other keywords of `sample`.

        Raises:
            InputError: a model in memory, or the disk refuses.
        """
        if isinstance(self.run, InMemoryRun):
            raise InputError("a model in memory has no training that could be reported")
        path = html_path(str(path))
        result = report(self.run, ReportRequest(sampling=self._sampling(n, drawing), data=data), self.reporter)
        with files.saying(f"write {path}", "; what existed before is intact"):
            files.write_file(files.expanded(path), [result.page])
        return result

    def __repr__(self) -> str:
        in_memory = isinstance(self.run, InMemoryRun)
        where = "a denoiser in memory" if in_memory else f"{self.run.place!r}"
        shape = "x".join(map(str, self.shape))
        levels = (
            f", {self.space.levels} grey levels"
            if self.space.levels is not None
            else ", real numbers"
            if isinstance(self.space, Reals)
            else ""
        )
        more = "" if in_memory else f"; {short_text(self.run)}"
        return f"Model({where}: {shape}{levels}, {self.process.schedule!r}{more})"


def load(
    model: str | Path | Run,
    *,
    device: str = "auto",
    precision: str = "auto",
    batch: int | None = None,
    best: bool = False,
    network: nn.Module | None = None,
    reporter: Reporter | None = None,
    progress: bool | None = None,
) -> Model:
    """Open a model: a packaged run by its name, a run's folder, a diffusers folder, or an open `Run`.

    Args:
        model: which.
        device: "auto" (a CUDA GPU if there is one), "cpu", "cuda" or "cuda:1".
        precision: "fp32", "bf16" or "fp16", of the network; "auto" as in `diffprob.tasks.compute.Compute`.
        batch: images per network call, which decides speed and the last bits.
        best: the best averaged weights by the metric that the training watched, instead of the last.
        network: of a run that was trained with a module: one made as that was; its own weights do not matter.
        reporter: who hears notes and progress; None: `diffprob.tasks.progress.Session`.
        progress: True: show how far things are, wherever; False: never; None: in a notebook and on a terminal.

    Raises:
        InputError: no such run, one without a denoiser, or damaged.
    """
    if not isinstance(model, Run | str | Path):
        kind = type(model).__name__
        raise InputError(f"load takes a name or a folder, got {kind}; dp.Model(denoiser, shape=...) wraps one")
    compute = Compute(device=device, precision=precision, batch=batch, best=best)
    compute.on()
    given = None if network is None else FromModule(network)
    if not isinstance(model, Run):
        model = pipeline_in_memory(model) if is_pipeline(model) else Run.open(model)
    if given is not None:
        check_same(given, model)
    return Model.of(model, compute, reporter_of(reporter, progress))


def average(
    run: str | Path | Model,
    *,
    length: float | tuple[float, ...],
    out: str | Path,
    step: int | None = None,
    reporter: Reporter | None = None,
    progress: bool | None = None,
) -> Model:
    """A new run whose weights are averaged over another share of the training than the run's, and open it.

    Of a training with ``training.averages=(0.05, 0.1)``, which keeps what any other average is put together from.

    Args:
        run: a run's folder, or an open one.
        length: standard deviation of the average's profile over the length of the training, such as 0.08; of several
            the one with the least loss of held-out images (`diffprob.tasks.averages`).
        out: the new run's folder.
        step: where the training is taken to end; None: at the last step.
        reporter, progress: as in `load`.

    Raises:
        InputError: no such run, one whose training kept no averages, or a folder that is not empty.
        FieldError: a number out of its range.
    """
    listener = reporter_of(reporter, progress)
    opened = run.run if isinstance(run, Model) else Run.open(run)
    if isinstance(length, tuple):
        compare_averages(opened, AveragesRequest(length=length, out=str(out), step=step), listener)
    else:
        average_weights(opened, AverageRequest(length=length, out=str(out), step=step), listener)
    return load(out, reporter=listener)


def train(
    what: str | Path | AnyRecipe | Source,
    *,
    out: str | Path | None = None,
    steps: int | None = None,
    duration: float | str | None = None,
    size: int | None = None,
    dims: int | None = None,
    held_out: float | str | Source | None = None,
    labels: bool = False,
    data: str | Path | Source | None = None,
    network: Any = None,
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = None,
    device: str = "auto",
    seconds: float | None = None,
    report: bool | None = None,
    reporter: Reporter | None = None,
    progress: bool | None = None,
    halt: Halt = ctrl_c,
    callback: Callback | None = None,
) -> Model:
    """Train a model and open it; the same call again resumes, one with more steps goes on; as `diffprob train`.

    Ctrl-C, and a notebook's button, stops after the step in hand, with a checkpoint; once more stops at once.

    Args:
        what: a place or source of images (`FromDataset(dataset)`), a recipe (name, file, itself), or a run to go on.
        out: the run's folder; None: ``runs/NAME``.
        steps: train until this step; None: the recipe's.
        duration: or for so long, seconds or "20m", "2h"; again is as much more. Images alone have an hour.
        size, dims: of pictures: scale and crop to size x size; of floats: spatial dimensions (`data.fields.Numbers`).
        held_out: of images: the share that is never trained on (a tenth without a test part), "none", or others.
        labels: tell the network the label of each image.
        data: images for a recipe or a run, if not those that it says.
        network: in the place of the recipe's: a module ``net(x, t)`` (`diffprob.net.from_module.FromModule`), of which
            a copy is trained from its own weights, or the settings of a registered network.
        overrides: values of fields of the recipe by their path, ``{"training.lr": 1e-4}``.
        seed: decides weights at the start, order and noise; None: the recipe's.
        device: "auto" (a CUDA GPU if there is one), "cpu", "cuda" or "cuda:1".
        seconds: stop, with a checkpoint, when this much time has passed.
        report: whether to fit, measure and write the page after the last step; None: of images without ``steps``.
        reporter, progress: as in `load`.
        halt: a context in which the steps are taken; it gives what is asked between two of them, whether to stop.
        callback: called after every step with a `TrainingStep`: its ``step``, ``loss``, and ``stop()``, which ends the
            training with a checkpoint. An exception that it raises does so too, and comes out then.

    Raises:
        Halted: a `KeyboardInterrupt` with its ``step``: Ctrl-C or ``halt`` stopped it, and all that was done is kept.
        InputError: nothing that can be trained; nothing is created.
        NumericalError: the training diverged; the last checkpoint is kept.
    """
    listener = reporter_of(reporter, progress)
    able("halt", halt, "__call__", "diffprob.tasks.signals.ctrl_c")
    ends = {"steps": steps, "duration": duration, "seconds": seconds}
    reading = {"size": size, "dims": dims, "held_out": held_out, "labels": labels}
    images = {**reading, **({} if data is None else {"data": data})}
    fields = {"network": network, "overrides": {} if overrides is None else overrides, "seed": seed, "device": device}
    request = TrainRequest.of(what, out=out, report=report, **ends, **images, **fields)
    return _trained(run_training(request, listener, halt, callback), device, listener)


def _trained(result: TrainResult | None, device: str, listener: Reporter) -> Model:
    """The model of a training.

    Raises:
        InputError: not of the first process.
    """
    if result is None:
        raise InputError("only the first process of a training has its model: `diffprob train` is for torchrun")
    if result.first_report is not None and result.first_report.worth:
        listener.note(f"{result.run}: {result.first_report.worth}")
    return load(result.run, device=device, reporter=listener)
