"""What lies inside a source that is made of others: `First` and `Joined`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from diffprob.data.images import Source
from diffprob.data.joined import Joined
from diffprob.data.limited import First


def innermost(source: Source, change: Callable[[Any], Any]) -> Source:
    """The source with ``change`` made to the sources that it is made of, or to itself where it is made of none."""
    if isinstance(source, First):
        return replace(source, source=innermost(source.source, change))
    if isinstance(source, Joined):
        return replace(source, sources=tuple(innermost(each, change) for each in source.sources))
    return change(source)


def held_out_source(source: Source) -> Source:
    """The source of the test images that go with training images; of `First` all of the same class, however few it has.

    Raises:
        ValueError: a source without splits, or not of training images.
    """
    if isinstance(source, First):
        return replace(source, source=held_out_source(source.source), n=None)
    if isinstance(source, Joined):
        return replace(source, sources=tuple(held_out_source(each) for each in source.sources))
    if getattr(source, "split", None) != "train":
        raise ValueError(f"{source!r} has no test split beside it")
    value: Any = source
    return replace(value, split="test")
