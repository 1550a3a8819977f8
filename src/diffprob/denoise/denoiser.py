"""Denoisers: (x_t, t) -> p(x_0 | x_t), the hub of the library."""

import copy
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from diffprob.base.distributions import Distribution, LocationScale
from diffprob.base.errors import InputError
from diffprob.base.shapes import channels_last, filled
from diffprob.denoise.condition import Condition
from diffprob.denoise.prediction import Epsilon, Prediction
from diffprob.denoise.variance import Variance, Zero
from diffprob.process.learned import Learned, Monotone, settled
from diffprob.process.linear import LinearProcess


class Denoiser(Protocol):
    """A model of p(x_0 | x_t) for the noise of ``process``."""

    @property
    def process(self) -> LinearProcess:
        """The process whose noise it removes."""
        ...

    def __call__(self, xt: Tensor, t: Tensor) -> Distribution:
        """p(x_0 | x_t) for xt (B, *event) and t () or (B,) in (0, 1]."""
        ...


class Clock(Protocol):
    """What a network is told about the time (frozen dataclass: its repr is its configuration)."""

    def __call__(self, t: Tensor) -> Tensor:
        """The network's time input, float64, shaped like t."""
        ...


@dataclass(frozen=True)
class Index:
    """The label t T - 1, so that x_1..x_T are told 0..T-1 (Ho et al. 2020); whole numbers are hit within 1e-9."""

    steps: int = 1000

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")

    def __call__(self, t: Tensor) -> Tensor:
        """t T - 1, rounded where that is a whole number up to rounding."""
        t = torch.as_tensor(t, dtype=torch.float64)
        if t.ndim == 0 and t.device.type == "cpu":  # the same in fewer operations, for a chain's every step
            one = float(t) * self.steps - 1
            near = abs(one - round(one)) < 1e-9 * self.steps
            return torch.tensor(float(round(one)) if near else one, dtype=torch.float64)
        label = t * self.steps - 1
        return torch.where((label - label.round()).abs() < 1e-9 * self.steps, label.round(), label)


@dataclass(frozen=True)
class Scale:
    """factor t: 999 in the continuous-time networks of Song et al. 2021."""

    factor: float = 999.0

    def __post_init__(self) -> None:
        if not self.factor > 0:
            raise ValueError(f"factor must be positive, got {self.factor}")

    def __call__(self, t: Tensor) -> Tensor:
        """factor t."""
        return torch.as_tensor(t, dtype=torch.float64) * self.factor


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
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {self.chunk}")
        if self.precision not in AUTOCAST:
            raise ValueError(f"precision must be one of {', '.join(AUTOCAST)}, got {self.precision!r}")


AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def _settle(model: nn.Module, _keys: Any) -> None:
    if isinstance(model, NetDenoiser):
        model.settle()


