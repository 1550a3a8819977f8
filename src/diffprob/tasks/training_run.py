"""One training, from a recipe to a finished run: what every task that trains shares."""

import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from diffprob.base.errors import InputError, NumericalError
from diffprob.base.rng import Rng, derive
from diffprob.config.pretrained import begin
from diffprob.config.recipe import AnyRecipe, AutoencoderRecipe, NoisyClassifierRecipe, Recipe, build
from diffprob.data.images import Images
from diffprob.data.places import absolute
from diffprob.denoise.denoiser import Evaluation, NetworkModel
from diffprob.process.grids import Uniform
from diffprob.reporting.artifacts import grid_png
from diffprob.reporting.figures import loss_curve
from diffprob.runs.files import model_meta, read_recipe
from diffprob.runs.fits import NLL, fits_for
from diffprob.runs.folder import Run, auto_chunk, open_run
from diffprob.runs.states import Replica
from diffprob.runs.writer import RunWriter
from diffprob.sampling.defaults import affordable, for_pictures
from diffprob.storage import files
from diffprob.storage.folders import is_run
from diffprob.storage.records import read_log
from diffprob.tasks.callback import Callback, Caller
from diffprob.tasks.compute import choose_device
from diffprob.tasks.drawing import draw, make_times, seeds_text
from diffprob.tasks.first_report import make_first_report
from diffprob.tasks.first_state import is_complete
from diffprob.tasks.monitor import Watch, check_monitor
from diffprob.tasks.progress import duration
from diffprob.tasks.reconstruction import draw_reconstructions, measure_reconstruction
from diffprob.tasks.report_time import CURVE, LATE, Share, seconds_per_call
from diffprob.tasks.reporter import SILENT, Progress, Reporter
from diffprob.tasks.tensorboard import Board
from diffprob.tasks.training_plan import PreparedTraining, TrainResult, checked
from diffprob.training.batches import check_shares
from diffprob.training.loop import Progress as StepProgress
from diffprob.training.loop import Trainer, make_accelerator
from diffprob.training.pace import Pace
from diffprob.training.settings import Training

LOSS = "loss.png"
PREVIEW_STEPS = 50  # of DDIM, for the pictures drawn while training
Halt = Callable[[], AbstractContextManager[Callable[[], bool]]]


