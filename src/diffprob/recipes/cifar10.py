"""CIFAR-10: the network and settings of Ho et al. 2020, and a small network for a processor without a GPU."""

from diffprob.config.recipe import Recipe
from diffprob.data.augment import HorizontalFlip
from diffprob.data.sources import Cifar10
from diffprob.net.unet import UNetSpec
from diffprob.recipes import data_path
from diffprob.space.pixels import Pixels
from diffprob.training.settings import Training

FOLDER = "cifar-10-batches-bin"  # what the binary version unpacks to


def cifar10(path: str | None = None) -> Recipe:
    """Ho et al. 2020, appendix B: 35,746,307 parameters, 800,000 steps of 128 at a constant rate (FID 3.17 there).

    Warm-up and clipping are those of the released code.
    """
    return Recipe(
        name="cifar10",
        data=Cifar10(path or data_path(FOLDER)),
        space=Pixels((3, 32, 32)),
        network=UNetSpec(widths=(128, 256, 256, 256), layers=2, attention=(False, True, False, False), dropout=0.1),
        training=Training(
            steps=800_000,
            batch=128,
            lr=2e-4,
            warmup=5000,
            clip=1.0,
            ema=0.9999,
            augment=(HorizontalFlip(),),
            sample_every=10_000,
            checkpoint_every=5000,
        ),
    )


def cifar10_small(path: str | None = None) -> Recipe:
    """A network that two cores can train in hours: no match for the paper's images, but every step of the way."""
    return Recipe(
        name="cifar10_small",
        data=Cifar10(path or data_path(FOLDER)),
        space=Pixels((3, 32, 32)),
        network=UNetSpec(widths=(32, 64, 64), layers=1, attention=(False, True, False), groups=8, dropout=0.1),
        training=Training(
            steps=20_000,
            batch=64,
            lr=5e-4,
            warmup=1000,
            ema=0.9995,
            augment=(HorizontalFlip(),),
            sample_every=2000,
            checkpoint_every=500,
        ),
    )
