"""Two noise predictions side by side: that of a trained denoiser, and the gradient of a potential made of it."""

import io

import torch
from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.denoise.denoiser import Denoiser
from diffprob.sampling.between import add_noise

TIMES = (0.02, 0.1, 0.3, 0.6)


@torch.no_grad()
def fields_figure(
    teacher: Denoiser, student: Denoiser, x0: Tensor, rng: Rng, times: tuple[float, ...] = TIMES
) -> bytes:
    """A .png: for every time a row of x_t, both predicted noises and their difference, with its mean square.

    Args:
        teacher, student: denoisers of one process.
        x0: images (B, C, H, W) in model space; the first is shown, the mean squares are over all.
        rng: one stream per image.
        times: in (0, 1]; a discrete schedule takes the nearest of its own.

    Raises:
        InputError: matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("figures need matplotlib: pip install matplotlib") from error
    process = teacher.process
    figure = Figure(figsize=(7.2, 1.9 * len(times) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(times), 4, squeeze=False)
    for k, (row, time) in enumerate(zip(grid, times, strict=True)):
        t = process.schedule.snap(torch.tensor(time, dtype=torch.float64))
        xt = add_noise(process, x0, t, rng.at(k))
        one, two = (process.predicted_noise(model(xt, t).mean, xt, t) for model in (teacher, student))
        error = float((one - two).double().square().mean())
        shown = (xt, one, two, one - two)
        names = (f"x_t, t = {float(t):g}", "noise prediction", "gradient", f"difference, {error:.3f}")
        for axes, image, name in zip(row, shown, names, strict=True):
            picture = image[0].mean(0).cpu().numpy()
            axes.imshow(picture, cmap="gray" if image is xt else "RdBu_r", vmin=-2.5, vmax=2.5)
            axes.set_title(name, fontsize=8)
            axes.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
