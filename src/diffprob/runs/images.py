"""The images that are a run's own: those it was trained on, and those that were held out, as they lie at a place now.

What decides is the digest, not the place. A run keeps that of its training images; of its held-out images the first
measurement that is recorded keeps it. So other images at the place are noticed: an error where the training images are
asked for, and where held-out ones are, a note and the role "other data". Labels belong to a digest: held-out images
that lack them where the training images have some are said to, and their digest is kept as none of the run's.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from diffprob.base.errors import InputError, Missing, MovedData, OtherImages
from diffprob.base.options import option
from diffprob.conditions.condition import Labels
from diffprob.config.recipe import space
from diffprob.data.combined import held_out_source
from diffprob.data.for_run import OTHER, TEST, TRAIN, WHOLE, Selection, is_picture, select
from diffprob.data.images import Images
from diffprob.data.kinds import open_data
from diffprob.data.library import known_places
from diffprob.data.places import at_place, is_kind, paths, without_folders
from diffprob.data.train_test_split import TrainTestSplit
from diffprob.runs.folder import RunFolder

UNLABELLED = "without labels"  # what a record says of such held-out images
_KEPT: ContextVar[dict[str, Images] | None] = ContextVar("images that are kept in memory", default=None)


@contextmanager
def kept_in_memory(known: dict[str, Images]) -> Iterator[None]:
    """Inside, the images of a source are read once, however many tasks ask for them one after the other.

    Args:
        known: those that are read already, by the repr of their source.
    """
    token = _KEPT.set(dict(known))
    try:
        yield
    finally:
        _KEPT.reset(token)


def _load(source: Any) -> Images:
    kept = _KEPT.get()
    if kept is None:
        return source.load()
    name = repr(source)
    return kept[name] if name in kept else kept.setdefault(name, source.load())


class OtherData(OtherImages):
    """What lies at a place is not what the run was trained on."""


class OwnImages:
    """A run's own images, read when they are asked for, and once.

    Args:
        run: whose they are.
        place: where they lie, if not where the recipe says.

    Raises:
        Missing: nothing at the place.
        InputError: nothing that is known there.
    """

    def __init__(self, run: RunFolder[Any], place: str | None = None) -> None:
        self.run, self.place, self.notes = run, place, list[str]()
        self.source: Any = run.recipe.data
        if place is not None:
            # The run's own kind of data keeps its options; any other is read as it is, and its digest decides.
            source = open_data(place, real=run.space.levels is None)
            self.source = at_place(self.source, place) if is_kind(self.source, source) else source

    @property
    def may_be_shown(self) -> bool:
        """Whether pictures of what `train` reads may go into a file that is made to be shared.

        Whoever made the run chose the place, and without a digest nothing says that what lies there is the run's data
        and not pictures of whoever opens it; unless these named the place themselves.
        """
        return self.place is not None or self.run.meta.get("data") is not None

    @cached_property
    def train(self) -> Selection:
        """The images that the run was trained on.

        Raises:
            Missing: nothing there.
            OtherData: other images are there: another digest, or another shape where that is not known.
            InputError: damaged.
        """
        try:
            return self._training_images()
        except (Missing, OtherData):
            if not self._in_library():
                raise
            return self._training_images()

    def _training_images(self) -> Selection:
        known = self.run.meta.get("data")
        try:
            images = _load(self.source)
        except Missing as error:
            expected = f" (sha256 {known[:12]})" if known else ""
            message = f"{error}; {option('data', 'PATH')} says where the images of {self.run.name}{expected} are now"
            raise MovedData(message, self._data_name) from error
        digest = images.digest()
        if known and digest != known:
            raise OtherData(
                f"{images.name}: not the images that {self.run.name} was trained on (sha256 {digest[:12]}, not "
                f"{known[:12]}); {option('data', 'PATH')} says where these are now"
            )
        try:
            space(self.run.recipe, images)
        except InputError as error:
            raise OtherData(str(error)) from error
        return Selection(images, _text(self.source), TRAIN, TRAIN, digest)

    @property
    def _data_name(self) -> str:
        place = next((place for place in paths(self.source) if place), None)
        return self.run.name if place is None else Path(place).name

    def _in_library(self) -> bool:
        """Whether the training images lie in a place that was added to the library; ``source`` is that place then.

        Looked for where a place was given by nobody but the recipe; the digest decides.
        """
        known = self.run.meta.get("data")
        if self.place is not None or not known or paths(self.source) == {None}:
            return False
        places, name = known_places(), self._data_name
        root = os.environ.get("DIFFPROB_DATA")
        if root:
            places = {**places, name: places.get(name, str(Path(root) / name))}
        for called, place in sorted(places.items(), key=lambda item: item[0] != name):
            try:
                source = at_place(self.run.recipe.data, place)
                matches = source.load().digest() == known
            except InputError:  # other data, or gone too
                continue
            if matches:
                self.source = source
                self.notes.append(f"the images of {self.run.name} are at {place} ({called} of the library)")
                return True
        return False

    @cached_property
    def test(self) -> Selection | None:
        """The held-out images, or None where the data has none.

        Raises:
            InputError: there are some, but damaged or of another shape than the run's.
        """
        if any(place and not Path(place).expanduser().exists() for place in paths(self.source)):
            self._in_library()
        try:
            source = held_out_source(self.source)
            images = _load(source)
        except Missing:
            return None
        space(self.run.recipe, images)
        digest = images.digest()
        selection = Selection(images, _text(source), TEST, TEST, digest)
        known = held_out_digest(self.run)
        if digest == known:
            return selection
        if images.labels is None and self._labelled:
            self.notes.append(f"{images.name}: no labels, which the training images have; is their file missing?")
            selection = replace(selection, converted=UNLABELLED)
        if known is not None:
            return self._other(selection, f"its measurements have {known[:12]}")
        try:
            _ = self.train
        except Missing:
            self.notes.append(f"{images.name}: the training images are not beside them; taken for those of the run")
        except OtherData:
            return self._other(selection, "the training images beside them are not those of the run")
        return selection

    @property
    def _labelled(self) -> bool:
        """Whether the training images have labels, as far as they are here."""
        try:
            return self.train.images.labels is not None
        except (Missing, OtherData):
            return isinstance(getattr(self.run.recipe, "condition", None), Labels)

    def _other(self, selection: Selection, why: str) -> Selection:
        digest = f"sha256 {selection.digest[:12]}; {why}"
        text = f"{selection.images.name}: not the held-out images of {self.run.name} ({digest})"
        self.notes.append(f"{text}: taken for other data")
        return replace(selection, role=OTHER)


def held_out_digest(run: RunFolder[Any]) -> str | None:
    """Of the run's held-out images, by the first measurement against them, as they are, that says it; or None."""
    whole = (item for item in run.measurements if item.role == TEST and not item.converted)
    return next((item.digest for item in whole if item.digest), None)


