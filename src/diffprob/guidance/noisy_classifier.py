"""A classifier of noised images: p(y | x_t), what the guidance by a label needs beside a denoiser."""

import copy
from typing import Any, Self, cast

from torch import Tensor, nn

from diffprob.conditions.condition import Labels
from diffprob.denoise.denoiser import Clock, Evaluation, Index
from diffprob.denoise.prediction import Prediction, network_input
from diffprob.process.linear import LinearProcess
from diffprob.process.times import as_time


class NoisyClassifier(nn.Module):
    """A network as p(y | x_t): the one place that knows its dtype, memory format, chunk size and clock.

    It stands where a `NetDenoiser` stands for the trainer. Gradients flow through it: no grad mode is set here.

    Args:
        net: module with ``net(xt, label) -> logits (B, classes)``, and ``features(xt, label)`` for `features`.
        process: the noising process whose x_t it knows.
        clock: the network's time input.
        condition: the classes; ``drop`` must be 0, since no class is not among the answers.
        evaluation: chunk size and precision.
        prediction: of a denoiser whose scaled input the network sees, such as EDM's x_t/n of variance 1; None: x_t.

    Raises:
        ValueError: labels that are dropped.
    """

    condition_rows: Tensor | None = None

    def __init__(
        self,
        net: nn.Module,
        process: LinearProcess,
        clock: Clock = Index(),
        condition: Labels = Labels(drop=0.0),
        evaluation: Evaluation = Evaluation(),
        prediction: Prediction | None = None,
    ) -> None:
        super().__init__()
        if condition.drop:
            raise ValueError(f"condition.drop must be 0 for a classifier, got {condition.drop}")
        self.net, self.process, self.clock = net, process, clock
        self.condition, self.evaluation, self.prediction = condition, evaluation, prediction

    def condition_on(self, rows: Tensor) -> Self:
        """The same network, sharing all its weights, with the classes (B,) that training compares with.

        Raises:
            InputError: rows that are no such classes.
        """
        self.condition.check(rows)
        other = copy.copy(self)
        other.condition_rows = rows
        return other

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        """Logits (B, classes) of x_t (B, *event) at t, () or (B,), in the dtype of ``xt``."""
        return self._forward(self.net, xt, t)

    def features(self, xt: Tensor, t: Tensor) -> Tensor:
        """What the network's last layers read, (B, C, h, w), in the dtype of ``xt``."""
        return self._forward(cast(Any, self.net).features, xt, t)

    def log_prob(self, xt: Tensor, t: Tensor) -> Tensor:
        """log p(y | x_t) of every class, nats, (B, classes)."""
        return self(xt, t).log_softmax(1)

    def _forward(self, part: Any, xt: Tensor, t: Tensor) -> Tensor:
        def whole(x: Tensor, times: Tensor) -> tuple[Tensor]:
            labels = self.clock.label(self.process, times).to(x.device)
            x = x if self.prediction is None else network_input(self.prediction, self.process, x, times)
            return (self.evaluation.call(self.net, part, x, labels).to(xt.dtype),)

        t = as_time(t, self.process.schedule.steps).to(xt.device).expand(len(xt))
        return self.evaluation.chunked(whole, xt, t)[0]
