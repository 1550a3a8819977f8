"""Which images: the one place that says what a task is done on, and what every record says of them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from diffprob.base.checks import flag, one_of, whole
from diffprob.base.errors import InputError, Missing
from diffprob.base.levels import level_dtype
from diffprob.base.rng import increasing_subset
from diffprob.data.combined import held_out_source
from diffprob.data.fields import numbers_in_memory
from diffprob.data.for_run import TEST, TRAIN, Selection, select
from diffprob.data.formats.files import opened
from diffprob.data.formats.npy import open_npz
from diffprob.data.images import Images
from diffprob.runs.folder import Run
from diffprob.runs.images import OtherData, OwnImages, held_out_digest, images_of
from diffprob.runs.measurements import Measurement
from diffprob.storage.files import RECORDS_LIMIT
from diffprob.storage.foreign import parsing
from diffprob.tasks.display import OfImages
from diffprob.tasks.options import option
from diffprob.tasks.reporter import Reporter

IN_PYTHON = "resize=True would convert them"  # images in memory come from Python alone
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
class ImageBatch(OfImages):
    """Images that were chosen for a model.

    Args:
        selection: the data that they are of.
        index: where each stands in it, int64 (n,), increasing.
    """

    selection: Selection
    index: np.ndarray

    @property
    def images(self) -> np.ndarray:
        """Levels (n, C, H, W)."""
        return self.selection.images.take(self.index)

    @property
    def chosen(self) -> Selection:
        """The chosen images alone, as data of their own."""
        if len(self) == len(self.selection):
            return self.selection
        images, part = self.selection.images.some(self.index), f"{len(self):,} of {len(self.selection):,}"
        converted = ", ".join(filter(None, (self.selection.converted, part)))
        return replace(self.selection, images=images, digest=images.digest(), converted=converted)

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

    def __getitem__(self, which: Any) -> np.ndarray:
        places = self.index[which]
        images = self.selection.images.take(np.atleast_1d(places))
        return images if np.ndim(places) else images[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[k] for k in range(len(self)))  # data on a disk is never held whole

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.selection.images.event_shape))
        return f"{len(self):,} of {len(self.selection):,} {self.selection.called}, {shape}"


ImageSource = str | np.ndarray | Images | ImageBatch  # a place, or levels (N, C, H, W) in memory


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSelection:
    """Which images something is measured on.

    Args:
        images: other images than the run's own, or the place of the run's own (which of both, the digest says): a
            picture, a folder, a file of arrays, ...; or levels (N, C, H, W) in memory, `Images`, or a batch that was
            chosen before, which is taken whole. None: the run's own.
        place: where the run's own images lie, if not where its recipe says.
        split: "auto" takes held-out images where there are some, else all; or "train", "test".
        n: at most so many, chosen by the seed; None: all.
        seed: which images, and their noise: image i of the data has the seed ``seed + i``.
        resize: convert images of another shape or number of grey levels.

    Raises:
        ValueError: a split that there is not, or a number outside its domain.
    """

    images: ImageSource | None = None
    place: str | None = None
    split: str = "auto"
    n: int | None = None
    seed: int = 0
    resize: bool = False

    def __post_init__(self) -> None:
        one_of("split", self.split, ("auto", "test", "train"))
        whole("n", self.n, 1, none=True)
        whole("seed", self.seed, 0, 2**62)
        flag("resize", self.resize)

    def resolve(self, run: Run, reporter: Reporter) -> tuple[Selection, np.ndarray]:
        """The data, and the indices of the chosen images in it, increasing.

        Raises:
            InputError: nothing there, damaged, or images that the run does not take.
        """
        if isinstance(self.images, ImageBatch):
            return self.images.selection, self.images.index
        selection = measured_on(run, self.images, reporter, self.place, self.split, self.resize)
        return selection, increasing_subset(len(selection), self.n, self.seed, "images")


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


def own_images(run: Run, place: str | None = None) -> OwnImages:
    """The run's own images, not read yet.

    Raises:
        Missing: it has none, or nothing is at the place.
    """
    if place is None and run.recipe.data is None:
        raise Missing(f"{run.name} has no images of its own: {option('held_out', 'DATA')} would be right")
    return OwnImages(run, place)


def measured_on(
    run: Run,
    images: ImageSource | None,
    reporter: Reporter,
    data: str | None = None,
    split: str = "auto",
    resize: bool = False,
) -> Selection:
    """`diffprob.runs.images.images_of`, or images in memory, with notes of what has to be said about them.

    Raises:
        InputError: nothing there, damaged, or images that the run does not take.
    """
    if isinstance(images, ImageBatch):
        return images.chosen
    if images is None or isinstance(images, str):
        selection, notes = images_of(run, images, data, split, resize)
    else:
        selection = _with_role(select(images, run.space, run.name, resize=resize, how=IN_PYTHON), run)
        notes = list(selection.images.notes)
    for text in [*notes, *([f"{selection.data}: {selection.converted}"] if selection.converted else [])]:
        reporter.note(text)
    return selection


def _with_role(selection: Selection, run: Run) -> Selection:
    """Images in memory that are the run's own say so: the digest decides."""
    known = {held_out_digest(run): TEST, run.meta.get("data"): TRAIN}
    return replace(selection, role=known.get(selection.digest, selection.role))


