"""A stack of symbols: the last one that was put is the first one taken, and taking draws from a law with bits.

Asymmetric numeral systems (Duda 2009), of constriction (Bamler 2022): taking a symbol under a law from bits that are
random is a draw from it, and putting the symbol back under the same law gives these bits back, to the last one.
"""

import numpy as np

from diffprob.base.errors import InputError, NumericalError
from diffprob.base.rng import Rng
from diffprob.codec.entropy import WORD, Damaged, Guarded, Incomplete, Refused, SymbolLaw, coding, put_parts

SPARE = 2  # words that are left at least


class Empty(InputError):
    """More was taken than the stack has."""


def shared_words(n: int) -> np.ndarray:
    """n random words that both sides know, uint32, of which none is 0."""
    return (Rng.of(0, 1).fold("bits back").bits((n,))[0].numpy() & 0xFFFFFFFF).astype(np.uint32) | np.uint32(1)


class Stack:
    """Symbols on symbols.

    Args:
        words: what lies at the bottom, uint32, the last one not 0.
    """

    def __init__(self, words: np.ndarray) -> None:
        self.begin(words)

    def begin(self, words: np.ndarray) -> None:
        """Begin anew, with other words."""
        self.first = 32.0 * len(words)  # bits that it was begun with
        self.levels = 0.0  # bits of the levels of images
        self._coder = coding().stack.AnsCoder(np.ascontiguousarray(words, dtype=np.uint32))

    @classmethod
    def of(cls, data: bytes) -> "Stack":
        """The stack in the bytes that `data` gave.

        Raises:
            Damaged: there is none in them.
        """
        data = data.rstrip(b"\0")  # a short one may have been filled up
        words = np.frombuffer(data + bytes(-len(data) % WORD), dtype="<u4").astype(np.uint32)
        if not len(words):
            raise Damaged("the bytes are damaged: they hold no stack of symbols")
        return cls(words)

    def put(self, symbols: np.ndarray, law: SymbolLaw) -> None:
        """Put symbols (n,) under their laws on top.

        Raises:
            ValueError: another number of symbols than of laws, or one that its law has not.
        """
        put_parts(symbols, law, self._coder.encode_reverse, last_first=True)

    def get(self, law: SymbolLaw) -> np.ndarray:
        """Take the topmost symbols, (n,) int32, those of a `put` under the same laws.

        Raises:
            Empty: there was not so much.
            NumericalError: laws that have no symbols, as of means that are no numbers.
        """
        try:
            with Guarded():
                taken = [self._coder.decode(family, *parameters) for _, family, parameters in law.parts()]
        except Refused as error:
            raise NumericalError(f"a law that has no symbols: {error}") from None
        if self._coder.num_words() < SPARE:
            raise Empty("more was taken than the stack has")
        return np.concatenate(taken) if taken else np.zeros(len(law), dtype=np.int32)

    @property
    def bits(self) -> float:
        """That the stack has, to within a word; at once."""
        return float(self._coder.num_valid_bits())

    @property
    def size(self) -> int:
        """Bytes of `data`, to within a word; at once."""
        return WORD * int(self._coder.num_words())

    def words(self) -> np.ndarray:
        """All of it, uint32."""
        return self._coder.get_compressed()

    def data(self) -> bytes:
        """All of it as bytes, without the zeros at the end."""
        return self.words().astype("<u4").tobytes().rstrip(b"\0")


class Beginning(Stack):
    """The first bytes of a stack, which say nothing: what comes first was put last."""

    def __init__(self) -> None:
        super().__init__(np.ones(1, dtype=np.uint32))

    def get(self, law: SymbolLaw) -> np.ndarray:
        """There is nothing to take.

        Raises:
            Incomplete: always.
        """
        raise Incomplete(np.zeros(0, dtype=np.int32))