def images_of(
    run: RunFolder[Any],
    images: str | None = None,
    data: str | None = None,
    split: str = "auto",
    resize: bool = False,
) -> tuple[Selection, list[str]]:
    """The images that a measurement of the run is to be made on, and what must be said about them.

    Args:
        run: of which something is measured.
        images: other images (`for_run.select`), or the place of the run's own: which of both, the digest says. None:
            the run's own.
        data: where the run's own images lie, if not where the recipe says.
        split: "auto" takes held-out images where there are some, else all; or "train", "test" or "all" of it.
        resize: convert what has not the run's shape.

    Raises:
        Missing: nothing there, or no such split.
        InputError: damaged, or images that the run does not take.
    """
    own = OwnImages(run, data) if images is None else None if split == WHOLE else _own_at(run, images)
    if images is not None and own is None:
        selection = select(images, run.space, run.name, split, resize)
        return selection, list(selection.images.notes)
    assert own is not None
    if split == "train":
        return own.train, own.notes
    selection = own.test
    if selection is None:
        if split == "test":
            text = f"{option('split', 'test')}: {own.train.images.name} has none"
            raise Missing(f"{text}; {option('held_out', 'DATA')} or {option('split', 'train')} would be right")
        selection = own.train
        own.notes.append(f"{selection.images.name} has no held-out images: these are the training images")
    return selection, own.notes


def _own_at(run: RunFolder[Any], place: str) -> OwnImages | None:
    """The run's own images at a place, or None where others are there."""
    if not run.meta.get("data"):
        return None
    try:
        if is_picture(place):
            return None
        source = open_data(place, real=run.space.levels is None)
        if source != run.recipe.data and not is_kind(run.recipe.data, source):
            return None
        own = OwnImages(run, place)
        _ = own.train
    except (Missing, OtherImages):
        return None
    return own


def _text(source: Any) -> str:
    """Which data it is; of a split its source, without the bounds that drew it."""
    if isinstance(source, TrainTestSplit):
        return f"{_text(source.source)}, {'held out' if source.split == 'test' else source.split}"
    return repr(without_folders(source))
