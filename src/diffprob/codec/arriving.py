"""Symbols from bytes that are still arriving: as soon as nothing that may follow says others."""

from typing import Any

import numpy as np

from diffprob.codec.container import Head, Source
from diffprob.codec.entropy import Incomplete, Reader, SymbolLaw, Writer


class Arriving(Reader):
    """Bytes of a group become symbols, and more of them are waited for where they do not suffice.

    Args:
        rest: of the file, at the first byte of the stream.
        head: what stood before it.

    Raises:
        Damaged: a stream that has all its bytes, and some of them are others.
    """

    def __init__(self, rest: Source, head: Head) -> None:
        self._rest, self._head, self._start = rest, head, rest.at
        self._written = Writer()  # the symbols again, which says where in the bytes they end
        self._load()

    @property
    def needed(self) -> int:
        """Bytes that say the symbols so far."""
        return self._written.size

    def get(self, law: SymbolLaw) -> np.ndarray:
        """The next symbols, (n,) int32.

        Raises:
            Damaged: see `Reader.get`.
            Incomplete: no more bytes arrive.
        """
        while True:
            before = [coder.clone() for coder in self._coders]
            try:
                symbols = super().get(law)
            except Incomplete:
                if not self._rest.pull():
                    self._coders: list[Any] = before
                    raise
                self._load()
                continue
            self._written.put(symbols, law)
            return symbols

    def _load(self) -> None:
        stream = bytes(self._rest.data[self._start : self._start + self._head.length])
        super().__init__(stream, self._head.group(stream).complete)
        for coder in self._coders:
            coder.seek(*self._written.place)