def held_out_of(
    run: Run,
    images: ImageSource,
    reporter: Reporter,
    data: str | None = None,
    resize: bool = False,
    name: str = "held_out",
) -> Selection:
    """The images that a user gives as held-out ones, in the field ``name``.

    Raises:
        InputError: they are those that the run was trained on.
    """
    selection = measured_on(run, images, reporter, data, resize=resize)
    if selection.role == "train":
        what = option(name, images) if isinstance(images, str) else f"{option(name)}, {selection.data}"
        raise InputError(f"{what}: the images that {run.name} was trained on; others would be right")
    return selection


@dataclass(frozen=True, eq=False)
class RealImages:
    """The real images: those of the training, held-out ones, and which of both samples are compared with.

    Args:
        train: what the run was trained on, or None where that is not here.
        test: held-out images, or None where there are none.
        reference: one of both.
    """

    train: Selection | None
    test: Selection | None
    reference: Selection

    @property
    def fitted(self) -> tuple[Images, Images | None]:
        """What features are fitted to, and held-out images for them."""
        if self.train is None:
            return self.reference.images, None
        return self.train.images, None if self.test is None else self.test.images

    @property
    def other(self) -> Images | None:
        """The real images that are compared with the reference as samples are."""
        selection = self.train if self.reference is self.test else self.test
        return None if selection is None else selection.images


def real_images(
    run: Run, held_out: ImageSource | None, place: str | None, split: str, resize: bool, reporter: Reporter
) -> RealImages:
    """The real images; those of the training must be those of the run, unless others are given to compare with.

    Args:
        run: whose samples are compared with them.
        held_out: the held-out images; None: the run's own.
        place, split, resize: as in an `ImageSelection`.
        reporter: who hears notes.

    Raises:
        InputError: other images than the run's, or none.
    """
    test = None if held_out is None else held_out_of(run, held_out, reporter, None, resize)
    try:
        own = own_images(run, place)
        train = own.train
        if held_out is None:
            test = own.test
        for line in own.notes:
            reporter.note(line)
    except (Missing, OtherData) as error:
        if held_out is None or split == "train" or place:
            raise
        reporter.note(f"without the training images ({error})")
        train = None
    if split == "test" and test is None and train is not None:
        instead = f"{option('held_out', 'DATA')} or {option('split', 'train')}"
        raise InputError(f"{option('split', 'test')}: {train.images.name} has none; {instead} would be right")
    if train is None or (test is not None and split != "train"):
        assert test is not None
        return RealImages(train, test, test)
    return RealImages(train, test, train)


def recorded_images(selection: Selection) -> dict[str, Any]:
    """The fields of a `Measurement` that say which images it was made on; of an absolute path the last part alone."""
    path = Path(selection.data).expanduser()
    return {
        "split": selection.split,
        "role": selection.role,
        "data": path.name if path.is_absolute() else selection.data,
        "digest": selection.digest,
        "converted": selection.converted,
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


def read_samples(path: Path, run: Run, names: Iterable[str], best: bool = False) -> tuple[dict[str, Any], np.ndarray]:
    """What `sample --out x.npz` wrote: what it says under ``names`` of the drawing, and the levels (N, C, H, W).

    Args:
        best: whether the samples must come from the best weights, not the last.

    Raises:
        InputError: not such a file, or of other images than the run's.
    """
    argument = option("samples", path)
    foreign = f"{argument}: not a file that `diffprob sample --out x.npz` wrote"
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
        metadata = dict(json.loads(str(text)))
    _check_samples(pixels, run, argument)
    if metadata.get("model_sha256") != run.weights_provenance(best)["model_sha256"]:
        raise InputError(f"{argument}: drawn from other weights than those of {run.place}; draw them again")
    return {name: metadata.get(name) for name in names}, pixels


def samples_of(pixels: np.ndarray, run: Run) -> np.ndarray:
    """Samples in memory, looked at.

    Raises:
        InputError: not levels of the run's shape, or none.
    """
    if run.space.levels is None:
        return numbers_in_memory(pixels, tuple(run.space.shape)).pixels
    _check_samples(pixels, run, option("samples"))
    if int(pixels.max()) >= run.space.levels:
        raise InputError(
            f"{option('samples')}: levels up to {pixels.max()}, those of the run are 0..{run.space.levels - 1}"
        )
    return pixels


def _check_samples(pixels: np.ndarray, run: Run, argument: str) -> None:
    """Refuse what are no levels of the run's type and shape, or no finite numbers."""
    shape = tuple(run.space.shape)
    if run.space.levels is None:
        try:
            numbers_in_memory(pixels, shape)
        except InputError as error:
            raise InputError(f"{argument}: {error}") from error
        return
    wanted = level_dtype(run.space.levels)
    if pixels.dtype != wanted or tuple(pixels.shape[1:]) != shape or not len(pixels):
        has = f"{pixels.dtype} {pixels.shape}"
        raise InputError(f"{argument}: images {has}, those of the run are {wanted} (N, *{run.space.shape})")


def measurement(
    row: Mapping[str, Any], seed: int, step: int, features: str, selection: Selection, drawing: Mapping[str, Any]
) -> Measurement:
    """A row of `evaluate` as a measurement of the run, against the images that were chosen."""
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
        **recorded_images(selection),
    )
