"""Features that were computed before: kept as files, found again by what decides them."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.evaluation.features import Features, ImageSet, digest_of, extract
from diffprob.storage import tensors
from diffprob.storage.files import is_file, write_file
from diffprob.storage.folders import cache_folder

_PREFIX = "features-"


class CachedFeatures(NamedTuple):
    """Features (N, d), whether they came from a file, and what there is to say about it, one sentence each."""

    features: Tensor
    kept: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class FeatureCache:
    """Features of fixed images under the SHA-256 of what decides them.

    When a new file makes the files larger than ``most`` together, those not used for longest are deleted; one that is
    larger alone is not kept. A file that is damaged is said so, computed again and replaced. What the disk refuses is a
    note, never an error.

    Args:
        folder: made when needed.
        most: bytes that all files of features may take together.
    """

    folder: Path = field(default_factory=cache_folder)
    most: int = 2 << 30

    def __post_init__(self) -> None:
        if self.most < 0:
            raise ValueError(f"most must not be negative, got {self.most}")

    def path(self, features: Features, data: str, indices: np.ndarray | None = None) -> Path:
        """The file for these images in these features; it need not exist.

        Args:
            features: enter by their digest and resize.
            data: digest of the set of images.
            indices: which of them, in this order; all by default.
        """
        key = json.dumps(self._statement(features, data, indices), sort_keys=True)
        return self.folder / f"{_PREFIX}{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"

    def extract(
        self,
        features: Features,
        images: ImageSet,
        data: str,
        indices: np.ndarray | None = None,
        batch: int = 256,
        progress: Callable[[int], None] | None = None,
    ) -> CachedFeatures:
        """What `diffprob.evaluation.features.extract` gives, from the file if there is one, else computed and kept.

        Args:
            data: digest of ``images``, all of them; it must change whenever they do.

        Raises:
            InputError, NumericalError: as `extract`.
        """
        path, notes = self.path(features, data, indices), []
        statement = self._statement(features, data, indices)
        count = len(images) if indices is None else len(indices)
        if is_file(path):
            try:
                vectors = _read(path, statement, (count, features.dimension))
                _touch(path)
                return CachedFeatures(vectors, True, ())
            except InputError as error:
                notes.append(f"{error}; computed again")
        vectors = extract(features, images, indices, batch, progress)
        notes += self._keep(path, vectors, statement)
        return CachedFeatures(vectors, False, tuple(notes))

    def _statement(self, features: Features, data: str, indices: np.ndarray | None) -> dict[str, str]:
        chosen = "all"
        if indices is not None:
            order = np.ascontiguousarray(indices, dtype="<i8")
            chosen = f"{len(order)} by sha256 {hashlib.sha256(order.data).hexdigest()}"
        return {"data": data, "indices": chosen, "features": features.digest, "resize": features.resize}

    def _keep(self, path: Path, features: Tensor, statement: dict[str, str]) -> list[str]:
        """Write, then delete the files not used for longest until all fit; what went wrong, in words."""
        from safetensors.torch import save

        size = features.numel() * features.element_size()
        if size > self.most:
            return [f"the features take {size:,} bytes, more than the {self.most:,} of the cache: not kept"]
        metadata = {"statement": json.dumps(statement, sort_keys=True), "sha256": digest_of({"features": features})}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_file(path, [save({"features": features.contiguous()}, metadata)])
            self._shrink(path)
        except OSError as error:
            return [f"the features are not kept in {self.folder}: {(error.strerror or str(error)).lower()}"]
        return []

    def _shrink(self, newest: Path) -> None:
        files = [(file.stat(), file) for file in self.folder.glob(f"{_PREFIX}*.safetensors") if file != newest]
        total = newest.stat().st_size + sum(stat.st_size for stat, _ in files)
        for stat, file in sorted(files, key=lambda item: item[0].st_mtime_ns):
            if total <= self.most:
                break
            file.unlink(missing_ok=True)
            total -= stat.st_size


def _read(path: Path, statement: dict[str, str], shape: tuple[int, int]) -> Tensor:
    try:
        stored, metadata = tensors.read_all(path)
    except InputError as error:
        raise InputError(f"the kept features {path} are damaged ({error})") from error
    features = stored.get("features", torch.empty(0))
    if metadata.get("statement") != json.dumps(statement, sort_keys=True):
        raise InputError(f"the kept features {path} are of something else")
    if features.dtype != torch.float32 or tuple(features.shape) != shape:
        raise InputError(f"the kept features {path} have the shape {tuple(features.shape)}, not {shape}")
    if metadata.get("sha256") != digest_of({"features": features}):
        raise InputError(f"the kept features {path} are damaged (they do not match their own hash)")
    return features


def _touch(path: Path) -> None:
    """Make a file the last one used; on a disk that cannot be written its time stays."""
    try:
        os.utime(path)
    except OSError:
        return
