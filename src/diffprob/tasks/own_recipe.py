"""A recipe for data that has none."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffprob.base.errors import InputError
from diffprob.config.recipe import Recipe
from diffprob.data import Folder, HuggingFace, open_data
from diffprob.data.check import network_levels
from diffprob.data.for_run import uncoloured
from diffprob.data.formats.pictures import MixedSizes
from diffprob.data.images import Images
from diffprob.net.unet import UNetSpec
from diffprob.runs.files import read_recipe
from diffprob.space.pixels import Pixels
from diffprob.storage.folders import is_run
from diffprob.tasks.options import option
from diffprob.training.settings import Training

# Up to this size of the longer side: widths of the levels, residual blocks a level, and the training.
CHOICES: tuple[tuple[int, tuple[int, ...], int, dict[str, Any]], ...] = (
    (16, (32, 64, 64), 1, {"steps": 4000, "batch": 128, "lr": 1e-3, "warmup": 200, "ema": 0.999}),
    (40, (32, 64, 64, 64), 1, {"steps": 20_000, "batch": 64, "lr": 5e-4, "warmup": 500, "ema": 0.9995}),
    (80, (64, 128, 128, 256, 256), 1, {"steps": 100_000, "batch": 64, "lr": 2e-4, "warmup": 1000, "ema": 0.9999}),
    (160, (128, 128, 256, 256, 512), 2, {"steps": 300_000, "batch": 64, "lr": 1e-4, "warmup": 5000, "ema": 0.9999}),
    (
        8192,
        (128, 128, 256, 256, 512, 512),
        2,
        {"steps": 500_000, "batch": 64, "lr": 2e-5, "warmup": 5000, "ema": 0.9999},
    ),
)
MOST_TOKENS = 256  # pixels among which attention is affordable: 16x16


def opened(
    data: str, size: int | None = None, channels: int | None = None, out: Path | None = None
) -> tuple[Any, Images, list[str]]:
    """The source that ``data`` means, its images, and what was chosen, one sentence each.

    Pictures whose three channels are equal everywhere have one, unless ``channels`` says how many, or a run that was
    begun in ``out`` has them as they are.

    Raises:
        InputError: the data cannot be used.
    """
    source = open_data(data, size=size, channels=channels)
    try:
        images = source.load()
    except MixedSizes as error:
        raise InputError(f"{error}: {option('size', 64)}, for instance") from error
    if not isinstance(source, Folder | HuggingFace) or channels is not None:
        return source, images, []
    grey = uncoloured(images)
    if grey is None:
        return source, images, []
    if out is not None and is_run(out) and getattr(read_recipe(out).data, "channels", 1) == 3:
        return source, images, []
    return replace(source, channels=1), grey, ["all three channels are equal: one is used"]


def automatic(
    data: str, size: int | None = None, channels: int | None = None, out: Path | None = None
) -> tuple[Recipe, Images, list[str]]:
    """(recipe, the data, what was found, one sentence each) for the data that a text names; see `opened`.

    Raises:
        InputError: the data cannot be used.
    """
    source, images, notes = opened(data, size, channels, out)
    recipe = recipe_for(data_name(data), source, images)
    channels, height, width = images.event_shape
    notes += [
        f"{len(images):,} images of {height}x{width}, {channels} channel(s), {images.levels} grey levels: {source!r}",
    ]
    return recipe, images, notes


def described(recipe: Recipe) -> list[str]:
    """What is going to be trained, after all changes: one sentence each."""
    widths, training = ", ".join(map(str, recipe.network.widths)), recipe.training
    example = option("overrides", {"training.lr": "1e-4"})
    return [
        f"a network of widths {widths}; {training.steps:,} steps of {training.batch} images",
        f"anything can be changed with {option('overrides')}, for instance {example}",
    ]


def recipe_for(name: str, source: Any, images: Images) -> Recipe:
    """The recipe for ``images``: size and channels from the data, the network from the size."""
    channels, height, width = images.event_shape
    _, widths, layers, training = next(choice for choice in CHOICES if max(height, width) <= choice[0])
    levels = min(len(widths), network_levels(height, width))
    widths = widths[:levels]
    tokens = [height * width // 4**level for level in range(levels)]
    attention = tuple(level > 0 and tokens[level] <= MOST_TOKENS < 4 * tokens[level] for level in range(levels))
    spec = UNetSpec(
        in_channels=channels,
        out_channels=channels,
        widths=widths,
        layers=layers,
        attention=attention,
        mid_attention=tokens[-1] <= 4 * MOST_TOKENS,
        groups=8 if widths[0] < 128 else 32,
    )
    every = min(1000, training["steps"] // 8)
    return Recipe(
        name=name,
        data=source,
        space=Pixels((channels, height, width), images.levels),
        network=spec,
        training=Training(**training, sample_every=every, checkpoint_every=every),
    )


def folder_name(out: Path) -> str:
    """A name for the run in a folder: that of the folder."""
    return re.sub(r"[^\w.-]+", "-", out.expanduser().resolve().name).strip("-.") or "run"


def data_name(data: str) -> str:
    """A short name for the data that an option names, fit for a folder."""
    text = data.partition(":")[2] if data.startswith("hf:") else Path(data).resolve().stem
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "images"