class NetDenoiser(nn.Module):
    """A network as a denoiser: the one place that knows its dtype, memory format, chunk size and clock.

    Gradients flow through it: no grad mode is set here. The curve of a `Learned` schedule is a part of it, ``curve``,
    whose weights are saved with the network's; ``process`` has it as a table, see `settle`.

    Args:
        net: module with ``net(xt, label) -> Output(main, extra)``, and a third argument where it has a condition.
        process: the noising process.
        prediction: what ``main`` stands for.
        clock: what the network is told about t.
        variance: Var[x_0 | x_t].
        evaluation: chunk size and precision.
        condition: what else the network is told, by `given`; unless told, it is told the null condition.
    """

    given_rows: Tensor | None = None

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
        super().__init__()
        self.net = net
        self.process = process
        self.prediction = prediction
        self.clock = clock
        self.variance = variance
        self.evaluation = evaluation
        self.condition = condition
        self.curve: Monotone | None = None
        if isinstance(process.schedule, Learned):
            self.curve = process.schedule.build()
            self.register_load_state_dict_post_hook(_settle)
            self.settle()

    def settle(self) -> None:
        """Take the curve of a learned schedule into ``process`` as it stands now; loading weights does it by itself."""
        schedule = self.process.schedule
        if self.curve is not None and isinstance(schedule, Learned) and not self.curve.offsets.is_meta:
            self.process = settled(self.process, schedule, self.curve)

    def given(self, rows: Tensor) -> Self:
        """The same network, sharing all its weights, told a condition for every sample.

        Args:
            rows: one for each sample of the batches to come, or one (1, ...) for all of them.

        Raises:
            InputError: the network takes no condition, or not this one.
        """
        if self.condition is None:
            raise InputError("the network takes no condition: it was trained without any (a recipe's condition=...)")
        self.condition.check(rows)
        other = copy.copy(self)
        other.given_rows = rows
        return other

    def told(self, n: int, device: torch.device) -> Tensor | None:
        """The rows that a batch of n samples comes with, on the device: those given, or the null condition's.

        Raises:
            InputError: nothing was given, and there is no null condition.
            ValueError: another number of samples than of rows.
        """
        if self.condition is None:
            return None
        rows = self.condition.null() if self.given_rows is None else self.given_rows
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
        return self._asked(xt, t, self.told(len(xt), xt.device))

    def _asked(self, xt: Tensor, t: Tensor, rows: Tensor | None) -> Any:
        time = self.clock(t).to(xt.device)
        time = time.expand(len(xt)) if time.ndim == 0 else time
        weight = next(self.net.parameters())
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        x = xt.to(dtype)
        if x.ndim == 4:
            x = channels_last(x)
        autocast = AUTOCAST[self.evaluation.precision]
        time, kind = time.to(dtype), xt.device.type
        inputs = (x, time) if rows is None else (x, time, rows)
        if autocast is None and not torch.is_autocast_enabled(kind):
            output = self.net(*inputs)
        else:
            with torch.autocast(kind, dtype=autocast, enabled=autocast is not None):
                output = self.net(*inputs)
        extra = None if output.extra is None else output.extra.to(xt.dtype)
        return output._replace(main=output.main.to(xt.dtype), extra=extra)

    def forward(self, xt: Tensor, t: Tensor) -> LocationScale:
        """p(x_0 | x_t) with the network's mean and the chosen variance, evaluated in fixed chunks."""
        t = torch.as_tensor(t, dtype=torch.float64, device=xt.device)
        return self._posterior(xt, t, *self._chunked(xt, t, self.told(len(xt), xt.device)))

    def branches(self, xt: Tensor, t: Tensor, *rows: Tensor) -> list[LocationScale]:
        """p(x_0 | x_t) under several conditions, from one batch of so many times the size.

        Args:
            xt: (B, *event).
            t: () or (B,).
            rows: of each branch, as for `given`.
        """
        t, n = torch.as_tensor(t, dtype=torch.float64, device=xt.device), len(xt)
        every = torch.cat([each.to(xt.device).expand(n, *each.shape[1:]) for each in rows])
        times = (t.expand(n) if t.ndim == 0 else t).repeat(len(rows))
        main, extra = self._chunked(torch.cat([xt] * len(rows)), times, every)
        parts = [slice(k * n, (k + 1) * n) for k in range(len(rows))]
        return [self._posterior(xt, t, main[part], None if extra is None else extra[part]) for part in parts]

    def _posterior(self, xt: Tensor, t: Tensor, main: Tensor, extra: Tensor | None) -> LocationScale:
        mean = self.prediction.to_x0(self.process, xt, t, main)
        return self.variance.posterior(self.process, t, mean, extra)

    def _chunked(self, xt: Tensor, t: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor | None]:
        size = self.evaluation.chunk
        if size is None or size == len(xt):
            output = self._asked(xt, t, rows)
            return output.main, output.extra
        times = t.expand(len(xt)) if t.ndim == 0 else t
        outputs = []
        for first in range(0, len(xt), size):
            part = slice(first, first + size)
            x, own = xt[part], None if rows is None else filled(rows[part], size)
            output = self._asked(filled(x, size), filled(times[part], size), own)
            outputs.append([each if each is None else each[: len(x)] for each in (output.main, output.extra)])
        mains, extras = zip(*outputs, strict=True)
        return torch.cat(mains), None if extras[0] is None else torch.cat(extras)
