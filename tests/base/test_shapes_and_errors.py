"""The one broadcast, and the help in messages."""

import pytest
import torch

from diffprob.base.errors import DiffprobError, InputError, NoClosedForm, NumericalError, did_you_mean
from diffprob.base.shapes import flat_sum, per_sample


def test_per_sample_shapes_and_casts() -> None:
    x = torch.zeros(3, 2, 4, 4)
    t = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert per_sample(t, x).shape == (3, 1, 1, 1)
    assert per_sample(t[0], x).shape == ()
    assert per_sample(t[:1], x).shape == (1, 1, 1, 1)
    assert per_sample(t, torch.zeros(3)).shape == (3,)
    assert (per_sample(t, x) + x)[:, 1, 2, 3].tolist() == [1, 2, 3]
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        assert (per_sample(t, x.to(dtype)) * x.to(dtype)).dtype == dtype


@pytest.mark.parametrize("shape", [(2,), (4,), (3, 1), (3, 1, 1, 1)])
def test_per_sample_with_another_batch_size_is_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=str(shape).replace("(", r"\(").replace(")", r"\)")):
        per_sample(torch.zeros(shape), torch.zeros(3, 2, 4, 4))


def test_flat_sum_sums_all_but_the_first_axis() -> None:
    x = torch.arange(24.0).reshape(2, 3, 4)
    assert flat_sum(x).tolist() == [66, 210]
    assert flat_sum(torch.tensor([5.0, 7.0])).tolist() == [5, 7]


def test_errors_share_a_base() -> None:
    for error in (InputError, NumericalError, NoClosedForm):
        assert issubclass(error, DiffprobError)
    assert not issubclass(InputError, NumericalError)


@pytest.mark.parametrize(
    ("word", "expected"),
    [("DDMI", "; did you mean 'DDIM'?"), ("ancestral", "; did you mean 'Ancestral'?"), ("qqq", ""), ("", "")],
)
def test_did_you_mean_suggests_the_closest_name(word: str, expected: str) -> None:
    assert did_you_mean(word, ["Ancestral", "DDIM"]) == expected
    assert did_you_mean(word, iter(["Ancestral", "DDIM"])) == expected
    assert did_you_mean(word, []) == ""


@pytest.mark.parametrize(("word", "expected"), [("digit", "digits"), ("Digit", "Digits"), ("DIGIT", "Digits")])
def test_did_you_mean_distinguishes_case(word: str, expected: str) -> None:
    for names in (["digits", "Digits"], ["Digits", "digits"]):
        assert did_you_mean(word, names) == f"; did you mean {expected!r}?"
