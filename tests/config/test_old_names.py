"""Recipes written with names of before: they open, and are written in the names of now."""

import re

import pytest
from conform.components import example

from diffprob.config.old_names import OLD_FIELDS, OLD_NAMES
from diffprob.config.overrides import assign
from diffprob.config.registry import ALL
from diffprob.config.spec import parse, render
from diffprob.recipes import named


@pytest.mark.parametrize("old", OLD_NAMES)
def test_an_old_name_reads_as_the_new(old: str) -> None:
    new = OLD_NAMES[old]
    assert old not in ALL
    value = example(ALL[new])
    text = repr(value)
    assert text.startswith(new + "(")
    before = old + text.removeprefix(new)
    assert parse(before, ALL) == value
    assert parse(f"({before}, 1)", ALL) == (value, 1)  # inside another
    assert render(parse(before, ALL)) == render(value)
    assert not re.search(rf"\b{old}\b", render(value))


@pytest.mark.parametrize(("name", "old"), [(name, old) for name, fields in OLD_FIELDS.items() for old in fields])
def test_an_old_field_reads_as_the_new(name: str, old: str) -> None:
    value, field = example(ALL[name]), OLD_FIELDS[name][old]
    before, count = re.subn(rf"\b{field}=", f"{old}=", repr(value))
    assert count == 1 and parse(before, ALL) == value
    assert assign(value, old, repr(getattr(value, field))) == value


def test_a_field_may_be_set_by_an_old_name() -> None:
    recipe = named("digits_enlarged")
    old = assign(recipe, "condition", "Degraded((1, 8, 8), factor=2, drop=0.2)")
    assert old == assign(recipe, "condition", "LowResolution((1, 8, 8), factor=2, drop=0.2)")
