"""One training from a recipe to a finished run: what `train` and `demo` share."""

import importlib.util
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError, NumericalError
from diffprob.base.text import one_line
from diffprob.cli.board import Board
from diffprob.cli.monitor import Watch, check_monitor
from diffprob.cli.parser import is_run
from diffprob.cli.progress import Progress, say
from diffprob.cli.signals import Stopped, noting

if TYPE_CHECKING:
    from diffprob.config.recipe import Kind, Recipe
    from diffprob.data.images import Images
    from diffprob.denoise.denoiser import NetDenoiser
    from diffprob.runs.writer import RunWriter
    from diffprob.training.loop import Progress as StepProgress
    from diffprob.training.loop import Trainer

LOSS = "loss.png"
PREVIEW_STEPS = 50  # of DDIM, for the pictures drawn while training


def planned(recipe: "Kind", out: Path) -> str:
    """What training into ``out`` would do.

    Raises:
        InputError: it would be refused.
    """
    from diffprob.config.recipe import resumable
    from diffprob.runs.abandoned import is_abandoned
    from diffprob.runs.folder import open_run

    if not is_run(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out} exists and is not a run; nothing was changed: choose another --out")
        return f"{out} (new)"
    old = open_run(out)
    found = resumable(old.recipe, recipe)
    if found and is_abandoned(out):
        return f"{out} (new, in the place of a run that never came to a checkpoint)"
    if found:
        path, there, here = found
        raise InputError(
            f"{out} is a run of another recipe: {path} is {there!r} there and {here!r} here; choose another --out"
        )
    step = old.meta["step"]
    if step >= recipe.training.steps:
        return f"{out} (finished: at step {step:,} of {recipe.training.steps:,})"
    return f"{out} (would resume at step {step:,})"


def train(
    recipe: "Kind",
    out: Path,
    device: str,
    processes: int | None = None,
    images: "Images | None" = None,
    seconds: float | None = None,
    board: bool = False,
) -> dict[str, Any] | None:
    """Train ``recipe`` into ``out``, or go on there; the result is what `train --json` prints (the first process's).

    Args:
        images: the data, where it is loaded already.
        seconds: stop (with a checkpoint) when this much time has passed.
        board: also write the log for TensorBoard, into the run's folder ``tensorboard``.

    Raises:
        InputError, NumericalError, KeyboardInterrupt: with everything that was saved before intact.
    """
    from diffprob.data.places import absolute
    from diffprob.runs.replica import Replica
    from diffprob.runs.writer import RunWriter

    recipe = replace(recipe, data=absolute(recipe.data))
    accelerator = _accelerator(recipe, device, processes)
    if images is None:
        images = recipe.data.load()
        for note in images.notes if accelerator.is_main_process else ():
            say(f"{images.name}: {note}")
    recipe = checked(recipe, images, out)
    digest = images.digest()
    trainer = _trainer(recipe, images, Replica(out), accelerator)  # first: it may refuse, and nothing is there yet
    if not accelerator.is_main_process:
        accelerator.wait_for_everyone()  # until the run is there
        _heedful(trainer)
        return None
    done = _model_step(out) if is_run(out) else 0
    kept = recipe
    if done >= recipe.training.steps:  # nothing to do: a smaller --steps than before must not be written into the run
        kept = replace(recipe, training=replace(recipe.training, steps=_steps_of(out)))
    store = RunWriter.open(out, kept, digest)
    try:
        accelerator.wait_for_everyone()
        kept_by: RunWriter | Board = Board(store) if board else store
        trainer.store = kept_by
        try:
            return _run(trainer, store, kept_by, images, done, seconds)
        finally:
            if isinstance(kept_by, Board):
                kept_by.close()
    finally:
        store.close()


def _accelerator(recipe: "Kind", device: str, processes: int | None) -> Any:
    """Where the training computes, after a look whether so many processes can.

    Raises:
        InputError: no such device, other processes than asked for, work that they cannot share, or a wrong monitor.
    """
    import torch

    from diffprob.tasks.compute import choose_device
    from diffprob.training.batches import check_shares
    from diffprob.training.loop import make_accelerator

    if recipe.training.monitor is not None:
        check_monitor(recipe.training.monitor)
    chosen = choose_device(device)
    if chosen.index is not None:
        torch.cuda.set_device(chosen)
    accelerator = make_accelerator(chosen.type, processes)
    check_shares(recipe.training, accelerator.num_processes)
    return accelerator


