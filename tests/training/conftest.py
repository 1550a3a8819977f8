"""A training that takes milliseconds: a one-level network on the embedded digits."""

import json
import os
from dataclasses import replace

import pytest
import torch

from diffprob.base.rng import derive
from diffprob.config.recipe import Recipe, build_model
from diffprob.data.sources import Digits
from diffprob.net.unet import UNetSpec
from diffprob.runs.writer import RunWriter
from diffprob.space.pixels import Pixels
from diffprob.training.loop import Trainer
from diffprob.training.settings import Training


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch):
    """A killed process loses nothing that it has written; syncing guards against a power cut, and disks can be slow."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.fixture
def recipe():
    network = UNetSpec(
        in_channels=1, out_channels=1, widths=(8, 8), layers=1, attention=(False, True), groups=4, dropout=0.1
    )
    training = Training(
        steps=24, batch=8, lr=1e-3, warmup=5, precision="fp32", accumulate=2, checkpoint_every=7, sample_every=0
    )
    return Recipe(name="tiny", data=Digits(), space=Pixels((1, 8, 8), 17), network=network, training=training)


@pytest.fixture(scope="session")
def images():
    return Digits().load()


@pytest.fixture
def train(recipe, images):
    """Train ``recipe`` (with changed training fields) in a folder; returns the trainer."""

    def run(folder, on_step=None, double=False, halt=lambda: False, accelerator=None, on_sample=None, **changes):
        changed = replace(recipe, training=replace(recipe.training, **changes))
        torch.manual_seed(derive(changed.training.seed, "weights"))
        model = build_model(changed)
        store = RunWriter.open(folder, changed, "ab" * 32)
        try:
            trainer = Trainer(
                model.double() if double else model, changed.objective, images, changed.space, changed.training, store,
                accelerator, "cpu", on_step=on_step, on_sample=on_sample, halt=halt,
            )  # fmt: skip
            trainer.run()
        finally:
            store.close()
        return trainer

    return run


@pytest.fixture
def final_state():
    """What a finished run left: its newest state's tensors and the log without its clock."""

    def read(folder):
        from diffprob.runs import states

        snapshot, _, _ = states.newest(folder / "state")
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        for record in log:
            del record["seconds"]
        tensors = {
            f"{part}.{name}": tensor
            for part in ("raw", "ema", "optimiser")
            for name, tensor in getattr(snapshot, part).items()
        }
        return snapshot.step, tensors, log

    return read
