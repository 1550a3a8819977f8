"""Fields as their reader types them: what Python users are told can be put into a call."""

import ast

import pytest

from diffprob.base.options import option


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("none", 'held_out="none"'),
        ("20m", 'held_out="20m"'),
        ("runs/a b", 'held_out="runs/a b"'),
        ('a "b"', "held_out='a \"b\"'"),
        ("a\\b", "held_out='a\\\\b'"),
        ("lambda: 0", 'held_out="lambda: 0"'),
        ("", 'held_out=""'),
        ("0.5", "held_out=0.5"),
        ("-1", "held_out=-1"),
        ("2,2,3,3", "held_out=(2,2,3,3)"),
        ("UniPC(order=2)", "held_out=UniPC(order=2)"),
        ("N", "held_out=N"),
        (("one", "two"), "held_out=('one', 'two')"),
        ({"training.lr": 1e-4}, "held_out={'training.lr': 0.0001}"),
        (64, "held_out=64"),
    ],
)
def test_python_users_are_told_what_python_reads(value: object, text: str) -> None:
    assert option("held_out", value) == text
    ast.parse(f"f({text})")
