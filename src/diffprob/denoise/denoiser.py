"""Denoisers: (x_t, t) -> p(x_0 | x_t), the hub of the library."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar, cast

import torch
from torch import Tensor, nn

from diffprob.base.checks import MOST_STEPS, one_of, real, whole
from diffprob.base.distributions import Distribution, LocationScale
from diffprob.base.errors import InputError
from diffprob.base.shapes import channels_last, filled
from diffprob.conditions.condition import Condition
from diffprob.denoise.prediction import Epsilon, Prediction, network_input
from diffprob.denoise.variance import Variance, Zero
from diffprob.process.learned import LearnedSchedule, tabulate_schedule
from diffprob.process.linear import LinearProcess
from diffprob.process.times import as_time

Posterior = TypeVar("Posterior", bound=Distribution)


class Denoiser(Protocol):
    """A model of p(x_0 | x_t) for the noise of ``process``."""

    @property
    def process(self) -> LinearProcess:
        """The process whose noise it removes."""
        ...

    def __call__(self, xt: Tensor, t: Tensor) -> Distribution:
        """p(x_0 | x_t) for xt (B, *event) and t () or (B,) in (0, 1].

        Raises:
            ValueError: t is no time: outside [0, 1], or whole numbers in a tensor.
        """
        ...


class Clock(Protocol):
    """A network's time input (frozen dataclass: its repr is its configuration)."""

    def label(self, process: LinearProcess, t: Tensor) -> Tensor:
        """The network's time input at t, float64, shaped like t."""
        ...


class _OfTime:
    """A clock that asks for the time alone."""

    def label(self, process: LinearProcess, t: Tensor) -> Tensor:
        """The network's time input at t, whatever the noise there."""
        return cast(Callable[[Tensor], Tensor], self)(t)


@dataclass(frozen=True)
class Index(_OfTime):
    """The label t T - 1, so that x_1..x_T have 0..T-1 (Ho et al. 2020); whole numbers are hit within 1e-9."""

    steps: int = 1000

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1, MOST_STEPS)

    def __call__(self, t: Tensor) -> Tensor:
        """t T - 1, rounded where that is a whole number up to rounding."""
        t = torch.as_tensor(t, dtype=torch.float64)
        if t.ndim == 0 and t.is_cpu:  # the same in fewer operations, for a chain's every step
            one = float(t) * self.steps - 1
            near = abs(one - round(one)) < 1e-9 * self.steps
            return torch.scalar_tensor(float(round(one)) if near else one, dtype=torch.float64)
        label = t * self.steps - 1
        return torch.where((label - label.round()).abs() < 1e-9 * self.steps, label.round(), label)


@dataclass(frozen=True)
class Scale(_OfTime):
    """factor t: 999 in the continuous-time networks of Song et al. 2021."""

    factor: float = 999.0

    def __post_init__(self) -> None:
        real("factor", self.factor, "(0, 1e9]")

    def __call__(self, t: Tensor) -> Tensor:
        """factor t."""
        return torch.as_tensor(t, dtype=torch.float64) * self.factor


@dataclass(frozen=True)
class Constant(_OfTime):
    """The same label at all times: the network has to see in x_t itself how much noise there is.

    With `Epsilon` the score is s(x)/sigma for one network s without a condition, NCSNv2's technique 3.

    Args:
        value: the label.

    Reference: Song & Ermon, "Improved techniques for training score-based generative models" (2020), technique 3.
    """

    value: float = 0.0

    def __post_init__(self) -> None:
        real("value", self.value, "[-1e9, 1e9]")

    def __call__(self, t: Tensor) -> Tensor:
        """The value, shaped like t."""
        return torch.full_like(torch.as_tensor(t, dtype=torch.float64), self.value)


