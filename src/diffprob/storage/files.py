"""Files read and written as what they are: no link is followed, no pipe waited for, no size taken without a bound.

Whoever opens a run opens what somebody else may have made. So a file is read only if it is a regular one, it is opened
without following a link, and its size is compared with a bound before a byte of it is read. A file is written whole or
not at all, under a temporary name that nobody can foresee, and renamed over what was there: a link in its place is
replaced and never written through, and of two writers each leaves a whole file. The folders above the one that a user
named may be links; what lies inside a run may not (`path_within`, `subfolder`).
"""

import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

from diffprob.base.errors import InputError, Missing
from diffprob.base.text import printable

TEMPORARY = ".tmp-"  # what a name begins with until its contents are whole
TEXT_LIMIT = 1 << 20  # bytes of a text that people write, such as a recipe
RECORDS_LIMIT = 64 << 20  # bytes of what programs write as text: inventories, measurements, logs
PICTURE_LIMIT = 256 << 20
TENSORS_LIMIT = 64 << 30
LONGEST_NAME = 200  # bytes of one component that came from outside: systems take 255, and something may be added
STALE_SECONDS = 24 * 3600  # after which nobody is still writing under a temporary name

Entry = dict[str, Any]  # {"sha256": hex, "bytes": n}
Pieces = Iterable[bytes | memoryview]

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}
# Flags that a platform lacks are 0. A pipe is opened without waiting for its writer, and then refused.
_READ = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")
)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_NEW |= sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"))


def kind_of(path: Path) -> str | None:
    """What lies at ``path`` itself: "file", "folder", "link", "pipe", "socket" or "device"; None where nothing does.

    Raises:
        InputError: the system does not say, for instance since a folder above may not be entered.
    """
    try:
        return _KINDS.get(stat.S_IFMT(os.lstat(path).st_mode), "device")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {_reason(error)}") from error


def followed(path: str | Path) -> Path:
    """Where a path leads that the user gave: its links are the user's own, and what lies at its end is no link.

    For data, weights of other tools and settings by name; never for a name that stands in a run.
    """
    return Path(os.path.realpath(path))


