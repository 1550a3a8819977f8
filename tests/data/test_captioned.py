"""Captions of images, and the scenes of digits: what a caption says is read off the pixels by a rule of its own."""

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diffprob.data import Digits, Images
from diffprob.data.captioned import WORDS, CaptionedDigits, slots

COUNT = 1500
IMAGES = {split: CaptionedDigits(split, count=COUNT).load() for split in ("train", "test")}


def small(image: np.ndarray) -> np.ndarray:
    """6x6 from 8x8 by area: every old pixel cut into 3x3, every new one the mean of 4x4 of those."""
    fine = np.kron(image, np.ones((3, 3)))
    return np.floor(fine.reshape(6, 4, 6, 4).mean((1, 3)) + 0.5).astype(np.uint8)


def seen(images: Images, split: str) -> list[tuple[tuple[str, int] | None, ...]]:
    """(size, digit) in each slot of each image, or None: by a look at every digit that it could be."""
    known: dict[bytes, tuple[str, int]] = {}
    digits = Digits(split).load()
    assert digits.labels is not None
    for image, label in zip(digits.pixels[:, 0], digits.labels, strict=True):
        known[image.tobytes()] = ("large", int(label))
        known[np.pad(small(image), 1).tobytes()] = ("small", int(label))
    return [tuple(known[s.tobytes()] if s.any() else None for s in four) for four in slots(images.pixels)]


@pytest.fixture
def obeys(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """The rule of the script that judges samples by it."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    return importlib.import_module("captions").obeys


@pytest.mark.parametrize("split", IMAGES)
def test_images_match_their_captions(split: str, obeys: Callable[..., bool]) -> None:
    images = IMAGES[split]
    captions = images.captions
    assert captions is not None and (images.event_shape, images.levels, len(captions)) == ((1, 16, 16), 17, COUNT)
    four = seen(images, split)
    assert all(map(obeys, captions, four))
    # The rule can fail: only a tenth of a caption's like would fit a picture by chance.
    assert sum(map(obeys, captions[1:], four[:-1])) < COUNT / 20


def test_caption_kinds_are_equally_frequent() -> None:
    """Each has probability 1/5; 4 standard errors of a share among 1500 are 0.041."""
    captions = IMAGES["train"].captions
    assert captions is not None
    kinds = [(c.split()[0] == "two", "at the" in c, c.count("small") + c.count("large") == 2) for c in captions]
    shares = [kinds.count(kind) / COUNT for kind in set(kinds)]
    assert len(shares) == 5 and max(abs(share - 0.2) for share in shares) < 4 * (0.16 / COUNT) ** 0.5
    words = [word for caption in captions for word in caption.split()]
    assert set(words) == set(WORDS)
    assert max(len(caption.split()) for caption in captions) == 8


def test_only_large_digits_reach_the_edge_of_their_slot() -> None:
    """What a classifier of sizes may rely on."""
    images = IMAGES["train"]
    edge = np.ones((8, 8), bool)
    edge[1:-1, 1:-1] = False
    for four, what in zip(slots(images.pixels), seen(images, "train"), strict=True):
        for slot, content in zip(four, what, strict=True):
            if content is not None:
                assert (slot[edge].max() >= 7) == (content[0] == "large")


def test_image_depends_only_on_its_index() -> None:
    few, images = CaptionedDigits(count=40).load(), IMAGES["train"]
    assert images.captions is not None
    assert few.captions == images.captions[:40]
    assert np.array_equal(few.pixels, images.pixels[:40])
    assert few.captions != CaptionedDigits("test", count=40).load().captions


def test_larger_canvas_has_the_same_corners() -> None:
    wide, images = CaptionedDigits(size=24, count=40).load(), IMAGES["train"]
    assert wide.event_shape == (1, 24, 24)
    assert np.array_equal(slots(wide.pixels), slots(images.pixels[:40]))
    assert wide.pixels.sum() == slots(wide.pixels).sum()


@pytest.mark.parametrize(("field", "value"), [("split", "all"), ("size", 15), ("count", 0)])
def test_invalid_fields_are_errors(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} must be"):
        CaptionedDigits(**{field: value})  # pyright: ignore[reportArgumentType]


PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2)


def test_digest_includes_captions_if_present() -> None:
    """The digest without is the one of versions that knew no captions, kept in old runs."""
    import hashlib

    plain = Images(PIXELS)
    assert plain.digest() == hashlib.sha256(b"(3, 1, 2, 2)" + PIXELS.tobytes()).hexdigest()
    variants = [("a", "b", "c"), ("a", "b", "d"), ("ab", "", "c"), ("a", "bc", "")]
    digests = {dataclasses.replace(plain, captions=captions).digest() for captions in variants}
    assert len(digests | {plain.digest()}) == 5


@pytest.mark.parametrize("wrong", [("a", "b"), ["a", "b", "c"], ("a", "b", 3)])
def test_wrong_number_of_captions_is_an_error(wrong: object) -> None:
    with pytest.raises(ValueError, match="captions must be"):
        Images(PIXELS, captions=wrong)  # pyright: ignore[reportArgumentType]
