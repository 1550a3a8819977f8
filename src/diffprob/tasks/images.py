"""Which images: the one place that says what a task is done on, and what every record says of them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffprob.base.checks import one_of, whole
from diffprob.base.errors import InputError, Missing
from diffprob.base.rng import derive, permutation
from diffprob.data.for_run import Selection, select
from diffprob.data.formats.files import opened
from diffprob.data.formats.npy import open_npz
from diffprob.data.images import Images
from diffprob.data.nested import held_out_source
from diffprob.runs.folder import Run
from diffprob.runs.images import OwnImages, images_of
from diffprob.runs.measurements import Measurement
from diffprob.storage.files import RECORDS_LIMIT
from diffprob.storage.foreign import parsing
from diffprob.tasks.compute import weights_facts
from diffprob.tasks.options import option
from diffprob.tasks.reporter import Reporter

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


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Images that were chosen for a model.

    Args:
        selection: the data that they are of.
        index: where each stands in it, int64 (n,), increasing.
    """

    selection: Selection
    index: np.ndarray

    @property
    def images(self) -> np.ndarray:
        """uint8 (n, C, H, W)."""
        return self.selection.images.take(self.index)

    @property
    def labels(self) -> np.ndarray | None:
        """The class of each, int64 (n,), or None."""
        labels = self.selection.images.labels
        return None if labels is None else labels[self.index]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of class k at position k."""
        return self.selection.images.class_names

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.selection.images.event_shape))
        return f"{len(self):,} of {len(self.selection):,} {self.selection.called}, {shape}"


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSelection:
    """Which images something is measured on.

    Args:
        images: other images than the run's own, or the place of the run's own (which of both, the digest says): a
            picture, a folder, a file of arrays, ...; or uint8 (N, C, H, W) in memory, `Images`, or a batch that was
            chosen before, which is taken whole. None: the run's own.
        place: where the run's own images lie, if not where its recipe says.
        split: "auto" takes held-out images where there are some, else all; or "train", "test".
        n: at most so many, chosen by the seed; None: all.
        seed: which images, and their noise: image i of the data has the seed ``seed + i``.
        resize: convert images of another shape or number of grey levels.

    Raises:
        ValueError: a split that there is not, or a number outside its domain.
    """

    images: str | np.ndarray | Images | ImageBatch | None = None
    place: str | None = None
    split: str = "auto"
    n: int | None = None
    seed: int = 0
    resize: bool = False

    def __post_init__(self) -> None:
        one_of("split", self.split, ("auto", "test", "train"))
        whole("n", self.n, 1, none=True)
        whole("seed", self.seed, 0, 2**62)

    def of(self, run: Run, reporter: Reporter) -> tuple[Selection, np.ndarray]:
        """The data, and the indices of the chosen images in it, increasing.

        Raises:
            InputError: nothing there, damaged, or images that the run does not take.
        """
        if isinstance(self.images, ImageBatch):
            return self.images.selection, self.images.index
        if self.images is None or isinstance(self.images, str):
            found = measured_on(run, self.images, reporter, self.place, self.split, self.resize)
        else:
            found = select(self.images, run.space, run.name, resize=self.resize)
        return found, np.sort(permutation(derive(self.seed, "images"), 0, len(found))[: self.n])


def splits(run: Run, data: str | None = None) -> tuple[Images, Images | None]:
    """The training images of a run and, where its data has a test split, the held-out ones.

    Args:
        run: whose data it is.
        data: where the data lies, if not where the recipe says.

    Raises:
        InputError: the data is not here, or is not the run's.
    """
    own = OwnImages(run, data)
    return own.train.images, None if own.test is None else own.test.images


def measured_on(
    run: Run,
    given: str | None,
    reporter: Reporter,
    data: str | None = None,
    split: str = "auto",
    resize: bool = False,
) -> Selection:
    """`diffprob.runs.images.images_of`, with notes of what has to be said about the images."""
    found, notes = images_of(run, given, data, split, resize)
    for text in [*notes, *([f"{found.data}: {found.converted}"] if found.converted else [])]:
        reporter.note(text)
    return found


def held_out_of(run: Run, given: str, reporter: Reporter, data: str | None = None, resize: bool = False) -> Selection:
    """The images that a user gives as held-out ones.

    Raises:
        InputError: they are those that the run was trained on.
    """
    found = measured_on(run, given, reporter, data, resize=resize)
    if found.role == "train":
        raise InputError(
            f"{option('held_out', given)}: the images that {run.name} was trained on; others would be right"
        )
    return found


def recorded_images(found: Selection) -> dict[str, Any]:
    """The fields of a `Measurement` that say which images it was made on; of an absolute path the last part alone."""
    path = Path(found.data).expanduser()
    return {
        "split": found.split,
        "role": found.role,
        "data": path.name if path.is_absolute() else found.data,
        "digest": found.digest,
        "converted": found.converted,
    }


def held_out(source: Any) -> Images | None:
    """The test split of a source of training images, or None where it has none.

    Raises:
        InputError: it has one that cannot be read.
    """
    try:
        return held_out_source(source).load()
    except Missing:
        # There is no such split: the caller says so.
        return None


def read_samples(path: Path, found: Run, names: Iterable[str], best: bool = False) -> tuple[dict[str, Any], np.ndarray]:
    """What `sample --out x.npz` wrote: what it says under ``names`` of the drawing, and the levels (N, C, H, W).

    Args:
        best: whether the samples must come from the best weights, not the last.

    Raises:
        InputError: not such a file, or of other images than the run's.
    """
    asked = option("samples", path)
    foreign = f"{asked}: not a file that `diffprob sample --out x.npz` wrote"
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
        raise InputError(f"{asked}: images {has}, those of the run are uint8 (N, *{found.space.shape})")
    if facts.get("model_sha256") != weights_facts(found, best)["model_sha256"]:
        raise InputError(f"{asked}: drawn from other weights than those of {found.place}; draw them again")
    return {name: facts.get(name) for name in names}, pixels


def measurement(
    row: Mapping[str, Any], seed: int, step: int, features: str, found: Selection, drawing: Mapping[str, Any]
) -> Measurement:
    """A row of `evaluate` as a measurement of the run, against the images that were found."""
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
        **recorded_images(found),
    )
