"""A training that ends on time: how many steps still fit, and when the learning rate falls."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from diffprob.base.checks import real
from diffprob.training.settings import Training

FALL = 0.3  # share of the time over which the learning rate falls, unless told otherwise
_AGAIN = 0.01  # share of the time after which the plan is looked at again
_STEADY = 5  # steps after which a speed is known well enough to plan by


@dataclass(frozen=True)
class _Mark:
    """A moment: steps done, and seconds since the beginning."""

    step: int
    seconds: float


class Pace:
    """Plans the steps of a training by the clock, so that it ends when its time has passed.

    At every look the remaining steps are those that fit at the speed of late, and the learning rate falls by the clock:
    from 1 at the start of the fall to 0 at the end. So a machine that becomes slower or faster changes the number of
    steps, not the end. What a step costs beside its own computation (checkpoints, pictures) counts too.

    Args:
        seconds: of the whole training.
        speed: steps a second, as far as is known before the first.
        fall: share of the time over which the learning rate falls.
        clock: seconds, increasing.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(
        self, seconds: float, speed: float, fall: float = FALL, clock: Callable[[], float] = time.monotonic
    ) -> None:
        real("seconds", seconds, "(0, inf)")
        real("speed", speed, "(0, inf)")
        real("fall", fall, "(0, 1]")
        self.seconds, self.speed, self.fall, self.clock = seconds, speed, fall, clock
        self.began = clock()
        self.first: _Mark | None = None
        self.last: _Mark | None = None

    @property
    def elapsed(self) -> float:
        """Seconds of this training, those before an interruption too."""
        return self.clock() - self.began

    def state(self) -> dict[str, float]:
        """What `start` needs to go on after an interruption."""
        return {"seconds": self.seconds, "elapsed": round(self.elapsed, 3)}

    def start(self, settings: Training, step: int, state: Mapping[str, float] | None = None) -> Training:
        """The settings to begin with at ``step``.

        Args:
            settings: as recorded.
            step: at which the training stands.
            state: what `state` gave at the newest checkpoint. Where it is of a training of as many seconds that has not
                ended, this one goes on with it; else this one begins, and the learning rate rises again.
        """
        if state is not None and state["seconds"] == self.seconds and step < settings.steps:
            self.began = self.clock() - state["elapsed"]
            return self._planned(settings, _Mark(step, self.elapsed), self.speed)
        self.began = self.clock()
        return self._planned(replace(settings, steps=step + 1), _Mark(step, 0.0), self.speed)

    def __call__(self, settings: Training, step: int) -> Training:
        """The settings from now on, after ``step`` steps; those that were given where nothing changes."""
        now = _Mark(step, self.elapsed)
        if self.first is None or self.last is None:
            self.first = self.last = now
            return settings
        if now.seconds - self.last.seconds < _AGAIN * self.seconds and step < settings.steps:
            return settings
        since = self.last if step - self.last.step >= _STEADY else self.first
        if step > since.step:
            self.speed = (step - since.step) / max(now.seconds - since.seconds, 1e-9)
        self.last = now
        return self._planned(settings, now, self.speed)

    def _planned(self, settings: Training, now: _Mark, speed: float) -> Training:
        """With as many steps as fit, and a rate that the time that is left decides: left / (fall x seconds)."""
        left = self.seconds - now.seconds
        steps = now.step + (round(left * speed) if left > 0.5 * _AGAIN * self.seconds else 0)
        return replace(settings, steps=max(steps, 1), cooldown=max(round(self.fall * self.seconds * speed), 1))
