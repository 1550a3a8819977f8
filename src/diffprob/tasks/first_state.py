"""How far the first report of a run is: what the run says of that of its present weights."""

from typing import Any

from diffprob.runs.folder import Run
from diffprob.storage.files import kind_of
from diffprob.storage.records import read_json

STATE = "first-report.json"  # in the run: for which weights it is, and whether all of it is made


def is_pending(run: Run) -> bool:
    """Whether the first report of the present weights was interrupted."""
    return _state(run).get("complete") is False


def is_complete(run: Run) -> bool:
    """Whether the first report of the present weights was made, and had time for all of it."""
    state = _state(run)
    return bool(state.get("complete")) and not state.get("no_time")


def _state(run: Run) -> dict[str, Any]:
    """What the run says of the report of its present weights; empty where none was begun."""
    if STATE not in run.manifest.files or kind_of(run.path / STATE) is None or not run.meta["step"]:
        return {}
    state = read_json(run.path / STATE)
    return state if isinstance(state, dict) and state.get("model_sha256") == run.sha256() else {}
