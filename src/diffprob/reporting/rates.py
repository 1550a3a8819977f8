"""The picture of a rate-distortion curve: rate and distortion against the steps done, and against each other."""

import io
import math
from typing import Any

from diffprob.base.errors import InputError
from diffprob.likelihood.rate import RateDistortion


def rate_figure(points: RateDistortion, levels: int, spent: Any = None) -> bytes:
    """Three panels as a .png (Ho et al. 2020, figure 5): distortion and rate against steps, distortion against rate.

    Args:
        points: the curve.
        levels: number K of grey levels; the distortion is given in levels, the rate in bits per dimension.
        spent: what a code spent at the same times, and the error there: ``rate``, bits per dimension, and
            ``distortion``, in model space, (K,) each; None: no such curve.

    Raises:
        InputError: matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("figures need matplotlib: pip install matplotlib") from error
    rate, distortion = points.rate / math.log(2), points.distortion * (levels - 1) / 2
    steps = range(len(rate))
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    bound, coded = ({}, {}) if spent is None else ({"label": "bound"}, {"label": "coded", "color": "0.3", "ls": "--"})
    left.plot(steps, distortion, color="C3", **bound)
    middle.plot(steps, rate, color="C0", **bound)
    right.plot(rate, distortion, color="C2", **bound)
    if spent is not None:
        sent, error = spent.rate, spent.distortion * (levels - 1) / 2
        for axes, x, y in ((left, steps, error), (middle, steps, sent), (right, sent, error)):
            axes.plot(x, y, **coded)
            axes.legend(frameon=False)
    left.set(xlabel="reverse steps done", ylabel=f"RMSE of 0..{levels - 1}", ylim=(0, None))
    middle.set(xlabel="reverse steps done", ylabel="rate, bits/dim", ylim=(0, None))
    right.set(xlabel="rate, bits/dim", ylabel=f"RMSE of 0..{levels - 1}", xlim=(0, None), ylim=(0, None))
    for axes in (left, middle, right):
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
