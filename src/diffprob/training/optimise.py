"""The optimiser, the averaged weights and the choice of precision."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from diffprob.base.errors import InputError
from diffprob.training.settings import ParameterGroup, Training


def choose_precision(wanted: str, device: torch.device) -> str:
    """Resolve ``auto``: bf16 where the processor multiplies it fast, else fp32.

    Fast are CUDA from Ampere on, processors with AMX, and those of AMD with AVX512-BF16: on a Zen 4 a training step was
    1.4 to 2 times as fast as in fp32. On an Intel Xeon whose AMX a virtual machine hides, matrices were multiplied at
    0.6 of the rate of fp32, and a training step took 1.3 times as long (docs/results/precision.md).
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu":
        return "bf16" if _has("_is_amx_tile_supported") or (_has("_is_avx512_bf16_supported") and _is_amd()) else "fp32"
    return "fp32"


def _has(feature: str) -> bool:
    """Whether torch sees a feature of the processor."""
    probe = getattr(torch.cpu, feature, None)
    return probe is not None and probe()


@lru_cache(maxsize=1)
def _is_amd() -> bool:
    """Whether the processor is one of AMD's, where the system says so."""
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def ema_decay(decay: float, step: int) -> float:
    """min(decay, (1 + n)/(10 + n)) after n steps: short runs average too."""
    return min(decay, (1 + step) / (10 + step))


class Optimiser:
    """AdamW (fused) with linear warm-up, gradient clipping and an exponential moving average of the weights.

    Parameters that want no gradient at the start are never trained; those of a `ParameterGroup` from its own step on.

    Args:
        model: the module to train, on its device.
        average: a copy of it that holds the averaged weights.
        settings: learning rate, warm-up, clipping, decay, EMA and parts.

    Raises:
        InputError: a part that no parameter belongs to.
    """

    def __init__(self, model: nn.Module, average: nn.Module, settings: Training) -> None:
        self.settings = settings
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        averaged = dict(average.named_parameters())
        self.names, self.parameters = list(trained), list(trained.values())
        self.average = [averaged[name] for name in self.names]
        # Running statistics of a batch norm are averages already.
        self.buffers = list(zip(average.buffers(), model.buffers(), strict=True))
        self.parts = _parts(trained, settings)
        groups = [{"params": [trained[name] for name in names]} for _, names in self.parts]
        self.adam = torch.optim.AdamW(
            groups, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
        )

    def begin(self, step: int) -> None:
        """Ask for the gradients of the parts that step ``step`` (counted from 1) trains, and of no others."""
        for (part, _), group in zip(self.parts, self.adam.param_groups, strict=True):
            for parameter in group["params"]:
                parameter.requires_grad_(step > part.start)

    def rate(self, step: int) -> float:
        """Learning rate of step ``step`` (counted from 1): rises linearly to ``lr`` over the warm-up, stays, and falls
        linearly over the cool-down, whose last step has ``lr / cooldown``."""
        rise = step / max(1, self.settings.warmup)
        fall = (self.settings.steps - step + 1) / max(1, self.settings.cooldown)
        return self.settings.lr * min(1.0, rise, fall)

    def update(self, step: int, scaler: torch.amp.GradScaler) -> Tensor:
        """Clip, step, average; returns the norm of the gradient before clipping, ().

        Args:
            step: the step's number, counted from 1.
            scaler: loss scaler (disabled unless fp16).
        """
        scaler.unscale_(self.adam)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        for (part, _), group in zip(self.parts, self.adam.param_groups, strict=True):
            group["lr"] = self.rate(step) * part.rate
        scaler.step(self.adam)
        scaler.update()
        self.adam.zero_grad(set_to_none=True)
        weight = 1 - ema_decay(self.settings.ema, step)
        torch._foreach_lerp_([p.data for p in self.average], [p.data for p in self.parameters], weight)
        for own, present in self.buffers:
            own.copy_(present)
        return norm

    def state(self) -> dict[str, Tensor]:
        """The optimiser's tensors by parameter: ``NAME.exp_avg``, ``NAME.exp_avg_sq``, ``NAME.step``."""
        return {
            f"{name}.{key}": value
            for name, parameter in zip(self.names, self.parameters, strict=True)
            for key, value in self.adam.state[parameter].items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` returned."""
        for name, parameter in zip(self.names, self.parameters, strict=True):
            if f"{name}.step" not in state:  # of a part that had not begun
                continue
            moments = {key: state[f"{name}.{key}"] for key in ("exp_avg", "exp_avg_sq")}
            self.adam.state[parameter] = {
                "step": state[f"{name}.step"].to(parameter.device),
                **{key: torch.empty_like(parameter).copy_(value) for key, value in moments.items()},
            }


def _parts(trained: Mapping[str, nn.Parameter], settings: Training) -> list[tuple[ParameterGroup, list[str]]]:
    """The names that each part trains, and last those of no part; every name once, in the first part that fits."""
    left, groups = list(trained), []
    for part in settings.parts:
        names = [name for name in left if name.startswith(part.prefix)]
        if not names:
            raise InputError(f"no parameter is left for {part!r}: names begin with {', '.join(_beginnings(left))}")
        groups.append((part, names))
        left = [name for name in left if name not in set(names)]
    return [*groups, (ParameterGroup(""), left)] if left else groups


def _beginnings(names: list[str]) -> list[str]:
    return sorted({".".join(name.split(".")[:3]) for name in names})[:8]
