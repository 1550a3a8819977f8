"""Scenes of digits from captions: an hour on one core."""

from diffprob.conditions.captions import Captions
from diffprob.config.recipe import Recipe
from diffprob.data.captioned import WORDS, CaptionedDigits
from diffprob.denoise.prediction import V
from diffprob.net.captioned import CaptionedUNetSpec
from diffprob.net.text import TextEncoderSpec
from diffprob.net.unet import UNetSpec
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import Cosine
from diffprob.space.pixels import Pixels
from diffprob.training.settings import Training

EXAMPLES = (
    "a large three",
    "a small seven at the top left",
    "two small sevens",
    "two large ones at the bottom",
    "a small four left of a large nine",
    "a large zero above a small eight",
    "two large fives at the left",
    "a large two at the bottom right",
)


def captioned_digits() -> Recipe:
    """One or two digits, small or large, where the caption says; the network reads the words with a transformer."""
    body = UNetSpec(
        in_channels=1, out_channels=1, widths=(32, 48), layers=1, attention=(False, True), groups=8, padding=1
    )
    return Recipe(
        name="captioned_digits",
        data=CaptionedDigits(),
        space=Pixels((1, 16, 16), 17),
        network=CaptionedUNetSpec(body, TextEncoderSpec(len(WORDS), length=8, width=48, layers=2, heads=4), heads=4),
        process=LinearProcess(Cosine(1000)),
        prediction=V(),
        condition=Captions(WORDS, length=8, drop=0.1, examples=EXAMPLES),
        training=Training(
            steps=6000,
            batch=64,
            lr=1e-3,
            warmup=200,
            cooldown=1500,
            ema=0.999,
            sample_every=1000,
            checkpoint_every=500,
        ),
    )
