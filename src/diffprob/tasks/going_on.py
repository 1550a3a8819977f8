"""What a training that goes on with a run keeps of it, and what is to be said where it does not."""

from dataclasses import replace
from pathlib import Path

from diffprob.runs.files import model_meta
from diffprob.tasks.reporter import Reporter
from diffprob.training.pace import with_more_steps
from diffprob.training.settings import Training


def with_its_fall(training: Training, before: Training) -> Training:
    """The settings with the fall of the learning rate that belongs to their steps, in a run that was begun with others.

    Those of a recipe say themselves in how many steps the rate falls.
    """
    fall = with_more_steps(before, training.steps).cooldown if training.steps != before.steps else before.cooldown
    return replace(training, cooldown=fall)


def say_the_fall(training: Training, before: Training, out: Path, reporter: Reporter) -> None:
    """Say where the learning rate falls, where a run goes on otherwise than it was begun."""
    step, fall = model_meta(out, {})["step"], training.cooldown
    if (training.steps, fall) == (before.steps, before.cooldown) or step >= training.steps:
        return
    if fall or before.cooldown:
        again = "rises again, and " if before.cooldown and step > before.steps - before.cooldown else ""
        where = f"falls over the last {fall:,} of {training.steps:,} steps" if fall else "does not fall"
        reporter.note(f"{out}: from step {step:,} on the learning rate {again}{where}")
