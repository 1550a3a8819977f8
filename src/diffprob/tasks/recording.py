"""What a task adds to the run that it measured: last, so that a run that cannot be written costs no result."""

from collections.abc import Callable
from typing import Any

from diffprob.base.errors import InputError
from diffprob.runs.folder import RunFolder
from diffprob.runs.writer import RunWriter
from diffprob.tasks.reporter import Reporter


def recorded(
    run: RunFolder[Any], add: Callable[[], None], reporter: Reporter, wanted: bool | None = None
) -> dict[str, Any]:
    """Call ``add``, which writes into ``run``, when everything else is done and written.

    A run that is read-only, or in training, is a note and no error: what was measured is not lost for it.

    Args:
        reporter: who hears that note.
        wanted: whether to; unless it is given, into every run but packaged ones.

    Returns:
        For the result of the task: "recorded", whether it is in the run, and "not_recorded", why not (None where that
        was not wanted).
    """
    if not (wanted if wanted is not None else not run.is_packaged):
        return {"recorded": False, "not_recorded": None}
    try:
        add()
    except InputError as error:
        reporter.note(f"not recorded in the run: {error}")
        return {"recorded": False, "not_recorded": str(error)}
    return {"recorded": True, "not_recorded": None}


def check_writable(run: RunFolder[Any]) -> None:
    """Find out before the work whether its only result, which goes into the run, can be kept.

    Raises:
        InputError: the folder cannot be written, or a training is using it.
    """
    RunWriter(run.path).close()
