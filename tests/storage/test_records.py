"""A log that is read from its end gives what the whole log gives."""

import json
from pathlib import Path

import numpy as np
import pytest

from diffprob.base.errors import InputError
from diffprob.storage import records
from diffprob.storage.records import LOG, last_record, read_log


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 16])
def test_last_record_is_that_of_the_whole_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Whatever is read at a time, and wherever the last line breaks off."""
    monkeypatch.setattr(records, "TAIL", block)
    rng = np.random.default_rng(block)
    for _ in range(60):
        kept = [{"step": int(k), "é" * int(rng.integers(3)): 1, "loss": 0.5 * k} for k in range(rng.integers(6))]
        kept = [{name: value for name, value in one.items() if name != "loss" or rng.random() < 0.5} for one in kept]
        text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in kept)
        broken = '{"step": 9, "loss": 1}'[: rng.integers(23)]
        (tmp_path / LOG).write_text(text + broken)
        right = [one for one in read_log(tmp_path) if "loss" in one]
        assert last_record(tmp_path, "loss") == (right[-1] if right else None)


@pytest.mark.parametrize("text", ["{\n", "3\n", '{"step": -1}\n', '{"loss": NaN, "step": 1}\n', "\n"])
def test_damaged_end_is_an_error_that_names_the_log(tmp_path: Path, text: str) -> None:
    (tmp_path / LOG).write_text('{"step": 1, "loss": 2}\n' + text)
    with pytest.raises(InputError, match=r"near the end of .*log\.jsonl is damaged"):
        last_record(tmp_path, "loss")


def test_line_without_end_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LONGEST_LINE", 1000)
    monkeypatch.setattr(records, "TAIL", 64)
    (tmp_path / LOG).write_text('{"step": 1, "loss": 2}\n' + "x" * 5000)
    with pytest.raises(InputError, match="more than 1,000 bytes"):
        last_record(tmp_path, "loss")


def test_run_without_a_log_has_no_record(tmp_path: Path) -> None:
    assert last_record(tmp_path, "loss") is None
