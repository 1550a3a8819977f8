"""The script of the CIFAR-10/SVHN experiment, on small files in the formats of the real ones."""

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from diffprob.cli.main import main
from diffprob.net.unet import UNetSpec
from diffprob.runs.folder import Run, open_run
from diffprob.tasks import distillation, training_run

ROOT = Path(__file__).resolve().parents[2]
TINY = UNetSpec(3, 3, (8, 8), layers=1, attention=(False, False), mid_attention=False, groups=4)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """cifar/ with the six binary files, svhn/test_32x32.mat, and folder/, a pipeline as diffusers saves it."""
    rng = np.random.default_rng(0)
    (tmp_path / "cifar").mkdir()
    for name in [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]:
        rows = np.concatenate([rng.integers(0, 10, (60, 1)), rng.integers(0, 256, (60, 3072))], 1)
        (tmp_path / "cifar" / name).write_bytes(rows.astype(np.uint8).tobytes())
    (tmp_path / "svhn").mkdir()
    digits = {"X": rng.integers(0, 256, (32, 32, 3, 60), dtype=np.uint8), "y": rng.integers(1, 11, (60, 1))}
    savemat(tmp_path / "svhn" / "test_32x32.mat", digits, do_compression=True)
    small = ("--set", f"network={TINY!r}", "--set", "training.batch=4", "--set", "training.sample_every=0")
    trained = ("train", "cifar10", "--data", str(tmp_path / "cifar"), "--steps", "1", "--device", "cpu")
    assert main([*trained, "--out", str(tmp_path / "run"), *small]) == 0
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "folder")]) == 0
    return tmp_path


def test_experiment_runs_from_files_to_tables(files: Path, diffprob: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    script = importlib.import_module("cifar_svhn")
    monkeypatch.setattr(script, "GLOW", {"network.depth": 1, "network.width": 4})
    monkeypatch.setattr(script, "EBM", {"objective.steps": 1, "network.widths": (4,)})
    monkeypatch.setattr(script, "BATCH", 4)
    # Figures and integrability are tested with the verbs themselves.
    monkeypatch.setattr("diffprob.tasks.detection_files.comparison_figures", lambda *_: [])
    monkeypatch.setattr("diffprob.tasks.detection._integrability", lambda *_: ())
    monkeypatch.setattr(distillation, "_fields", lambda *_: None)
    monkeypatch.setattr(training_run, "_loss_curve", lambda *_: None)
    sets = [word for field in ("training.sample_every=0", "training.precision=fp32") for word in ("--set", field)]
    arguments = [str(files / "folder"), "--cifar", str(files / "cifar"), "--svhn", str(files / "svhn")]
    arguments += ["--out", str(files / "out"), "--steps", "1", "-n", "50", *sets]
    monkeypatch.setattr(sys, "argv", ["cifar_svhn.py", *arguments])
    assert script.main() == 0
    result = json.loads((files / "out" / "detect" / "detect.json").read_text())
    assert [row["outside"] for row in result["separation"]] == ["svhn"] * 7 and result["inside"]["n"] == 50
    assert [label.partition(" of ")[2] for label in result["proxies"][3:]] == [
        *("teacher-gradient", "teacher-scalar", "glow", "ebm")
    ]
    scalar = Run.open(files / "out" / "scalar").recipe
    assert "norm='batch', activation='relu'" in repr(scalar.network) and scalar.training.lr == 1e-4
    assert scalar.training.parts and all(part.start >= 1 for part in scalar.training.parts)
    assert open_run(files / "out" / "glow").recipe.space.shape == (3, 32, 32)