def expanded(path: str | Path) -> Path:
    """A path that the user gave, with ``~`` as the user's home: in Python no shell does that.

    Raises:
        InputError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{path}: there is no such user") from error


def is_file(path: Path) -> bool:
    """Whether a regular file lies there (a link to one is none)."""
    return kind_of(path) == "file"


def clean_component(name: str) -> str:
    """``name``, if it can stand for one file or folder in any place and on any screen.

    Raises:
        ValueError: it is empty, "." or "..", has a separator, a character that a terminal would obey or hide, or more
            than 200 bytes.
    """
    if name in {"", ".", ".."} or re.search(r"[/\\]", name) or printable(name) != name:
        raise ValueError(f"a name is one part of a path, of visible characters, got {name!r}")
    if len(name.encode()) > LONGEST_NAME:
        raise ValueError(f"a name has at most {LONGEST_NAME} bytes, got {len(name.encode())}")
    return name


def path_within(folder: Path, name: str) -> Path:
    """The path of ``name``, such as "samples/a.png", in ``folder``; none of the folders between the two is a link.

    Raises:
        InputError: the name leads out of the folder, by itself or by a link.
    """
    parts = name.split("/")
    if any(part in {"", ".", ".."} or "\\" in part or "\0" in part for part in parts) or os.path.isabs(name):
        raise InputError(f"{name!r} is no name of a file in {folder}")
    place = folder
    for part in parts[:-1]:
        place = place / part
        if (kind := kind_of(place)) not in {None, "folder"}:
            raise InputError(f"{place} is a {kind}, and must be a folder of {folder} itself")
    return place / parts[-1]


def subfolder(folder: Path, name: str, make: bool = False) -> Path | None:
    """The folder ``name`` in ``folder``; where nothing is there it is made, or None.

    Raises:
        InputError: something else is there, for instance a link to a folder: it is not followed.
        OSError: it cannot be made.
    """
    place = path_within(folder, name)
    kind = kind_of(place)
    if kind is None and make:
        place.mkdir(exist_ok=True)
        kind = kind_of(place)
    if kind not in {None, "folder"}:
        raise InputError(f"{place} is a {kind}, and must be a folder of {folder} itself")
    return None if kind is None else place


def open_file(path: Path, most: int) -> BufferedReader:
    """A regular file of at most ``most`` bytes, open for reading.

    Raises:
        Missing: nothing is there.
        InputError: a link, folder, pipe or device; more bytes; or the system refuses.
    """
    kind = kind_of(path)
    if kind is None:
        raise Missing(f"{path}: there is no such file")
    if kind != "file":
        raise InputError(f"{path} is a {kind}, not a file of its own: it is not read")
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError as error:
        raise Missing(f"{path}: there is no such file") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {_reason(error)}") from error
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise InputError(f"{path} is not a file of its own: it is not read")
        if about.st_size > most:
            raise InputError(f"{path} has {about.st_size:,} bytes, and at most {most:,} are read")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: Path, most: int = RECORDS_LIMIT) -> bytes:
    """The contents of a regular file of at most ``most`` bytes.

    Raises:
        Missing, InputError: as `open_file`.
    """
    with open_file(path, most) as file:
        try:
            content = file.read(most + 1)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {_reason(error)}") from error
    if len(content) > most:  # it grew while it was read
        raise InputError(f"{path} has more than {most:,} bytes")
    return content


def read_text(path: Path, most: int = TEXT_LIMIT) -> str:
    """The contents of a regular file of at most ``most`` bytes as text.

    Raises:
        Missing, InputError: as `open_file`, or it is not UTF-8.
    """
    try:
        return read_bytes(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read: it is not text") from error


def size_of(path: Path) -> int:
    """Bytes of a regular file.

    Raises:
        Missing, InputError: as `open_file`.
    """
    with open_file(path, TENSORS_LIMIT) as file:
        return os.fstat(file.fileno()).st_size


def measure(path: Path, first: int | None = None) -> Entry:
    """Hash and size of a regular file, or of its ``first`` bytes.

    Raises:
        Missing, InputError: as `open_file`.
    """
    sha, total = hashlib.sha256(), 0
    with open_file(path, TENSORS_LIMIT) as file:
        try:
            left = os.fstat(file.fileno()).st_size if first is None else first
            while left > 0 and (piece := file.read(min(left, 1 << 20))):
                sha.update(piece)
                left -= len(piece)
                total += len(piece)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {_reason(error)}") from error
    return {"sha256": sha.hexdigest(), "bytes": total}


def temporary(path: Path) -> Path:
    """A name beside ``path`` that nobody has and nobody can foresee."""
    return path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")


def write_new(path: Path, pieces: Pieces) -> Entry:
    """Write a file where nothing is yet, and sync it to the disk; a failed one is removed again.

    Raises:
        OSError: something is there already, or the disk refuses.
    """
    sha, count = hashlib.sha256(), 0
    descriptor = os.open(path, _NEW, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
                sha.update(piece)
                count += len(piece)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return {"sha256": sha.hexdigest(), "bytes": count}


def write_file(path: Path, pieces: Pieces) -> Entry:
    """Write a whole file or none, over an older one of the same name; its folder exists.

    A link that lies there is replaced, not followed. Of several writers each leaves a whole file, the last one stays.

    Raises:
        OSError: the disk refuses; what existed before is intact.
    """
    aside = temporary(path)
    entry = write_new(aside, pieces)
    try:
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    return entry


def check_replaceable(path: Path) -> None:
    """Look whether a file may be put where a user asks for one: in a run a planted pipe is replaced, as a link is.

    Raises:
        InputError: something else than a file or a link lies there, or the system does not say.
    """
    try:
        kind = kind_of(path)
    except InputError as error:  # a name that the system does not take, say
        raise InputError(f"{path} cannot be written: {_reason(error.__cause__ or error)}") from error
    if kind not in {None, "file", "link"}:
        raise InputError(f"{path} is a {kind}, and no file is put in its place; another name would be right")


def open_log(path: Path) -> FileIO:
    """A regular file open for reading and for appending, unbuffered; made where there is none.

    Raises:
        InputError: a link, folder, pipe or device lies there.
        OSError: the system refuses.
    """
    kind = kind_of(path)
    if kind not in {None, "file"}:
        raise InputError(f"{path} is a {kind}, not a file of its own: nothing is written to it")
    flags = (_READ & ~os.O_RDONLY) | os.O_RDWR | os.O_APPEND | (os.O_CREAT | os.O_EXCL if kind is None else 0)
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path} is not a file of its own: nothing is written to it")
    return os.fdopen(descriptor, "a+b", buffering=0)


def remove(path: Path) -> None:
    """Delete a file, a link (not what it points to) or a whole folder; nothing happens where nothing is.

    Raises:
        OSError: the system refuses.
    """
    kind = kind_of(path)
    if kind == "folder":
        shutil.rmtree(path)  # which does not follow links inside either
    elif kind is not None:
        path.unlink(missing_ok=True)


def sweep(folder: Path, pattern: str = re.escape(TEMPORARY) + ".*", older: float = 0.0) -> None:
    """Remove what a killed process left half-written in ``folder`` itself; a link to a folder is none.

    Args:
        pattern: of the names that go.
        older: seconds that they have not been touched for; others may still be in use.

    Raises:
        OSError: the system refuses.
    """
    for path in sorted(folder.iterdir()) if kind_of(folder) == "folder" else []:
        if re.fullmatch(pattern, path.name) and time.time() - os.lstat(path).st_mtime >= older:
            remove(path)


def whole(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make ``folder`` (new, or empty) appear at once: ``fill`` a temporary sibling, sync it, rename it.

    Raises:
        OSError: the system refuses; nothing is left behind.
    """
    folder = folder.absolute()  # "runs/.." has no name, and a temporary must be a sibling
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{TEMPORARY}{folder.name[:40]}-"
    sweep(folder.parent, re.escape(prefix) + "[0-9a-f]{16}", STALE_SECONDS)
    aside = folder.with_name(prefix + secrets.token_hex(8))
    aside.mkdir()
    try:
        fill(aside)
        sync(aside)
        aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync(folder.parent)


@contextmanager
def saying(action: str, advice: str = "") -> Iterator[None]:
    """Turn an operating-system error (full disk, read-only folder) into one line: "cannot ``action``: ..."."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise InputError(f"cannot {action}: {_reason(error)}{where}{advice}") from error


def sync(folder: Path) -> None:
    """Make renames inside ``folder`` survive a power cut (where the system can sync folders)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _reason(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
