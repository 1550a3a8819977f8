"""Images of a map-style data set of torch, or whatever has a length and items: read once, exactly, or refused."""

import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np

from diffprob.base.checks import MOST, shown, text, whole
from diffprob.base.errors import FieldError, InputError, Missing, did_you_mean
from diffprob.base.levels import MOST_BANDS, MOST_LEVELS, level_dtype
from diffprob.base.text import one_line
from diffprob.data.formats.files import blank_pixels, whole_labels
from diffprob.data.images import Images, Pixels

IMAGE_KEYS = ("image", "images", "img", "pixel_values", "pixels", "x")
LABEL_KEYS = ("label", "labels", "class", "target", "y")
AGAIN = 8  # items that are read a second time: a data set whose items change has no digest
Key = int | str | None

_READ: "weakref.WeakValueDictionary[str, Images]" = weakref.WeakValueDictionary()  # of this process, by their digest


@dataclass(frozen=True)
class FromDataset:
    """The images of a map-style data set (`torch.utils.data.Dataset`): ``len(dataset)`` items ``dataset[i]``.

    An item is an image, a tuple that begins with one and may go on with its label, or a dict. An image is a tensor, an
    array or a Pillow picture, (C, H, W), (H, W, C) or (H, W): whole numbers are grey levels, floats are level/(K - 1)
    in [0, 1], as torchvision's ``ToTensor`` makes them of 256 levels. Nothing is rounded: any other float is refused.
    The data set is read when this is made, in its order, so that which images a step sees is a function of (seed, step)
    as for every other source, and random changes of the images belong into ``training.augment``.

    A recipe keeps the digest of the images, not the data set: who goes on with a run in another session makes this
    again of the same data set.

    Args:
        dataset: it; None: the images of ``digest``, which this session has read before.
        image, label: key, or place in a tuple, of the image and of its label in an item; None: the usual ones. A label
            is a whole number or the name of a class.
        levels: number K of grey levels, up to 65,536.
        name: for messages; by default that of the data set's class.
        digest: `Images.digest` of the images: what a recipe knows them by.

    Raises:
        ValueError: a field out of its range.
        InputError: no such data set, or items that are no images, or not exactly images of grey levels.
    """

    dataset: Any = field(default=None, repr=False, compare=False)
    image: Key = None
    label: Key = None
    levels: int = 256
    name: str = ""
    digest: str = ""

    def __post_init__(self) -> None:
        for name in ("image", "label"):
            key = getattr(self, name)
            if isinstance(key, str):
                text(name, key, 0)
            else:
                whole(name, key, -MOST, none=True)
        whole("levels", self.levels, 2, MOST_LEVELS)
        text("name", self.name, 0)
        text("digest", self.digest, 0, 64)
        if self.dataset is None:
            if not self.digest:
                raise FieldError("dataset", "must be a data set with a length and items, or digest that of one")
            return
        images = self._read()
        if self.digest not in ("", digest := images.digest()):
            raise InputError(
                f"{images.name}: not the images of before (sha256 {digest[:12]}, not {self.digest[:12]}); the same "
                "data set, or none of this digest, would be right"
            )
        images = _READ.setdefault(digest, images)
        for name, value in (("name", images.name), ("digest", digest), ("_images", images)):
            object.__setattr__(self, name, value)
        with suppress(TypeError):  # of a list, say, which lives while this source does
            weakref.finalize(self.dataset, _release, images).atexit = False  # kept while the data set is there

    def load(self) -> Images:
        """The images, uint8 or uint16 (N, C, H, W).

        Raises:
            Missing: they are not of this session.
        """
        images = getattr(self, "_images", None) or _READ.get(self.digest)
        if images is None:
            raise Missing(
                f"{self.name or 'a data set'} was given in Python (sha256 {self.digest[:12]}): dp.FromDataset(dataset) "
                "of the same images, made in this session, would be right"
            )
        return images

    def _read(self) -> Images:
        dataset = self.dataset
        called = self.name or type(dataset).__name__
        if isinstance(dataset, str | bytes | Mapping) or not all(
            hasattr(dataset, name) for name in ("__len__", "__getitem__")
        ):
            raise InputError(
                f"{shown(dataset)} has no length or no items: a map-style torch.utils.data.Dataset would be right"
            )
        try:
            count = len(dataset)
        except Exception as error:  # whatever another's data set does
            why = f"{type(error).__name__}: {one_line(error, 120)}"
            right = "len(dataset) would be right"
            raise InputError(f"{called} does not say how many items it has ({why}): {right}") from error
        if not count:
            raise InputError(f"{called} is empty: one item or more would be right")
        pixels, labels = None, []
        for index in range(count):
            levels, label = self._item(index, called)
            if pixels is None:
                size = (*levels.shape[:-1], levels.shape[-1] * levels.itemsize)
                pixels = blank_pixels((count, *size)).view(levels.dtype)
            if levels.shape != pixels.shape[1:]:
                shapes = f"{levels.shape}, and item 0 {pixels.shape[1:]}"
                raise InputError(f"{called}: item {index} has the shape {shapes}: one shape would be right")
            pixels[index] = levels
            labels.append(label)
        assert pixels is not None
        for index in np.unique(np.linspace(0, count - 1, AGAIN).astype(int)).tolist():
            if not np.array_equal(self._item(index, called)[0], pixels[index]):
                raise InputError(
                    f"{called}: item {index} is another image when it is read again: the same one would be right, and "
                    "random changes in training.augment"
                )
        numbers, names = _labels(labels, dataset, called)
        return Images(pixels, numbers, self.levels, called, class_names=names)

    def _item(self, index: int, called: str) -> tuple[Pixels, int | str | None]:
        """Grey levels (C, H, W) and label of an item."""
        where = f"{called}: item {index}"
        try:
            item = self.dataset[index]
        except Exception as error:  # whatever another's data set does
            why = f"{type(error).__name__}: {one_line(error, 120)}"
            raise InputError(f"{where} is not given ({why}); an image would be right") from error
        if isinstance(item, Mapping):
            image = _entry(item, self.image, IMAGE_KEYS, "image", where)
            label = _entry(item, self.label, LABEL_KEYS, "label", where)
        elif isinstance(item, tuple | list):
            image = _entry(item, self.image, (0,), "image", where)
            label = _entry(item, self.label, (1,), "label", where)
        else:
            image, label = item, None
        if image is None:
            has = ", ".join(map(str, item)) if isinstance(item, Mapping) else "no entries"
            raise InputError(f'{where} has {has}: no image is found; image="key" would be right')
        named = _label(label)
        if named is None and self.label is not None:
            raise InputError(f"{where}: the label is {shown(label)}; a whole number or a name would be right")
        return _grey_levels(image, self.levels, where), named


