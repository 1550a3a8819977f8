"""The images that are compared: real ones, samples of a file; and the comparison as a measurement of the run."""

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError, Missing
from diffprob.cli.choices import weights_facts
from diffprob.cli.progress import say

if TYPE_CHECKING:
    import numpy as np

    from diffprob.data.for_run import Selection
    from diffprob.data.images import Images
    from diffprob.runs.folder import Run
    from diffprob.runs.measurements import Measurement

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


def splits(run: "Run", data: str | None = None) -> "tuple[Images, Images | None]":
    """The training images of a run and, where its data has a test split, the held-out ones.

    Args:
        run: whose data it is.
        data: where the data lies, if not where the recipe says.

    Raises:
        InputError: the data is not here, or is not the run's.
    """
    from diffprob.runs.images import OwnImages

    own = OwnImages(run, data)
    return own.train.images, None if own.test is None else own.test.images


def measured_on(
    run: "Run", given: str | None, data: str | None = None, split: str = "auto", resize: bool = False
) -> "Selection":
    """`diffprob.runs.images.images_of`, with what has to be said about the images on stderr."""
    from diffprob.runs.images import images_of

    found, notes = images_of(run, given, data, split, resize)
    for text in [*notes, *([f"{found.data}: {found.converted}"] if found.converted else [])]:
        say(text)
    return found


def held_out_of(run: "Run", given: str, data: str | None, resize: bool) -> "Selection":
    """The images of ``--held-out``, with what has to be said about them on stderr.

    Raises:
        InputError: they are those that the run was trained on.
    """
    found = measured_on(run, given, data, resize=resize)
    if found.role == "train":
        raise InputError(f"--held-out {given}: the images that {run.name} was trained on; others would be right")
    return found


def recorded(found: "Selection") -> dict[str, Any]:
    """The fields of a `Measurement` that say which images it was made on; of an absolute path the last part alone."""
    path = Path(found.data).expanduser()
    return {
        "split": found.split,
        "role": found.role,
        "data": path.name if path.is_absolute() else found.data,
        "digest": found.digest,
        "converted": found.converted,
    }


def add_place(parser: argparse.ArgumentParser) -> None:
    """``--data`` and ``--resize``, which mean the same in every verb."""
    parser.add_argument("--data", metavar="PATH", help="where the run's own images lie, if not where its recipe says")
    add_resize(parser)


def add_resize(parser: argparse.ArgumentParser) -> None:
    """``--resize``: the only way in which images are converted for a run."""
    parser.add_argument(
        "--resize", action="store_true", help="convert other images of another size, colour or number of grey levels"
    )


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

    from diffprob.data.formats.files import opened
    from diffprob.data.formats.npy import open_npz
    from diffprob.storage.files import RECORDS_LIMIT
    from diffprob.storage.foreign import parsing

    foreign = f"--samples {path}: not a file that `diffprob sample --out x.npz` wrote"
    if path.is_dir():
        raise InputError(foreign)
    with opened(path) as file:
        if file.read(2) != b"PK":  # of every zip, a cut one too: only that can be damaged
            raise InputError(foreign)
    with open_npz(path) as stored:
        if not {"images", "metadata"} <= set(stored.names):
            raise InputError(foreign)
        pixels, text = stored.read("images"), stored.read("metadata", RECORDS_LIMIT)
    with parsing(path, "file of samples", "`diffprob sample --out x.npz` writes what would be right"):
        facts = dict(json.loads(str(text)))
    if pixels.dtype != np.uint8 or tuple(pixels.shape[1:]) != tuple(found.space.shape) or not len(pixels):
        has = f"{pixels.dtype} {pixels.shape}"
        raise InputError(f"--samples {path}: images {has}, those of the run are uint8 (N, *{found.space.shape})")
    if facts.get("model_sha256") != weights_facts(found, best)["model_sha256"]:
        raise InputError(f"--samples {path}: drawn from other weights than those of {found.place}; draw them again")
    return {name: facts.get(name) for name in names}, pixels


def measurement(
    row: Mapping[str, Any], seed: int, step: int, features: str, found: "Selection", drawing: Mapping[str, Any]
) -> "Measurement":
    """A row of `evaluate` as a measurement of the run, against the images that were found."""
    from diffprob.runs.measurements import Measurement

    details = {name: value for name, value in row["details"].items() if name not in _NOT_KEPT and value is not None}
    drawn = {**drawing, "weights": "EMA", "reference images": row["m"]}
    twice = sorted(drawn.keys() & details.keys())
    assert not twice, f"{row['title']}: a detail of the metric hides one of the samples: {twice}"
    return Measurement(
        name=row["title"],
        value=row["value"],
        n=row["n"],
        seed=seed,
        step=step,
        details={**drawn, **details},
        low=row["low"],
        high=row["high"],
        features=features,
        reference=row["real"],
        **recorded(found),
    )
