"""How long what follows the last step of a training takes, and how much of its time is for that."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate

import torch

from diffprob.denoise.denoiser import NetworkModel
from diffprob.process.process import Process
from diffprob.runs.folder import auto_chunk
from diffprob.sampling.defaults import affordable
from diffprob.space.space import Space
from diffprob.tasks.bounds import TERMS
from diffprob.tasks.progress import duration

SHARE, FITTING = 0.2, 0.1  # of the training's time: for all of it, and for the calls of the fit
ROOM = 0.8  # share of the time that is left over which is planned for: a machine may become slower meanwhile
HARDLY = 0.4  # share above which there is no time for it
LATE = 0.02  # share by which the end may be late where something would be left out otherwise
SLOWEST = 20.0  # of a machine that does other things too
WINDOW = 0.15  # share of the training's time over which it is seen how slow the machine is
CLOSING, ENDING = 0.5, 0.3  # seconds of the processor for the last checkpoint and the end of the process, and for that
CURVE = 1.4  # for the loss curve, which is drawn before the report, and for opening the run
KNOTS = 25  # times at which the variance is fitted: between them it is smooth (docs/reports.md)
IMAGES = (8, 64)  # at each of them, at least and at most
HEAD, HEAD_BATCH, HEAD_COST = (
    (60, 1000),
    32,
    1.2,
)  # steps of the fit of a head, images in each, and what one is of a call
LOOKED_AT = 40 * 16  # calls for the path, where there is a head
DRAWN = (8, 64)
MEASURED = (16, 1000)
FIRST = ("fit", "samples", "page", "bits", "comparison")  # what matters most comes first
LAST = "page"  # made when the others are, since it shows them


@dataclass(frozen=True)
class ReportPart:
    """A part of a first report.

    Args:
        what: in words.
        verb: makes it by itself.
        seconds: of the processor, beside calls of the network.
        least, most: calls of the network on one image.
        after: the part that it needs.
    """

    what: str
    verb: str
    seconds: float
    least: float = 0.0
    most: float = 0.0
    after: str = ""


class Share:
    """What of the time of a training is for what follows its last step: `diffprob.training.pace.Pace` asks.

    Args:
        seconds: of the training.
        device: where it computes.
        calls: network evaluations of a sample.
        probe: measures the seconds of a network call on one image, once; None: what the pace takes it for is right.
        most: share above which not all of it is made; inf: all of it is, whatever it takes.
        clock, processor: seconds, of the day and of the processor.
        report: whether a first report is made; if not, there are the last checkpoint and the loss curve.
        head: whether a variance head is fitted.
    """

    def __init__(
        self,
        seconds: float,
        device: torch.device,
        calls: int,
        probe: Callable[[], float] | None = None,
        most: float = HARDLY,
        clock: Callable[[], float] = time.monotonic,
        processor: Callable[[], float] = time.process_time,
        report: bool = True,
        head: bool = False,
    ) -> None:
        self.head = head
        self.seconds, self.calls, self.probe, self.most, self.report = seconds, calls, probe, most, report
        self.ratio = 1.0  # of a call that was measured to what it was taken for
        self.parts = 0  # of `FIRST` that there will be time for
        self.threads = torch.get_num_threads() if device.type == "cpu" else 1
        self.clock, self.processor = clock, processor
        self.marks = [(clock(), processor())]

    @property
    def slowness(self) -> float:
        """Seconds that a second of the processor has taken here of late, where others use it too."""
        now, window = (self.clock(), self.processor()), WINDOW * self.seconds
        while len(self.marks) > 1 and now[0] - self.marks[1][0] >= window:
            del self.marks[0]
        wall, own = now[0] - self.marks[0][0], now[1] - self.marks[0][1]
        if now[0] - self.marks[-1][0] >= window / 10:
            self.marks.append(now)
        return min(max(self.threads * wall / max(own, 1e-9), 1.0), SLOWEST) if wall > 1 else 1.0

    def __call__(self, call: float, most: float = math.inf) -> float:
        """Seconds, at most ``most``, where the pace takes a network call on one image for ``call`` of them.

        A fifth of the time, or more where that is too short, or less where there is no more to do. Where not even 40%
        are enough for all parts, those that come first are made; there is always time for the last checkpoint.
        """
        if self.probe is not None:
            self.ratio, self.probe = self.probe() / call, None
        slow, call, parts = (
            self.slowness,
            self.ratio * call,
            parts_of(self.calls, head=self.head) if self.report else {},
        )
        needs = [slow * part.seconds + call * part.least for part in map(parts.get, FIRST) if part is not None]
        sums = list(accumulate([slow * CURVE, *needs], initial=slow * CLOSING))
        sums = [total for total in sums if total <= min(self.most * self.seconds, most)] or sums[:1]
        self.parts = max(0, len(sums) - 2)
        if self.parts < len(needs) or not needs:
            return sums[-1]
        all_of_it = sums[-1] + call * sum(part.most - part.least for part in parts.values())
        return min(all_of_it, max(sums[-1], min(SHARE * self.seconds, most)))


def parts_of(calls: int, comparing: float = 0.0, head: bool = False) -> dict[str, ReportPart]:
    """The parts by name, in order.

    Args:
        calls: of the network, a sample.
        comparing: seconds for many real images.
        head: whether a variance head is fitted, which is left out where there is no time for it.
    """

    def part(what: str, verb: str, seconds: float, each: int, images: tuple[int, int], after: str = "") -> ReportPart:
        return ReportPart(what, verb, seconds, each * images[0], each * images[1], after)

    fitting, samples = "fit of variance and steps", "samples"
    fit = part(fitting, "fit {}", 2.8, KNOTS, IMAGES)
    return {
        "fit": replace(fit, most=fit.most + head_calls(HEAD[1])) if head else fit,
        "samples": part(samples, "sample {}", 0.6, calls, DRAWN),
        "bits": part("bits/dim", "likelihood {}", 0.4, TERMS + 1, MEASURED, fitting),
        "comparison": ReportPart("comparison with real images", "evaluate {}", 0.6 + comparing, after=samples),
        "page": ReportPart("page", "report {}", 0.8, after=samples),
    }


def head_calls(steps: int) -> float:
    """Calls of the network on one image that take as long as the fit of a head in so many steps, and its path."""
    return HEAD_COST * HEAD_BATCH * steps + LOOKED_AT


def head_steps(calls: float) -> int:
    """Steps of the fit of a head for which so many calls are enough; 0: too few for any."""
    steps = int((calls - LOOKED_AT) / (HEAD_COST * HEAD_BATCH))
    return min(steps, HEAD[1]) if steps >= HEAD[0] else 0


def seconds_per_call(model: NetworkModel, space: Space) -> float:
    """Of the network on one image, in chunks as they are used."""
    device = next(model.parameters()).device
    chunk, seconds = auto_chunk(device, space), []
    if model.condition is not None:
        model = model.condition_on(model.condition.example_rows(chunk))
    x, t = torch.zeros((chunk, *space.model_shape), device=device), torch.tensor(0.5, dtype=torch.float64)
    with torch.no_grad():
        for _ in range(3):
            began = time.monotonic()
            float(model(x, t).mean.sum())  # waits for the device
            seconds.append(time.monotonic() - began)
    return sorted(seconds)[1] / chunk


def estimated(process: Process, seconds: float, image: float, after: bool) -> tuple[float, str]:
    """Seconds of a training for so long that are for it, and what to say of them.

    Args:
        process: of the recipe.
        seconds: of the training.
        image: seconds of an image in training.
        after: whether they are on top.
    """
    most = math.inf if after else HARDLY
    share = Share(seconds, torch.device("cpu"), affordable(process), most=most)
    last = share(image / 3)
    if not share.parts:
        return last, "no time for it: diffprob train RUN --report makes it afterwards"
    when = "after the last step, about" if after else "the last"
    return last, f"{when} {duration(last)}: fits, samples, first numbers and a page"
