"""A time as an argument: what is one, and what was meant where something else was given."""

import torch
from torch import Tensor

STEPS = 1000  # of a chain on a continuous schedule, as many as published models have on discrete ones
ROUNDING = 1e-9  # by so much arithmetic on times may leave [0, 1]; they are put back


def as_time(t: Tensor | float, steps: int | None) -> Tensor:
    """t as a float64 tensor, () or (B,), in [0, 1]; a float64 tensor that is there already is returned itself.

    Args:
        t: 0 is the data, 1 the noise. On another device than the CPU its values are waited for.
        steps: T of a discrete schedule, for the hint; None for a continuous one.

    Raises:
        ValueError: outside [0, 1], not a number, or a tensor of whole numbers, which are steps.
    """
    if isinstance(t, Tensor) and not t.is_floating_point():
        first = int(t.flatten()[0]) if t.numel() else 0
        raise ValueError(f"t is a tensor of whole numbers: {_right(float(first), steps)}")
    time = torch.as_tensor(t, dtype=torch.float64)
    if not time.numel():
        return time
    low, high = (float(end) for end in torch.aminmax(time.detach()))
    if low >= 0 and high <= 1:
        return time
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # written so that a NaN is refused
        wrong = high if high > 1 + ROUNDING or high != high else low
        raise ValueError(f"t = {wrong:g}: {_right(wrong, steps)}")
    return time.clamp(0, 1)


def native_steps(steps: int | None) -> int:
    """The steps of a chain like that of training: the T of a discrete schedule; `STEPS` on a continuous one (None)."""
    return steps or STEPS


def _right(wrong: float, steps: int | None) -> str:
    total = native_steps(steps)
    whole = wrong.is_integer() and 0 <= wrong <= total
    hint = f"; step {wrong:g} of {total} is t = {wrong / total:g}" if whole else ""
    return f"a time in [0, 1] would be right{hint}"
