"""What lies inside sources that are made of others."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from diffprob.base.errors import Missing
from diffprob.data import Array, Concatenated, Digits, Idx, Subset
from diffprob.data.combined import held_out_source, innermost


def _moved(source: Any) -> Any:
    return innermost(source, lambda innermost: replace(innermost, path="there"))


def test_path_change_reaches_only_the_innermost_sources():
    assert _moved(Idx("here", "test")) == Idx("there", "test")
    assert _moved(Subset(Subset(Idx("here"), 9), 7, 3)) == Subset(Subset(Idx("there"), 9), 7, 3)
    assert _moved(Concatenated((Subset(Idx("a"), 2), Idx("b")))) == Concatenated(
        (Subset(Idx("there"), 2), Idx("there"))
    )


def test_held_out_images_are_of_the_same_class():
    whole = Digits("test").load()
    few = held_out_source(Subset(Digits(), 7)).load()
    assert few.digest() == whole.digest()
    threes = held_out_source(Subset(Subset(Digits(), 900), 5, label=3)).load()
    assert whole.labels is not None
    np.testing.assert_array_equal(threes.pixels, whole.pixels[whole.labels == 3])
    joined = held_out_source(Concatenated((Subset(Digits(), 3, label=1), Subset(Digits(), 3, label=8)))).load()
    assert joined.labels is not None
    counts = [int((whole.labels == label).sum()) for label in (1, 8)]
    assert np.bincount(joined.labels).tolist() == counts


@pytest.mark.parametrize(
    "source",
    [Digits("test"), Array("a.npy", "all"), Subset(Digits("test"), 3), Concatenated((Digits(), Array("a.npy", "all")))],
)
def test_source_without_a_test_split_raises_missing(source):
    with pytest.raises(Missing, match="no test split"):
        held_out_source(source)
