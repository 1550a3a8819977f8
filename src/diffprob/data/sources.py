"""Where images come from: frozen dataclasses of literals whose repr is what a recipe and a checkpoint keep."""

from dataclasses import dataclass
from importlib import resources

import numpy as np

from diffprob.base.checks import one_of, text, whole
from diffprob.base.levels import MOST_BANDS, check_levels
from diffprob.data.formats.arrays import read_array_file
from diffprob.data.formats.binary import read_cifar, read_svhn
from diffprob.data.formats.files import existing
from diffprob.data.formats.folder import read_folder
from diffprob.data.formats.hub import read_hub
from diffprob.data.formats.idx import read_idx
from diffprob.data.formats.pages import of_levels, read_pages_file
from diffprob.data.formats.pictures import FILTERS, Tally
from diffprob.data.images import Images

MOST_SIDE = 8192  # pixels to which pictures are scaled


def _picture_options(size: object, channels: object, resample: object) -> None:
    whole("size", size, 2, MOST_SIDE, none=True)
    whole("channels", channels, 1, MOST_BANDS)
    one_of("resample", resample, FILTERS)


@dataclass(frozen=True)
class Digits:
    """The embedded handwritten digits: 1,797 images of 8x8 in 17 grey levels, from scikit-learn's `load_digits`.

    They are the test set of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998, CC BY 4.0).

    Args:
        split: "test" is every fifth image (index % 5 == 0, 360 images), "train" the other 1,437, "all" both.
    """

    split: str = "train"

    def __post_init__(self) -> None:
        one_of("split", self.split, ("train", "test", "all"))

    def load(self) -> Images:
        """Read the digits from the package."""
        packed = resources.files("diffprob.data") / "digits.npz"
        with packed.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            pixels, labels = stored["images"][:, None], stored["labels"].astype(np.int64)
        held_out = np.arange(len(pixels)) % 5 == 0
        chosen = {"train": ~held_out, "test": held_out, "all": np.ones_like(held_out)}[self.split]
        return Images(pixels[chosen], labels[chosen], 17, f"digits/{self.split}", class_names=tuple("0123456789"))


@dataclass(frozen=True)
class Idx:
    """MNIST, Fashion-MNIST, EMNIST and their like: idx files, plain or .gz, memory-mapped.

    Args:
        path: folder with ``train-images-idx3-ubyte(.gz)`` and its like, or one file of images, which is taken whole.
        split: "train" or "test" (the files called t10k, or test).
    """

    path: str
    split: str = "train"

    def __post_init__(self) -> None:
        text("path", self.path)
        one_of("split", self.split, ("train", "test"))

    def load(self) -> Images:
        """Map the files; see `formats.idx` for what is refused."""
        return read_idx(existing(self.path), self.split)


@dataclass(frozen=True)
class Cifar10:
    """CIFAR-10, binary version.

    Args:
        path: folder with ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``, or one such file.
        split: "train" or "test".
    """

    path: str
    split: str = "train"

    def __post_init__(self) -> None:
        text("path", self.path)
        one_of("split", self.split, ("train", "test"))

    def load(self) -> Images:
        """Read the batches into memory."""
        return read_cifar(existing(self.path), self.split, 10)


@dataclass(frozen=True)
class Cifar100:
    """CIFAR-100, binary version, with the 100 fine labels.

    Args:
        path: folder with ``train.bin`` and ``test.bin``, or one such file.
        split: "train" or "test".
    """

    path: str
    split: str = "train"

    def __post_init__(self) -> None:
        text("path", self.path)
        one_of("split", self.split, ("train", "test"))

    def load(self) -> Images:
        """Read the file into memory."""
        return read_cifar(existing(self.path), self.split, 100)


@dataclass(frozen=True)
class Svhn:
    """SVHN's cropped digits (format 2).

    Args:
        path: folder with ``train_32x32.mat`` and its like, or one such file.
        split: "train", "test" or "extra".
    """

    path: str
    split: str = "train"

    def __post_init__(self) -> None:
        text("path", self.path)
        one_of("split", self.split, ("train", "test", "extra"))

    def load(self) -> Images:
        """Read the file; label 10 becomes 0."""
        return read_svhn(existing(self.path), self.split)


