"""Files that are written whole or not at all, and the inventory (`manifest.json`) of the folder they are in."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from diffprob.base.errors import InputError
from diffprob.recipe.tensors import check_format

NAME = "manifest.json"
TEMPORARY = ".tmp-"
LOG = "log.jsonl"  # append-only: its entry covers the first ``bytes`` bytes, and more may follow

Entry = dict[str, Any]  # {"sha256": hex, "bytes": n}
Pieces = Iterable[bytes | memoryview]


@contextmanager
def saying(action: str, advice: str = "") -> Iterator[None]:
    """Turn an operating-system error (full disk, read-only folder) into one line: "cannot ``action``: ..."."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        where = f" ({error.filename})" if error.filename else ""
        raise InputError(f"cannot {action}: {reason}{where}{advice}") from error


def write(path: Path, pieces: Pieces) -> Entry:
    """Write a new file and sync it to the disk; a failed file is removed again."""
    sha, count = hashlib.sha256(), 0
    try:
        with path.open("wb") as file:
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


def measure(path: Path, first: int | None = None) -> Entry:
    """Hash and size of a file, or of its ``first`` bytes."""
    sha, left = hashlib.sha256(), path.stat().st_size if first is None else first
    total = 0
    with path.open("rb") as file:
        while left > 0 and (piece := file.read(min(left, 1 << 20))):
            sha.update(piece)
            left -= len(piece)
            total += len(piece)
    return {"sha256": sha.hexdigest(), "bytes": total}


def sync(folder: Path) -> None:
    """Make renames inside ``folder`` survive a power cut (where the system can sync folders)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sweep(folder: Path, pattern: str = re.escape(TEMPORARY) + ".*") -> None:
    """Remove what a killed process left half-written."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if re.fullmatch(pattern, path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def whole(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make ``folder`` (new, or empty) appear at once: ``fill`` a temporary sibling, sync it, rename it."""
    folder = folder.absolute()  # "runs/.." has no name, and a temporary must be a sibling
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{TEMPORARY}{folder.name}-"
    sweep(folder.parent, re.escape(prefix) + r"\d+")
    temporary = folder.parent / f"{prefix}{os.getpid()}"
    temporary.mkdir()
    try:
        fill(temporary)
        sync(temporary)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(folder.parent)


@dataclass
class Manifest:
    """SHA-256 and size of every file of ``folder``; ``pending`` holds those that are about to be renamed into place.

    Files are replaced in this order: all new ones under temporary names, the manifest with their hashes as pending, the
    renames, the final manifest. Whatever moment a process dies at, every file matches one of the two hashes.
    """

    folder: Path
    meta: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Entry] = field(default_factory=dict)
    pending: dict[str, Entry] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read ``folder``'s manifest.

        Raises:
            InputError: it is missing or damaged.
        """
        path = folder / NAME
        try:
            value = json.loads(path.read_bytes())
            parts = {key: value[key] for key in ("meta", "files", "pending")}
            if value["seal"] != _seal(parts):
                raise InputError(f"{path} is damaged: its contents do not match its own hash")
            for name, entry in [*parts["files"].items(), *parts["pending"].items()]:
                _check_name(name)
                if not (isinstance(entry["sha256"], str) and isinstance(entry["bytes"], int)):
                    raise ValueError(name)
        except FileNotFoundError as error:
            raise InputError(f"{folder} is not a run: it has no {NAME}") from error
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{path} is damaged: it is not a manifest") from error
        return cls(folder, **parts)

    def write(self) -> None:
        """Replace the manifest on disk by this one, atomically."""
        parts = {"meta": self.meta, "files": dict(sorted(self.files.items())), "pending": self.pending}
        text = json.dumps({**parts, "seal": _seal(parts)}, indent=1, allow_nan=False) + "\n"
        temporary = self.folder / f"{TEMPORARY}{NAME}"
        write(temporary, [text.encode()])
        temporary.replace(self.folder / NAME)
        sync(self.folder)

    def commit(
        self, contents: Mapping[str, Pieces], present: Mapping[str, Entry] | None = None, drop: Iterable[str] = ()
    ) -> None:
        """Replace the files in ``contents``, take in those ``present`` already, and forget those to ``drop``.

        Raises:
            OSError: the disk refused; what existed before is intact.
        """
        temporaries = {name: self.folder / f"{TEMPORARY}{name.replace('/', '-')}" for name in contents}
        self.settle()
        try:
            self.pending = {name: write(temporaries[name], pieces) for name, pieces in contents.items()}
            self.write()
        except BaseException:
            # On disk nothing has happened yet; were this object to keep the hashes, a later save would announce them.
            self.pending = {}
            for path in temporaries.values():
                path.unlink(missing_ok=True)
            raise
        for name, path in temporaries.items():
            path.replace(self.folder / name)
        sync(self.folder)
        self.files = {**self.files, **self.pending, **(present or {})}
        for name in drop:
            self.files.pop(name, None)
        self.pending = {}
        self.write()

    def settle(self) -> None:
        """Finish what a killed `commit` began: keep the pending hashes of files that did get renamed."""
        if not self.pending:
            return
        for name, entry in self.pending.items():
            path = self.folder / name
            if path.is_file() and _matches(name, path, entry):
                self.files[name] = entry
        self.pending = {}
        self.write()

    def verify(self, only: Iterable[str] | None = None) -> None:
        """Compare every file, or ``only`` some, with its hash.

        Raises:
            InputError: the first file that is missing or differs, by name.
        """
        for name in dict.fromkeys([*self.files, *self.pending] if only is None else only):
            path = self.folder / name
            known = [entries[name] for entries in (self.files, self.pending) if name in entries]
            try:
                if name.endswith(".safetensors") and path.is_file():
                    check_format(path)
                if any(_matches(name, path, entry) for entry in known):
                    continue
            except FileNotFoundError as error:
                if name not in self.files:
                    continue  # announced, but its writer died before the rename
                raise InputError(f"{path} is missing: the run is not complete") from error
            except OSError as error:
                raise InputError(f"{path} cannot be read: {error.strerror}") from error
            raise InputError(f"{path} does not match its SHA-256 in {NAME}: it was damaged or changed")


def _matches(name: str, path: Path, entry: Entry) -> bool:
    size = path.stat().st_size
    if name == LOG:
        return size >= entry["bytes"] and measure(path, entry["bytes"]) == entry
    return size == entry["bytes"] and measure(path) == entry


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[\w./-]+", name) or name.startswith("/") or ".." in PurePosixPath(name).parts:
        raise ValueError(name)


def _seal(parts: Mapping[str, Any]) -> str:
    """SHA-256 over the manifest's own contents, so that a flipped bit in it is seen too."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
