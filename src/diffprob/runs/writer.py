"""The writing side of a run folder: a `Store` that survives being killed at any moment."""

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.base.options import option
from diffprob.config.recipe import AnyRecipe, resumable
from diffprob.runs import states
from diffprob.runs.abandoned import is_abandoned
from diffprob.runs.bundled import BUNDLED, bundled_files, is_bundled
from diffprob.runs.card import write_model_card
from diffprob.runs.files import (
    BEST,
    CARD,
    MODEL,
    RECIPE,
    SAMPLES,
    library_version,
    model_files,
    model_meta,
    read_recipe,
    weights_file,
)
from diffprob.runs.measurements import MEASURED, Measurement, add_measurement, dump_measurements, read_measurements
from diffprob.runs.states import STATE
from diffprob.storage import tensors
from diffprob.storage.files import (
    TENSORS_LIMIT,
    Entry,
    expanded,
    is_file,
    kind_of,
    measure,
    open_file,
    open_log,
    saying,
    subfolder,
    sweep,
    whole,
    write_new,
)
from diffprob.storage.locks import lock
from diffprob.storage.manifest import NAME, Manifest
from diffprob.storage.records import LOG
from diffprob.training.store import AVERAGES, Snapshot

_PICTURE = re.compile(r"step-[0-9]{8,18}\.png")


