"""A data set of the Hugging Face hub, through the optional package ``datasets``."""

from typing import Any

import numpy as np

from diffprob.base.errors import InputError, Missing, did_you_mean
from diffprob.base.text import composed
from diffprob.data.formats.files import blank_pixels, same_depth, whole_labels
from diffprob.data.formats.pictures import MAX_PIXELS, MixedSizes, Tally, prepare
from diffprob.data.images import Images, Labels
from diffprob.storage.foreign import parsing
from diffprob.storage.hub import installed, patience


def _open(name: str, split: str) -> Any:
    if not installed("datasets"):
        raise InputError("Hugging Face data needs the package 'datasets': pip install 'diffprob[datasets]'")
    with patience() as online:
        advice = "" if online else "the hub does not answer, so that only what is in its cache can be read"
        with parsing(f"hf:{name}: split {split!r}", "data set", advice, says="cannot be loaded"):
            import datasets

            try:
                return datasets.load_dataset(name, split=split)
            except ValueError as error:
                # the only sign of a split that is not there is the text
                if str(error).startswith("Unknown split"):
                    raise Missing(f"hf:{name}: {error}") from error
                raise


def _labels(rows: Any, where: str) -> tuple[Labels | None, tuple[str, ...]]:
    if "label" not in rows.column_names:
        return None, ()
    values = np.asarray(rows["label"][:])
    names = tuple(getattr(rows.features["label"], "names", None) or ())
    # -1 is how the hub says that a split has no labels
    if values.dtype.kind not in "iu" or values.ndim != 1 or (names and (values < 0).all()):
        return None, ()
    names = tuple(composed(name) for name in names)
    if len(set(names)) < len(names) or (names and not 0 <= values.min() <= values.max() < len(names)):
        names = ()
    return whole_labels(values, where), names


def read_hub(name: str, split: str, column: str, tally: Tally) -> Images:
    """The pictures of one column of a data set of the hub, prepared as those of a folder are.

    Raises:
        Missing: there is no such split.
        InputError: ``datasets`` is not installed, there is no such data set or column, or it holds no pictures.
    """
    from PIL.Image import Image

    rows = _open(name, split)
    if column not in rows.column_names:
        hint = did_you_mean(column, rows.column_names)
        raise InputError(f"hf:{name}: no column {column!r}; it has {', '.join(rows.column_names)}{hint}")
    if not len(rows):
        raise InputError(f"hf:{name}: split {split!r} is empty")
    pixels = None
    for k in range(len(rows)):
        with parsing(f"hf:{name}: row {k}", "image"):
            picture = rows[k][column]
        if not isinstance(picture, Image):
            kind = type(picture).__name__
            raise InputError(f"hf:{name}: row {k} of column {column!r} is {kind}; an image would be right")
        if picture.width * picture.height > MAX_PIXELS:
            size = f"{picture.width}x{picture.height}"
            raise InputError(f"hf:{name}: row {k} has {size} pixels; at most {MAX_PIXELS} would be right")
        with parsing(f"hf:{name}: row {k}", "image"):
            array = prepare(picture, tally, f"hf:{name}: row {k}")
        if pixels is None:
            pixels = blank_pixels((len(rows), *array.shape), array.dtype)
        if array.shape != pixels.shape[1:]:
            raise MixedSizes(
                f"hf:{name}: row {k} has {array.shape[2]}x{array.shape[1]} pixels, row 0 "
                f"{pixels.shape[3]}x{pixels.shape[2]}"
            )
        same_depth(f"hf:{name}: row {k}", array, pixels)
        pixels[k] = array
    with parsing(f"hf:{name}", says="its labels cannot be read"):
        labels, names = _labels(rows, f"hf:{name}")
    assert pixels is not None
    return Images(pixels, labels, name=f"{name}/{split}", notes=tally.notes(), class_names=names)
