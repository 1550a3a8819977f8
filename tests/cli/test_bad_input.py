"""Bad input: one line that names what is wrong, exit code 2 (3 for not-a-number), and what existed before is intact."""

import errno
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cli.commands import TINY, contents
from PIL import Image

import diffprob as dp
from diffprob.cli.main import main

CPU = ("--device", "cpu")


def png(width: int, height: int) -> bytes:
    """The start of a PNG file of this size."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 100) + b"IDAT" + b"\0" * 50


def good_picture(folder: Path) -> bytes:
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(folder / "a.png")
    return (folder / "a.png").read_bytes()


def empty(folder: Path) -> Path:
    return folder


def truncated_png(folder: Path) -> Path:
    (folder / "b.png").write_bytes(good_picture(folder)[:-30])
    return folder


def text_as_png(folder: Path) -> Path:
    good_picture(folder)
    (folder / "b.png").write_text("not a picture at all")
    return folder


def huge_png(folder: Path) -> Path:
    (folder / "b.png").write_bytes(png(20_000, 20_000))
    return folder


def short_idx(folder: Path) -> Path:
    header = struct.pack(">IIII", 0x803, 10, 8, 8)
    (folder / "train-images-idx3-ubyte").write_bytes(header + bytes(639))
    return folder


def odd_cifar(folder: Path) -> Path:
    for k in range(1, 6):
        (folder / f"data_batch_{k}.bin").write_bytes(bytes(3073 * 2 + (k == 3)))
    return folder


def nan_array(folder: Path) -> Path:
    values = np.zeros((4, 8, 8), np.float32)
    values[2, 3, 3] = np.nan
    np.save(folder / "x.npy", values)
    return folder / "x.npy"


BAD_DATA = {
    empty: "empty",
    truncated_png: r"b\.png.*truncated",
    text_as_png: r"b\.png.*not a PNG",
    huge_png: r"b\.png.*20000x20000",
    short_idx: r"train-images-idx3-ubyte",
    odd_cifar: r"data_batch_3\.bin",
    nan_array: r"x\.npy.*(NaN|nan|finite)",
}


@pytest.mark.parametrize("verb", ["data-check", "train"])
@pytest.mark.parametrize("make", BAD_DATA, ids=lambda make: make.__name__)
def test_invalid_data_is_an_error(diffprob: Callable, tmp_path: Path, verb: str, make: Callable[[Path], Path]) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    data = make(folder)
    before = contents(tmp_path)
    done = diffprob("data-check", data) if verb == "data-check" else diffprob("train", "--data", data, *CPU)
    assert done.code == 2
    assert re.search(BAD_DATA[make], done.error), done.error
    assert contents(tmp_path) == before
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sampler", "DDMI"], "--sampler: unknown name 'DDMI'.*did you mean 'DDIM'"),
        (["--sampler", "DDIM(etta=0)"], "no field 'etta'.*did you mean 'eta'"),
        (["--sampler", "DDIM(eta=2)"], "eta must lie in"),
        (["--sampler", "Uniform()"], "--sampler"),
        (["--sampler", "DDIM("], "cannot read"),
        (["--sampler", "__import__('os')"], "unknown name"),
        (["--grid", "Karas()"], "did you mean 'Karras'"),
        (["--grid", "Native()", "--steps", "10"], "Native.*10"),
        (["--steps", "2000"], "2000 steps"),
        (["--sampler", "DDIM(eta=-0.5)"], r"--sampler: .*eta must lie in \[0, 1\], got -0.5"),
        (["--sampler", "PredictorCorrector(snr=2.0)"], r"--sampler: .*snr must lie in \(0, 1\), got 2.0"),
        (["--sampler", "DPMFast()", "--steps", "4000"], "1000 times, 1335 were asked for"),
        (["--sampler", "AdaptiveODE()", "--steps", "20"], "--steps 20: AdaptiveODE.*leave --steps out"),
        (["--sampler", "AdaptiveODE(rtol=0)"], r"rtol must lie in \[1e-12, 1\), got 0"),
        (["--grid", "Leading()", "--steps", "1001"], "1001"),
        (["--dynamic-clip", "2"], r"--dynamic-clip: must lie in \(0, 1\], got 2"),
        (["--dynamic-clip", "all"], r"--dynamic-clip: must be a number in \(0, 1\], got 'all'"),
        (["--dynamic-clip", "--no-clip"], "--dynamic-clip and --no-clip exclude each other"),
        (["--variance", "Unit"], "--variance"),
    ],
    ids=" ".join,
)
def test_invalid_samplers_are_errors(diffprob: Callable, trained: Path, arguments: list[str], message: str) -> None:
    done = diffprob("sample", trained, *arguments, *CPU)
    assert done.code == 2
    assert re.search(message, done.error), done.error
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["training.lrr=1"], "no field 'lrr'.*did you mean 'lr'"),
        (["trainig.lr=1"], "no field 'trainig'.*did you mean 'training'"),
        (["training.lr"], "FIELD=VALUE"),
        (["training.lr=fast"], "training.lr"),
        (["training.lr=-1"], "lr must be above 0"),
        (["training.steps=0"], "steps must be"),
        (["training.lr=1e-3", "--steps", str(10**29)], "--steps: must be at least 1 and at most"),
        (["network.widths=(7,)"], "network.widths"),
        (["process.schedule=Linear()"], "process.schedule"),
    ],
    ids=" ".join,
)
def test_invalid_fields_are_errors(diffprob: Callable, arguments: list[str], message: str) -> None:
    done = diffprob("train", "digits", "--set", *arguments, *CPU)
    assert done.code == 2
    assert re.search(message, done.error), done.error
    assert not list(Path().iterdir())


def test_run_with_a_missing_file_is_an_error(diffprob: Callable, tiny: Path) -> None:
    (tiny / "model.safetensors").unlink()
    done = diffprob("sample", tiny, *CPU)
    assert (done.code, "model.safetensors is missing" in done.error) == (2, True)


@pytest.mark.parametrize("name", ["model.safetensors", "recipe.txt", "README.md", "log.jsonl", "manifest.json"])
def test_run_with_a_flipped_bit_is_an_error(diffprob: Callable, tiny: Path, name: str) -> None:
    data = bytearray((tiny / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tiny / name).write_bytes(data)
    for command in (["sample", tiny, *CPU], ["show", tiny], ["export", tiny, "--out", "x"]):
        done = diffprob(*command)
        assert done.code == 2
        assert name in done.error
    assert not Path("x").exists()


def test_pickle_named_as_weights_is_an_error(diffprob: Callable, tiny: Path) -> None:
    torch.save({"net.conv_in.weight": torch.zeros(1)}, tiny / "model.safetensors")
    done = diffprob("sample", tiny, *CPU)
    assert (done.code, "is a pickle" in done.error) == (2, True)
    assert not Path("samples.png").exists()


def test_diffusers_folder_with_only_a_pickle_is_an_error(diffprob: Callable, trained: Path) -> None:
    diffprob("export", trained, "--out", "folder")
    weights = Path("folder/unet/diffusion_pytorch_model.safetensors")
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    done = diffprob("import", "folder", "--out", "run")
    assert (done.code, "pickle" in done.error, "save_pretrained" in done.error) == (2, True, True)
    assert not Path("run").exists()


def read_only(tmp_path: Path) -> Path:
    """A folder that nobody can write to: root passes over permissions, but not over the kernel's own folders."""
    if os.access("/proc/self", os.F_OK) and os.geteuid() == 0:
        return Path("/proc/self")
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    return folder


