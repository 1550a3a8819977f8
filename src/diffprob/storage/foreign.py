"""Calls of parsers that are not ours: whatever they raise, the file is to blame and is named."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from diffprob.base.errors import DiffprobError, InputError
from diffprob.base.text import one_line


@contextmanager
def parsing(name: object, kind: str = "file", advice: str = "", says: str = "") -> Iterator[None]:
    """Turn whatever a foreign parser raises into an `InputError` that names the file; keep its warnings to ourselves.

    On a damaged file a parser raises what it likes: IndexError, struct.error, SyntaxError, zlib.error, errors of its
    own. A list of such types is never complete, so what counts is what the block does: it calls foreign code on
    foreign bytes and nothing else. Our own code does not belong into it, for there a mistake must stay a mistake.

    Args:
        name: of the file.
        kind: what it should be, for the message: "image", ".npz file".
        advice: what would be right, after a semicolon.
        says: what to say of anything but damage, such as "cannot be loaded".

    Raises:
        InputError: anything but our own errors, which pass; the system's refusals and a lack of memory are told from
            damage.
    """
    end = f"; {advice}" if advice else ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DiffprobError:
        raise
    except MemoryError as error:
        raise InputError(f"{name}: there is not enough memory to read this {kind}") from error
    except Exception as error:  # the one place where the type says nothing
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"{name}: cannot be read ({error.strerror or one_line(error)})") from error
        reason = one_line(error, 100)
        if says:  # not a file but a service or a library: its name for what happened may say more than its text
            raise InputError(f"{name}: {says} ({type(error).__name__}: {reason}){end}") from error
        raise InputError(f"{name}: a damaged or truncated {kind} ({reason}){end}") from error
