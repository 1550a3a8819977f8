"""The inventory (`manifest.json`) of a folder: the hash of every file that belongs to it."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from diffprob.base.errors import InputError, Missing
from diffprob.storage.files import (
    RECORDS_LIMIT,
    Entry,
    Pieces,
    is_file,
    kind_of,
    measure,
    path_within,
    read_bytes,
    size_of,
    sync,
    temporary,
    write_file,
    write_new,
)
from diffprob.storage.records import LOG, fits, read_json
from diffprob.storage.tensors import check_format

NAME = "manifest.json"


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
            value = read_json(path)
        except Missing as error:
            raise InputError(f"{folder} is not a run: it has no {NAME}") from error
        if not (isinstance(value, dict) and set(value) == {"meta", "files", "pending", "seal"}):
            raise InputError(f"{path} is damaged: it is not a manifest")
        parts = {key: value[key] for key in ("meta", "files", "pending")}
        if value["seal"] != _seal(parts):
            raise InputError(f"{path} is damaged: its contents do not match its own hash")
        meta, listed = parts["meta"], [parts["files"], parts["pending"]]
        if not (isinstance(meta, dict) and _is_meta(meta) and all(isinstance(entries, dict) for entries in listed)):
            raise InputError(f"{path} is damaged: it is not a manifest")
        for name, entry in [item for entries in listed for item in entries.items()]:
            if not (_is_name(name) and is_entry(entry)):
                raise InputError(f"{path} is damaged: it is not a manifest, since {name!r} is no file with its hash")
        return cls(folder, **parts)

    def text(self) -> str:
        """The contents of the file."""
        parts = {"meta": self.meta, "files": dict(sorted(self.files.items())), "pending": self.pending}
        return json.dumps({**parts, "seal": _seal(parts)}, indent=1, allow_nan=False) + "\n"

    def write(self) -> None:
        """Replace the manifest on disk by this one, atomically."""
        write_file(self.folder / NAME, [self.text().encode()])
        sync(self.folder)

    def entry(self, name: str) -> Entry:
        """Hash and size of a file, as they stand here.

        Raises:
            InputError: it is not listed.
        """
        if name not in self.files:
            raise InputError(f"{self.folder / NAME} is damaged: it does not list {name}")
        return self.files[name]

    def contents(self, name: str, most: int = RECORDS_LIMIT) -> bytes:
        """The bytes of a file that is listed and has the hash that is listed; of the log those that the hash covers.

        Raises:
            InputError: it is not listed, missing, no file of the folder itself, larger, or has another hash.
        """
        path, entry = path_within(self.folder, name), self.entry(name)
        content = read_bytes(path, most)
        for known in (entry, self.pending.get(name, entry)):
            own = content[: known["bytes"]] if name == LOG else content
            if len(own) == known["bytes"] and hashlib.sha256(own).hexdigest() == known["sha256"]:
                return own
        raise InputError(f"{path} does not match its SHA-256 in {NAME}: it was damaged or changed")

    def commit(
        self, contents: Mapping[str, Pieces], present: Mapping[str, Entry] | None = None, drop: Iterable[str] = ()
    ) -> None:
        """Replace the files in ``contents``, take in those ``present`` already, and forget those to ``drop``.

        Raises:
            OSError: the disk refused; what existed before is intact.
        """
        places = {name: path_within(self.folder, name) for name in contents}
        temporaries = {name: temporary(self.folder / NAME) for name in contents}
        self.recover()
        try:
            self.pending = {name: write_new(temporaries[name], pieces) for name, pieces in contents.items()}
            self.write()
        except BaseException:
            # On disk nothing has happened yet; were this object to keep the hashes, a later save would announce them.
            self.pending = {}
            for path in temporaries.values():
                path.unlink(missing_ok=True)
            raise
        for name, path in temporaries.items():
            path.replace(places[name])
        sync(self.folder)
        self.files = {**self.files, **self.pending, **(present or {})}
        for name in drop:
            self.files.pop(name, None)
        self.pending = {}
        self.write()

    def recover(self) -> None:
        """Finish what a killed `commit` began: keep the pending hashes of files that did get renamed."""
        if not self.pending:
            return
        for name, entry in self.pending.items():
            path = path_within(self.folder, name)
            if is_file(path) and _matches(name, path, entry):
                self.files[name] = entry
        self.pending = {}
        self.write()

    def verify(self, only: Iterable[str] | None = None) -> None:
        """Compare every file, or ``only`` some, with its hash.

        Raises:
            InputError: the first file that is missing or differs, by name.
        """
        for name in dict.fromkeys([*self.files, *self.pending] if only is None else only):
            path = path_within(self.folder, name)
            known = [entries[name] for entries in (self.files, self.pending) if name in entries]
            if kind_of(path) is None:
                if name in self.files:
                    raise InputError(f"{path} is missing: the run is not complete")
                continue  # announced, but its writer died before the rename
            if name.endswith(".safetensors"):
                check_format(path)
            if not any(_matches(name, path, entry) for entry in known):
                raise InputError(f"{path} does not match its SHA-256 in {NAME}: it was damaged or changed")


def is_entry(value: Any) -> bool:
    """Whether a JSON value is what `Entry` says: a SHA-256 in hexadecimal, and a number of bytes."""
    if not (isinstance(value, dict) and set(value) == {"sha256", "bytes"} and fits(value["bytes"], int)):
        return False
    return value["bytes"] >= 0 and _is_hash(value["sha256"])


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_meta(meta: Mapping[str, Any]) -> bool:
    """The version of the library and the digest of the data, each as far as it is known."""
    library, data = meta.get("library"), meta.get("data")
    return fits(library, str | None) and (data is None or _is_hash(data))


def _is_name(name: str) -> bool:
    return re.fullmatch(r"[\w./-]+", name) is not None and name[0] != "/" and ".." not in PurePosixPath(name).parts


def _matches(name: str, path: Path, entry: Entry) -> bool:
    size = size_of(path)
    if name == LOG:
        return size >= entry["bytes"] and measure(path, entry["bytes"]) == entry
    return size == entry["bytes"] and measure(path) == entry


def _seal(parts: Mapping[str, Any]) -> str:
    """SHA-256 over the manifest's own contents, so that a flipped bit in it is seen too."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