class Halted(KeyboardInterrupt):
    """A training was asked to stop, and did so with a checkpoint: the same request resumes.

    Args:
        step: at which it stopped.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at step {step:,}; the same request resumes")
        self.step = step


@contextmanager
def never() -> Iterator[Callable[[], bool]]:
    """A training that nobody asks to stop."""
    yield lambda: False


def run_training(
    prepared: PreparedTraining, reporter: Reporter = SILENT, halt: Halt = never, callback: Callback | None = None
) -> TrainResult | None:
    """Train, or go on; None in all processes but the first.

    Args:
        prepared: the training.
        reporter: who hears notes and progress.
        halt: a context in which the steps are taken; it gives what is asked between two of them, whether to stop.
        callback: called after every step; what it raises comes out after a checkpoint.

    Raises:
        Halted: it was asked to stop; all that was done is kept.
        InputError, NumericalError: with everything that was saved before intact.
    """
    out, images = prepared.out, prepared.images
    recipe = replace(prepared.recipe, data=absolute(prepared.recipe.data))
    accelerator = _accelerator(recipe, prepared.device, prepared.processes)
    notes = prepared.notes
    if images is None:
        images = recipe.data.load()
        notes = images.notes
    for note in notes if accelerator.is_main_process else ():
        reporter.note(f"{images.name}: {note}")
    recipe = checked(recipe, images, out, reporter)
    digest = images.digest()
    trainer = _trainer(recipe, images, Replica(out), accelerator)  # first: it may refuse, and nothing is there yet
    share = _share(prepared, recipe, trainer)
    if share is not None:
        began, picture = prepared.began, not share.report
        trainer.pace = Pace(share.seconds, calls=PREVIEW_STEPS, began=began, share=share, picture=picture)
    if not accelerator.is_main_process:
        accelerator.wait_for_everyone()  # until the run is there
        _heedful(trainer, halt)
        return None
    done = _model_step(out) if is_run(out) else 0
    kept = recipe
    if done >= recipe.training.steps:  # nothing to do: fewer steps than before must not be written into the run
        before = read_recipe(out).training
        kept = replace(recipe, training=replace(recipe.training, steps=before.steps, cooldown=before.cooldown))
    store = RunWriter.open(out, kept, digest)
    try:
        accelerator.wait_for_everyone()
        kept_by: RunWriter | Board = Board(store) if prepared.tensorboard else store
        trainer.store = kept_by
        try:
            main = _Main(trainer, store, kept_by, images, reporter, halt, Caller(callback, trainer), share)
            result = main.run(done, prepared.seconds)
        finally:
            if isinstance(kept_by, Board):
                kept_by.close()
    finally:
        store.close()
    if isinstance(recipe, AutoencoderRecipe) and not result.timed_out:
        return replace(result, reconstruction=measure_reconstruction(open_run(out), images, prepared.device, reporter))
    if not prepared.report or result.timed_out or not result.denoises:
        return result
    return _reported(result, prepared, trainer, share, images, reporter)


def _reported(
    result: TrainResult,
    plan: PreparedTraining,
    trainer: Trainer,
    share: Share | None,
    images: Images,
    say: Reporter,
) -> TrainResult:
    """The result with the first report, where it is not there yet."""
    run = Run.open(plan.out)
    if is_complete(run):
        return result
    ends = None if trainer.pace is None else trainer.pace.ends
    known = {repr(absolute(plan.recipe.data)): images}
    report = make_first_report(run, plan.device, known, None if ends is None else share, ends, say)
    return replace(result, first_report=report)


def _share(prepared: PreparedTraining, recipe: AnyRecipe, trainer: Trainer) -> Share | None:
    """What of the time that is planned for follows the last step; None where there is no such time."""
    if prepared.duration is None:
        return None
    if not prepared.report or not isinstance(recipe, Recipe):
        return Share(prepared.duration, trainer.device, 0, report=False)
    average: Any = trainer.average
    calls, space = affordable(recipe.process), recipe.space
    head = NLL in fits_for(recipe)
    return Share(prepared.duration, trainer.device, calls, lambda: seconds_per_call(average, space), head=head)


def _accelerator(recipe: AnyRecipe, device: str, processes: int | None) -> Any:
    """Where the training computes, after a look whether so many processes can.

    Raises:
        InputError: no such device, other processes than asked for, work that they cannot share, or a wrong monitor.
    """
    if recipe.training.monitor is not None:
        check_monitor(recipe.training.monitor)
    chosen = choose_device(device)
    if chosen.index is not None:
        torch.cuda.set_device(chosen)
    accelerator = make_accelerator(chosen.type, processes)
    check_shares(recipe.training, accelerator.num_processes)
    return accelerator


def _trainer(recipe: AnyRecipe, images: Images, store: Any, accelerator: Any) -> Trainer:
    torch.manual_seed(derive(recipe.training.seed, "weights"))
    model, start = build(recipe), getattr(recipe, "start", None)
    if start is not None:
        begin(model, start)
    return Trainer(model, recipe.objective, images, recipe.space, recipe.training, store, accelerator)


@dataclass
class _Main:
    """The part of the main process: train, with progress and pictures; then the loss curve."""

    trainer: Trainer
    store: RunWriter
    kept_by: RunWriter | Board
    images: Images
    reporter: Reporter
    halt: Halt
    caller: Caller
    share: Share | None = None  # a first report's samples stand in the place of the last picture
    plan_shown: bool = False  # whether the steps of a planned training were said

    def run(self, done: int, seconds: float | None) -> TrainResult:
        trainer, store, settings = self.trainer, self.store, self.trainer.settings
        began, first = time.monotonic(), None
        with self.reporter.progress("train", settings.steps, "step", min(done, settings.steps)) as bar:

            def on_step(progress: StepProgress) -> None:
                nonlocal first
                if first is None:
                    first = progress.step - 1
                    _announce(store, trainer.notes, first, trainer.settings.steps, bar.note)
                self.caller(progress)
                bar.update(progress.step, f"loss {progress.loss:.4f}, {bar.rate * settings.batch:,.0f} images/s")
                if (
                    seconds is not None
                    and time.monotonic() - began > seconds
                    and progress.step < trainer.settings.steps
                ):
                    trainer.stop()

            trainer.on_step = on_step
            trainer.on_plan = lambda settings: self._take(settings, bar)
            trainer.on_sample = lambda step, average: self._draw(average, step, bar.note)
            goes_on = done < settings.steps or trainer.pace is not None
            if settings.monitor is not None and goes_on and isinstance(store.recipe, Recipe):
                where = (self.kept_by, trainer.device, bar.note, self.reporter)
                watch = Watch(settings.monitor, store.recipe, self.images, *where)
                trainer.on_measure, trainer.measure_every = watch, watch.every
            _heedful(trainer, self.halt)
        self.caller.finish()
        timed_out = trainer.step < trainer.settings.steps
        if first is None:
            _announce(store, trainer.notes, trainer.step, 0, self.reporter.note)
        if _model_step(store.folder) < trainer.step:  # killed last time between the last state and its model
            trainer.save()
        loss_png = store.folder / LOSS
        curve = loss_png
        if first is not None or not loss_png.exists():
            in_time = self._in_time("loss curve", CURVE, self.reporter.note)
            curve = _loss_curve(store, self.reporter) if in_time else None
        return _result(trainer, store, first, curve, timed_out)

    def _in_time(self, what: str, processor: float, note: Callable[[str], None], seconds: float = 0.0) -> bool:
        """Whether there is time for something after the last step of a planned training; if not, that is said.

        Args:
            what: in words.
            processor: seconds of the processor that it takes.
            note: says it.
            seconds: that it takes besides.
        """
        pace, share = self.trainer.pace, self.share
        if pace is None or share is None or self.trainer.step < self.trainer.settings.steps:
            return True
        is_in_time = pace.left + LATE * pace.seconds >= share.slowness * processor + seconds
        if not is_in_time:
            note(f"no time for the {what}")
        return is_in_time

    def _draw(self, average: Any, step: int, note: Callable[[str], None]) -> None:
        drawn_later = self.share is not None and self.share.report
        if step == self.trainer.settings.steps and drawn_later:
            return
        pace = self.trainer.pace
        if self._in_time(f"picture at step {step:,}", 0.0, note, 0.0 if pace is None else pace.reserve):
            _preview(average, self.store, self.images, step, note)

    def _take(self, settings: Training, bar: Progress) -> None:
        """Take the steps that a pace planned into the recipe, which the next checkpoint writes; say them once."""
        pace = self.trainer.pace
        assert pace is not None
        self.store.recipe = replace(self.store.recipe, training=settings)
        bar.total = settings.steps
        if pace.measured and not self.plan_shown:
            self.plan_shown = True
            bar.note(plan_text(settings, pace, self.share is not None and self.share.report))


def plan_text(settings: Training, pace: Pace, report: bool) -> str:
    """The steps of a training by the clock in words, once its speed is known.

    Args:
        settings: as they are planned.
        pace: of the training.
        report: whether a first report follows the last step, or no more than its checkpoint and a figure.
    """
    fall = pace.fall * (pace.seconds - pace.later)
    steps = f"about {settings.steps:,} step{'' if settings.steps == 1 else 's'} of {settings.batch} images"
    rate = f": the learning rate falls over their last {duration(fall)}" if fall >= 1 else ""
    later = f", then {duration(pace.later)} for the report" if report and pace.later >= 1 else ""
    return f"{steps} fit into {duration(pace.seconds)} here{rate}{later}"


def _heedful(trainer: Trainer, halt: Halt) -> None:
    """Train; who asks to stop, of this process or another one, is heeded between two steps.

    Raises:
        Halted: somebody did.
    """
    with halt() as requested:
        trainer.halt = requested
        trainer.run()
    if requested() or (trainer.step < trainer.settings.steps and not trainer.stopping):
        raise Halted(trainer.step)


def _announce(store: RunWriter, notes: list[str], step: int, steps: int, note: Callable[[str], None]) -> None:
    for text in (*store.notes, *notes):
        note(text)
    if step and step < steps:
        note(f"{store.folder}: resuming at step {step:,} of {steps:,}")


def _result(trainer: Trainer, store: RunWriter, first: int | None, curve: Path | None, timed_out: bool) -> TrainResult:
    last = next((record for record in reversed(read_log(store.folder)) if "loss" in record), {})
    picture = store.sample_path(trainer.step)
    loss = last.get("loss")
    return TrainResult(
        run=str(store.folder),
        recipe=store.recipe.name,
        denoises=isinstance(store.recipe, Recipe),
        recognises=isinstance(store.recipe, NoisyClassifierRecipe),
        step=trainer.step,
        steps=trainer.settings.steps,
        resumed_at=first or None,
        finished_before=first is None,
        timed_out=timed_out,
        parameters=sum(parameter.numel() for parameter in trainer.model.parameters()),
        loss=loss if isinstance(loss, int | float) else None,
        seconds_training=round(trainer.seconds, 1),
        precision=trainer.precision,
        device=str(trainer.device),
        data_sha256=store.manifest.meta.get("data"),
        samples=str(picture) if picture.exists() else None,
        loss_curve=None if curve is None else str(curve),
    )


def _preview(average: Any, store: RunWriter, images: Images, step: int, note: Callable[[str], None]) -> None:

    try:
        if isinstance(store.recipe, Recipe):
            draw_preview(average, store.recipe, store.sample_path(step))
        elif isinstance(store.recipe, AutoencoderRecipe):
            draw_reconstructions(average, store.recipe, images, store.sample_path(step))
    except (NumericalError, InputError) as error:  # the training itself may be sound: a full disk, averages that lag
        note(f"no picture at step {step:,}: {error}")


def draw_preview(model: NetworkModel, recipe: Recipe, path: Path) -> None:
    """A grid of samples with fixed seeds, drawn in a few steps."""
    device = next(model.parameters()).device
    chunk = min(auto_chunk(device, recipe.space), recipe.training.samples)  # what fills up a chunk costs as much
    model.evaluation = Evaluation(chunk, model.evaluation.precision)
    if model.condition is not None:
        model = model.condition_on(model.condition.example_rows(recipe.training.samples))
    n, steps = recipe.training.samples, affordable(recipe.process, PREVIEW_STEPS)
    times, sampler = make_times(Uniform(), model.process, steps), for_pictures(model.process)
    drawn = draw(model, sampler, times, Rng.of(0, n, device=device), recipe.space)
    settings = {
        "run": recipe.name,
        "seeds": seeds_text(0, n),
        "sampler": repr(sampler),
        "steps": steps,
        "chunk": model.evaluation.chunk,
        "precision": model.evaluation.precision,
    }
    if getattr(recipe.space, "characters", ""):
        texts: Any = recipe.space
        path, picture = path.with_suffix(".txt"), ("\n\n".join(texts.text(drawn.levels)) + "\n").encode()
    else:
        picture = grid_png(drawn.levels, recipe.space.levels, settings)
    files.check_replaceable(path)
    with files.saying(f"write {path}", "; what existed before is intact"):
        files.write_file(path, [picture])


def _loss_curve(store: RunWriter, reporter: Reporter) -> Path | None:
    """Draw the loss curve into the run; None where matplotlib is missing or nothing is logged."""
    if importlib.util.find_spec("matplotlib") is None:
        reporter.note("no loss curve: matplotlib is not installed")
        return None

    log = read_log(store.folder)
    if not any(isinstance(record.get("loss"), int | float) for record in log):
        return None
    with TemporaryDirectory() as folder:
        path = Path(folder) / LOSS
        loss_curve(log, path, f"{store.recipe.name}: training loss")
        try:
            store.add({LOSS: files.read_bytes(path, files.PICTURE_LIMIT)})
        except InputError as error:  # the training is done and kept
            reporter.note(f"no loss curve: {error}")
            return None
    return store.folder / LOSS


def _model_step(out: Path) -> int:

    return model_meta(out, {})["step"]
