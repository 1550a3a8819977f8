"""The condition of a caption: words to numbers."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import real, several, shown, text, whole
from diffprob.base.errors import FieldError, InputError, did_you_mean

MOST_WORDS, MOST_LENGTH = 100_000, 1000


@dataclass(frozen=True)
class Captions:
    """A caption as the numbers 1..len(words) of its words, int64 (B, length); 0 is padding, and a row of it no caption.

    Args:
        words: every word a caption may have, in lower case.
        length: words of the longest caption.
        drop: probability that training replaces the caption by none, so that one network models p(x|c) and p(x); 0: it
            is never without one.
        examples: captions to draw in pictures, in turn; none: pictures of no caption, which needs ``drop``.

    Exact when: always; ``text(tokens(caption))`` is the caption in lower case.

    Reference: Ho & Salimans, "Classifier-free diffusion guidance" (2022), algorithm 1.
    """

    words: tuple[str, ...]
    length: int = 8
    drop: float = 0.1
    examples: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        several("words", self.words, text, 1, MOST_WORDS, "('two', 'sevens')")
        several("examples", self.examples, text, 0, MOST_WORDS, "('two sevens',)")
        if len(set(self.words)) < len(self.words):
            raise FieldError("words", f"must be different words, at least one, got {shown(self.words)}")
        for word in self.words:
            if word.lower().split() != [word]:
                raise FieldError("words", f"must be single words in lower case, got {shown(word)}")
        whole("length", self.length, 1, MOST_LENGTH)
        real("drop", self.drop, "[0, 1)")
        if not self.drop and not self.examples:
            raise FieldError("examples", "must be given where drop is 0: there is no empty caption to draw")
        for caption in self.examples:
            try:
                self._numbers(caption)
            except InputError as error:
                raise FieldError("examples", f"must be captions: {error}") from error

    def tokens(self, caption: str) -> Tensor:
        """The row (1, length) of a caption, for `NetDenoiser.condition_on`.

        Raises:
            InputError: an unknown word, or too many of them.
        """
        return torch.tensor([self._numbers(caption)])

    def text(self, rows: Tensor) -> list[str]:
        """The captions of rows (B, length)."""
        return [" ".join(self.words[k - 1] for k in row if k) for row in rows.tolist()]

    def from_dataset(self, images: Any) -> np.ndarray:
        """The captions of the images, int64 (N, length).

        Raises:
            InputError: the data has none, or one with an unknown word or too many.
        """
        captions = getattr(images, "captions", None)
        name = getattr(images, "name", "the data")
        if captions is None:
            raise InputError(f"{name} has no captions, and Captions(...) needs one for every image")
        rows: dict[str, tuple[int, ...]] = {}
        for index, caption in enumerate(captions):
            if caption not in rows:
                try:
                    rows[caption] = self._numbers(caption)
                except InputError as error:
                    raise InputError(f"{name}, image {index}: {error}") from error
        return np.array([rows[caption] for caption in captions], np.int64).reshape(-1, self.length)

    def from_images(self, x0: Tensor) -> Tensor:
        """Captions come from the data alone.

        Raises:
            TypeError: always.
        """
        raise TypeError("captions are read from the data, not from the images")

    def check(self, rows: Tensor) -> None:
        """Refuse what is not int64 (B, length) of numbers of words, then padding; or no words, where drop is 0.

        Raises:
            InputError: another shape, type, range or order.
        """
        if rows.dtype != torch.int64 or rows.ndim != 2 or rows.shape[1] != self.length:
            raise InputError(f"captions must be int64 (B, {self.length}), got {rows.dtype} {tuple(rows.shape)}")
        if not rows.numel():
            return
        if int(rows.min()) < 0 or int(rows.max()) > len(self.words):
            wrong = int(rows.min()) if int(rows.min()) < 0 else int(rows.max())
            raise InputError(f"{wrong} is no word's number: they are 1 to {len(self.words)}, and 0 for padding")
        if bool(((rows[:, :-1] == 0) & (rows[:, 1:] != 0)).any()):
            raise InputError("a caption's padding must come after its words")
        if not self.drop and not bool(rows.any(1).all()):
            raise InputError(_NEVER)

    def example_rows(self, n: int) -> Tensor:
        """The examples in turn, int64 (n, length); where there are none, no caption."""
        if not self.examples:
            return self.null().repeat(n, 1)
        return torch.tensor([self._numbers(self.examples[k % len(self.examples)]) for k in range(n)])

    def null(self) -> Tensor:
        """The row (1, length) of no words.

        Raises:
            InputError: training never dropped a caption.
        """
        if not self.drop:
            raise InputError(_NEVER)
        return torch.zeros(1, self.length, dtype=torch.int64)

    def _numbers(self, caption: str) -> tuple[int, ...]:
        known, tokens = _numbered(self.words), caption.lower().split()
        for word in tokens:
            if word not in known:
                hint = did_you_mean(word, self.words)
                raise InputError(f"{word!r} in {caption!r} is none of the {len(self.words)} words it can be told{hint}")
        if not tokens:
            raise InputError("a caption must have words; the empty one is null()")
        if len(tokens) > self.length:
            raise InputError(f"{caption!r} has {len(tokens)} words, at most {self.length} can be told")
        return (*(known[word] for word in tokens), *(0,) * (self.length - len(tokens)))


_NEVER = "there is no empty caption: a network trained with drop above 0 also models images of any caption"


@lru_cache
def _numbered(words: tuple[str, ...]) -> dict[str, int]:
    return {word: number for number, word in enumerate(words, 1)}
