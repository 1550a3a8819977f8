"""Text to components and back."""

import subprocess
import sys
from dataclasses import dataclass, fields, replace

import pytest
from conform.components import example
from hypothesis import given, settings
from hypothesis import strategies as st

from diffprob.base.errors import InputError
from diffprob.config.recipe import Recipe
from diffprob.config.registry import ALL, FAMILIES, SAMPLERS
from diffprob.config.spec import first_difference, parse, render
from diffprob.data.augment import Elastic, HorizontalFlip
from diffprob.process.schedule import Cosine, LinearBetas
from diffprob.sampling.ancestral import DDIM, Ancestral
from diffprob.training.settings import Training


def variations(value):
    """The component with one field changed, for every field whose constructor accepts one of a few changes."""
    yield value
    for field in fields(value):
        old = getattr(value, field.name)
        numbers = [0.37, 2, 3.5e-7, 1e22] if isinstance(old, int | float) and not isinstance(old, bool) else []
        for new in [*numbers, True, None, "bf16"]:
            try:
                yield replace(value, **{field.name: new})
            except (ValueError, TypeError, InputError):
                continue


@pytest.mark.parametrize("name", ALL)
def test_every_registered_component_survives_the_round_trip(name):
    count = 0
    for value in variations(example(ALL[name])):
        assert parse(repr(value), ALL) == value
        assert parse(render(value), ALL) == value
        assert hash(value) == hash(parse(repr(value), ALL))
        count += 1
    assert count >= 1


def test_names_are_unique_over_the_families():
    assert len(ALL) == sum(len(family) for family in FAMILIES.values())


LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(LITERALS)
def test_literals_survive_the_round_trip(value):
    assert parse(repr(value), {}) == value
    assert parse(render(value), {}) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Ancestral", Ancestral()),
        ("DDIM", DDIM()),
        ("DDIM(0.5)", DDIM(0.5)),
        (" DDIM( eta = 0.5, ) ", DDIM(0.5)),
        ("# a comment\nDDIM(\n  eta=1,  # another\n)\n", DDIM(1)),
        ("-inf", -float("inf")),
        ("(1, -2.5, 'a', None, True)", (1, -2.5, "a", None, True)),
    ],
)
def test_valid_text_is_parsed(text, value):
    assert parse(text, ALL) == value


REFUSED = {
    "unknown name": (
        "Anestral",
        f"AnnealedLangevin and {len(SAMPLERS) - 2} more: diffprob show); did you mean 'Ancestral'?",
    ),
    "wrong case": ("ddim(eta=0)", f"and {len(SAMPLERS) - 8} more: diffprob show); did you mean 'DDIM'?"),
    "unknown field": ("DDIM(etta=1)", "DDIM has no field 'etta' (fields: eta, spread); did you mean 'eta'?"),
    "too many": ("DDIM(0, True, 3)", "DDIM: too many positional arguments (fields: eta, spread)"),
    "twice": ("DDIM(0.1, eta=0.2)", "DDIM: multiple values for argument 'eta'"),
    "refused value": ("DDIM(eta=2)", "DDIM: eta must lie in [0, 1], got 2"),
    "wrong type": ("DDIM(eta='a')", "DDIM: eta must be a number in [0, 1], got 'a'"),
    "expression": ("DDIM(eta=1/2)", "'1 / 2' is neither a literal nor a name with arguments"),
    "power": ("9**9**9", "neither a literal"),
    "attribute": ("DDIM.__class__", "neither a literal"),
    "call of a call": ("DDIM()()", "neither a literal"),
    "import": ("__import__('os')", "unknown name '__import__'"),
    "method": ("os.system('true')", "neither a literal"),
    "comprehension": ("[x for x in (1,)]", "neither a literal"),
    "lambda": ("lambda: 0", "neither a literal"),
    "f-string": ("f'{1}'", "neither a literal"),
    "bytes": ("b'a'", "neither a literal"),
    "complex": ("1j", "neither a literal"),
    "ellipsis": ("...", "neither a literal"),
    "star": ("DDIM(*(1,))", "neither a literal"),
    "double star": ("DDIM(**{'eta': 1})", "neither a literal"),
    "dictionary star": ("{**{}}", "neither a literal"),
    "minus a string": ("-'a'", "neither a literal"),
    "list as a key": ("{[]: 1}", "cannot read '{[]: 1}'"),
    "half": ("DDIM(eta=", "cannot read 'DDIM(eta='"),
    "empty": ("", "cannot read ''"),
    "two lines": ("DDIM\nDDIM", "cannot read 'DDIM DDIM'"),
    "null byte": ("DDIM\0", "cannot read"),
    "deep": ("(" * 5000 + ")" * 5000, "cannot read"),
    "deep minus": ("-" * 50000 + "1", "cannot read"),
    "long": ("1" * 100_001, "too long"),
    "long number": ("1" * 5000, "cannot read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_invalid_text_is_a_one_line_error(case):
    text, message = REFUSED[case]
    with pytest.raises(InputError) as caught:
        parse(text, SAMPLERS)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_nested_names_are_looked_up_in_their_own_family():
    outer = {"Recipe": Recipe}
    with pytest.raises(InputError, match="unknown name 'DDIM'"):
        parse("DDIM()", outer, ALL)
    with pytest.raises(InputError, match="unknown name 'Digits'"):
        parse("Recipe(data=Digits())", outer)
    assert parse(repr(example(Recipe)), outer, ALL) == example(Recipe)


def test_render_writes_one_field_per_line():
    text = render(Training(steps=3, augment=(HorizontalFlip(), Elastic(magnitude=2.0))))
    lines = [line.strip() for line in text.splitlines()]
    assert lines[:2] == ["Training(", "steps=3,"]
    assert all(line.count("=") <= 1 for line in lines)
    assert "    augment=(\n        HorizontalFlip(\n            p=0.5,\n" in text


def test_value_without_a_text_form_is_an_error():
    @dataclass(frozen=True)
    class Holds:
        value: object

    for value in (object(), {1, 2}, float("nan"), b"bytes"):
        with pytest.raises(ValueError, match="cannot be written as text"):
            render(Holds(value))


def test_first_difference_names_the_path():
    recipe = example(Recipe)
    assert first_difference(recipe, recipe) is None
    other = replace(recipe, process=replace(recipe.process, schedule=LinearBetas(500)))
    assert first_difference(recipe, other) == ("process.schedule.steps", 1000, 500)
    other = replace(recipe, process=replace(recipe.process, schedule=Cosine()))
    assert first_difference(recipe, other) == ("process.schedule", LinearBetas(), Cosine())


def test_parser_imports_no_torch():
    modules = "diffprob.config.spec, diffprob.config.overrides, diffprob.recipes"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
