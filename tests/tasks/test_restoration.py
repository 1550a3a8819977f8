"""Images restored from Python: the same as the verb, to the bit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tasks.recording import RecordingReporter

from diffprob.base.errors import InputError
from diffprob.cli import restore as verb
from diffprob.cli.main import main
from diffprob.data.images import Images
from diffprob.data.sources import Digits
from diffprob.runs.folder import Run
from diffprob.sampling.ancestral import DDIM
from diffprob.tasks import degradations
from diffprob.tasks.compute import Compute
from diffprob.tasks.degradations import Denoise, Inpaint, SuperResolve
from diffprob.tasks.plan import Sampling
from diffprob.tasks.restoration import RestoreRequest, restore

CPU = Compute(device="cpu")
FEW = Sampling(seed=3, steps=4, compute=CPU)


@pytest.mark.parametrize(
    ("degradation", "sampling", "options"),
    [
        (Denoise(add_noise=3.0), Sampling(seed=3, compute=CPU), ("--add-noise", "3")),
        (Denoise(add_noise=3.0, draw=True), FEW, ("--add-noise", "3", "--draw", "--steps", "4")),
        (Inpaint(box=(2, 2, 3, 3), average=2), FEW, ("--box", "2,2,3,3", "--average", "2", "--steps", "4")),
        (Inpaint(box=(2, 2, 3, 3), jumps=1), FEW, ("--box", "2,2,3,3", "--jumps", "1", "--steps", "4")),
    ],
)
def test_restore_matches_the_verb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], degradation: Any, sampling: Sampling, options: tuple[str, ...]
) -> None:
    out = str(tmp_path / "r")
    common = ("-n", "2", "--seed", "3", "--device", "cpu", "--out", out, "--json")
    assert main(["restore", "digits", "digits", *options, *common]) == 0
    result = json.loads(capsys.readouterr().out)
    restored = restore(
        Run.open("digits"), RestoreRequest(images="digits", degradation=degradation, n=2, sampling=sampling)
    )
    assert result == {**restored.to_json(), "out": out, "dry_run": False}
    for name, image in zip(restored.names, restored.images, strict=True):
        with Image.open(tmp_path / "r" / f"{name}.png") as picture:
            assert np.array_equal(np.round(np.asarray(picture) / 255 * 16).astype(np.uint8), image[0])
    assert (tmp_path / "r.png").read_bytes() == restored.png()
    if restored.psnr is not None:
        ratio = f"{restored.psnr['restored'][0]:.2f} dB"
        assert repr(restored) == f"2 images restored by digits (noise, {restored.settings['method']}), {ratio}"


def test_images_and_masks_in_memory_are_accepted() -> None:
    run, images = Run.open("digits"), Digits("test").load()
    hole = np.zeros((1, 1, 8, 8), bool)
    hole[..., 2:5, 2:5] = True
    batch = Images(images.take([0, 1]), levels=17)
    ways = [
        restore(run, RestoreRequest(images="digits", n=2, degradation=Inpaint(box=(2, 2, 3, 3)), sampling=FEW)),
        restore(run, RestoreRequest(images=batch, degradation=Inpaint(mask=hole), clean=batch, sampling=FEW)),
    ]
    assert np.array_equal(ways[0].images, ways[1].images) and np.array_equal(ways[0].inputs, ways[1].inputs)
    assert np.array_equal(ways[1].images[~hole.repeat(2, 0)], batch.pixels[~hole.repeat(2, 0)])
    assert ways[0].psnr is None and ways[1].psnr is not None and len(ways[1]) == 2


def test_reporter_gets_progress_and_notes() -> None:
    reporter, sampling = RecordingReporter(), Sampling(steps=3, compute=CPU, sampler=DDIM())
    request = RestoreRequest(images="digits", n=1, degradation=Inpaint(box=(2, 2, 3, 3)), sampling=sampling)
    restored = restore(Run.open("digits"), request, reporter)
    ((what, total, bar),) = reporter.bars
    assert (what, total, bar.done) == ("restore", 3, restored.network_calls)
    assert ["is deterministic" in note for note in reporter.notes] == [True]


def test_invalid_requests_are_one_line_python_errors() -> None:
    wrong = {
        "noise must .* got -1": lambda: Denoise(noise=-1),
        "add_noise and noise exclude each other": lambda: Denoise(noise=1, add_noise=1),
        "what is missing is a mask or a box": Inpaint,
        "jumps goes with method='repaint'": lambda: Inpaint(box=(0, 0, 1, 1), method="guided", jumps=2),
        "did you mean 'repaint'": lambda: Inpaint(box=(0, 0, 1, 1), method="repant"),
        "average must be at least 1, got 0": lambda: SuperResolve(average=0),
    }
    for message, call in wrong.items():
        with pytest.raises(ValueError, match=message):
            call()
    run = Run.open("digits")
    refused: dict[str, RestoreRequest] = {
        "steps goes with draw: the mean": RestoreRequest(images="digits", degradation=Denoise(), sampling=FEW),
        "add_noise and clean exclude": RestoreRequest(
            images="digits", degradation=Denoise(add_noise=1), clean="digits"
        ),
        "digits enlarges no images": RestoreRequest(images="digits", n=1, degradation=SuperResolve()),
        r"box=\(0,0,9,9\): leaves the 8x8": RestoreRequest(images="digits", n=1, degradation=Inpaint(box=(0, 0, 9, 9))),
    }
    for message, request in refused.items():
        with pytest.raises(InputError, match=f"^{message}"):
            restore(run, request)


def test_verb_options_match_the_task() -> None:
    assert (verb.METHODS, verb.JUMPS) == (degradations.METHODS, degradations.JUMPS)