@dataclass(frozen=True)
class Folder:
    """A folder of pictures (`formats.pictures.KINDS`), searched recursively; the first sub-folder's name is the class.

    Args:
        path: the folder; sub-folders train and test, or of other usual names in any case, are its splits
            (`formats.splits`).
        size: the shorter side is scaled to this, then the centre cropped; None takes equal sizes as they are.
        channels: 1 (greyscale) or 3 (RGB); 2 and 4 keep transparency, which is else put on white, and any number up to
            16 is that of the bands of TIFF files.
        split: "train", "test" or "all".
        resample: Pillow's filter for the scaling: box, bilinear, hamming, bicubic or lanczos.
        levels: K, above all that occur; None: 256, or 65,536 of pictures of 16 bits.
    """

    path: str
    size: int | None = None
    channels: int = 3
    split: str = "train"
    resample: str = "bicubic"
    levels: int | None = None

    def __post_init__(self) -> None:
        text("path", self.path)
        _picture_options(self.size, self.channels, self.resample)
        one_of("split", self.split, ("train", "test", "all"))
        check_levels(self.levels)

    def load(self) -> Images:
        """Decode every image; the notes count what was resized, cropped, turned, composited and converted."""
        tally = Tally(self.size, self.resample, self.channels)
        return of_levels(read_folder(existing(self.path), self.split, tally), self.levels)


@dataclass(frozen=True)
class Pages:
    """One file of several pictures, each an image: the pages of a TIFF, the frames of a GIF, PNG or WebP.

    Args:
        path: the file.
        size, channels, resample, levels: as for `Folder`.
        split: "train" or "all": one file has no test part.
    """

    path: str
    size: int | None = None
    channels: int = 3
    split: str = "train"
    resample: str = "bicubic"
    levels: int | None = None

    def __post_init__(self) -> None:
        text("path", self.path)
        _picture_options(self.size, self.channels, self.resample)
        one_of("split", self.split, ("train", "test", "all"))
        check_levels(self.levels)

    def load(self) -> Images:
        """Decode every page or frame."""
        tally = Tally(self.size, self.resample, self.channels)
        return of_levels(read_pages_file(existing(self.path), self.split, tally), self.levels)


@dataclass(frozen=True)
class Array:
    """An .npy or .npz file of whole numbers 0..65535 or bool, or of floats in [0, 1] or [-1, 1], as 256 levels.

    Args:
        path: the file; shapes (N, H, W), (N, C, H, W) and (N, H, W, C); .npz keys images, x or arr_0, and labels or y.
        split: "train" or "all" is the whole file; keys such as x_train, x_test, train_images give an .npz its splits
            (`formats.splits`).
        channels: how many there are, which says the axis where the shape leaves a doubt; None: it leaves none.
        levels: K of whole numbers, above all that occur; None: 2 of bool, else all that a byte or two hold.
    """

    path: str
    split: str = "train"
    channels: int | None = None
    levels: int | None = None

    def __post_init__(self) -> None:
        text("path", self.path)
        one_of("split", self.split, ("train", "test", "all"))
        whole("channels", self.channels, 1, MOST_BANDS, none=True)
        check_levels(self.levels)

    def load(self) -> Images:
        """Read or map the file."""
        return read_array_file(existing(self.path), self.split, self.channels, self.levels)


@dataclass(frozen=True)
class HuggingFace:
    """A data set of the Hugging Face hub; needs the extra ``datasets``.

    Args:
        name: name on the hub, for instance "ylecun/mnist".
        split: any split the data set has.
        column: the column of images; a column called "label" gives the labels.
        size, channels, resample: as for `Folder`.
    """

    name: str
    split: str = "train"
    column: str = "image"
    size: int | None = None
    channels: int = 3
    resample: str = "bicubic"

    def __post_init__(self) -> None:
        text("name", self.name)
        text("split", self.split)
        text("column", self.column)
        _picture_options(self.size, self.channels, self.resample)

    def load(self) -> Images:
        """Download or reuse the data set and decode every image."""
        return read_hub(self.name, self.split, self.column, Tally(self.size, self.resample, self.channels))
