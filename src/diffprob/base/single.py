"""Networks of single precision, whatever torch's default is in the user's session."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def single() -> Iterator[None]:
    """What is built without a dtype is float32, as files of weights are; also a decorator, ``@single()``."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