@dataclass(frozen=True)
class LogNoise:
    """factor ln(sigma/alpha): the same label at the same noise, whatever the schedule's times.

    EDM's c_noise, where sigma/alpha is called sigma. Beyond sigma/alpha = e^20 and e^-20, where there is only noise or
    none, the label stays as it is there.

    Args:
        factor: a quarter in EDM.

    Reference: Karras et al., "Elucidating the design space of diffusion-based generative models" (2022), table 1.
    """

    factor: float = 0.25

    def __post_init__(self) -> None:
        real("factor", self.factor, "(0, 1e9]")

    def label(self, process: LinearProcess, t: Tensor) -> Tensor:
        """-factor logsnr/2, float64, shaped like t."""
        return -0.5 * self.factor * process.logsnr(t).clamp(-40, 40)


@dataclass(frozen=True)
class Evaluation:
    """How a network is evaluated: recorded with every sample, because it decides the last bits.

    Args:
        chunk: samples per network call; a batch is cut into chunks of exactly this size and the last one is padded, so
            that a sample's bits depend neither on its position nor on its companions. None: the whole batch at once.
        precision: "fp32" (the parameters' own dtype), "bf16" or "fp16" (autocast).
    """

    chunk: int | None = None
    precision: str = "fp32"

    def __post_init__(self) -> None:
        whole("chunk", self.chunk, 1, none=True)
        one_of("precision", self.precision, AUTOCAST)

    def call(self, net: nn.Module, part: Callable[..., Any], x: Tensor, *more: Tensor) -> Any:
        """``part(x, *more)``, a part of ``net``, with its inputs as the network takes them, at the precision.

        Args:
            net: whose weights decide the dtype: float64, or else float32.
            part: of it that is called, such as itself.
            x: (B, *event); images get channels-last memory.
            more: its other inputs; whole numbers stay so.
        """
        weight = first_weight(net)
        dtype = torch.float64 if weight is not None and weight.dtype == torch.float64 else torch.float32
        x = x if x.dtype == dtype else x.to(dtype)
        if x.ndim == 4:
            x = channels_last(x)
        inputs = [value if value.dtype == dtype or not value.is_floating_point() else value.to(dtype) for value in more]
        autocast, kind = AUTOCAST[self.precision], x.device.type
        if autocast is None and not torch.is_autocast_enabled(kind):
            return part(x, *inputs)
        with torch.autocast(kind, dtype=autocast, enabled=autocast is not None):
            return part(x, *inputs)

    def chunked(self, part: Callable[..., Sequence[Tensor | None]], *inputs: Tensor | None) -> list[Any]:
        """``part(*inputs)`` in chunks of the fixed size, the last one filled up: the one loop over chunks.

        Args:
            part: from inputs to answers, all (size, ...) or None.
            inputs: (B, ...), or None.
        """
        n = next(len(tensor) for tensor in inputs if tensor is not None)
        if self.chunk is None or self.chunk == n or not n:
            return list(part(*inputs))
        answers = []
        for first in range(0, n, self.chunk):
            own = slice(first, first + self.chunk)
            padded = [None if tensor is None else filled(tensor[own], self.chunk) for tensor in inputs]
            answers.append([None if tensor is None else tensor[: n - first] for tensor in part(*padded)])
        return [None if tensor[0] is None else torch.cat(tensor) for tensor in zip(*answers, strict=True)]


def first_weight(net: nn.Module) -> Tensor | None:
    """``next(net.parameters())`` in a tenth of the time, for every step of a chain asks; None where there is none."""
    for weight in net._parameters.values():
        if weight is not None:
            return weight
    for part in net._modules.values():
        if part is not None and (nested := first_weight(part)) is not None:
            return nested
    return None


AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class NetworkModel(nn.Module, Generic[Posterior]):
    """A network with a clock and a condition: what every denoiser that has weights shares.

    Args:
        net: module with ``net(xt, label) -> Output(main, extra)``, and a third argument where it has a condition.
        process: the noising process.
        clock: the network's time input.
        evaluation: chunk size and precision.
        condition: what else the network takes, by `condition_on`; without a call of it, the null condition.
    """

    condition_rows: Tensor | None = None
    process: Any
    prediction: Any = None  # what the network's output stands for
    variance: Any = None  # Var[x_0 | x_t] where it is none of the posterior's own

    def __init__(
        self, net: nn.Module, process: Any, clock: Clock, evaluation: Evaluation, condition: Condition | None
    ) -> None:
        super().__init__()
        self.net = net
        self.process = process
        self.clock = clock
        self.evaluation = evaluation
        self.condition = condition

    def tabulate_schedule(self) -> None:
        """Take a learned schedule into ``process`` as it stands now; here there is none."""

    def with_process(self, process: Any) -> Self:
        """The same network, sharing all its weights, under another process, such as one whose schedule is trained."""
        other = copy.copy(self)
        other.process = process
        return other

    def condition_on(self, rows: Tensor) -> Self:
        """The same network, sharing all its weights, with a condition for every sample.

        Args:
            rows: one for each sample of the batches to come, or one (1, ...) for all of them.

        Raises:
            InputError: the network takes no condition, or not this one.
        """
        if self.condition is None:
            raise InputError("the network takes no condition: it was trained without any (a recipe's condition=...)")
        self.condition.check(rows)
        other = copy.copy(self)
        other.condition_rows = rows
        return other

    def condition_for(self, n: int, device: torch.device) -> Tensor | None:
        """The rows that a batch of n samples comes with, on the device: those given, or the null condition's.

        Raises:
            InputError: nothing was given, and there is no null condition.
            ValueError: another number of samples than of rows.
        """
        if self.condition is None:
            return None
        rows = self.condition.null() if self.condition_rows is None else self.condition_rows
        if len(rows) not in (1, n):
            raise ValueError(f"the model was told about {len(rows)} samples, and asked about {n}")
        return rows.to(device).expand(n, *rows.shape[1:])

    def raw(self, xt: Tensor, t: Tensor) -> Any:
        """The network's own output for the whole batch at once, in the dtype of ``xt``: what training works with.

        Args:
            xt: (B, *event).
            t: () or (B,), float64 in (0, 1].

        Returns:
            An ``Output(main, extra)``.
        """
        t = as_time(t, self.process.schedule.steps) if t.is_cpu else t  # a step on another device waits for nothing
        return self._forward(xt, t, self.condition_for(len(xt), xt.device))

    def _forward(self, xt: Tensor, t: Tensor, rows: Tensor | None) -> Any:
        if t.ndim and len(t) not in (1, len(xt)):
            raise ValueError(f"{len(t)} times for {len(xt)} states")
        time = self.clock.label(self.process, t)
        if time.ndim == 0 and time.is_cpu and xt.is_cpu:
            time = torch.full((len(xt),), float(time), dtype=torch.float64)
        else:
            time = time.to(xt.device).expand(len(xt))
        output = self.evaluation.call(self.net, self.net, self._input(xt, t), time, *(() if rows is None else (rows,)))
        if output.extra is None and output.main.dtype == xt.dtype:  # as in every step of most chains
            return output
        for answer in (output.main, output.extra):  # of complex numbers a part would be dropped
            if answer is not None and not answer.is_floating_point():
                raise ValueError(f"the network answered with {answer.dtype}; a floating type would be right")
        extra = None if output.extra is None else output.extra.to(xt.dtype)
        return output._replace(main=output.main.to(xt.dtype), extra=extra)

    def forward(self, xt: Tensor, t: Tensor) -> Posterior:
        """p(x_0 | x_t), evaluated in fixed chunks."""
        t = as_time(t, self.process.schedule.steps).to(xt.device)
        return self._posterior(xt, t, *self._chunked(xt, t, self.condition_for(len(xt), xt.device)))

    def branches(self, xt: Tensor, t: Tensor, *others: "NetworkModel[Posterior]") -> list[Posterior]:
        """p(x_0 | x_t) by this one and others with other conditions, in one batch of so many times the size.

        Args:
            xt: (B, *event).
            t: () or (B,).
            others: of the same network, with its condition.
        """
        t, n = as_time(t, self.process.schedule.steps).to(xt.device), len(xt)
        rows = [branch.condition_for(n, xt.device) for branch in (self, *others)]
        every = torch.cat([row for row in rows if row is not None])
        times = (t.expand(n) if t.ndim == 0 else t).repeat(len(rows))
        main, extra = self._chunked(torch.cat([xt] * len(rows)), times, every)
        parts = [slice(k * n, (k + 1) * n) for k in range(len(rows))]
        return [self._posterior(xt, t, main[part], None if extra is None else extra[part]) for part in parts]

    def _input(self, xt: Tensor, t: Tensor) -> Tensor:
        """What the network sees of x_t."""
        return xt

    def _posterior(self, xt: Tensor, t: Tensor, main: Tensor, extra: Tensor | None) -> Posterior:
        """p(x_0 | x_t) from the network's output."""
        raise NotImplementedError

    def _chunked(self, xt: Tensor, t: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor | None]:
        size = self.evaluation.chunk
        if size is None or size == len(xt):
            main, extra = self._forward(xt, t, rows)  # one time for all stays one, which clocks read faster
        else:
            main, extra = self.evaluation.chunked(self._forward, xt, t.expand(len(xt)) if t.ndim == 0 else t, rows)
        return main, extra


