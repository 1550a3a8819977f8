"""Run by torchrun from test_distributed.py: train a tiny float64 network and leave its weights, or die half-way."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from diffprob.base.errors import InputError
from diffprob.base.rng import derive
from diffprob.config.recipe import Recipe, build_model
from diffprob.data.sources import Digits
from diffprob.net.unet import UNetSpec
from diffprob.runs.states import Replica
from diffprob.runs.writer import RunWriter
from diffprob.space.pixels import Pixels
from diffprob.training.loop import Trainer, make_accelerator
from diffprob.training.settings import Training


def main(folder: str, processes: int, dies: bool) -> None:
    """Train 20 steps of a global batch of 8."""
    torch.set_num_threads(1)
    network = UNetSpec(in_channels=1, out_channels=1, widths=(8, 8), layers=1, attention=(False, True), groups=4)
    training = Training(steps=20, batch=8, lr=1e-3, warmup=5, precision="fp32", checkpoint_every=20, sample_every=0)
    recipe = Recipe(name="tiny", data=Digits(), space=Pixels((1, 8, 8), 17), network=network, training=training)
    if dies:
        recipe = replace(recipe, training=replace(training, steps=100_000))
    try:
        accelerator = make_accelerator("cpu", processes=processes)
    except InputError as error:
        sys.exit(f"refused: {error}")
    torch.manual_seed(derive(0, "weights"))
    model = build_model(recipe).double()
    store = RunWriter.open(folder, recipe, None) if accelerator.is_main_process else Replica(folder)
    trainer = Trainer(model, recipe.objective, Digits().load(), recipe.space, recipe.training, store, accelerator)
    if dies and not accelerator.is_main_process:
        advance = trainer.advance
        trainer.advance = lambda: os._exit(9) if trainer.step == 5 else advance()
    trainer.run()
    if accelerator.is_main_process:
        save_file(
            {name: value.contiguous() for name, value in trainer.model.state_dict().items()}, Path(folder) / "out.st"
        )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), len(sys.argv) > 3)
