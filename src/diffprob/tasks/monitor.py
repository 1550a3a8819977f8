"""Measuring while training: what `Monitor` in a recipe asks for."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from diffprob.base.errors import InputError, NumericalError
from diffprob.base.rng import Rng, increasing_subset
from diffprob.conditions.condition import Labels
from diffprob.config.classes import class_counts, numbering
from diffprob.config.recipe import Recipe
from diffprob.data.images import Images
from diffprob.denoise.denoiser import Evaluation, NetworkModel
from diffprob.evaluation.features import describe
from diffprob.evaluation.suite import METRICS, assess, check_names, leading, view, with_enough
from diffprob.process.grids import Uniform
from diffprob.runs.folder import auto_chunk
from diffprob.runs.writer import RunWriter
from diffprob.sampling.defaults import affordable, for_pictures
from diffprob.storage.records import read_log
from diffprob.tasks.conditioning import shares_text
from diffprob.tasks.drawing import draw, make_times
from diffprob.tasks.features import class_names, judged, parse_features, renumbered
from diffprob.tasks.images import held_out
from diffprob.tasks.reporter import SILENT, Reporter
from diffprob.tasks.tensorboard import Board
from diffprob.training.settings import Monitor

OPTION = "training.monitor.features"
PREFIX = "metric/"  # of a metric's title in log.jsonl


def check_monitor(monitor: Monitor) -> None:
    """Refuse, before anything is written, a monitor that names what there is not.

    Raises:
        InputError: an unknown metric, unknown features, or a best metric that is several numbers.
    """
    check_names(monitor.metrics)
    few = set(monitor.metrics) - set(with_enough(monitor.metrics, monitor.n))
    if few:
        raise InputError(f"training.monitor.n: {monitor.n} images are too few for {', '.join(sorted(few))}")
    parse_features(monitor.features, name=OPTION)
    if monitor.best and not METRICS[monitor.best].title:
        raise InputError(f"training.monitor.best: {monitor.best!r} is several numbers; frechet, say, is one")


def alike(before: object, now: dict[str, Any]) -> bool:
    """Whether what a line of the log says of its measuring is so now; older versions said less (no digest, no role)."""
    return isinstance(before, dict) and before.items() <= now.items()


class Watch:
    """Draws from the averaged model, compares with real images, logs, and keeps the best weights.

    Args:
        monitor: what to measure.
        recipe: of the training.
        train: the training images.
        store: the run.
        device: where the training computes.
        note: tells the user one line, while the training goes on.
        reporter: hears of the features, which may have to be trained.

    Raises:
        InputError: features that there are not for these images.
    """

    def __init__(
        self,
        monitor: Monitor,
        recipe: Recipe,
        train: Images,
        store: RunWriter | Board,
        device: torch.device,
        note: Callable[[str], None],
        reporter: Reporter = SILENT,
    ) -> None:
        self.monitor, self.recipe, self.store, self.note = monitor, recipe, store, note
        test = held_out(recipe.data)
        reference, split = (train, "train") if test is None else (test, "test")
        self.features = parse_features(monitor.features, name=OPTION).fit(train, test, device, reporter)
        chosen = increasing_subset(len(reference), monitor.n, 0, "monitor")
        self.names, self.numbers = class_names(self.features, train), numbering(recipe, train)
        labels, called = judged(reference, self.names)
        labels = None if labels is None else labels[chosen]
        self.reference = view(self.features, reference.take(chosen), labels, names=called)
        self.counts = class_counts(recipe, self.numbers, reference, train)
        self.every = max(1, round(monitor.epochs * len(train) / recipe.training.batch))
        self.images = len(train)
        self.title = METRICS[monitor.best].title if monitor.best else ""
        self.lower = not monitor.best or METRICS[monitor.best].better == "lower"
        self.steps = affordable(recipe.process, monitor.steps)
        self.settings = {
            "features": describe(self.features),
            "split": split,
            "role": split,
            "digest": reference.digest(),
            "n": monitor.n,
            "reference": len(self.reference),
            "sampler": repr(for_pictures(recipe.process)),
            "evaluations": self.steps,
            "seed": 0,
            "weights": "EMA",
        }
        if self.counts and isinstance(recipe.condition, Labels):
            self.settings["told"] = shares_text(recipe.condition, self.counts)

    def __call__(self, step: int, model: NetworkModel) -> None:
        """Measure the averaged model after a step."""
        device, before = next(model.parameters()).device, model.evaluation
        model.evaluation = Evaluation(auto_chunk(device, self.recipe.space), before.precision)
        times = make_times(Uniform(), model.process, self.steps, "training.monitor.steps")
        try:
            streams = Rng.of(0, self.monitor.n, device=device)
            labels = isinstance(model.condition, Labels)
            rows = None if model.condition is None else model.condition.example_rows(self.monitor.n)
            if isinstance(model.condition, Labels) and self.counts:
                rows = model.condition.in_shares(self.counts, self.monitor.n)
            conditional = model if rows is None else model.condition_on(rows)
            drawn = draw(conditional, for_pictures(model.process), times, streams, self.recipe.space)
            requested = renumbered(rows.numpy() if rows is not None and labels else None, self.numbers, self.names)
            own = replace(view(self.features, drawn.levels, names=self.names), requested=requested)
            estimates = assess(own, self.reference, self.monitor.metrics)
        except NumericalError as error:  # the training itself may still be sound: the averaged weights lag behind
            self.note(f"nothing measured at step {step:,}: {error}")
            return
        finally:
            model.evaluation = before
        best = self._best(step)
        epoch = round(step * self.recipe.training.batch / self.images, 4)
        values = {f"{PREFIX}{title}": estimate.value for title, estimate in estimates.items()}
        self.store.append({"step": step, "epoch": epoch, **values, "measured": self.settings})
        self.note(
            f"step {step:,}: " + ", ".join(f"{title} {estimate.value:.4g}" for title, estimate in estimates.items())
        )
        if self.monitor.best:
            value = leading(estimates, self.monitor.best)
            if (value < best) if self.lower else (value > best):
                self.store.keep_best(step, model.state_dict(), self.title, value)

    def _best(self, step: int) -> float:
        """The best value before this step, by the log, among those that were measured in the same way."""
        name, worst = PREFIX + self.title, math.inf if self.lower else -math.inf
        values: list[Any] = [
            record[name]
            for record in read_log(self.store.folder)
            if name in record and alike(record.get("measured"), self.settings) and record["step"] < step
        ]
        return (min if self.lower else max)([worst, *values])