def _tabulate_schedule(model: Any, _keys: Any) -> None:
    model.tabulate_schedule()


class NetDenoiser(NetworkModel[LocationScale]):
    """A network as a denoiser: the one place that knows its dtype, memory format, chunk size and clock.

    Gradients flow through it: no grad mode is set here. What is trained of a `Learned` or `LearnedBetas` schedule is a
    part of it, ``curve``, whose weights are saved with the network's; ``process`` has it as a table, see
    `tabulate_schedule`.

    Args:
        net: module with ``net(xt, label) -> Output(main, extra)``, and a third argument where it has a condition.
        process: the noising process.
        prediction: what ``main`` stands for.
        clock: the network's time input.
        variance: Var[x_0 | x_t].
        evaluation: chunk size and precision.
        condition: what else the network takes, by `condition_on`; without a call of it, the null condition.

    Raises:
        ValueError: a prediction that says nothing about x_0 at the noise of the process (`Prediction.check`).
    """

    process: LinearProcess

    def __init__(
        self,
        net: nn.Module,
        process: LinearProcess,
        prediction: Prediction = Epsilon(),
        clock: Clock = Index(),
        variance: Variance = Zero(),
        evaluation: Evaluation = Evaluation(),
        condition: Condition | None = None,
    ) -> None:
        super().__init__(net, process, clock, evaluation, condition)
        prediction.check(process)
        self.prediction = prediction
        self.variance = variance
        self.curve: nn.Module | None = None
        if isinstance(process.schedule, LearnedSchedule):
            self.curve = process.schedule.build()
            self.register_load_state_dict_post_hook(_tabulate_schedule)
            self.tabulate_schedule()

    def tabulate_schedule(self) -> None:
        """Take the curve of a learned schedule into ``process`` as it stands now; loading weights does it by itself."""
        curve, schedule = self.curve, self.process.schedule
        if curve is not None and isinstance(schedule, LearnedSchedule) and not next(curve.parameters()).is_meta:
            self.process = tabulate_schedule(self.process, schedule, curve)

    def _input(self, xt: Tensor, t: Tensor) -> Tensor:
        return network_input(self.prediction, self.process, xt, t)

    def _posterior(self, xt: Tensor, t: Tensor, main: Tensor, extra: Tensor | None) -> LocationScale:
        if main.shape != xt.shape:  # a single image without its batch, say, would be stretched
            raise ValueError(f"states (B, *event) {tuple(xt.shape)} came back as {tuple(main.shape)}")
        mean = self.prediction.to_x0(self.process, xt, t, main)
        return self.variance.posterior(self.process, t, mean, extra)
