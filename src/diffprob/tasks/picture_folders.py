"""What restoring and translating leave in a folder: a picture for each image, one of them together, the settings."""

from pathlib import Path

from diffprob.reporting import artifacts
from diffprob.tasks.display import json_bytes, write_file
from diffprob.tasks.restoration import Restored
from diffprob.tasks.translation import Translated

FACTS = "facts.json"  # how the pictures were made
IMAGES, GRID = "images", "before-and-after.png"  # of a translation


def together(folder: str | Path) -> Path:
    """The picture of the first images, inputs above results: beside the folder."""
    path = Path(folder)
    return path.with_name(f"{path.name}.png")


def save_restored(folder: str | Path, restored: Restored) -> None:
    """A picture for each image, under the name of what it was made of; one of them `together`; the settings as JSON.

    Raises:
        InputError: the disk refuses.
    """
    folder, levels, stds = Path(folder), restored.levels, restored.stds
    shared = {**restored.settings, "psnr": restored.psnr}
    for k, (name, seed, image) in enumerate(zip(restored.names, restored.seeds.tolist(), restored.images, strict=True)):
        own = {**shared, "seeds": str(seed), **({"std": stds[k]} if stds else {})}
        suffix = artifacts.image_suffix(len(image), levels)
        write_file(folder / f"{name}{suffix}", artifacts.image_bytes(image, levels, own))
    write_file(together(folder), restored.png())
    write_file(folder / FACTS, json_bytes({**shared, "stds": stds, "names": list(restored.names)}))


def save_translated(folder: str | Path, translated: Translated) -> None:
    """A picture for each image, numbered in the source's order, a grid of sources above results, and the settings.

    Raises:
        InputError: the disk refuses.
    """
    folder, levels, settings = Path(folder), translated.levels, translated.settings
    for k, (seed, image) in enumerate(zip(translated.seeds.tolist(), translated.images, strict=True)):
        own = {**settings, "seeds": str(seed), "n": 1, "source_image": k}
        suffix = artifacts.image_suffix(len(image), levels)
        write_file(folder / IMAGES / f"{k:05d}{suffix}", artifacts.image_bytes(image, levels, own))
    write_file(folder / GRID, translated.png())
    write_file(folder / FACTS, json_bytes(settings))
