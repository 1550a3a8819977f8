"""Files that were sent to the studio: kept for as long as something is done with them, under a name of our own."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from diffprob.base.errors import InputError
from diffprob.storage.files import write_file

KINDS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".npy", ".npz")


@dataclass(frozen=True)
class Upload:
    """A file.

    Args:
        name: as it was sent; of it the ending alone decides anything.
        content: of the file.

    Raises:
        InputError: a file of another kind.
    """

    name: str
    content: bytes

    def __post_init__(self) -> None:
        if self.suffix not in KINDS:
            got = self.suffix or repr(self.shown)
            raise InputError(f"a picture or an array would be right ({', '.join(KINDS)}), got a file {got}")

    @property
    def shown(self) -> str:
        """Its name, without folders."""
        return Path(self.name).name

    @property
    def suffix(self) -> str:
        """The ending."""
        return Path(self.name).suffix.lower()

    @contextmanager
    def kept(self) -> Iterator[str]:
        """Inside, the file lies there; what is said of that place is said of the name that was sent.

        Raises:
            InputError: what comes from within, in the words of who sent the file.
        """
        with tempfile.TemporaryDirectory(prefix="diffprob-studio-") as folder:
            path = Path(folder) / f"upload{self.suffix}"
            write_file(path, [self.content])
            try:
                yield str(path)
            except InputError as error:
                raise InputError(str(error).replace(str(path), self.shown)) from error
