"""Text as data: windows of one file, the last tenth held out, characters that a recipe keeps."""

from pathlib import Path

import numpy as np
import pytest

import diffprob as dp
from diffprob.base.errors import InputError, Missing
from diffprob.data.combined import held_out_source
from diffprob.data.kinds import open_data
from diffprob.data.text import Text

LINES = "".join(f"line {k} says hello\r\n" for k in range(60))


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_bytes(("\ufeff" + LINES).encode())
    return path


def test_windows_are_the_text_and_the_last_tenth_is_held_out(book: Path) -> None:
    whole = LINES.replace("\r\n", "\n")
    source = open_data(str(book))
    assert isinstance(source, Text) and source.alphabet() == "".join(sorted(set(whole)))
    train, test, every = (Text(str(book), 16, split).load() for split in ("train", "test", "all"))
    space = dp.Tokens((1, 1, 16), train.levels, source.alphabet())
    cut = len(whole) - len(whole) // 10
    for images, part in ((train, whole[:cut]), (test, whole[cut:]), (every, whole)):
        assert images.pixels.shape == (len(part) // 16, 1, 1, 16) and images.levels == len(set(whole))
        assert "".join(space.text(images.pixels)) == part[: len(part) // 16 * 16]
    assert held_out_source(Text(str(book), 16)).load().digest() == test.digest()


def test_kept_characters_decide_the_levels(book: Path) -> None:
    found = Text(str(book)).alphabet()
    other = Text(str(book), 16, characters=found + "~").load()
    assert other.levels == len(found) + 1
    assert np.array_equal(other.pixels, Text(str(book), 16).load().pixels)
    with pytest.raises(InputError, match="the character 'l' is none of"):
        Text(str(book), 16, characters=found.replace("l", "~")).load()


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"\xff\xfe\x00", "no text in UTF-8"),
        (b"aaaa" * 100, "1 different characters"),
        ("".join(chr(300 + k) for k in range(400)).encode(), "400 different characters"),
        (b"short, really", "smaller length"),
    ],
)
def test_what_is_no_text_to_learn_from_is_one_line(tmp_path: Path, contents: bytes, message: str) -> None:
    path = tmp_path / "odd.txt"
    path.write_bytes(contents)
    with pytest.raises(InputError, match=message):
        Text(str(path)).load()
    with pytest.raises(Missing):
        Text(str(tmp_path / "none.txt")).load()
    for field in ({"length": 1}, {"split": "half"}, {"characters": "aa"}):
        with pytest.raises(ValueError, match=next(iter(field))):
            Text("book.txt", **field)


def test_space_of_characters_writes_text_and_refuses_pictures() -> None:
    space = dp.Tokens((1, 1, 3), 2, "ab")
    assert space.text(np.array([[0, 1, 1], [1, 0, 0]])) == ["abb", "baa"]
    with pytest.raises(InputError, match="writes text"):
        space.require_images("evaluation")
    dp.Tokens((1, 1, 3), 2).require_images("evaluation")
    with pytest.raises(InputError, match="no characters"):
        dp.Tokens((1, 1, 3), 2).text(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="characters must be 3"):
        dp.Tokens((1, 1, 3), 3, "ab")