def checked(recipe: "Kind", images: "Images", out: Path) -> "Kind":
    """The recipe with the classes of the run at ``out``, or of the images, after a look whether it can be trained.

    Raises:
        InputError: images of another kind or without what the network is to be told, or a recipe that can only be
            loaded.
    """
    from diffprob.config.classes import settled
    from diffprob.config.recipe import check_trainable, space
    from diffprob.runs.files import read_recipe

    space(recipe, images)
    check_trainable(recipe)
    asked, recipe = recipe, settled(recipe, images, read_recipe(out) if is_run(out) else None)
    names = [getattr(getattr(each, "condition", None), "names", ()) for each in (asked, recipe)]
    if gone := [name for name in names[0] if name and names[1] and name not in names[1]]:
        say(one_line(f"note: {images.name} has no images of the classes {', '.join(gone)}, which are not drawn then"))
    condition = getattr(recipe, "condition", None)
    if condition is not None:
        condition.read(images)
    return recipe


def _trainer(recipe: "Kind", images: "Images", store: Any, accelerator: Any) -> "Trainer":
    import torch

    from diffprob.base.rng import derive
    from diffprob.config.pretrained import begin
    from diffprob.config.recipe import build
    from diffprob.training.loop import Trainer

    torch.manual_seed(derive(recipe.training.seed, "weights"))
    model, start = build(recipe), getattr(recipe, "start", None)
    if start is not None:
        begin(model, start)
    return Trainer(model, recipe.objective, images, recipe.space, recipe.training, store, accelerator)


def _run(
    trainer: "Trainer",
    store: "RunWriter",
    kept_by: "RunWriter | Board",
    images: "Images",
    done: int,
    seconds: float | None,
) -> dict[str, Any]:
    """The main process's part: train, with progress and pictures; then the loss curve."""
    from diffprob.config.recipe import Recipe

    settings, began, first = trainer.settings, time.monotonic(), None
    with Progress("train", settings.steps, "step", min(done, settings.steps)) as bar:

        def on_step(progress: "StepProgress") -> None:
            nonlocal first
            if first is None:
                first = progress.step - 1
                _announce(store, trainer.notes, first, settings.steps, bar.note)
            bar.update(progress.step, f"loss {progress.loss:.4f}, {bar.rate * settings.batch:,.0f} images/s")
            if seconds is not None and time.monotonic() - began > seconds and progress.step < settings.steps:
                trainer.stop()

        trainer.on_step = on_step
        trainer.on_sample = lambda step, average: _preview(average, store, step, bar.note)
        if settings.monitor is not None and done < settings.steps and isinstance(store.recipe, Recipe):
            watch = Watch(settings.monitor, store.recipe, images, kept_by, trainer.device, bar.note)
            trainer.on_measure, trainer.measure_every = watch, watch.every
        _heedful(trainer)
    timed_out = trainer.step < settings.steps
    if first is None:
        _announce(store, trainer.notes, trainer.step, 0, say)
    if _model_step(store.folder) < trainer.step:  # killed last time between the last state and its model
        trainer.save()
    curve = _loss_curve(store) if first is not None or not (store.folder / LOSS).exists() else store.folder / LOSS
    return _result(trainer, store, first, curve, timed_out)


def _heedful(trainer: "Trainer") -> None:
    """Train; a signal that asks to stop, of this process or another one, is heeded between two steps.

    Raises:
        Stopped: such a signal came; all that was done is kept.
    """
    with noting() as noted:
        trainer.halt = noted
        trainer.run()
    if noted() or (trainer.step < trainer.settings.steps and not trainer.stopping):
        raise Stopped(noted.number or signal.SIGTERM, f"stopped at step {trainer.step:,}; the same command resumes")


def _announce(store: "RunWriter", notes: list[str], step: int, steps: int, note: Callable[[str], None]) -> None:
    for text in (*store.notes, *notes):
        note(text)
    if step and step < steps:
        note(f"{store.folder}: resuming at step {step:,} of {steps:,}")


