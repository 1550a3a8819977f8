"""The training states of a run: `state/step-00001000/`, whole or absent, each with a manifest of its own.

The main process of a training writes them (`diffprob.runs.writer`), the others read them (`Replica`).
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.runs.files import SAMPLES
from diffprob.storage import tensors
from diffprob.storage.files import TEMPORARY, Entry, kind_of, remove, subfolder, sync, whole, write_new
from diffprob.storage.manifest import Manifest, is_entry
from diffprob.storage.records import fits, read_json
from diffprob.training.store import Snapshot

STATE = "state"
KEPT = 2
_REPLACED = TEMPORARY + "replaced-"
# What training leaves in a state beside the tensors, each of the type that resuming takes it for.
_META: dict[str, Any] = {
    "precision": str,
    "processes": int,
    "seconds": float,
    "window": list[float],
    "norm": float,
    "scaler": dict[str, Any],
    "torch": str,
    "made": list[dict[str, Any]],
    "pace": dict[str, float],
}


def save(folder: Path, snapshot: Snapshot, log: Entry) -> None:
    """Write ``folder/step-...`` with the snapshot and the hash of the log up to it.

    Raises:
        OSError: the disk refused; the states that existed are intact.
    """

    def fill(temporary: Path) -> None:
        manifest = Manifest(temporary)
        for name in ("raw", "ema", "optimiser"):
            file = f"{name}.safetensors"
            manifest.files[file] = write_new(temporary / file, tensors.pieces(getattr(snapshot, name)))
        text = json.dumps({"step": snapshot.step, "meta": snapshot.meta, "log": log}, indent=1)
        manifest.files["state.json"] = write_new(temporary / "state.json", [text.encode()])
        manifest.write()

    subfolder(folder.parent, folder.name, make=True)
    target = folder / _name(snapshot.step)
    replaced = folder / (_REPLACED + target.name)
    if kind_of(target) is not None:
        target.rename(replaced)  # `recover` takes it back if we die before the new one is there
    try:
        whole(target, fill)
    except BaseException:
        recover(folder)
        raise
    remove(replaced)


def prune(folder: Path) -> None:
    """Delete all states but the newest two."""
    for path in _states(folder)[KEPT:]:
        # Renamed first: a state that is half deleted when the process dies must not look like a damaged one.
        doomed = folder / (TEMPORARY + path.name)
        path.rename(doomed)
        remove(doomed)


def recover(folder: Path) -> None:
    """Take back a state that was about to be replaced when its process died."""
    for path in _inside(folder):
        target = folder / path.name.removeprefix(_REPLACED)
        if path.name.startswith(_REPLACED) and kind_of(target) is None:
            path.rename(target)
            sync(folder)


def newest(folder: Path) -> tuple[Snapshot, Entry, list[tuple[Path, str]]] | None:
    """The newest intact state, its log entry, and (folder, problem) of each damaged newer one; None without states.

    Raises:
        InputError: there are states, and all are damaged.
    """
    damaged: list[tuple[Path, str]] = []
    for path in _states(folder):
        try:
            snapshot, log = _read(path)
        except InputError as error:
            damaged.append((path, str(error)))
        else:
            return snapshot, log, damaged
    if damaged:
        raise InputError(
            f"{damaged[0][1]}; no older state is intact, so this run cannot be resumed: train into a new folder"
        )
    return None


class Replica:
    """What the other processes of one training hold: it reads the states of a run and writes nothing."""

    def __init__(self, path: str | Path) -> None:
        self.folder = Path(path)

    def save(self, snapshot: Snapshot) -> None:
        """Nothing: the main process saves."""

    def load(self) -> Snapshot | None:
        """The newest intact snapshot."""
        state = newest(self.folder / STATE)
        return state[0] if state else None

    def append(self, record: dict[str, Any]) -> None:
        """Nothing: the main process logs."""

    def keep_best(self, step: int, ema: Mapping[str, Tensor], metric: str, value: float) -> None:
        """Nothing: the main process measures."""

    def sample_path(self, step: int) -> Path:
        """Where the main process puts the picture."""
        return self.folder / SAMPLES / f"step-{step:08d}.png"


def _states(folder: Path) -> list[Path]:
    """The state folders, newest first; each lies in the run itself."""
    return sorted(
        (
            path
            for path in _inside(folder)
            if re.fullmatch(r"step-[0-9]{8,18}", path.name) and subfolder(folder, path.name)
        ),
        key=_step,
        reverse=True,
    )


def _inside(folder: Path) -> list[Path]:
    """What lies in a folder that itself lies in the run.

    Raises:
        InputError: it is a link, or no folder.
    """
    return [] if subfolder(folder.parent, folder.name) is None else sorted(folder.iterdir())


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _read(path: Path) -> tuple[Snapshot, Entry]:
    manifest = Manifest.read(path)
    missing = {"raw.safetensors", "ema.safetensors", "optimiser.safetensors", "state.json"} - set(manifest.files)
    if missing:
        raise InputError(f"{path} is damaged: its manifest lacks {min(missing)}")
    manifest.verify()
    state = read_json(path / "state.json")
    if not (
        isinstance(state, dict)
        and fits(state.get("step"), int)
        and state["step"] == _step(path)
        and fits(state.get("meta"), dict[str, Any])
        and is_entry(state.get("log"))
    ):
        raise InputError(f"{path / 'state.json'} is damaged: it does not say what this state is")
    odd = [name for name, hint in _META.items() if name in state["meta"] and not fits(state["meta"][name], hint)]
    if odd:
        raise InputError(f"{path / 'state.json'} is damaged: its {odd[0]} is not what training writes")
    parts = [tensors.read(path / f"{name}.safetensors") for name in ("raw", "ema", "optimiser")]
    return Snapshot(state["step"], *parts, meta=state["meta"]), state["log"]
