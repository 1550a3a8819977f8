"""256x256 images with the networks and settings of Ho et al. 2020, appendix B: for GPUs."""

from diffprob.config.recipe import Recipe
from diffprob.data.augment import HorizontalFlip
from diffprob.data.sources import Folder
from diffprob.net.unet import UNetSpec
from diffprob.recipes import data_path
from diffprob.space.pixels import Pixels
from diffprob.training.settings import Training

MULTIPLIERS = (1, 1, 2, 2, 4, 4)
ATTENTION = (False, False, False, False, True, False)  # at 16x16


def celebahq256(path: str | None = None) -> Recipe:
    """CelebA-HQ: 113,673,219 parameters, 500,000 steps of 64 at a constant rate, as in the paper."""
    return Recipe(
        name="celebahq256",
        data=Folder(path or data_path("celebahq256"), size=256),
        space=Pixels((3, 256, 256)),
        network=UNetSpec(widths=tuple(128 * m for m in MULTIPLIERS), layers=2, attention=ATTENTION),
        training=Training(
            steps=500_000,
            batch=64,
            lr=2e-5,
            warmup=5000,
            ema=0.9999,
            augment=(HorizontalFlip(),),
            sample_every=10_000,
            checkpoint_every=5000,
            samples=16,
        ),
    )


def lsun256(path: str | None = None) -> Recipe:
    """LSUN Bedroom, the large network: 255,677,955 parameters, 1,150,000 steps of 64 at a constant rate, no flips."""
    return Recipe(
        name="lsun256",
        data=Folder(path or data_path("lsun256"), size=256),
        space=Pixels((3, 256, 256)),
        network=UNetSpec(widths=tuple(192 * m for m in MULTIPLIERS), layers=2, attention=ATTENTION),
        training=Training(
            steps=1_150_000,
            batch=64,
            lr=2e-5,
            warmup=5000,
            ema=0.9999,
            sample_every=10_000,
            checkpoint_every=5000,
            samples=16,
        ),
    )
