"""Chains from images, from Python: the same rows as the verbs, to the bit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tasks.recording import RecordingReporter

from diffprob.base.errors import InputError
from diffprob.cli.main import main
from diffprob.data.images import Images
from diffprob.data.sources import Digits
from diffprob.runs.folder import Run
from diffprob.sampling.ancestral import DDIM, Ancestral
from diffprob.tasks.compute import Compute
from diffprob.tasks.editing import (
    InterpolateRequest,
    ReconstructRequest,
    SampleFromRequest,
    interpolate,
    reconstruct,
    sample_from,
)
from diffprob.tasks.plan import Sampling
from diffprob.tasks.rows import ImageRows

CPU = Compute(device="cpu")
ONE = Sampling(n=1, steps=4, seed=5, compute=CPU)
FEW = Sampling(n=2, steps=4, seed=5, compute=CPU)


def by_verb(capsys: pytest.CaptureFixture[str], out: str, *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--steps", "4", "--seed", "5", "--device", "cpu", "--out", out, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def same(rows: ImageRows, verb: dict[str, Any], out: str) -> bool:
    assert verb == {**rows.to_json(), "out": out, "dry_run": False}
    with np.load(out) as stored:
        assert json.loads(str(stored["metadata"])) == {**rows.settings, "levels": rows.levels}
        return np.array_equal(stored["images"], rows.images) and np.array_equal(stored["seeds"], rows.seeds)


def test_editing_matches_the_verbs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = Run.open("digits"), str(tmp_path / "x.npz")
    verb = by_verb(capsys, out, "sample", "digits", "--from", "digits:3", "-n", "2", "--at", "0.3", "0.6")
    rows = sample_from(run, SampleFromRequest(image="digits:3", at=(0.3, 0.6), sampling=FEW))
    assert same(rows, verb, out) and rows.images.shape == (2, 4, 1, 8, 8) and rows.rmse is None
    verb = by_verb(capsys, out, "sample", "digits", "--from", "digits:3", "--reconstruct")
    rows = reconstruct(run, ReconstructRequest(image="digits:3", sampling=ONE))
    assert same(rows, verb, out) and rows.images.shape == (1, 3, 1, 8, 8) and len(rows.rmse) == 1
    for latent, options in ((False, ("--noise", "rescaled")), (True, ("--latent",))):
        verb = by_verb(capsys, out, "interpolate", "digits", "digits:0", "digits:1", "--points", "3", *options)
        noise = None if latent else "rescaled"
        request = InterpolateRequest(
            first="digits:0", second="digits:1", points=3, latent=latent, noise=noise, sampling=ONE
        )
        rows = interpolate(run, request)
        assert same(rows, verb, out) and rows.images.shape == (1, 5, 1, 8, 8)
    rows.save(tmp_path / "y.npz")
    assert (tmp_path / "y.npz").read_bytes() == Path(out).read_bytes()
    with pytest.raises(InputError, match=r"y\.jpg: x\.png or x\.npz would be right"):
        rows.save(tmp_path / "y.jpg")
    assert repr(rows) == "1 row of 5 images 1x8x8 of digits, from t = 1"


def test_images_in_memory_are_accepted() -> None:
    run, images = Run.open("digits"), Digits("test").load()
    named = reconstruct(run, ReconstructRequest(image="digits:3", sampling=ONE))
    from_memory = reconstruct(run, ReconstructRequest(image=Images(images.take([3]), levels=17), sampling=ONE))
    assert np.array_equal(named.images, from_memory.images)
    assert named.settings["from_sha256"] == from_memory.settings["from_sha256"]
    bright = (np.round(images.take([3]) * (255 / 16)).astype(np.uint8))[0]
    assert np.array_equal(reconstruct(run, ReconstructRequest(image=bright, sampling=ONE)).images, named.images)


def test_reporter_gets_progress_and_notes() -> None:
    reporter, sampling = RecordingReporter(), Sampling(n=2, steps=3, compute=CPU, sampler=DDIM())
    rows = sample_from(Run.open("digits"), SampleFromRequest(image="digits:3", at=(0.5,), sampling=sampling), reporter)
    ((what, total, bar),) = reporter.bars
    assert (what, total) == ("sample", rows.network_calls) and bar.done == rows.network_calls
    assert ["from one x_t all 2 images are the same" in note for note in reporter.notes] == [True]


def test_invalid_requests_are_one_line_python_errors() -> None:
    with pytest.raises(ValueError, match=r"^at\[1\] must lie in \(0, 1\], got 0$"):
        SampleFromRequest(image="digits:3", at=(0.5, 0))
    with pytest.raises(ValueError, match=r"^points must be at least 2, got 1$"):
        InterpolateRequest(first="digits:0", second="digits:1", points=1)
    run, many = Run.open("digits"), Images(Digits("test").load().take([0, 1]), levels=17)
    refused = {
        'image="digits": a picture': lambda: reconstruct(run, ReconstructRequest(image="digits")),
        'image="digits:400": digits has 360 images': lambda: reconstruct(run, ReconstructRequest(image="digits:400")),
        "image: 2 images; one would be right": lambda: reconstruct(run, ReconstructRequest(image=many)),
        r"sampler=Ancestral\(\): reconstruct goes up and down by DDIM\(\); leave sampler out": lambda: reconstruct(
            run, ReconstructRequest(image="digits:3", sampling=Sampling(sampler=Ancestral()))
        ),
        "noise and latent exclude each other": lambda: interpolate(
            run, InterpolateRequest(first="digits:0", second="digits:1", noise="shared", latent=True)
        ),
    }
    for message, call in refused.items():
        with pytest.raises(InputError, match=f"^{message}"):
            call()