def _release(images: Images) -> None:
    """Of `weakref.finalize`, which holds the images until the data set goes."""


def _entry(item: Any, chosen: Key, usual: tuple[Any, ...], what: str, where: str) -> Any:
    """The entry of an item that is chosen, or the first of the usual ones; None where there is none of these.

    Raises:
        InputError: the chosen one is not there.
    """
    has: Callable[[Any], bool] = (
        item.__contains__
        if isinstance(item, Mapping)
        else lambda key: isinstance(key, int) and -len(item) <= key < len(item)
    )
    if chosen is None:
        return next((item[key] for key in usual if has(key)), None)
    if not has(chosen):
        known = [str(key) for key in (item if isinstance(item, Mapping) else range(len(item)))]
        raise InputError(
            f"{where} has no {chosen!r} for the {what}: it has {', '.join(known)}{did_you_mean(str(chosen), known)}"
        )
    return item[chosen]


def _label(label: Any) -> int | str | None:
    """A label as a number or a name; None where it is neither."""
    if isinstance(label, str | Integral):
        return label if isinstance(label, str) else int(label)
    if getattr(label, "ndim", None) == 0 and hasattr(label, "item") and isinstance(number := label.item(), int | str):
        return number
    return None


def _labels(
    labels: list[int | str | None], dataset: Any, called: str
) -> tuple["np.ndarray[Any, Any] | None", tuple[str, ...]]:
    """Labels int64 (N,) and names of the classes, as far as the data set says some.

    Raises:
        InputError: some items have labels, or names, and others none.
    """
    kinds = {type(label) for label in labels}
    if kinds == {type(None)}:
        return None, ()
    if len(kinds) > 1:
        at = next(index for index, label in enumerate(labels) if type(label) is not type(labels[0]))
        raise InputError(
            f"{called}: the labels of the items 0 and {at} are {shown(labels[0])} and {shown(labels[at])}: of one "
            "kind, or none, would be right"
        )
    if kinds == {str}:
        names = tuple(sorted({str(label) for label in labels}))
        place = {name: index for index, name in enumerate(names)}
        return np.array([place[str(label)] for label in labels], np.int64), names
    numbers = whole_labels(np.array(labels), called)
    inner = getattr(dataset, "dataset", None)  # of torch's Subset
    known = getattr(dataset, "classes", getattr(inner, "classes", None))
    if not isinstance(known, list | tuple) or not all(isinstance(name, str) for name in known):
        return numbers, ()
    fits = len(set(known)) == len(known) and int(numbers.min()) >= 0 and int(numbers.max()) < len(known)
    return numbers, tuple(known) if fits else ()


