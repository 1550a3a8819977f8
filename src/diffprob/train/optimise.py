"""The optimiser, the averaged weights and the choice of precision."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from diffprob.train.settings import Training


def choose_precision(wanted: str, device: torch.device) -> str:
    """Resolve ``auto``: bf16 where the processor multiplies it fast (CUDA from Ampere, CPUs with AVX512-BF16 or AMX),
    else fp32."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu":
        probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return "bf16" if any(probe is not None and probe() for probe in probes) else "fp32"
    return "fp32"


def ema_decay(decay: float, step: int) -> float:
    """min(decay, (1 + n)/(10 + n)) after n steps: short runs average too."""
    return min(decay, (1 + step) / (10 + step))


class Optimiser:
    """AdamW (fused) with linear warm-up, gradient clipping and an exponential moving average of the weights.

    Args:
        model: the module to train, on its device.
        average: a copy of it that holds the averaged weights.
        settings: learning rate, warm-up, clipping, decay and EMA.
    """

    def __init__(self, model: nn.Module, average: nn.Module, settings: Training) -> None:
        self.settings = settings
        self.names = [name for name, _ in model.named_parameters()]
        self.parameters = list(model.parameters())
        self.average = list(average.parameters())
        self.adam = torch.optim.AdamW(self.parameters, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)

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
        for group in self.adam.param_groups:
            group["lr"] = self.rate(step)
        scaler.step(self.adam)
        scaler.update()
        self.adam.zero_grad(set_to_none=True)
        weight = 1 - ema_decay(self.settings.ema, step)
        torch._foreach_lerp_([p.data for p in self.average], [p.data for p in self.parameters], weight)
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
            moments = {key: state[f"{name}.{key}"] for key in ("exp_avg", "exp_avg_sq")}
            self.adam.state[parameter] = {
                "step": state[f"{name}.step"].to(parameter.device),
                **{key: torch.empty_like(parameter).copy_(value) for key, value in moments.items()},
            }
