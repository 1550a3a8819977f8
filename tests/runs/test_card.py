"""The tables of the model card: unlike numbers apart, nothing left out, nothing of it markup."""

from dataclasses import replace

import pytest

from diffprob.runs.card import write_model_card
from diffprob.runs.measurements import (
    HEAD,
    Measurement,
    add_measurement,
    drawn_with,
    grouped,
    interval,
    number,
    plain,
    tables,
)

DRAWN = {"sampler": "DDIM()", "evaluations": 50}
FIRST = Measurement("Frechet distance", 4.25, 10_000, 0, step=300, features="a, sha256 1", split="test", details=DRAWN)


def rows(card):
    return [line for line in card.splitlines() if line.startswith("|")]


def test_each_feature_space_has_its_own_table(recipe):
    bare = Measurement("bits/dim", 3.125, 360, step=300)
    other = replace(FIRST, value=31.75, features="b, sha256 2")
    items = [bare, FIRST, other, replace(FIRST, name="KID", value=0.0021)]
    assert [(name, [item.value for item in members]) for name, members in grouped(items).items()] == [
        ("a, sha256 1", [4.25, 0.0021]),
        ("b, sha256 2", [31.75]),
        ("", [3.125]),
    ]
    card = write_model_card(recipe, {"step": 300}, items)
    parts = card.partition("## Measured\n")[2].partition("## Use")[0].split("### Measured ")[1:]
    assert [part.partition("\n")[0] for part in parts] == ["in a, sha256 1", "in b, sha256 2", "without features"]
    for value, place in (("4.25", 0), ("31.75", 1), ("3.125", 2)):
        assert [value in part for part in parts] == [k == place for k in range(3)]


def test_every_table_column_is_filled(recipe):
    details = {
        **DRAWN,
        "bias": 0.25,
        "extrapolated": 4.0,
        "low_inf": 3.9,
        "high_inf": 4.1,
        "chunk": 64,
        "z_score": None,
    }
    item = replace(FIRST, low=4.0, high=4.5, reference=0.5, details=details)
    (table,) = tables([item])
    assert table.head == HEAD
    assert table.rows == (
        (
            *("Frechet distance", "4.25", "4 to 4.5", "0.5", "0.25", "4 (3.9 to 4.1)", "10,000", "test"),
            *("DDIM(), 50 evaluations", "0", "300", "chunk 64"),
        ),
    )
    card = write_model_card(recipe, {"step": 300}, [item])
    assert '"real images" is the same number' in card
    assert "| Frechet distance | 4.25 | 4 to 4.5 | 0.5 | 0.25 |" in card


def test_settings_shared_by_all_rows_are_stated_once(recipe):
    items = [
        replace(FIRST, details={**DRAWN, "chunk": 64, "k": 3}),
        replace(FIRST, name="KID", seed=1, details=DRAWN | {"chunk": 64}),
    ]
    (table,) = tables(items)
    assert table.head == ("what", "value", "n", "seed", "details")
    assert table.rows == (("Frechet distance", "4.25", "10,000", "0", "k 3"), ("KID", "4.25", "10,000", "1", "-"))
    assert table.summary == "Every row: against test; drawn with DDIM(), 50 evaluations; at step 300; chunk 64."
    assert table.summary in write_model_card(recipe, {"step": 300}, items)


def test_names_are_escaped(recipe):
    nasty = "<script>x</script>|[a](javascript:b)`c`\n# d"
    with pytest.raises(ValueError, match="one part of a path"):
        replace(recipe, name=nasty)
    recipe = replace(recipe, name=nasty.replace("/", "").replace("\n", ""))
    item = replace(FIRST, name=nasty, features=nasty, split=nasty, details={nasty: nasty})
    card = write_model_card(recipe, {"step": 1}, [item]).partition("## Recipe")[0]
    assert "<script" not in card
    assert "](" not in card.replace("\\]", "")
    assert "\n# d" not in card
    head, _, row = rows(card)[-3:]
    assert head.count(" | ") == row.replace("\\|", "").count(" | ")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.123456, "0.1235"),
        (12.3456, "12.35"),
        (9999.4, "9,999"),
        (12345.6, "12,346"),
        (1.23456e-5, "1.235e-05"),
        (-3.0, "-3"),
    ],
)
def test_numbers_are_formatted_for_reading(value, text):
    assert number(value) == text


def test_card_without_optional_parts():
    assert interval(FIRST) == ""
    assert interval(replace(FIRST, low=1.0)) == "at least 1"
    assert interval(replace(FIRST, high=1.0)) == "at most 1"
    assert drawn_with(replace(FIRST, details={"evaluations": 1})) == "1 evaluation"
    assert drawn_with(replace(FIRST, details={})) == ""
    assert plain({"a": [True, None, 0.5], "b": "x"}) == "(a: (yes, none, 0.5), b: x)"
    assert tables([]) == []


def test_measurements_with_other_settings_are_kept_side_by_side():
    """The same way replaces; another grid, clip, sampler, n, seed, split or other features do not."""
    first = Measurement("distance", 1.0, 10, 0, details={"sampler": "DDIM()", "grid": "Uniform()", "clip": True})
    others = [
        replace(first, details={**first.details, "grid": "LogSNR()"}),
        replace(first, details={**first.details, "clip": False}),
        replace(first, n=11),
        replace(first, seed=1),
        replace(first, split="train"),
        replace(first, features="pixels"),
    ]
    assert add_measurement([first], replace(first, value=2.0, step=7)) == [replace(first, value=2.0, step=7)]
    for other in others:
        assert add_measurement([first], other) == [first, other]
