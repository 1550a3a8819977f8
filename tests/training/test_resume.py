"""Stopping a training, however rudely, changes nothing of its outcome."""

import os
import random
import signal
import time

import pytest
import torch

from diffprob.base.errors import InputError, NumericalError
from diffprob.runs.folder import Run
from diffprob.training import loop


def assert_same(left, right):
    assert left[0] == right[0]
    assert left[1].keys() == right[1].keys()
    for name, tensor in left[1].items():
        assert torch.equal(tensor, right[1][name]), name
    assert left[2] == right[2]


def test_stopped_training_resumes_with_the_same_bits(train, final_state, tmp_path):
    """Asked to stop, a training keeps the last finished step, and the same command goes on from it."""
    train(tmp_path / "whole")
    steps = iter(range(13))
    assert train(tmp_path / "cut", halt=lambda: next(steps) == 12).step == 12
    assert Run.open(tmp_path / "cut").meta["step"] == 12
    train(tmp_path / "cut")
    assert_same(final_state(tmp_path / "whole"), final_state(tmp_path / "cut"))


def test_exception_keeps_the_last_checkpoint(train, final_state, tmp_path):
    """Nothing is saved from the inside of a step, where weights, averages and counters do not belong together."""

    def interrupt(progress):
        if progress.step == 12:
            raise KeyboardInterrupt

    train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", on_step=interrupt)
    assert Run.open(tmp_path / "cut").meta["step"] == 7
    train(tmp_path / "cut")
    assert_same(final_state(tmp_path / "whole"), final_state(tmp_path / "cut"))