def _grey_levels(image: Any, levels: int, where: str) -> Pixels:
    """An image as uint8 or uint16 (C, H, W).

    Raises:
        InputError: no image, or one that is not exactly grey levels.
    """
    mode = getattr(image, "mode", None)
    if isinstance(mode, str) and hasattr(image, "getbands") and mode not in ("L", "RGB", "I;16"):
        raise InputError(f'{where} is a picture of mode {mode}: image.convert("RGB") would be right')
    try:
        array = image.detach().cpu().numpy() if hasattr(image, "detach") else np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{where} is {shown(image)}, no image: a tensor or an array would be right") from error
    if array.ndim not in (2, 3) or not array.size or array.dtype.kind not in "buif":
        kind = f"{array.dtype} {array.shape}"
        raise InputError(f"{where} is {kind}, no image: numbers (C, H, W), (H, W, C) or (H, W) would be right")
    array = array[None] if array.ndim == 2 else _channels_first(array, where)
    return np.ascontiguousarray(_exact(array, levels, where))


def _channels_first(array: "np.ndarray[Any, Any]", where: str) -> "np.ndarray[Any, Any]":
    for counts in ((1, 3), range(1, MOST_BANDS + 1)):
        first, last = array.shape[0] in counts, array.shape[2] in counts
        if first != last:
            break
    else:
        wrong = "may be (C, H, W) or (H, W, C)" if first else f"has no axis of 1 to {MOST_BANDS} channels"
        raise InputError(f"{where}: the shape {array.shape} {wrong}; (C, H, W) without doubt would be right")
    return array if first else array.transpose(2, 0, 1)


def _exact(array: "np.ndarray[Any, Any]", levels: int, where: str) -> Pixels:
    """The grey levels 0..levels - 1 that the numbers are.

    A float is a level when it is the number of its own type, or of float32, that is nearest to level/(levels - 1).
    """
    top = levels - 1
    if array.dtype.kind != "f":
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > top:
            hint = f"; levels={high + 1} at least" if low >= 0 and high < MOST_LEVELS else ""
            raise InputError(f"{where}: levels from {low} to {high}; 0 to {top} would be right{hint}")
        return array.astype(level_dtype(levels))
    if not np.isfinite(array).all():
        raise InputError(f"{where} is not finite: floats in [0, 1] would be right")
    nearest = np.rint(np.clip(array.astype(np.float64), 0, 1) * top)
    is_level = np.zeros(array.shape, bool)
    for kind in {array.dtype, np.dtype(np.float32)}:
        is_level |= array == (nearest.astype(kind) / kind.type(top))
    if not is_level.all():
        value = array[~is_level].flat[0]
        what = f"none of the {levels} grey levels k/{top}"
        right = "uint8, or ToTensor without Normalize, would be right"
        raise InputError(f"{where}: {float(value):.6g} is {what}; {right}")
    return nearest.astype(level_dtype(levels))
