"""What commands answer is what they answered before; see `frozen.freeze` for those that compute."""

import json

from frozen.commands import WORDS
from frozen.freeze import EXPECTED, answers, differences


def test_commands_without_computation_give_the_recorded_answers():
    stored, current = json.loads(EXPECTED.read_text()), answers(WORDS)
    assert not [line for name in WORDS for line in differences(stored[name], current[name], name)]


def test_difference_is_reported_by_path():
    assert differences({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, "x") == ["x.a[1].b: 2 has become 3"]
    assert differences({"a": 1}, {"a": 1, "b": 2}, "x") == ["x.b: 'nothing' has become 2"]
