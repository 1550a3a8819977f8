"""What a verb adds to the run that it measured: last, so that a run that cannot be written costs no result."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError
from diffprob.cli.progress import say

if TYPE_CHECKING:
    from diffprob.runs.folder import RunFolder


def recorded(run: "RunFolder[Any]", add: Callable[[], None], wanted: bool | None = None) -> dict[str, Any]:
    """Call ``add``, which writes into ``run``, when everything else is done and written.

    A run that is read-only, or in training, is a note on stderr and no error: what was measured is not lost for it.

    Args:
        wanted: ``--record``; unless it is given, into every run but packaged ones.

    Returns:
        For the result of the verb: "recorded", whether it is in the run, and "not_recorded", why not (None where that
        was not wanted).
    """
    if not (wanted if wanted is not None else not run.is_packaged):
        return {"recorded": False, "not_recorded": None}
    try:
        add()
    except InputError as error:
        say(f"note: not recorded in the run: {error}")
        return {"recorded": False, "not_recorded": str(error)}
    return {"recorded": True, "not_recorded": None}


def written(write: Callable[[], None]) -> dict[str, Any]:
    """Call ``write``, which puts what was measured into the files of ``--out``.

    Where that fails, on a disk that is full by now, say, the result is printed all the same, and the error after it.

    Returns:
        For the result of the verb: nothing, or "not_written", why not, with which `main` ends with the exit code 2.
    """
    try:
        write()
    except InputError as error:
        return {"not_written": str(error)}
    return {}


def check_writable(run: "RunFolder[Any]") -> None:
    """Find out before the work whether its only result, which goes into the run, can be kept.

    Raises:
        InputError: the folder cannot be written, or a training is using it.
    """
    from diffprob.runs.writer import RunWriter

    RunWriter(run.path).close()
