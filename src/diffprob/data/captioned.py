"""Scenes of handwritten digits with captions: the smallest data on which a network can learn to follow words."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from diffprob.base.checks import MOST_VALUES, one_of, whole
from diffprob.data.images import Images, Pixels
from diffprob.data.sources import Digits

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PLURALS = ("zeros", "ones", "twos", "threes", "fours", "fives", "sixes", "sevens", "eights", "nines")
SIZES = ("small", "large")
HEIGHTS, SIDES = ("top", "bottom"), ("left", "right")
RELATIONS = ("left of", "right of", "above", "below")
WORDS = ("a", *SIZES, *DIGITS, *PLURALS, "at", "the", "of", *HEIGHTS, *SIDES, "above", "below")

SLOT, SMALL = 8, 6


@dataclass(frozen=True)
class CaptionedDigits:
    """One or two of the embedded digits on an empty canvas, in 17 grey levels, and a caption of at most eight words.

    A digit sits in one of the four slots of 8x8 pixels in the corners, in the order top left, top right, bottom left,
    bottom right (`slots`). A large one fills its slot, a small one its inner 6x6 pixels, so that a classifier of slots
    and their outermost pixels can tell whether an image obeys its caption. The five kinds of caption are equally
    frequent: "a large three", in any slot; "a small seven at the top left"; "two small sevens", side by side or one
    above the other; "two large ones at the bottom"; "a small three left of a large five", also right of, above, below.

    Args:
        split: "train" or "test": scenes of the train or test digits.
        size: height and width of the canvas, at least 16.
        count: scenes; the first are the same for any count.

    Exact when: always; image i is a function of (split, i), and so is its caption.
    """

    split: str = "train"
    size: int = 16
    count: int = 20000

    def __post_init__(self) -> None:
        one_of("split", self.split, ("train", "test"))
        whole("size", self.size, 2 * SLOT, 1024)
        whole("count", self.count, 1, 10**6)
        if self.count * self.size**2 > MOST_VALUES:
            raise ValueError(f"count times size^2 must be at most {MOST_VALUES}, got {self.count} and {self.size}")

    def load(self) -> Images:
        """Read the digits from the package and set the scenes."""
        digits = Digits(self.split).load()
        assert digits.labels is not None
        pools = [digits.pixels[digits.labels == k, 0] for k in range(10)]
        tables = ([_shrunk(pool) for pool in pools], pools)
        pixels = np.zeros((self.count, 1, self.size, self.size), np.uint8)
        corners, captions = _corners(self.size), []
        for image, chosen in zip(pixels[:, 0], _choices(self.split, self.count), strict=True):
            caption, placed = _scene(chosen)
            captions.append(caption)
            for (slot, large, digit), pick in zip(placed, chosen.picks, strict=False):
                pool = tables[large][digit]
                top, left = corners[slot]
                image[top : top + SLOT, left : left + SLOT] = pool[pick % len(pool)]
        return Images(pixels, None, digits.levels, f"captioned-digits/{self.split}", captions=tuple(captions))


def slots(pixels: Pixels) -> Pixels:
    """The four slots of scenes (N, 1, H, W), uint8 (N, 4, 8, 8): top left, top right, bottom left, bottom right."""
    corners = _corners(pixels.shape[-1])
    return np.stack([pixels[:, 0, top : top + SLOT, left : left + SLOT] for top, left in corners], axis=1)


def _corners(size: int) -> tuple[tuple[int, int], ...]:
    far = size - SLOT
    return (0, 0), (0, far), (far, 0), (far, far)


class _Choice(NamedTuple):
    """Every choice that a scene may need; pairs are for its first digit and its second."""

    form: int
    slot: int
    relation: int
    line: int
    sizes: list[int]
    digits: list[int]
    picks: list[int]


def _choices(split: str, count: int) -> Iterator[_Choice]:
    """The choices of scene i are those of the stream with the seed i."""
    from diffprob.base.rng import Rng

    rng = Rng.of(0, count).fold(f"captioned-digits-{split}")
    single = [rng.fold(k).integers((), n) for k, n in (("form", 5), ("slot", 4), ("relation", 4), ("line", 2))]
    pairs = [rng.fold(k).integers((2,), n) for k, n in (("sizes", 2), ("digits", 10), ("picks", 2**31))]
    return (_Choice(*row) for row in zip(*(column.tolist() for column in (*single, *pairs)), strict=True))


def _scene(chosen: _Choice) -> tuple[str, list[tuple[int, int, int]]]:
    """The caption, and (slot, 1 if large, digit) for each digit in it."""
    form, slot, relation, line, (size, other_size), (digit, other), _ = chosen
    one = f"a {SIZES[size]} {DIGITS[digit]}"
    if form <= 1:
        where = f" at the {HEIGHTS[slot // 2]} {SIDES[slot % 2]}" if form else ""
        return one + where, [(slot, size, digit)]
    # Two digits share a row, the top one or the bottom one, or a column.
    level = relation < 2
    first, second = (2 * line, 2 * line + 1) if level else (line, line + 2)
    if form <= 3:
        where = f" at the {(HEIGHTS if level else SIDES)[line]}" if form == 3 else ""
        return f"two {SIZES[size]} {PLURALS[digit]}{where}", [(first, size, digit), (second, size, digit)]
    if relation % 2 == 1:
        first, second = second, first
    caption = f"{one} {RELATIONS[relation]} a {SIZES[other_size]} {DIGITS[other]}"
    return caption, [(first, size, digit), (second, other_size, other)]


def _shrunk(images: Pixels) -> Pixels:
    """Images (N, 8, 8) in the inner 6x6 pixels of their slot: the mean grey over the area of each new pixel.

    In whole numbers, for the data's digest must be the same everywhere: an old pixel is 6 wide, a new one 8.
    """
    old, new = np.arange(SLOT) * SMALL, np.arange(SMALL)[:, None] * SLOT
    shared = np.minimum(new + SLOT, old + SMALL) - np.maximum(new, old)
    weights = shared.clip(0)
    area = SLOT * SLOT
    small = (weights @ images.astype(np.int64) @ weights.T + area // 2) // area
    border = (SLOT - SMALL) // 2
    return np.pad(small.astype(np.uint8), ((0, 0), (border, border), (border, border)))