def _result(
    trainer: "Trainer", store: "RunWriter", first: int | None, curve: Path | None, timed_out: bool
) -> dict[str, Any]:
    from diffprob.config.recipe import Recipe, Recogniser

    last = next((record for record in reversed(records(store.folder)) if "loss" in record), {})
    picture = store.sample_path(trainer.step)
    loss = last.get("loss")
    return {
        "run": str(store.folder),
        "recipe": store.recipe.name,
        "denoises": isinstance(store.recipe, Recipe),
        "recognises": isinstance(store.recipe, Recogniser),
        "step": trainer.step,
        "steps": trainer.settings.steps,
        "resumed_at": first or None,
        "finished_before": first is None,
        "timed_out": timed_out,
        "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        "loss": loss if isinstance(loss, int | float) else None,
        "seconds_training": round(trainer.seconds, 1),
        "precision": trainer.precision,
        "device": str(trainer.device),
        "data_sha256": store.manifest.meta.get("data"),
        "samples": str(picture) if picture.exists() else None,
        "loss_curve": None if curve is None else str(curve),
    }


def records(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    from diffprob.storage.records import read_log

    return read_log(folder)


def _preview(average: Any, store: "RunWriter", step: int, note: Callable[[str], None]) -> None:
    from diffprob.config.recipe import Recipe

    try:
        if isinstance(store.recipe, Recipe):
            draw_preview(average, store.recipe, store.sample_path(step))
    except (NumericalError, InputError) as error:  # the training itself may be sound: a full disk, averages that lag
        note(f"no picture at step {step:,}: {error}")


def draw_preview(model: "NetDenoiser", recipe: "Recipe", path: Path) -> None:
    """A grid of samples with fixed seeds, drawn in a few steps of DDIM."""
    from diffprob.base.rng import Rng
    from diffprob.cli import output
    from diffprob.denoise.denoiser import Evaluation
    from diffprob.process.grids import Uniform
    from diffprob.runs.folder import auto_chunk
    from diffprob.sampling.ancestral import DDIM
    from diffprob.sampling.defaults import affordable
    from diffprob.tasks.drawing import draw, make_times, seeds_text

    device = next(model.parameters()).device
    model.evaluation = Evaluation(auto_chunk(device, recipe.space), model.evaluation.precision)
    if model.condition is not None:
        model = model.given(model.condition.some(recipe.training.samples))
    n, steps = recipe.training.samples, affordable(recipe.process, PREVIEW_STEPS)
    times = make_times(Uniform(), model.process, steps)
    drawn = draw(model, DDIM(), times, Rng.of(0, n, device=device), recipe.space)
    facts = {
        "run": recipe.name,
        "seeds": seeds_text(0, n),
        "sampler": "DDIM()",
        "steps": steps,
        "chunk": model.evaluation.chunk,
        "precision": model.evaluation.precision,
    }
    output.write_file(path, output.grid_png(drawn.levels, recipe.space.levels, facts))


def _loss_curve(store: "RunWriter") -> Path | None:
    """Draw the loss curve into the run; None where matplotlib is missing or nothing is logged."""
    if importlib.util.find_spec("matplotlib") is None:
        say("no loss curve: matplotlib is not installed")
        return None
    from tempfile import TemporaryDirectory

    from diffprob.reporting.figures import loss_curve
    from diffprob.storage.files import PICTURE_LIMIT, read_bytes

    log = records(store.folder)
    if not any(isinstance(record.get("loss"), int | float) for record in log):
        return None
    with TemporaryDirectory() as folder:
        path = Path(folder) / LOSS
        loss_curve(log, path, f"{store.recipe.name}: training loss")
        try:
            store.add({LOSS: read_bytes(path, PICTURE_LIMIT)})
        except InputError as error:  # the training is done and kept
            say(f"no loss curve: {error}")
            return None
    return store.folder / LOSS


def _steps_of(out: Path) -> int:
    from diffprob.runs.files import read_recipe

    return read_recipe(out).training.steps


def _model_step(out: Path) -> int:
    from diffprob.runs.files import model_meta

    return model_meta(out, {})["step"]
