"""Locks on open files that the system lets go when their process ends, however it ends; on every system."""

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffprob.storage.files import open_log

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

AGAIN = 0.1  # seconds until a lock that another process has is tried again
_FAR = (1 << 31) - 2  # Windows locks bytes, and nobody may read them then: one behind every end


def lock(descriptor: int) -> bool:
    """Take the lock of an open file; False where another process has it.

    Some network file systems have no locks: there nobody is kept out, and it is True.
    """
    try:
        if sys.platform == "win32":
            place = os.lseek(descriptor, 0, os.SEEK_CUR)
            try:
                os.lseek(descriptor, _FAR, os.SEEK_SET)
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            finally:
                os.lseek(descriptor, place, os.SEEK_SET)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in {errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}
    return True


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Inside, this process has the lock of the file ``path``, which is made and stays; others wait.

    Raises:
        OSError: the file cannot be made.
        InputError: something else lies there.
    """
    with open_log(path) as file:
        while not lock(file.fileno()):
            time.sleep(AGAIN)
        yield
