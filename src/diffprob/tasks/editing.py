"""Chains that start from images: draws of p(x_0|x_t), reconstructions by DDIM, and interpolations.

Each makes rows of images, one for each time that its chains start from.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from diffprob.base.checks import MOST, flag, instance, one_of, real, several, whole
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.runs.folder import Run
from diffprob.sampling.between import NOISES, add_noise, interpolate_noised, slerp
from diffprob.tasks.images import ImageSource
from diffprob.tasks.inputs import InputImage, read_image
from diffprob.tasks.options import option
from diffprob.tasks.plan import Sampling
from diffprob.tasks.reporter import SILENT, Reporter
from diffprob.tasks.rows import ImageRows, PreparedRows, Rows, by_ddim, draw_rows, one_at_a_time, plan_rows

AT = (0.25, 0.5, 0.75)  # where chains from one image start unless told
AT_MIXED, AT_LATENT = (0.5,), (1.0,)


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleFromRequest:
    """An image, noise added to it up to each time, once, and the chain continued from there many times.

    Args:
        image: which.
        at: the times, in (0, 1], one row each.
        sampling: how many images from each time, and how they are drawn; all have one condition.
        resize: convert an image of another size, channels or number of grey levels.

    Raises:
        ValueError: a number outside its domain.
    """

    image: ImageSource
    at: tuple[float, ...] = AT
    sampling: Sampling = Sampling(n=8)
    resize: bool = False

    def __post_init__(self) -> None:
        _check(self.at, self.sampling, self.resize)


@dataclass(frozen=True, kw_only=True, eq=False)
class ReconstructRequest:
    """An image, taken up to the noise and back by DDIM.

    Args:
        image: which.
        at: the times up to which, in (0, 1], one row each.
        sampling: how; its sampler is DDIM() and its grid Trailing() unless another is given, its ``n`` is 1.
        resize: as in a `SampleFromRequest`.

    Raises:
        ValueError: a number outside its domain.
    """

    image: ImageSource
    at: tuple[float, ...] = AT_LATENT
    sampling: Sampling = Sampling(n=1)
    resize: bool = False

    def __post_init__(self) -> None:
        _check(self.at, self.sampling, self.resize)


@dataclass(frozen=True, kw_only=True, eq=False)
class InterpolateRequest:
    """Two images with noise, mixed, and the mixtures decoded.

    Args:
        first, second: the images.
        at: the times up to which noise is added, in (0, 1], one row each; None: 0.5, for latents 1.
        points: values of l in (1 - l) x_t + l y_t, evenly spaced from 0 to 1.
        noise: of both images, one of `diffprob.sampling.between.NOISES`; None: "shared", or none for latents.
        latent: mix the latents that DDIM finds for the images, along the great circle.
        sampling: how; all mixtures have one condition and one seed, ``n`` is 1.
        resize: as in a `SampleFromRequest`.

    Raises:
        ValueError: a number outside its domain.
    """

    first: ImageSource
    second: ImageSource
    at: tuple[float, ...] | None = None
    points: int = 9
    noise: str | None = None
    latent: bool = False
    sampling: Sampling = Sampling(n=1)
    resize: bool = False

    def __post_init__(self) -> None:
        _check(AT_MIXED if self.at is None else self.at, self.sampling, self.resize)
        whole("points", self.points, 2)
        if self.noise is not None:
            one_of("noise", self.noise, NOISES)
        flag("latent", self.latent)


def _check(at: tuple[float, ...], sampling: Sampling, resize: bool) -> None:
    several("at", at, lambda name, t: real(name, t, "(0, 1]"), most=MOST, like="(0.25, 0.5)")
    instance("sampling", sampling, Sampling)
    flag("resize", resize)


def prepare_sample_from(run: Run, request: SampleFromRequest, reporter: Reporter = SILENT) -> PreparedRows:
    """Check everything, read the image and load the network, without drawing.

    Raises:
        InputError: parts that do not go together, a run without a model, or an image of another kind.
    """
    original = read_image(request.image, "image", run, reporter, request.resize)
    sampling, n = request.sampling, request.sampling.n
    rows = plan_rows(run, sampling, request.at, reporter)
    if rows.plan.sampler.order is not None:
        reporter.note(f"{rows.plan.sampler!r} draws nothing: from one x_t all {n} images are the same")

    def row(t: float, rng: Rng) -> np.ndarray:
        # One noise for all chains of all rows: that of the first seed.
        xt = add_noise(rows.plan.model.process, rows.to_model(original.pixels), t, rng.select(slice(1)))
        images = rows.decode(xt.expand(n, *xt.shape[1:]), t, rng)
        return np.concatenate([original.pixels, rows.visible(xt, t), images])

    settings = {**rows.settings, **original.provenance("from")}
    return PreparedRows(run, rows, settings, "sample", sampling.seed, n, rows.calls(n), row)


def prepare_reconstruct(run: Run, request: ReconstructRequest, reporter: Reporter = SILENT) -> PreparedRows:
    """Check everything, read the image and load the network, without going up or down.

    Raises:
        InputError: another sampler than DDIM(), a run without a model, or an image of another kind.
    """
    run.recipe.process.require_linear("a reconstruction by DDIM")
    original = read_image(request.image, "image", run, reporter, request.resize)
    sampling = one_at_a_time(by_ddim(replace(request.sampling, n=1), option("reconstruct")))
    rows = plan_rows(run, sampling, request.at, reporter)

    def row(t: float, rng: Rng) -> np.ndarray:
        latent = rows.encode(rows.to_model(original.pixels), t)
        return np.concatenate([original.pixels, rows.visible(latent, t), rows.decode(latent, t, rng)])

    settings = {**rows.settings, **original.provenance("from"), "rmse": None}
    calls = rows.calls(1, 1)
    return PreparedRows(run, rows, settings, "sample", sampling.seed, 1, calls, row, lambda row: _rmse(row[0], row[-1]))


def prepare_interpolate(run: Run, request: InterpolateRequest, reporter: Reporter = SILENT) -> PreparedRows:
    """Check everything, read the images and load the network, without mixing.

    Raises:
        InputError: parts that do not go together, a run without a model, or images of another kind.
    """
    run.recipe.process.require_linear("a mixture of two images")
    if request.latent and request.noise is not None:
        noise, latent = option("noise"), option("latent")
        raise InputError(f"{noise} and {latent} exclude each other: latents are found, not drawn")
    ends = [read_image(getattr(request, name), name, run, reporter, request.resize) for name in ("first", "second")]
    sampling, points = replace(request.sampling, n=1), request.points
    if request.latent:
        sampling = by_ddim(sampling, option("latent"))
    rows = plan_rows(run, sampling, request.at or (AT_LATENT if request.latent else AT_MIXED), reporter)
    noise = None if request.latent else request.noise or NOISES[0]

    def row(t: float, rng: Rng) -> np.ndarray:
        return np.concatenate([ends[0].pixels, _between(rows, ends, t, points, noise, rng), ends[1].pixels])

    settings = {**rows.settings, "points": points, "noise": noise}
    settings |= {**ends[0].provenance("a"), **ends[1].provenance("b"), "latent": request.latent, "rmse": None}
    calls = rows.calls(points, 2 if request.latent else 0)
    what, seed = "interpolate", sampling.seed
    return PreparedRows(run, rows, settings, what, seed, 1, calls, row, _rmse_of_ends, counted=False)


def sample_from(run: Run, request: SampleFromRequest, reporter: Reporter = SILENT) -> ImageRows:
    """Draw from p(x_0|x_t) for each time, where x_t is the image with noise added.

    Raises:
        InputError: as `prepare_sample_from`.
        NumericalError: an image is not finite.
    """
    return draw_rows(prepare_sample_from(run, request, reporter), reporter)


def reconstruct(run: Run, request: ReconstructRequest, reporter: Reporter = SILENT) -> ImageRows:
    """Take an image up to the noise by DDIM, and back.

    Raises:
        InputError: as `prepare_reconstruct`.
        NumericalError: an image is not finite.
    """
    return draw_rows(prepare_reconstruct(run, request, reporter), reporter)


def interpolate(run: Run, request: InterpolateRequest, reporter: Reporter = SILENT) -> ImageRows:
    """Mix two images at each time, and decode the mixtures.

    Raises:
        InputError: as `prepare_interpolate`.
        NumericalError: an image is not finite.
    """
    return draw_rows(prepare_interpolate(run, request, reporter), reporter)


def _between(rows: Rows, ends: Sequence[InputImage], t: float, points: int, noise: str | None, rng: Rng) -> np.ndarray:
    """Grey levels from near the first image to near the second, uint8 (points, C, H, W)."""
    weights = torch.linspace(0, 1, points, dtype=torch.float64)
    x0, y0 = (rows.to_model(image.pixels) for image in ends)
    if noise is None:
        latents = rows.encode(torch.cat([x0, y0]), t)
        mixtures = slerp(latents[:1], latents[1:], weights)
    else:
        mixtures = interpolate_noised(rows.plan.model.process, x0, y0, t, weights, rng, noise)
    # One seed for the whole row, so that it changes as evenly as the mixtures do.
    return rows.decode(mixtures, t, rng.select(torch.zeros(points, dtype=torch.long, device=rows.device)))


def _rmse(a: np.ndarray, b: np.ndarray) -> float:
    """Root of the mean squared difference, in grey levels."""
    return float(((a.astype(float) - b.astype(float)) ** 2).mean() ** 0.5)


def _rmse_of_ends(row: np.ndarray) -> list[float]:
    return [_rmse(row[0], row[1]), _rmse(row[-1], row[-2])]
