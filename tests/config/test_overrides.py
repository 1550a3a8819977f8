"""``--set a.b.c=value``."""

import copy
from dataclasses import dataclass

import pytest

from diffprob.base.errors import FieldError, InputError
from diffprob.config.overrides import assign, assign_all, leaves
from diffprob.data.augment import Elastic, HorizontalFlip
from diffprob.data.sources import Idx
from diffprob.denoise.prediction import V
from diffprob.process.schedule import Cosine
from diffprob.recipes.cifar10 import cifar10
from diffprob.recipes.mnist import mnist


@pytest.fixture
def base():
    return cifar10("data/cifar")


def value_at(recipe, path):
    for name in path.split("."):
        recipe = recipe[int(name)] if name.isdecimal() else getattr(recipe, name)
    return recipe


TAKEN = [
    ("training.steps", "1000", 1000),
    ("training.steps", "1e5", 100_000),
    ("training.lr", "1", 1.0),
    ("training.lr", "3e-4", 3e-4),
    ("training.clip", "inf", float("inf")),
    ("training.precision", "bf16", "bf16"),
    ("training.precision", "'bf16'", "bf16"),
    ("name", "my run", "my run"),
    ("name", "DDIM", "DDIM"),
    ("name", "12", "12"),
    ("data.path", "/a folder/with (odd) names, and = signs", "/a folder/with (odd) names, and = signs"),
    ("data.path", "C:\\data", "C:\\data"),
    ("network.widths", "(32, 64, 64, 64)", (32, 64, 64, 64)),
    ("network.widths", "32,64,64,64", (32, 64, 64, 64)),
    ("network.widths", "[32, 64, 64, 64]", (32, 64, 64, 64)),
    ("network.widths.0", "64", 64),
    ("network.attention.1", "False", False),
    ("network.mid_attention", "False", False),
    ("network.head_dim", "64", 64),
    ("network.head_dim", "None", None),
    ("process.schedule", "Cosine", Cosine()),
    ("process.schedule", "Cosine(shift=0.01)", Cosine(shift=0.01)),
    ("process.schedule.last", "0.01", 0.01),
    ("prediction", "V", V()),
    ("training.augment", "()", ()),
    ("training.augment", "HorizontalFlip", (HorizontalFlip(),)),
    ("training.augment", "HorizontalFlip(), Elastic(2)", (HorizontalFlip(), Elastic(2))),
    ("training.augment.0.p", "0.25", 0.25),
    ("data", "Idx(path='x')", Idx("x")),
]


@pytest.mark.parametrize(("path", "text", "value"), TAKEN)
def test_valid_assignments_are_applied(base, path, text, value):
    new = assign(base, path, text)
    result = value_at(new, path)
    assert result == value
    assert type(result) is type(value)
    changed = assign(new, path, repr(value_at(base, path)))
    assert changed == base, "nothing else moved"


def test_nested_field_is_assigned(base):
    cosine = assign(base, "process.schedule", "Cosine")
    assert assign(cosine, "process.schedule.shift", "0.01").process.schedule == Cosine(shift=0.01)
    assert base.process.schedule.last == 0.02


REFUSED = {
    ("process.schedule.shfit", "0.01"): "process.schedule has no field 'shfit' (fields: steps, first, last)",
    (
        "process.shedule.last",
        "0.01",
    ): "process has no field 'shedule' (fields: schedule, scaling, law); did you mean 'schedule'?",
    ("traning.steps", "5"): "Recipe has no field 'traning'",
    ("last", "0.01"): "did you mean 'process.schedule.last'?",
    ("", "1"): "Recipe has no field ''",
    ("training..steps", "1"): "training has no field ''",
    ("training.steps.x", "1"): "training.steps is 800000, which has no fields",
    ("training.steps", "abc"): "training.steps takes int, got abc (it is 800000 now)",
    ("training.steps", "'5'"): "training.steps takes int, got '5' (it is 800000 now)",
    ("training.steps", "2.5"): "training.steps takes int, got 2.5",
    ("training.steps", "True"): "training.steps takes int, got True",
    ("training.steps", "None"): "training.steps takes int, got None",
    (
        "training.steps",
        "0",
    ): "training.steps=0 is refused by Training: steps must be at least 1, got 0",
    ("training.steps", "-1"): "steps must be at least 1, got -1",
    ("training.lr", "'a'"): "training.lr takes float, got 'a'",
    ("training.precision", "fp8"): "precision must be one of auto, fp32, bf16, fp16, got 'fp8'",
    ("training.augment", "Digits"): "training.augment",
    ("training.augment.3.p", "0.1"): "training.augment has no entry '3' (it has 1, counted from 0)",
    ("network.widths", "'a'"): "network.widths takes int, got 'a'",
    (
        "network.widths",
        "7,7,7,7",
    ): "network.widths=7,7,7,7 is refused by UNetSpec: the first width must be even",
    ("network.mid_attention", "1"): "network.mid_attention takes bool, got 1",
    ("network.head_dim", "x y"): "network.head_dim takes None or int, got x y",
    ("network.head_dim", "'64'"): "network.head_dim takes None or int, got '64'",
    (
        "prediction",
        "Epsilom",
    ): "prediction: unknown name 'Epsilom' (known: Epsilon, X0, V, Score, Mu, EDM); did you mean 'Epsilon'?",
    ("prediction", "Cosine"): "prediction: unknown name 'Cosine' (known: Epsilon, X0, V, Score, Mu, EDM)",
    ("prediction", "3"): "prediction takes one of Epsilon, X0, V, Score, Mu, EDM, got 3",
    ("process.schedule", "Cosine(shift=-1)"): "process.schedule: Cosine: ",
    ("network.in_channels", "1"): "network.in_channels must be 3",
}


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case[0]}={case[1]}")
def test_invalid_assignments_are_one_line_errors(base, case):
    with pytest.raises(InputError) as caught:
        assign(base, *case)
    message = str(caught.value)
    assert REFUSED[case] in message
    assert "\n" not in message


