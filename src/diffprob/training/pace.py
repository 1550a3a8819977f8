"""How long a training is, by steps or by the clock, and when its learning rate falls."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from diffprob.base.checks import real, shown
from diffprob.base.errors import FieldError
from diffprob.training.settings import Training

# Fields of `Training` that a plan decides.
PLANNED = ("steps", "warmup", "cooldown", "checkpoint_every", "sample_every", "samples")
FALL = 0.3  # share of the time, or of the steps, over which the learning rate falls, unless told otherwise
_AGAIN = 0.01  # share of the time after which the plan is looked at again
_STEADY = 5  # steps after which a speed is known well enough to plan by
_CHECKPOINTS, _PICTURES = 30, 5  # in the whole time
_WARMUP = 0.05  # of the steps, at most
_SHARE = 0.06  # of the time, for pictures


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(duration: float | str) -> float:
    """Seconds: of a number, or of a text such as "20m", "2h", "1h30m" or "45s".

    Raises:
        ValueError: not above 0, or another text.
    """
    if isinstance(duration, str):
        parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)\s*([smhd])", duration.strip().lower())
        if not parts or "".join(map("".join, parts)) != re.sub(r"\s", "", duration.lower()):
            raise FieldError("duration", f"must be a time such as 30s, 20m, 2h or 1h30m, got {shown(duration)}")
        duration = sum(float(number) * _UNITS[unit] for number, unit in parts)
    real("duration", duration, "(0, inf)")
    return float(duration)


def with_steps(settings: Training, steps: int) -> Training:
    """So many steps: at most a twentieth of them warm up, and over the last 30% the learning rate falls."""
    warmup = min(settings.warmup, max(1, round(_WARMUP * steps)))
    return replace(settings, steps=steps, warmup=warmup, cooldown=_fall(steps))


def with_more_steps(settings: Training, steps: int) -> Training:
    """The settings of a run that goes on up to another step: the fall of the learning rate keeps its share of the
    steps, and where it has begun the rate rises again."""
    share = settings.cooldown / settings.steps
    cooldown = _fall(steps) if settings.cooldown == _fall(settings.steps) else round(share * steps)
    return replace(settings, steps=steps, cooldown=cooldown)


def _fall(steps: int) -> int:
    return max(1, round(FALL * steps))


@dataclass(frozen=True)
class _Mark:
    """A moment: steps done, and seconds since the beginning."""

    step: int
    seconds: float


class Pace:
    """Plans the steps of a training by the clock, so that it ends when its time has passed.

    At every look the remaining steps are those that fit at the speed of late, and the learning rate falls by the clock:
    from 1 at the start of the fall to 0 at the end. So a machine that becomes slower or faster changes the number of
    steps, not the end, which is within 5% of the time as long as a step takes less than 2.5% of it; else about half a
    step early or late. What a step costs beside its own computation (checkpoints, pictures) counts too. The first look,
    after a few steps, also spaces checkpoints and pictures; ``reserve`` is for those of the last step, and ``later``
    for what is made of the run after that.

    Args:
        seconds: of the whole training.
        fall: share of the time over which the learning rate falls.
        calls: of the network, for each sample of a picture; pictures take no more than 6% of the time.
        clock: seconds, increasing.
        began: when, by the clock; None: now.
        share: for what is made after the last step: (seconds of a network call on one image, seconds that there are at
            most) -> seconds.
        picture: whether the last step has a picture.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(
        self,
        seconds: float,
        fall: float = FALL,
        calls: int = 50,
        clock: Callable[[], float] = time.monotonic,
        began: float | None = None,
        share: Callable[[float, float], float] = lambda call, most: 0.0,
        picture: bool = True,
    ) -> None:
        real("seconds", seconds, "(0, inf)")
        real("fall", fall, "(0, 1]")
        self.seconds, self.fall, self.calls, self.clock = seconds, fall, calls, clock
        self.requested = self.began = clock() if began is None else began
        self.pictures, self.picture = True, picture  # whether there are pictures before the last, and that one
        self.speed = 1.0  # steps a second; a guess before the first look
        self.reserve = 0.0  # seconds for checkpoint and picture of the last step
        self.share, self.later = share, 0.0
        self.call: float | None = None  # seconds of a network call on one image, once a picture was drawn
        self.first: _Mark | None = None
        self.last: _Mark | None = None

    @property
    def elapsed(self) -> float:
        """Seconds of this training, those before an interruption too."""
        return self.clock() - self.began

    @property
    def left(self) -> float:
        """Seconds until the whole is to be over."""
        return self.ends - self.clock()

    @property
    def ends(self) -> float:
        """When the whole is to be over, by the clock."""
        return self.began + self.seconds

    @property
    def measured(self) -> bool:
        """Whether the speed is known."""
        return self.last is not self.first

    def state(self) -> dict[str, float]:
        """What `start` needs to go on after an interruption."""
        return {"seconds": self.seconds, "elapsed": round(self.elapsed, 3)}

    def start(self, settings: Training, step: int, state: Mapping[str, float] | None = None) -> Training:
        """The settings to begin with at ``step``.

        Args:
            settings: as recorded.
            step: at which the training stands.
            state: what `state` gave at the newest checkpoint. Where it is of a training of as many seconds that has not
                ended, this one goes on with it; else this one begins, with a step at least, and the learning rate rises
                again.
        """
        before = (state or {}).get("elapsed", 0.0) if (state or {}).get("seconds") == self.seconds else 0.0
        goes_on = step < settings.steps and 0 < before < self.seconds
        self.began = self.requested - (before if goes_on else 0.0)
        self.first = self.last = _Mark(step, self.elapsed)
        planned = self._planned(settings, self.first)
        return planned if goes_on else replace(planned, steps=max(planned.steps, step + 1))

    def __call__(self, settings: Training, step: int) -> Training:
        """The settings from now on, after ``step`` steps; those that were given where nothing changes."""
        assert self.first is not None and self.last is not None, "start comes first"
        now, measured = _Mark(step, self.elapsed), self.measured
        late = now.seconds - self.last.seconds >= _AGAIN * self.seconds
        if not late and step < settings.steps and (measured or step - self.first.step < _STEADY):
            return settings
        since = self.last if step - self.last.step >= _STEADY else self.first
        self.speed = (step - since.step) / max(now.seconds - since.seconds, 1e-9)
        self.last = now
        self.later = self.share(self._call(settings) if self.call is None else self.call, self._most(now))
        if measured:
            return self._planned(settings, now)
        return self._planned(self._spaced(self._planned(settings, now)), now)

    def drew(self, seconds: float, samples: int) -> None:
        """Note what a checkpoint and a picture of so many samples took: the last step has as much."""
        self.reserve, self.call = seconds * self.picture, seconds / (samples * self.calls)

    def _most(self, now: _Mark) -> float:
        """Seconds for what follows the last step: more than before only as long as the fall has not begun, so that no
        training ends all of a sudden; a fifth more where a machine becomes slower."""
        return max(self.seconds - self.reserve - now.seconds / (1 - min(self.fall, 0.99)), 1.2 * self.later)

    def _call(self, settings: Training) -> float:
        """Seconds of a network call on one image: a third of what the image costs in training."""
        return 1 / (3 * settings.batch * self.speed)

    def _planned(self, settings: Training, now: _Mark) -> Training:
        """With as many steps as fit, and a rate that the time that is left decides: left / (fall x seconds)."""
        left = self.seconds - self.reserve - self.later - now.seconds
        steps = max(1, now.step + (round(left * self.speed) if left > 0.5 * _AGAIN * self.seconds else 0))
        every = settings.sample_every if self.pictures or not settings.sample_every else steps
        cooldown = max(round(self.fall * (self.seconds - self.reserve - self.later) * self.speed), 1)
        return replace(settings, steps=steps, cooldown=cooldown, sample_every=every)

    def _spaced(self, settings: Training) -> Training:
        """With checkpoints and pictures at even times, as many of each as the time allows, and no long warm-up.

        Where there is no time for pictures of 16 samples on the way, the last step alone has one.
        """
        checkpoint = max(1, round(self.seconds * self.speed / _CHECKPOINTS))
        seconds = self.calls * self._call(settings)  # of one sample
        affordable = _SHARE * self.seconds / seconds
        self.pictures = settings.sample_every > 0 and affordable >= 16 * (_PICTURES + 1)
        samples = int(affordable / (_PICTURES + 1) if self.pictures else affordable)
        samples = min(settings.samples, max(4, samples))
        self.reserve = seconds * samples * self.picture
        every = checkpoint * (_CHECKPOINTS // _PICTURES) if self.pictures else settings.sample_every
        warmup = min(settings.warmup, max(1, round(_WARMUP * settings.steps)))
        return replace(settings, warmup=warmup, checkpoint_every=checkpoint, sample_every=every, samples=samples)
