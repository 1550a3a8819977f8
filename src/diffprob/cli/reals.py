"""The images that are compared: real ones, samples of a file; and the comparison as a measurement of the run."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError, Missing
from diffprob.cli.choices import weights_facts

if TYPE_CHECKING:
    import numpy as np

    from diffprob.data.images import Images
    from diffprob.recipe.card import Measurement
    from diffprob.recipe.checkpoint import Run

# Details that are for a machine (--json has them): long lists, fixed settings, what stands elsewhere.
_NOT_KEPT = {
    *("metric", "histogram", "reference_histogram", "seed", "drawn_from", "dimension", "blocks", "classes"),
    *(
        "size_asked",
        "spread",
        "error",
        "expected_bias",
        "expected_reference_bias",
        "train_distance",
        "held_out_distance",
    ),
}


def splits(
    run: "Run", data: str | None = None, held: str | None = None, option: str = "DATA"
) -> "tuple[Images, Images | None]":
    """The training images of a run and, where its data has a test split, the held-out ones.

    Args:
        run: whose data it is.
        data: where the data lies, if not where the recipe says.
        option: how a verb is told where the data lies.
        held: where held-out images lie, for data without a test split: the test split of what is there, or all of it.

    Raises:
        InputError: the data is not here, or is not the run's kind.
    """
    from diffprob.data.detect import open_data
    from diffprob.recipe.recipe import space

    source: Any = run.recipe.data
    if data is not None:
        found = open_data(data)
        # The run's own kind of data at another place keeps its options; any other is read as it is.
        source = _moved(source, data, found)
    try:
        train = source.load()
    except Missing as error:
        raise Missing(f"{error}; give the place of the real images: diffprob VERB {run.name} {option}") from error
    space(run.recipe, train)
    test = held_out(source) if held is None else there(held, run)
    if test is not None:
        space(run.recipe, test)
    return train, test


def chosen_split(wanted: str, train: "Images", test: "Images | None") -> str:
    """ "test" or "train", for ``--split`` auto, test or train.

    Raises:
        InputError: held-out images are asked for where there are none.
    """
    if wanted == "test" and test is None:
        raise InputError(f"--split test: {train.name} has none; --held-out DATA or --split train would be right")
    return "test" if test is not None and wanted != "train" else "train"


def there(text: str, run: "Run") -> "Images":
    """The test split of the data at ``text``, or all of it; pictures are read in the run's size and channels."""
    from diffprob.data.detect import open_data
    from diffprob.data.sources import Folder

    source = open_data(text)
    if isinstance(source, Folder):
        channels, height, _ = run.space.shape
        source = open_data(text, size=height, channels=channels)
    found = held_out(source)
    return source.load() if found is None else found


def _moved(source: Any, place: str, found: Any) -> Any:
    """A source with its images at another place, or what was found there where that is of another kind."""
    from diffprob.data.limited import First
    from diffprob.data.nested import innermost

    inside: Any = source
    while isinstance(inside, First):
        inside = inside.source
    movable = type(found) is type(inside) and any(field.name == "path" for field in fields(inside))
    return innermost(source, lambda each: replace(each, path=place)) if movable else found


def held_out(source: Any) -> "Images | None":
    """The test split of a source of training images, or None where it has none.

    Raises:
        InputError: it has one that cannot be read.
    """
    from diffprob.data.nested import held_out_source

    try:
        return held_out_source(source).load()
    except Missing:
        # There is no such split: the caller says so.
        return None


def read_samples(
    path: Path, found: "Run", names: Iterable[str], best: bool = False
) -> "tuple[dict[str, Any], np.ndarray]":
    """What `sample --out x.npz` wrote: what it says under ``names`` of the drawing, and the levels (N, C, H, W).

    Args:
        best: whether the samples must come from the best weights, not the last.

    Raises:
        InputError: not such a file, or of other images than the run's.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as stored:
            pixels, facts = stored["images"], json.loads(str(stored["metadata"]))
    except FileNotFoundError as error:
        raise InputError(f"--samples {path}: there is no such file") from error
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"--samples {path}: not a file that `diffprob sample --out x.npz` wrote") from error
    if pixels.dtype != np.uint8 or tuple(pixels.shape[1:]) != tuple(found.space.shape) or not len(pixels):
        raise InputError(f"--samples {path}: images {pixels.shape}, the run's have the shape {found.space.shape}")
    if facts.get("model_sha256") != weights_facts(found, best)["model_sha256"]:
        raise InputError(f"--samples {path}: drawn from other weights than those of {found.place}; draw them again")
    return {name: facts.get(name) for name in names}, pixels


def measurement(
    row: Mapping[str, Any], seed: int, step: int, features: str, split: str, drawing: Mapping[str, Any]
) -> "Measurement":
    """A row of `evaluate` as a measurement of the run."""
    from diffprob.recipe.card import Measurement

    details = {name: value for name, value in row["details"].items() if name not in _NOT_KEPT and value is not None}
    return Measurement(
        name=row["title"],
        value=row["value"],
        n=row["n"],
        seed=seed,
        step=step,
        details={**drawing, "weights": "EMA", "reference images": row["m"], **details},
        low=row["low"],
        high=row["high"],
        features=features,
        split=split,
        reference=row["real"],
    )