@pytest.mark.skipif(os.name != "posix", reason="permissions")
def test_read_only_folder_is_an_error(diffprob: Callable, trained: Path, tmp_path: Path) -> None:
    locked = read_only(tmp_path)
    commands = [
        ["train", "digits", "--steps", "1", "--out", locked / "run", *TINY],
        ["sample", trained, "-n", "1", "--steps", "1", "--out", locked / "x.png", *CPU],
        ["sample", trained, "-n", "1", "--steps", "1", "--out", locked / "x.npz", *CPU],
        ["export", trained, "--out", locked / "exported"],
    ]
    for command in commands:
        done = diffprob(*command)
        assert done.code == 2, command
        assert str(locked) in done.error


def full_after(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """Let the disk be full from the n-th sync on."""
    real, left = os.fsync, [calls]

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("calls", [0, 1, 3, 6, 8, 10])
def test_full_disk_while_saving_keeps_the_run(
    diffprob: Callable, tiny: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    weights = contents(tiny)["model.safetensors"]
    with monkeypatch.context() as patch:
        full_after(patch, calls)
        done = diffprob("train", "digits", "--steps", "5", "--out", tiny, *TINY)
    assert done.code == 2
    assert "no space left on device" in done.error
    assert dp.Run.open(tiny).load()
    if calls == 0:
        assert contents(tiny)["model.safetensors"] == weights
    assert diffprob("train", "digits", "--steps", "5", "--out", tiny, *TINY).code == 0
    assert dp.Run.open(tiny).meta["step"] == 5


def test_full_disk_while_writing_images_keeps_old_files(
    diffprob: Callable, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("x.png").write_bytes(b"an older picture")
    full_after(monkeypatch, 0)
    done = diffprob("sample", trained, "-n", "1", "--steps", "1", "--out", "x.png", *CPU)
    assert (done.code, "no space left" in done.error) == (2, True)
    assert contents(Path()) == {"x.png": contents(Path())["x.png"]}
    assert Path("x.png").read_bytes() == b"an older picture"


def test_diverging_training_is_an_error(diffprob: Callable) -> None:
    diverging = ["--set", "training.lr=1e30", "--set", "training.warmup=0", "--set", "training.checkpoint_every=1"]
    done = diffprob("train", "digits", "--steps", "50", "--out", "run", *TINY, *diverging)
    assert done.code == 3
    assert re.search(r"not finite at step \d+", done.error), done.error
    run = dp.Run.open("run")
    step = int(re.findall(r"at step (\d+)", done.error)[0])
    assert 1 <= run.meta["step"] < step
    assert all(bool(torch.isfinite(weight).all()) for weight in run.weights().values())
    assert run.load()


def test_model_that_overflows_is_an_error_and_writes_nothing(diffprob: Callable, trained: Path) -> None:
    """Weights that are finite, and samples that are not: exit code 3, the weights not blamed, and no picture."""
    from diffprob.runs.publish import write_run

    run = dp.Run.open(trained)
    weights = {name: torch.full_like(weight, 1e30) for name, weight in run.weights().items()}
    write_run("broken", run.recipe, weights, step=4)
    done = diffprob("sample", "broken", "-n", "2", "--steps", "2", *CPU)
    assert (done.code, "seed 0 is not finite" in done.error, "hold" in done.error) == (3, True, False), done.error
    assert not Path("samples.png").exists()


def test_folder_that_is_not_a_run_is_left_alone(diffprob: Callable) -> None:
    Path("photos").mkdir()
    Path("photos/a.txt").write_text("precious")
    Path("file").write_text("precious")
    for out in ("photos", "file"):
        for extra in ([], ["--dry-run"]):
            done = diffprob("train", "digits", "--steps", "1", "--out", out, *TINY, *extra)
            assert done.code == 2
    done = diffprob("demo", "--short", "--fresh", "--out", "photos", *CPU)
    assert done.code == 2
    assert contents(Path()) == {"file": contents(Path())["file"], "photos/a.txt": contents(Path())["photos/a.txt"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "digits", "-n", "1", "--variance", "LearnedRange()"], "twice as many outputs"),
        (["rate", "digits", "-n", "1", "--variance", "LearnedDiagonal()"], "twice as many outputs"),
        (["likelihood", "digits", "-n", "1", "--held-out", ""], "--held-out: is empty"),
        (["likelihood", "digits", "-n", "1", "--out", ""], "--out: is empty"),
        (["evaluate", "digits", "-n", "8", "--samples", ""], "--samples: is empty"),
        (["show", ""], "is empty"),
        (["evaluate", "digits", "-n", "8", "--accept-weights", "ab", "--no-record"], "goes with --features inception"),
    ],
    ids=lambda value: " ".join(value[:4]) if isinstance(value, list) else "",
)
def test_missing_variances_and_empty_options_are_errors(diffprob: Callable, arguments: list[str], message: str) -> None:
    """A variance that was not learned; an option that an unset variable left empty, and one that nothing reads."""
    done = diffprob(*arguments, *([] if arguments[0] == "show" else CPU))
    assert done.code == 2 and message in done.error, done


def test_main_reads_the_process_arguments(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["diffprob", "nothing"])
    assert main() == 2
    assert "no verb 'nothing'" in capsys.readouterr().err
