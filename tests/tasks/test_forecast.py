"""What is foretold of a network that takes a known time, and that the tasks say it."""

import time
from typing import Any

import pytest
import torch
from tasks.recording import RecordingReporter
from torch import Tensor, nn

from diffprob.conditions.condition import Labels
from diffprob.denoise.denoiser import Evaluation, NetDenoiser
from diffprob.net.unet import Output
from diffprob.process.linear import LinearProcess
from diffprob.runs.folder import Run
from diffprob.tasks import forecast as forecasting
from diffprob.tasks.bounds import ChainBound
from diffprob.tasks.compute import Compute
from diffprob.tasks.evaluation import EvaluationRequest, evaluate
from diffprob.tasks.forecast import forecast
from diffprob.tasks.images import ImageSelection
from diffprob.tasks.likelihood import LikelihoodRequest, likelihood
from diffprob.tasks.plan import Sampling

PAUSE = 0.02


class Slow(nn.Module):
    """A network that takes `PAUSE` for a call, and much longer for the first one."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.calls, self.rows = nn.Parameter(torch.ones(())), 0, torch.zeros(0)

    def forward(self, x: Tensor, t: Tensor, rows: Tensor | None = None) -> Output:
        time.sleep(PAUSE if self.calls else 10 * PAUSE)
        self.calls += 1
        self.rows = self.rows if rows is None else rows
        return Output(self.scale * x, None)


def slow(chunk: int | None = 8, condition: Any = None) -> NetDenoiser:
    return NetDenoiser(Slow(), LinearProcess(), evaluation=Evaluation(chunk), condition=condition)


def test_time_is_that_of_the_calls() -> None:
    reporter = RecordingReporter()
    seconds = forecast(reporter, "64 images x 125", slow(), (1, 8, 8), 1000)
    assert seconds == pytest.approx(1000 * PAUSE, rel=0.5)  # sleeping takes a little longer on a machine that is shared
    (note,) = reporter.notes
    assert note.startswith("64 images x 125, 1,000 network calls: about 0:")


def test_nothing_is_said_of_what_is_short_or_not_known() -> None:
    reporter, model = RecordingReporter(), slow()
    assert forecast(reporter, "", model, (1, 8, 8), forecasting.FEW) is None
    assert forecast(reporter, "", model, (1, 8, 8), None) is None
    assert forecast(reporter, "", slow(None), (1, 8, 8), 1000) is None
    assert model.net.calls == 0
    assert forecast(reporter, "", model, (1, 8, 8), forecasting.FEW + 1) is not None and not reporter.notes


def test_condition_of_many_images_does_not_stand_in_the_way() -> None:
    model = slow(4, Labels(3)).condition_on(torch.arange(9) % 3)
    assert forecast(RecordingReporter(), "", model, (1, 8, 8), 100) is not None
    assert isinstance(model.net, Slow) and len(model.net.rows) == 4 and model.condition_rows is not None
    assert len(model.condition_rows) == 9


def test_tasks_foretell_the_calls_that_they_make(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecasting, "NOTABLE", 0.0)
    run, compute, reporter = Run.open("digits"), Compute(device="cpu"), RecordingReporter()
    bounded = LikelihoodRequest(images=ImageSelection(n=100), method=ChainBound(terms=3), compute=compute)
    likelihood(run, bounded, reporter)
    (bar,) = [bar for what, _, bar in reporter.bars if what == "likelihood"]
    assert reporter.notes[-1].startswith(f"100 images x 4 evaluations, {bar.done} network calls: about 0:0")
    drawn = EvaluationRequest(sampling=Sampling(n=60, steps=6, compute=compute), metrics=("sliced",))
    evaluate(run, drawn, reporter)
    (bar,) = [bar for what, _, bar in reporter.bars if what == "draw"]
    assert any(note.startswith(f"60 images x 6 evaluations, {bar.done} network calls:") for note in reporter.notes)
