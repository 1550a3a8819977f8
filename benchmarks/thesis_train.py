"""Training that keeps the weights of every epoch: what `diffprob train` does, without its pictures."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from thesis_measure import RUN, say, weights_path

from diffprob.base.rng import derive
from diffprob.config.recipe import Recipe, build_model, space
from diffprob.runs.files import MODEL
from diffprob.runs.writer import RunWriter
from diffprob.training.loop import Progress, Trainer
from diffprob.training.store import Snapshot


class Keeper(RunWriter):
    """A run's writer that also copies the weights of each checkpoint, ``weights/step-000780.safetensors`` beside the
    run."""

    def save(self, snapshot: Snapshot) -> None:
        """Keep the snapshot, and a copy of its weights."""
        super().save(snapshot)
        target = weights_path(self.folder.parent, snapshot.step)
        target.parent.mkdir(exist_ok=True)
        part = target.with_suffix(".part")
        shutil.copyfile(self.folder / MODEL, part)
        part.rename(target)


def train(recipe: Recipe, out: Path, device: str = "cpu") -> None:
    """Train into ``out/run``, or go on there; says every ten steps how far it is."""
    images = recipe.data.load()
    space(recipe, images)
    out.mkdir(parents=True, exist_ok=True)
    store = Keeper.open(out / RUN, recipe, images.digest())
    torch.manual_seed(derive(recipe.training.seed, "weights"))
    model = build_model(recipe)
    try:
        trainer = Trainer(model, recipe.objective, images, recipe.space, recipe.training, store, device=device)
        trainer.on_step = teller()
        trainer.run()
    finally:
        store.close()


def teller() -> Callable[[Progress], None]:
    """Says every ten steps how far the training is."""
    began, first = time.monotonic(), None

    def tell(progress: Progress) -> None:
        nonlocal first
        first = progress.step - 1 if first is None else first
        if progress.step % 10 == 0:
            each = (time.monotonic() - began) / (progress.step - first)
            text = f"step {progress.step}/{progress.steps}, loss {progress.loss:.4f}, {each:.2f} s a step"
            say(f"{text}, {each * (progress.steps - progress.step) / 60:.0f} min left")

    return tell
