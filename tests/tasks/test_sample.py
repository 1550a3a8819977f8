"""`sample` from Python: the same images as the verb, to the bit."""

import json
from pathlib import Path

import numpy as np
import pytest
from tasks.recording import RecordingReporter

from diffprob.base.errors import InputError
from diffprob.cli.main import main
from diffprob.runs.folder import Run
from diffprob.sampling.ancestral import DDIM
from diffprob.tasks.compute import Compute
from diffprob.tasks.conditioning import Conditioning
from diffprob.tasks.plan import Sampling
from diffprob.tasks.sample import SampleRequest, chain, prepare_sample, sample

CPU = Compute(device="cpu")
FEW = Sampling(n=3, seed=2, steps=4, compute=CPU)


def test_sample_matches_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "x.npz")
    command = ("sample", "digits", "-n", "3", "--seed", "2", "--steps", "4", "--device", "cpu", "--out", out, "--json")
    assert main(command) == 0
    verb = json.loads(capsys.readouterr().out)
    samples = sample(Run.open("digits"), SampleRequest(sampling=FEW))
    assert verb == {**samples.to_json(), "out": out, "progression": None, "dry_run": False}
    with np.load(out) as stored:
        assert np.array_equal(stored["images"], samples.images) and np.array_equal(stored["seeds"], samples.seeds)
        assert json.loads(str(stored["metadata"])) == {**samples.settings, "levels": samples.levels}
    assert (samples.images.shape, samples.seeds.tolist(), samples.evaluations) == ((3, 1, 8, 8), [2, 3, 4], 4)
    assert repr(samples).startswith("3 images 1x8x8 in 17 grey levels of digits, seeds 2..4")


def test_chain_ends_with_the_samples() -> None:
    run = Run.open("digits")
    request = SampleRequest(sampling=FEW, progressive=2)
    states, samples = list(chain(run, request)), sample(run, request)
    assert [state.index for state in states] == [1, 2, 3, 4] and float(states[-1].t) == 0
    assert np.array_equal(run.space.to_data(states[-1].x).numpy(), samples.images)
    assert [frame.shape for frame in samples.frames] == [(2, 1, 8, 8)] * 4
    posterior = states[0].posterior
    assert posterior is not None
    assert np.array_equal(run.space.to_data(posterior.mean[:2]).numpy(), samples.frames[0])


def test_result_has_the_requested_labels() -> None:
    sampling = Sampling(n=3, steps=1, compute=CPU, conditioning=Conditioning(label=("7", "1")))
    assert sample(Run.open("mnist_labels"), SampleRequest(sampling=sampling)).labels.tolist() == [7, 1, 7]  # pyright: ignore[reportOptionalMemberAccess]
    assert sample(Run.open("digits"), SampleRequest(sampling=FEW)).labels is None


def test_reporter_gets_progress_and_notes() -> None:
    reporter, steps = (
        RecordingReporter(),
        Sampling(n=3, steps=4, compute=CPU, sampler=DDIM(), variance=Run.open("digits").recipe.variance),
    )
    samples = sample(Run.open("digits"), SampleRequest(sampling=steps), reporter)
    ((what, total, bar),) = reporter.bars
    assert (what, total, bar.done) == ("sample", 4, 4) and samples.network_calls == 4
    assert ["draws nothing from a variance" in note for note in reporter.notes] == [True]


def test_invalid_requests_are_one_line_python_errors() -> None:
    with pytest.raises(ValueError, match=r"^progressive must be at least 0, got -1$"):
        SampleRequest(progressive=-1)
    label = Sampling(conditioning=Conditioning(label=("7",)), compute=CPU)
    with pytest.raises(InputError, match=r"^labels=7: digits was trained without any"):
        prepare_sample(Run.open("digits"), SampleRequest(sampling=label))
