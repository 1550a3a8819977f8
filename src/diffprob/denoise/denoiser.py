"""Denoisers: (x_t, t) -> p(x_0 | x_t), the hub of the library."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from diffprob.base.distributions import Distribution, LocationScale
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
        net: module with ``net(xt, label) -> Output(main, extra)``.
        process: the noising process.
        prediction: what ``main`` stands for.
        clock: what the network is told about t.
        variance: Var[x_0 | x_t].
        evaluation: chunk size and precision.
    """

    def __init__(
        self,
        net: nn.Module,
        process: LinearProcess,
        prediction: Prediction = Epsilon(),
        clock: Clock = Index(),
        variance: Variance = Zero(),
        evaluation: Evaluation = Evaluation(),
    ) -> None:
        super().__init__()
        self.net = net
        self.process = process
        self.prediction = prediction
        self.clock = clock
        self.variance = variance
        self.evaluation = evaluation
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

    def raw(self, xt: Tensor, t: Tensor) -> Any:
        """The network's own output for the whole batch at once, in the dtype of ``xt``: what training works with.

        Args:
            xt: (B, *event).
            t: () or (B,), float64 in (0, 1].

        Returns:
            An ``Output(main, extra)``.
        """
        label = self.clock(t).to(xt.device)
        label = label.expand(len(xt)) if label.ndim == 0 else label
        weight = next(self.net.parameters())
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        x = xt.to(dtype)
        if x.ndim == 4 and x.shape[1] == 1:
            # With one channel both formats are the same memory, and the strides that the caller happened to use would
            # choose the kernels, and with them the last bits; this view always says channels-last.
            x = x.contiguous().reshape(-1, *x.shape[2:], 1).permute(0, 3, 1, 2)
        elif x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        autocast = AUTOCAST[self.evaluation.precision]
        label, kind = label.to(dtype), xt.device.type
        if autocast is None and not torch.is_autocast_enabled(kind):
            output = self.net(x, label)
        else:
            with torch.autocast(kind, dtype=autocast, enabled=autocast is not None):
                output = self.net(x, label)
        extra = None if output.extra is None else output.extra.to(xt.dtype)
        return output._replace(main=output.main.to(xt.dtype), extra=extra)

    def forward(self, xt: Tensor, t: Tensor) -> LocationScale:
        """p(x_0 | x_t) with the network's mean and the chosen variance, evaluated in fixed chunks."""
        t = torch.as_tensor(t, dtype=torch.float64, device=xt.device)
        main, extra = self._chunked(xt, t)
        mean = self.prediction.to_x0(self.process, xt, t, main)
        return self.variance.posterior(self.process, t, mean, extra)

    def _chunked(self, xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor | None]:
        size = self.evaluation.chunk
        if size is None or size == len(xt):
            output = self.raw(xt, t)
            return output.main, output.extra
        times = t.expand(len(xt)) if t.ndim == 0 else t
        outputs = []
        for first in range(0, len(xt), size):
            x, at = xt[first : first + size], times[first : first + size]
            missing = size - len(x)
            if missing:
                x = torch.cat([x, x[-1:].expand(missing, *x.shape[1:])])
                at = torch.cat([at, at[-1:].expand(missing)])
            output = self.raw(x, at)
            outputs.append([part if part is None else part[: size - missing] for part in (output.main, output.extra)])
        mains, extras = zip(*outputs, strict=True)
        return torch.cat(mains), None if extras[0] is None else torch.cat(extras)
