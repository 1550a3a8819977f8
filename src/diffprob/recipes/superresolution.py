"""Handwritten digits from their half size: the network takes the image averaged over blocks of 2x2 pixels."""

from dataclasses import replace
from typing import Any

from diffprob.conditions.low_resolution import LowResolution
from diffprob.config.recipe import Recipe
from diffprob.net.concatenated import ConcatenatedUNetSpec
from diffprob.recipes.digits import digits


def digits_superresolution() -> Recipe:
    """The embedded digits, 8x8 pixels from 4x4: what `restore` enlarges images with; minutes on one core."""
    recipe = digits()
    body: Any = recipe.network
    return replace(
        recipe,
        name="digits_superresolution",
        network=ConcatenatedUNetSpec(body),
        condition=LowResolution(recipe.space.shape, factor=2, drop=0.1),
        training=replace(recipe.training, cooldown=1000),
    )
