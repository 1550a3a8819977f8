"""What lies inside a source that is made of others: `Subset` and `Concatenated`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffprob.base.errors import Missing
from diffprob.data.images import Source
from diffprob.data.joined import Concatenated
from diffprob.data.limited import Subset
from diffprob.data.sources import Cifar10, Cifar100, Idx, Svhn


def innermost(source: Source, change: Callable[[Any], Any], whole: bool = False) -> Source:
    """The source with ``change`` made to the sources that it is made of, or to itself where it is made of none.

    Args:
        whole: let `Subset` take all images, of its class where it has one.
    """
    if isinstance(source, Subset):
        return replace(source, source=innermost(source.source, change, whole), n=None if whole else source.n)
    if isinstance(source, Concatenated):
        return replace(source, sources=tuple(innermost(each, change, whole) for each in source.sources))
    return change(source)


def held_out_source(source: Source) -> Source:
    """The source of the test images that go with training images; of `Subset` all of its class, however few it takes.

    Raises:
        Missing: a source without splits, or not of training images.
    """
    return innermost(source, _beside, whole=True)


def _beside(source: Any) -> Any:
    if getattr(source, "split", None) != "train":
        raise Missing(f"{source!r} has no test split beside it")
    if isinstance(source, Idx | Cifar10 | Cifar100 | Svhn) and Path(source.path).expanduser().is_file():
        raise Missing(f"{source!r} is one file, taken whole: it has no test split beside it")
    return replace(source, split="test")