def test_misspelt_field_gets_a_suggestion():
    with pytest.raises(
        InputError, match=r"process.schedule has no field 'shfit' \(fields: .*\); did you mean 'shift'\?"
    ):
        assign(assign(mnist("x"), "process.schedule", "Cosine"), "process.schedule.shfit", "0.01")


def test_fields_with_unresolvable_types_follow_their_default():
    @dataclass(frozen=True)
    class Odd:
        number: "Unknown" = 3  # noqa: F821

    assert assign(Odd(), "number", "4", {}) == Odd(4)
    with pytest.raises(InputError, match="number takes int"):
        assign(Odd(), "number", "'4'", {})


def test_leaves_are_assignable(base):
    for path in leaves(base):
        assert assign(base, path, repr(value_at(base, path))) == base


def test_dependent_fields_are_assigned_together(base):
    """The length of one field is that of another; a component comes before its fields; the later of two counts."""
    three = [("network.widths", "(32, 64, 64)"), ("network.attention", "(False, True, False)")]
    for settings in (three, three[::-1]):
        new = assign_all(base, settings)
        assert (new.network.widths, new.network.attention) == ((32, 64, 64), (False, True, False))
    both = [("process.schedule.shift", "0.01"), ("process.schedule", "Cosine")]
    assert assign_all(base, both).process.schedule == Cosine(shift=0.01)
    assert assign_all(base, [("training.steps", "5"), ("training.steps", "6")]).training.steps == 6
    pair = [("training.augment.0.p", "0.25"), ("training.augment", "HorizontalFlip(), Elastic(2)")]
    assert assign_all(base, pair).training.augment == (HorizontalFlip(0.25), Elastic(2))


def test_error_names_other_fields_to_set(base):
    with pytest.raises(InputError, match=r"attention must be a tuple of 2 .* overrides=.*network.attention.* would be"):
        assign_all(base, [("network.widths", "(32, 64)"), ("network.attention", "(True,)")])
    with pytest.raises(InputError) as caught:
        assign_all(
            base, [("network.widths", "(32, 64)"), ("network.groups", "7"), ("network.attention", "(True, True)")]
        )
    assert "widths must all be divisible by groups=7" in str(caught.value) and "also" not in str(caught.value)


@dataclass(frozen=True)
class Ends:
    """Two fields that belong together."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise FieldError("high", f"lies below {self.low}")
        if self.low == 0.5:
            raise ValueError("high seems to be named here")


def test_hint_comes_from_the_field_that_a_refusal_carries():
    with pytest.raises(InputError, match=r"^low=3 is refused by Ends: high lies below 3.0; also overrides=.*high"):
        assign(Ends(), "low", "3", {})
    with pytest.raises(InputError, match=r"high lies below 3\.0$"):
        assign_all(Ends(), [("low", "3"), ("high", "2")], {})
    with pytest.raises(InputError, match=r"named here$"):
        assign(Ends(), "low", "0.5", {})
    error = copy.copy(FieldError("a.b", "must be 3"))
    assert (error.field, str(error)) == ("a.b", "a.b must be 3") and isinstance(error, ValueError)


@pytest.mark.parametrize("text", ["abc", "x" * 5000, "Digits()", "(" * 90, "\x1b[31m", "1" + "0" * 5000])
@pytest.mark.parametrize("path", ["training.lr", "process.schedule", "training.augment", "q" * 3000, "." * 3000])
def test_errors_are_short_for_any_text(base, path, text):
    with pytest.raises(InputError) as caught:
        assign(base, path, text)
    message = str(caught.value)
    assert len(message) <= 260 and message.isprintable()
    if path == "training.lr" and text == "abc":
        assert message == "training.lr takes float, got abc (it is 0.0002 now)"
