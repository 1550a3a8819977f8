"""Classifiers of noised images, begun with the weights of a diffusion model."""

from dataclasses import replace
from typing import Any

import torch

from diffprob.base.errors import InputError
from diffprob.conditions.condition import Labels
from diffprob.config.pretrained import PretrainedRun
from diffprob.config.recipe import NoisyClassifierRecipe
from diffprob.data.images import Source
from diffprob.net.noisy import NoisyClassifierSpec
from diffprob.net.unet import UNetSpec
from diffprob.process.learned import LearnedSchedule
from diffprob.runs.folder import Run
from diffprob.training.settings import Training

STEPS = 600


def noisy_classifier(
    run: Run, data: Source, classes: int | tuple[str, ...], steps: int = STEPS
) -> NoisyClassifierRecipe:
    """A classifier of ``data`` under the noise of ``run``: its process, clock and space, its network's way down and
    middle, its scale of what the network sees, and its weights to begin with.

    Args:
        run: of a U-Net.
        data: labelled images of the run's shape.
        classes: their names, or how many there are.
        steps: of the training.

    Raises:
        InputError: another network, or a noise schedule that was learned.
    """
    net = run.recipe.network
    if not isinstance(net, UNetSpec):
        raise InputError(
            f"{run.place}: the weights of a {type(net).__name__} begin no classifier; a run of a UNetSpec(...) would be"
            " right"
        )
    process: Any = run.recipe.process
    process.require_linear("a classifier of noised images")
    if isinstance(process.schedule, LearnedSchedule):
        raise InputError(f"{run.place}: its noise schedule was learned; a run of a fixed schedule would be right")
    prediction: Any = run.recipe.prediction
    scales = prediction.input_scale(process, torch.ones((), dtype=torch.float64)) is not None
    names = () if isinstance(classes, int) else classes
    condition = Labels(classes if isinstance(classes, int) else len(names), drop=0.0, names=names)
    body = replace(net, out_channels=net.in_channels, dropout=0.0, classes=0)
    return NoisyClassifierRecipe(
        name=f"{run.name}-noisy-classifier",
        data=data,
        space=run.space,
        network=NoisyClassifierSpec(body, condition.classes),
        process=process,
        clock=run.recipe.clock,
        condition=condition,
        training=Training(
            steps=steps,
            batch=64,
            lr=min(run.recipe.training.lr, 5e-4),
            warmup=60,
            cooldown=200,  # whatever the steps: more of them then go on with the same run
            ema=0.99,
            seed=run.recipe.training.seed,
            checkpoint_every=100,
            sample_every=0,
        ),
        start=PretrainedRun.of(run),
        prediction=prediction if scales else None,
    )
