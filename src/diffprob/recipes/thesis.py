"""The two experiments of a thesis ("Diffusion models and their applications"), with the settings of the code that they
stand on; docs/results/thesis.md has what became of them here."""

from diffprob.conditions.condition import Labels
from diffprob.config.recipe import Recipe
from diffprob.data.combined import Subset
from diffprob.data.images import Source
from diffprob.data.sources import Cifar10, Idx
from diffprob.denoise.denoiser import Scale
from diffprob.net.context_unet import ContextUNetSpec
from diffprob.net.epsilon_theta import EpsilonThetaSpec
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import LinearBetas
from diffprob.recipes import data_path
from diffprob.recipes.cifar10 import FOLDER
from diffprob.space.pixels import Pixels
from diffprob.training.settings import Training


def thesis_mnist(
    path: str | None = None, features: int = 128, images: int | None = None, epochs: int = 20, lr: float = 1e-4
) -> Recipe:
    """MNIST with labels, 6,585,601 parameters, 4,680 steps of 256 (Pearce, "Conditional diffusion MNIST", 2022).

    Its noise levels are beta_i = 1e-4 + (0.02 - 1e-4) i/400 at i = 0, ..., 400: one factor more than T = 400 in
    abar_400 = 0.017297, and so 401 levels here, with the time (i + 1)/401 where it was i/400. Images lie in [-1, 1]
    instead of [0, 1], and the learning rate falls at every step, not after every epoch. An epoch is a whole number of
    batches, 234 for all 60,000 images.

    Args:
        path: the folder with the idx files.
        features: channels of the network at the full resolution.
        images: how many of the first ones to train on; None takes all.
        epochs, lr: how long to train, and how fast at first.
    """
    source: Source = Idx(path or data_path("mnist"))
    condition, epoch = Labels(10, drop=0.1), (images or 60_000) // 256
    return Recipe(
        name="thesis_mnist",
        data=source if images is None else Subset(source, images),
        space=Pixels((1, 28, 28)),
        network=ContextUNetSpec(features=features, classes=condition.rows),
        process=LinearProcess(LinearBetas(401, 1e-4, 0.02)),
        clock=Scale(1.0),
        condition=condition,
        training=_plain(epochs, epoch, 256, lr, cooldown=epochs * epoch),
    )


def thesis_cifar10(
    path: str | None = None,
    features: int = 64,
    images: int | None = None,
    label: int | None = None,
    epochs: int = 20,
) -> Recipe:
    """CIFAR-10, 105,272,579 parameters, 15,620 steps of 64 at a constant rate (Borowiecki, "COMP3547 deep learning"),
    without labels.

    Args:
        path: the folder of the binary version.
        features: channels before the first level; a multiple of 32.
        images: how many of the first ones to train on; None takes all.
        label: the only class to train on; None takes every one.
        epochs: how long to train; 100 is the thesis's longer run.
    """
    source: Source = Cifar10(path or data_path(FOLDER))
    count = images or (50_000 if label is None else 5_000)
    return Recipe(
        name="thesis_cifar10",
        data=source if images is None and label is None else Subset(source, images, label),
        space=Pixels((3, 32, 32)),
        network=EpsilonThetaSpec(features=features),
        process=LinearProcess(LinearBetas(1000, 1e-4, 0.01)),
        training=_plain(epochs, count // 64, 64, 2e-5),
    )


def _plain(epochs: int, epoch: int, batch: int, lr: float, cooldown: int = 0) -> Training:
    """Adam and nothing else: no warm-up, no clipping, no averaged weights; a checkpoint and a picture per epoch."""
    return Training(
        steps=epochs * epoch,
        batch=batch,
        lr=lr,
        warmup=0,
        cooldown=cooldown,
        clip=float("inf"),
        ema=0.0,
        sample_every=epoch,
        checkpoint_every=epoch,
    )
