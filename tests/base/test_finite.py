"""Numbers that are not finite are named, wherever they hide."""

import math

import pytest
import torch

from diffprob.base.errors import NumericalError
from diffprob.base.finite import check_numbers, check_tensors, not_finite


@pytest.mark.parametrize(("value", "what"), [(math.nan, "NaN"), (math.inf, "infinity"), (-math.inf, "infinity")])
def test_tensors_that_are_not_finite_are_named(value, what):
    good = {"a": torch.ones(2), "steps": torch.tensor([1, 2]), "flags": torch.tensor([True])}
    assert not_finite(good) is None
    bad = {**good, "b.weight": torch.tensor([[0.0, value]], dtype=torch.bfloat16), "c": torch.tensor(math.nan)}
    assert not_finite(bad) == f"b.weight holds {what}"
    with pytest.raises(NumericalError, match=f"the weights are not finite: b.weight holds {what}"):
        check_tensors(bad, "the weights are")


def test_numbers_that_are_not_finite_are_named():
    check_numbers({"a": 1, "b": [None, "inf", True, 2.5, {"c": (1e308,)}]})
    with pytest.raises(NumericalError, match=r"^rows\.1\.rate is not finite \(nan\)"):
        check_numbers({"n": 1, "rows": [{"rate": 1.0}, {"rate": math.nan}]})
    with pytest.raises(NumericalError, match=r"^the result is not finite \(inf\)"):
        check_numbers(math.inf)