def test_extended_training_equals_a_longer_one(train, final_state, tmp_path):
    """More steps later is the same as more steps at once, up to the records at the old end."""
    train(tmp_path / "whole", steps=20)
    train(tmp_path / "cut", steps=10)
    train(tmp_path / "cut", steps=20)
    assert_same(final_state(tmp_path / "whole"), final_state(tmp_path / "cut"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_training_resumes_with_the_same_bits(train, final_state, tmp_path):
    """kill -9, a checkpoint after every step, so that many of the kills fall into one being written."""
    train(tmp_path / "whole", checkpoint_every=1, steps=60)
    draws = random.Random(0)
    deaths = 0
    while deaths < 10:
        start = newest(tmp_path / "cut")
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)
            train(tmp_path / "cut", checkpoint_every=1, steps=60)
            os._exit(0)
        target = start + draws.randint(1, 4)
        while newest(tmp_path / "cut") < target:
            time.sleep(0.001)
        time.sleep(draws.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "the training ended before it was killed: make it longer"
        deaths += 1
        Run.open(tmp_path / "cut")
    train(tmp_path / "cut", checkpoint_every=1, steps=60)
    assert_same(final_state(tmp_path / "whole"), final_state(tmp_path / "cut"))


def newest(folder):
    """The newest step that the run in ``folder`` has a state of."""
    states = [path.name for path in (folder / "state").glob("step-*")] if folder.exists() else []
    return max((int(name.removeprefix("step-")) for name in states), default=0)


def test_loss_that_is_not_finite_stops_training(train, final_state, tmp_path, monkeypatch):
    """A loss that is not finite stops the training, names the step and keeps the last good checkpoint."""

    def poison(progress):
        if progress.step == 16:
            with torch.no_grad():
                trainers[0].optimiser.parameters[0].fill_(torch.nan)

    trainers = []
    from diffprob.training import loop

    original = loop.Trainer.resume
    monkeypatch.setattr(loop.Trainer, "resume", lambda self: (trainers.append(self), original(self))[1])
    with pytest.raises(NumericalError, match="step 17"):
        train(tmp_path / "run", on_step=poison)
    assert final_state(tmp_path / "run")[0] == 14
    assert all(torch.isfinite(tensor).all() for tensor in final_state(tmp_path / "run")[1].values())
    monkeypatch.undo()
    train(tmp_path / "run")
    train(tmp_path / "whole")
    assert_same(final_state(tmp_path / "whole"), final_state(tmp_path / "run"))


def test_training_begun_in_another_precision_goes_on_in_it(train, final_state, tmp_path, monkeypatch):
    """What ``auto`` means may change with the machine or the version; the bits of a run do not."""

    def chosen(precision):
        monkeypatch.setattr(loop, "choose_precision", lambda *_: precision)

    steps = iter(range(10))
    chosen("bf16")
    train(tmp_path / "whole", precision="auto", accumulate=1)
    train(tmp_path / "broken", precision="auto", accumulate=1, halt=lambda: next(steps) == 9)
    chosen("fp32")
    trainer = train(tmp_path / "broken", precision="auto", accumulate=1)
    assert trainer.precision == "bf16" and [note for note in trainer.notes if "goes on in bf16" in note]
    whole, broken = final_state(tmp_path / "whole"), final_state(tmp_path / "broken")
    assert_same(whole, broken)
    train(tmp_path / "other", precision="auto", accumulate=1)
    assert not all(torch.equal(whole[1][name], tensor) for name, tensor in final_state(tmp_path / "other")[1].items())


def test_resuming_in_another_precision_than_the_settings_say_is_an_error(train, tmp_path, monkeypatch):
    with monkeypatch.context() as change:
        change.setattr(loop, "choose_precision", lambda *_: "bf16")
        train(tmp_path / "run", steps=8, precision="fp32")
    with pytest.raises(InputError, match=r"set training\.precision=bf16"):
        train(tmp_path / "run", steps=9, precision="fp32")


def test_all_processes_stop_at_the_same_step(train, tmp_path, monkeypatch):
    """One of two is asked to stop: both hear of it before the next step, also the one that was not asked."""
    from diffprob.training.loop import make_accelerator

    accelerator = make_accelerator("cpu")
    monkeypatch.setattr(type(accelerator), "num_processes", 2)
    signals = iter([0.0, 0.0, 1.0])
    monkeypatch.setattr(
        accelerator, "reduce", lambda tensor, reduction: tensor + (next(signals) if not tensor.dim() else 0)
    )
    assert train(tmp_path / "run", accelerator=accelerator).step == 2
    assert Run.open(tmp_path / "run").meta["step"] == 2


def test_weights_after_the_last_update_are_checked(train, tmp_path):
    """The loss is that of before the update: weights that this makes infinite are not kept."""

    def poison(progress):
        if progress.step == 24:
            with torch.no_grad():
                trainers[0].optimiser.parameters[0].fill_(torch.inf)

    trainers = []
    with pytest.MonkeyPatch.context() as patch:
        from diffprob.training.loop import Trainer

        original = Trainer.resume
        patch.setattr(Trainer, "resume", lambda self: (trainers.append(self), original(self))[1])
        with pytest.raises(NumericalError, match=r"after step 24 the weights are not finite: .* holds infinity"):
            train(tmp_path / "run", on_step=poison)
    assert Run.open(tmp_path / "run").meta["step"] == 21


def test_change_of_thread_count_is_recorded_and_noted(train, tmp_path, monkeypatch):
    """Sums in another order have other last bits: what computed which steps stands in the checkpoint."""
    first = train(tmp_path / "run", steps=2)
    assert first.notes == [] and train(tmp_path / "run", steps=3).notes == []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    last = train(tmp_path / "run", steps=4)
    assert len(last.notes) == 1
    assert "from step 3 on this computes otherwise than before (threads 1 -> 5)" in last.notes[0]
    from diffprob.runs import states

    made = states.newest(tmp_path / "run" / "state")[0].meta["made"]
    assert [(part["from"], part["threads"]) for part in made] == [(0, 1), (3, 5)]
    assert {"device", "precision", "torch", "processes"} < set(made[0])


def test_first_sample_images_come_early(train, tmp_path, monkeypatch):
    from diffprob.training import loop

    monkeypatch.setattr(loop, "EARLY", (1, 3, 9))
    shown = []
    for steps in (2, 6):  # stopped and gone on with: the same pictures, but for that of the old end
        train(tmp_path / "run", steps=steps, sample_every=4, on_sample=lambda step, _: shown.append(step))
    assert shown == [1, 2, 3, 4, 6]
    train(tmp_path / "none", steps=4, sample_every=0, on_sample=lambda step, _: shown.append(step))
    assert shown == [1, 2, 3, 4, 6, 4]