class RunWriter:
    """The run in ``folder``, open for writing by this process alone.

    Made by `RunWriter.open`. ``notes`` collects, in one sentence each, what the user should hear about the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: list[str] = []
        with saying(f"write to the run {folder}"):
            self._log = open_log(folder / LOG)
        try:
            self._lock()
            with saying(f"write to the run {folder}"):
                own = [subfolder(folder, name) for name in (STATE, SAMPLES)]  # a link to another folder stops us here
                states.recover(folder / STATE)
                for place in (folder, *own):
                    if place is not None:
                        sweep(place)
                self.manifest = Manifest.read(folder)
                self.manifest.recover()
                self._hash = _hash_of(folder / LOG)
            self.manifest.verify([RECIPE])
            self.recipe = read_recipe(folder)
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, path: str | Path, recipe: AnyRecipe, digest: str | None) -> "RunWriter":
        """Create the run, or open the one that is there if it is of the same recipe and data.

        Args:
            path: the run's folder; new, empty, or a run.
            recipe: what is trained; only the number of steps, of those in which the learning rate falls, of pictures
                and checkpoints, and the place of the data may differ from those of the run.
            digest: `Images.digest` of the training data.

        Raises:
            InputError: the folder cannot be written, holds something else, is in use by another process, or is a run of
                another recipe (the first differing field is named) or other data. One that has no checkpoint yet is
                begun anew instead.
        """
        folder = expanded(path)
        with saying(f"create the run {folder}"):
            if folder.exists() and not folder.is_dir():
                raise InputError(f"{folder} is a file; a run is a folder: choose another {option('out')}")
            existing = sorted(item.name for item in folder.iterdir()) if folder.exists() else []
            if existing and NAME not in existing:
                raise InputError(
                    f"{folder} is not a run (it holds {existing[0]}); nothing was changed: choose "
                    f"another {option('out')}"
                )
            if not existing:
                _create(folder, recipe, digest)
        writer = cls(folder)
        try:
            writer._adopt(recipe, digest)
        except BaseException:
            writer.close()
            raise
        return writer

    def close(self) -> None:
        """Let other processes write to the run."""
        self._log.close()

    def save(self, snapshot: Snapshot) -> None:
        """Keep a snapshot: the state, then the model, the card and the inventory."""
        step = snapshot.step
        advice = "; what was saved before is intact; the same command resumes once this is mended"
        with saying(f"save step {step} of {self.folder}", advice):
            os.fsync(self._log.fileno())
            log = self._log_entry()
            states.save(self.folder / STATE, snapshot, log)
            self._commit(snapshot, log)
            states.prune(self.folder / STATE)

    def load(self) -> Snapshot | None:
        """The newest intact snapshot; the log goes back to where it stood, damaged newer states are set aside."""
        newest = states.newest(self.folder / STATE)
        if newest is None and kind_of(self.folder / MODEL) is not None:
            raise InputError(
                f"{self.folder} has a model but no training state: it was imported or published, choose "
                f"another {option('out')}"
            )
        snapshot, log, damaged = newest or (None, {"bytes": 0, "sha256": hashlib.sha256().hexdigest()}, [])
        path = self.folder / LOG
        if measure(path, log["bytes"]) != log:
            raise InputError(f"{path} does not match what the training state says about it: it was damaged or changed")
        with saying(f"resume {self.folder}"):
            for place, problem in damaged:
                aside = place.with_name("damaged-" + place.name)
                if kind_of(aside) is not None:
                    aside = aside.with_name(f"{aside.name}-{os.getpid()}")
                place.rename(aside)
                self.notes.append(
                    f"{problem}; kept as {aside.name}, going on from step {snapshot.step if snapshot else 0}"
                )
            self._rewind(snapshot.step if snapshot else 0, log)
            if snapshot and self._model_step() < snapshot.step:
                self._commit(snapshot, log)
        return snapshot

    def append(self, record: dict[str, Any]) -> None:
        """Add one line to ``log.jsonl``; numbers that JSON does not have become the strings "nan", "inf" and "-inf"."""
        line = (json.dumps(_plain(record), allow_nan=False) + "\n").encode()
        end = os.fstat(self._log.fileno()).st_size
        with saying(f"write to {self.folder / LOG}", "; the last checkpoint is intact"):
            try:
                written = 0
                while written < len(line):
                    written += self._log.write(line[written:])
            except OSError:
                self._log.truncate(end)
                raise
        self._hash.update(line)

    def record(self, *measurements: Measurement) -> None:
        """Add measurements (of the last weights, unless one says a step) to ``measured.json`` and to the card."""
        meta, measured = model_meta(self.folder, self.manifest.meta), read_measurements(self.folder)
        for measurement in measurements:
            measured = add_measurement(measured, replace(measurement, step=measurement.step or meta["step"]))
        self.add({MEASURED: dump_measurements(measured), CARD: write_model_card(self.recipe, meta, measured).encode()})

    def add(self, files: Mapping[str, bytes]) -> None:
        """Put whole files (``report.html``, ...) into the run and its inventory; older ones of that name go."""
        with saying(f"write {', '.join(files)} to {self.folder}", "; what existed before is intact"):
            self.manifest.commit({name: [contents] for name, contents in files.items()})

    def keep_best(self, step: int, ema: Mapping[str, Tensor], metric: str, value: float) -> None:
        """Put the averaged weights into ``best.safetensors``; metric and value stand in its metadata."""
        about = {"metric": metric, "value": repr(value)}
        pieces = weights_file(self.recipe, self.manifest.meta.get("data"), step, ema, about)
        with saying(f"save the best weights of {self.folder}", "; what was saved before is intact"):
            self.manifest.commit({BEST: pieces})

    def sample_path(self, step: int) -> Path:
        """``samples/step-00001000.png``; the folder is made when first asked for."""
        with saying(f"write samples to {self.folder}"):
            subfolder(self.folder, SAMPLES, make=True)
        return self.folder / SAMPLES / f"step-{step:08d}.png"

    def _model_step(self) -> int:
        """Step of the model file: behind the state when a process was killed between the two, -1 when it is damaged."""
        try:
            if kind_of(self.folder / MODEL) is not None:
                self.manifest.verify([MODEL])
            return model_meta(self.folder, {})["step"]
        except InputError as error:
            self.notes.append(f"{error}; written again from the training state")
            return -1

    def _lock(self) -> None:
        """Keep a second process out; the system forgets the lock when this process dies, however it dies."""
        if not lock(self._log.fileno()):
            raise InputError(f"{self.folder} is in use: another process is writing to this run")

    def _adopt(self, recipe: AnyRecipe, digest: str | None) -> None:
        """Go on under ``recipe`` if that is the same training."""
        difference, known = resumable(self.recipe, recipe), self.manifest.meta.get("data")
        if (difference or digest != known) and is_abandoned(self.folder):
            self._begin_anew(recipe, digest)
            return
        if difference:
            path, old, new = difference
            raise InputError(
                f"{self.folder} is a run of another recipe: {path} is {old!r} there and {new!r} here;"
                f" choose another {option('out')}"
            )
        if digest != known:
            raise InputError(
                f"{self.folder} was trained on other data: sha256 {_short(known)} there, {_short(digest)} here"
            )
        if recipe != self.recipe:
            with saying(f"write to the run {self.folder}"):
                files = model_files(self.folder, recipe, digest, model_meta(self.folder, {})["step"], None)
                self.manifest.commit(files)
            self.recipe = recipe

    def _begin_anew(self, recipe: AnyRecipe, digest: str | None) -> None:
        """Put a corrected recipe in the place of one that never came to a checkpoint; `load` empties the log."""
        with saying(f"write to the run {self.folder}"):
            self.manifest.meta = {"library": library_version(), "data": digest}
            inside = bundled_files(recipe)
            gone = [name for name in self.manifest.files if is_bundled(name) and name not in inside]
            if inside:
                subfolder(self.folder, BUNDLED, make=True)
            added = {name: [contents] for name, contents in inside.items()}
            self.manifest.commit({**model_files(self.folder, recipe, digest, 0, None), **added}, drop=gone)
            for name in gone:
                (self.folder / name).unlink()
            for path in (self.folder / SAMPLES).glob("step-*.png"):
                path.unlink()
        self.recipe = recipe
        self.notes.append(f"{self.folder} was begun with another recipe or data and has no checkpoint: begun anew")

    def _log_entry(self) -> Entry:
        return {"sha256": self._hash.hexdigest(), "bytes": os.fstat(self._log.fileno()).st_size}

    def _commit(self, snapshot: Snapshot, log: Entry) -> None:
        """Put the snapshot's averaged weights, and all that goes with them, in place of the older ones."""
        files = model_files(self.folder, self.recipe, self.manifest.meta.get("data"), snapshot.step, snapshot.ema)
        if self.recipe.training.keeps_averages(snapshot.step):
            about = {"step": str(snapshot.step), "format": "pt"}
            files[f"average-{snapshot.step:08d}.safetensors"] = tensors.pieces(snapshot.part(AVERAGES), about)
        self.manifest.meta["library"] = library_version()
        self.manifest.commit(files, present={LOG: log, **self._new_samples(snapshot.step)})

    def _new_samples(self, step: int) -> dict[str, Entry]:
        """Pictures that the inventory does not have yet; none that belongs to a later step."""
        folder = subfolder(self.folder, SAMPLES)
        paths = [] if folder is None else sorted(path for path in folder.iterdir() if _PICTURE.fullmatch(path.name))
        names = {f"{SAMPLES}/{path.name}": path for path in paths if _sample_step(path.name) <= step and is_file(path)}
        return {name: measure(path) for name, path in names.items() if name not in self.manifest.files}

    def _rewind(self, step: int, log: Entry) -> None:
        """Cut the log back to ``log``; pictures of later steps leave the inventory, since they will be drawn again."""
        stale = [name for name in self.manifest.files if name.startswith(SAMPLES) and _sample_step(name) > step]
        # The inventory first: a reader must never find a log that is shorter than the inventory says.
        if stale or self.manifest.entry(LOG)["bytes"] > log["bytes"]:
            self.manifest.commit({}, present={LOG: log}, drop=stale)
        self._log.truncate(log["bytes"])
        self._hash = _hash_of(self.folder / LOG)


def _create(folder: Path, recipe: AnyRecipe, digest: str | None) -> None:
    def fill(temporary: Path) -> None:
        manifest = Manifest(temporary, {"library": library_version(), "data": digest})
        inside = {name: [contents] for name, contents in bundled_files(recipe).items()}
        for name, pieces in {**model_files(temporary, recipe, digest, 0, None), LOG: [], **inside}.items():
            (temporary / name).parent.mkdir(exist_ok=True)
            manifest.files[name] = write_new(temporary / name, pieces)
        manifest.write()

    whole(folder, fill)


def _hash_of(path: Path) -> "hashlib._Hash":
    with open_file(path, TENSORS_LIMIT) as file:
        return hashlib.file_digest(file, "sha256")


def _sample_step(name: str) -> int:
    digits = name.rsplit("step-", 1)[-1].removesuffix(".png")
    return int(digits) if digits.isdecimal() else 0


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _short(digest: str | None) -> str:
    return f"{digest[:12]}..." if digest else "unknown"
