"""Plain text as data: windows of characters, each of which is one of K."""

from dataclasses import dataclass

import numpy as np

from diffprob.base.checks import MOST_TEXT, one_of, text, whole
from diffprob.base.errors import FieldError, InputError, Missing
from diffprob.data.formats.files import existing, opened
from diffprob.data.images import Images

MOST_CHARACTERS = 256  # different ones, each of which is a level
MOST_BYTES = 1 << 30
HELD_OUT = 10  # the last part of so many is never trained on


@dataclass(frozen=True)
class Text:
    """A plain file in UTF-8 as windows of characters, one after the other, without overlap.

    A window is an image (1, 1, length) whose levels are places in ``characters``: texts are read, digested, cut into
    batches and drawn as images are. The last tenth of the file is held out: it is another place of the text, where
    windows chosen at random would share sentences with those trained on.

    Args:
        path: the file.
        length: characters of a window.
        split: "train", "test" or "all".
        characters: all different characters in order, which a recipe keeps so that its levels mean the same wherever it
            is opened; "": those of the file, sorted.
    """

    path: str
    length: int = 64
    split: str = "train"
    characters: str = ""

    def __post_init__(self) -> None:
        text("path", self.path)
        whole("length", self.length, 2, 4096)
        one_of("split", self.split, ("train", "test", "all"))
        text("characters", self.characters, 0, MOST_TEXT)
        if len(set(self.characters)) < len(self.characters) or len(self.characters) > MOST_CHARACTERS:
            raise FieldError("characters", f"must be at most {MOST_CHARACTERS} different ones, each once")

    def read(self) -> str:
        """The whole text, its lines ending in a line feed.

        Raises:
            Missing: no such file.
            InputError: it is no text in UTF-8, or too large.
        """
        path = existing(self.path)
        with opened(path) as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise InputError(f"{path}: larger than {MOST_BYTES >> 20:,} MiB; a part of it would be right")
        try:
            return raw.decode("utf-8").replace("\r\n", "\n").removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: no text in UTF-8 (byte {error.start:,} is none); convert it first") from error

    def alphabet(self) -> str:
        """The different characters of the file, sorted.

        Raises:
            InputError: fewer than two, or more than there may be.
        """
        characters = "".join(sorted(set(self.read())))
        if not 2 <= len(characters) <= MOST_CHARACTERS:
            raise InputError(
                f"{self.path}: {len(characters):,} different characters; 2 to {MOST_CHARACTERS} would be right"
            )
        return characters

    def load(self) -> Images:
        """The windows, uint8 (N, 1, 1, length).

        Raises:
            Missing: no such file.
            InputError: as `read` and `alphabet`, a character that is none of ``characters``, or too short a text.
        """
        whole_text, characters = self.read(), self.characters or self.alphabet()
        cut = len(whole_text) - len(whole_text) // HELD_OUT
        part = {"train": whole_text[:cut], "test": whole_text[cut:], "all": whole_text}[self.split]
        count = len(part) // self.length
        if not count:
            what = "no window" if self.split == "all" else f"no window of its {self.split} part"
            raise (Missing if self.split == "test" else InputError)(
                f"{self.path}: {len(whole_text):,} characters, so {what} of {self.length}; a smaller length, or more "
                "text, would be right"
            )
        place = {character: k for k, character in enumerate(characters)}
        if unknown := sorted(set(part) - place.keys()):
            known = f"none of the {len(characters)} of the recipe"
            raise InputError(f"{self.path}: the character {unknown[0]!r} is {known}")
        codes = np.fromiter((place[character] for character in part[: count * self.length]), np.uint8)
        return Images(codes.reshape(count, 1, 1, self.length), levels=len(characters), name=f"{self.path}/{self.split}")
