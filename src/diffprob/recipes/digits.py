"""Handwritten digits of 8x8 pixels, which come with the library: minutes on two cores."""

from diffprob.config.recipe import Recipe
from diffprob.data.sources import Digits
from diffprob.denoise.prediction import V
from diffprob.net.unet import UNetSpec
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import Cosine
from diffprob.space.pixels import Pixels
from diffprob.training.settings import Training


def digits() -> Recipe:
    """The embedded digits, 17 grey levels."""
    return Recipe(
        name="digits",
        data=Digits(),
        space=Pixels((1, 8, 8), 17),
        network=UNetSpec(
            in_channels=1, out_channels=1, widths=(32, 32), layers=1, attention=(False, True), groups=8, padding=1
        ),
        process=LinearProcess(Cosine(1000)),
        prediction=V(),
        training=Training(
            steps=3000,
            batch=64,
            lr=1e-3,
            warmup=200,
            ema=0.999,
            sample_every=500,
            checkpoint_every=500,
        ),
    )
