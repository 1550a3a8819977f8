"""A function of the user's own that is called after every step of a training."""

from collections.abc import Callable
from dataclasses import dataclass

from diffprob.training.loop import Progress, Trainer


@dataclass(frozen=True)
class TrainingStep:
    """What a callback is told about the step that was just made.

    Args:
        step: its number, from 1.
        steps: up to which the training goes; of one for a time as many as fit by now.
        loss: mean of the batch.
        images_per_second: of this step.
        stop: ends the training after this step, with a checkpoint: the same request goes on later.
    """

    step: int
    steps: int
    loss: float
    images_per_second: float
    stop: Callable[[], None]


Callback = Callable[[TrainingStep], object]


class Caller:
    """Calls the function; what it raises ends the training as a stop does, and comes out once that is kept.

    Args:
        callback: the user's; None: nobody is called.
        trainer: whose steps they are.
    """

    def __init__(self, callback: Callback | None, trainer: Trainer) -> None:
        self.callback, self.trainer = callback, trainer
        self.raised: BaseException | None = None

    def __call__(self, progress: Progress) -> None:
        """Tell of a step."""
        if self.callback is None or self.raised is not None:
            return
        try:
            self.callback(TrainingStep(*progress, self.trainer.stop))
        except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever another's function does; raised in `finish`
            self.raised = error
            self.trainer.stop()

    def finish(self) -> None:
        """After the last checkpoint: raise what the function did."""
        if self.raised is not None:
            raise self.raised
