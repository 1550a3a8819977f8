import struct
import warnings

import pytest

from diffprob.base.errors import InputError, Missing
from diffprob.storage.foreign import parsing


@pytest.mark.parametrize(
    "error",
    [IndexError("7"), struct.error("x"), SyntaxError("broken PNG file"), RecursionError(), EOFError(), Exception("any"),
     OSError("no errno"), ZeroDivisionError("a\nb\x1b")],
)  # fmt: skip
def test_any_parser_error_names_the_file(error):
    pattern = r"^a\.png: a damaged or truncated image \(.*\); replace it$"
    with pytest.raises(InputError, match=pattern) as caught, parsing("a.png", "image", "replace it"):
        raise error
    assert str(caught.value).isprintable()
    assert caught.value.__cause__ is error


def test_system_errors_are_not_reported_as_damage():
    with pytest.raises(InputError, match="cannot be read \\(Permission denied\\)"), parsing("a"):
        raise PermissionError(13, "Permission denied")
    with pytest.raises(InputError, match="not enough memory"), parsing("a"):
        raise MemoryError
    with pytest.raises(Missing, match=r"^ours$"), parsing("a"):
        raise Missing("ours")
    with pytest.raises(KeyboardInterrupt), parsing("a"):
        raise KeyboardInterrupt


def test_parser_warnings_raise_no_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with parsing("a"):
            warnings.warn("Corrupt EXIF data", stacklevel=1)
