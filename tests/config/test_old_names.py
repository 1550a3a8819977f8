"""Names of before: what was written with them opens, and is saved with today's."""

import re
import shutil
from dataclasses import replace

import pytest
from conform.components import example

from diffprob.base.errors import InputError
from diffprob.config.old_names import OLD_FIELDS, OLD_NAMES
from diffprob.config.overrides import assign
from diffprob.config.registry import ALL, FAMILIES, register
from diffprob.config.spec import parse, render
from diffprob.recipes import is_named, named
from diffprob.runs.files import CARD, MODEL, RECIPE, recipe_text
from diffprob.runs.folder import Run, packaged
from diffprob.runs.publish import publish
from diffprob.storage.manifest import Manifest
from diffprob.storage.tensors import read_metadata


@pytest.mark.parametrize("old", OLD_NAMES)
def test_old_component_name_is_read_as_the_new_one(old):
    new = OLD_NAMES[old]
    component = example(ALL[new])
    text = repr(component)
    assert text.startswith(f"{new}(")
    assert parse(text.replace(new, old, 1), ALL) == component
    assert parse(render([component]).replace(f"{new}(", f"{old}("), {}, ALL) == [component]
    assert f"{old}(" not in render(component)
    family = next(table for table in FAMILIES.values() if new in table)
    assert type(parse(text.replace(new, old, 1), family, ALL)) is ALL[new]


def test_old_names_are_not_current_and_never_suggested():
    assert not set(OLD_NAMES) & set(ALL)
    assert set(OLD_NAMES.values()) <= set(ALL)
    assert set(OLD_FIELDS) <= set(ALL)
    for old in OLD_NAMES:
        with pytest.raises(InputError) as refusal:
            parse(f"{old}x()", ALL)
        assert not re.search(rf"\b{old}\b", str(refusal.value))


def test_registering_an_old_name_is_an_error():
    for old in OLD_NAMES:
        with pytest.raises(InputError, match=f"the name {old} is taken, by what is {OLD_NAMES[old]} now"):
            register(type(old, (type(example(ALL["DDIM"])),), {}), "sampler")


@pytest.mark.parametrize(("name", "old"), [(name, old) for name, fields in OLD_FIELDS.items() for old in fields])
def test_old_field_name_is_read_as_the_new_one(name, old):
    value, field = example(ALL[name]), OLD_FIELDS[name][old]
    before, count = re.subn(rf"\b{field}=", f"{old}=", repr(value))
    assert count == 1 and parse(before, ALL) == value
    assert assign(value, old, repr(getattr(value, field))) == value


def test_recipe_is_found_by_its_old_name():
    assert named("digits_enlarged") == named("digits_superresolution")
    assert is_named("digits_enlarged") and not is_named("digits_reduced")


def test_field_may_be_set_by_its_old_name():
    recipe = named("digits_superresolution")
    old = assign(recipe, "condition", "Degraded((1, 8, 8), factor=2, drop=0.2)")
    assert old == assign(recipe, "condition", "LowResolution((1, 8, 8), factor=2, drop=0.2)")


def test_old_and_new_field_name_together_are_an_error(monkeypatch):
    monkeypatch.setitem(OLD_FIELDS, "DDIM", {"sigma": "eta"})
    assert parse("DDIM(sigma=0.5)", ALL) == parse("DDIM(eta=0.5)", ALL)
    assert assign(parse("DDIM()", ALL), "sigma", "0.5").eta == 0.5
    with pytest.raises(InputError, match="no field 'sigma'"):
        parse("DDIM(sigma=0.5, eta=0.5)", ALL)
    with pytest.raises(InputError, match="no field 'sigmas'") as refusal:
        parse("DDIM(sigmas=0.5)", ALL)
    assert "did you mean" not in str(refusal.value)


@pytest.mark.parametrize("name", packaged())
def test_old_run_opens_and_is_saved_with_new_names(name, tmp_path):
    run, folder, before = Run.open(name), tmp_path / "run", {new: old for old, new in OLD_NAMES.items()}
    packaged_text = (run.path / RECIPE).read_text()
    assert not [name for name in OLD_NAMES if f"{name}(" in packaged_text]
    assert parse(recipe_text(run.recipe, run.meta["data"]), ALL) == run.recipe
    written = read_metadata(run.path / MODEL)["recipe"]  # as it was saved with the weights
    assert replace(parse(written, ALL), data=run.recipe.data) == run.recipe
    shutil.copytree(run.path, folder)
    text = re.sub(r"\w+(?=\()", lambda match: before.get(match[0], match[0]), render(run.recipe))
    Manifest.read(folder).commit({RECIPE: [text.encode()]})
    old = Run.open(folder)
    assert old.recipe == run.recipe
    again = publish(old, tmp_path / "again")
    saved = (again / RECIPE).read_text(), (again / CARD).read_text(), read_metadata(again / MODEL)["recipe"]
    assert not [name for name in OLD_NAMES for text in saved if f"{name}(" in text]
    assert Run.open(again).recipe == run.recipe
