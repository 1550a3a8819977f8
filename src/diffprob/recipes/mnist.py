"""MNIST and Fashion-MNIST: 28x28 pixels, idx files; under an hour on two cores."""

from dataclasses import replace
from typing import Any

from diffprob.conditions.condition import Labels
from diffprob.config.pretrained import PretrainedRun
from diffprob.config.recipe import Recipe
from diffprob.data.sources import Idx
from diffprob.denoise.prediction import V
from diffprob.net.unet import UNetSpec
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import Cosine
from diffprob.recipes import data_path
from diffprob.runs.folder import PRETRAINED, Run
from diffprob.space.pixels import Pixels
from diffprob.training.settings import Training


def mnist(path: str | None = None) -> Recipe:
    """MNIST; ``path`` is the folder with its idx files."""
    return Recipe(
        name="mnist",
        data=Idx(path or data_path("mnist")),
        space=Pixels((1, 28, 28)),
        network=UNetSpec(
            in_channels=1,
            out_channels=1,
            widths=(32, 32, 32),
            layers=1,
            attention=(False, False, True),
            groups=8,
            padding=1,
        ),
        process=LinearProcess(Cosine(1000)),
        prediction=V(),
        training=Training(
            steps=7500,
            batch=64,
            lr=1e-3,
            warmup=200,
            cooldown=1000,
            ema=0.9995,
            sample_every=1000,
            checkpoint_every=500,
        ),
    )


def fashion(path: str | None = None) -> Recipe:
    """Fashion-MNIST, trained as MNIST is; ``path`` is the folder with its idx files."""
    return replace(mnist(path or data_path("fashion-mnist")), name="fashion")


def mnist_labels(path: str | None = None) -> Recipe:
    """MNIST with its labels, for guidance: the reference run goes on, told the digit in nine images of ten."""
    recipe, condition = mnist(path), Labels(10, drop=0.1)
    network: Any = recipe.network
    training = replace(recipe.training, steps=4000, lr=5e-4, cooldown=1000, ema=0.999)
    return replace(
        recipe,
        name="mnist_labels",
        network=replace(network, classes=condition.rows),
        condition=condition,
        training=training,
        start=PretrainedRun.of(Run.open(PRETRAINED / "mnist")),
    )
