"""Images restored with what a run knows of images like them: noise taken out, missing pixels drawn, enlarged."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from diffprob.base.checks import instance, whole
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng, normal_like
from diffprob.conditions.low_resolution import LowResolution
from diffprob.evaluation.image_quality import mean_and_error, psnr
from diffprob.process.times import native_steps
from diffprob.reporting.artifacts import above_png
from diffprob.runs.folder import Run
from diffprob.sampling.ancestral import DDIM
from diffprob.sampling.restore import known_noise
from diffprob.tasks.degradations import (
    GUIDED,
    Degradation,
    DegradedImages,
    Denoise,
    IncompleteImages,
    Inpaint,
    NoisyImages,
    SmallImages,
    SuperResolve,
)
from diffprob.tasks.display import OfImages
from diffprob.tasks.drawing import check_finite, network_progress, slices
from diffprob.tasks.images import ImageSource
from diffprob.tasks.inputs import InputImages, box_mask, check_size, read_images, read_masks
from diffprob.tasks.options import option
from diffprob.tasks.plan import Sampling, SamplingPlan, plan_sampling
from diffprob.tasks.reporter import SILENT, Reporter

# Multistep samplers remember steps that repaint takes back; this one has no memory.
SAMPLER = DDIM(eta=1.0)
STEPS = 200  # from pure noise to the data; a chain from the noise of an image makes a part of them
PIECE = 64  # images at a time, about: what is kept for gradients grows with them
MOST_SHOWN = 60  # images of a picture of them
OF_CHAINS = ("sampler", "steps", "grid", "variance")  # a mean has none of them


@dataclass(frozen=True, kw_only=True, eq=False)
class RestoreRequest:
    """What is to be restored, and what is wrong with it.

    Args:
        images: which.
        degradation: ``Denoise()``, ``Inpaint(box=...)`` or ``SuperResolve()``.
        clean: the images without flaw, to say how near the restored come; None: not said, unless ``images`` are clean.
        n: only the first so many; None: all.
        sampling: how what is unknown is drawn; its ``n`` is that of the images. Unless it says more, a draw has
            DDIM(eta=1.0), and one of noisy images 200 steps from pure noise to the data, of which it makes a part.

    Raises:
        ValueError: a number outside its domain.
    """

    images: ImageSource
    degradation: Degradation
    clean: ImageSource | None = None
    n: int | None = None
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        instance("degradation", self.degradation, (Denoise, Inpaint, SuperResolve))
        whole("n", self.n, 1, none=True)
        instance("sampling", self.sampling, Sampling)


@dataclass(frozen=True, eq=False)
class PreparedRestoration:
    """A restoration that is about to be made.

    Args:
        run: what restores.
        degraded: the images.
        plan: the model, sampler and times.
        rng: one stream an image.
        clean: the images without flaw, uint8 (n, C, H, W), or None.
        settings: everything that decides the images, JSON literals by name.
    """

    run: Run
    degraded: DegradedImages
    plan: SamplingPlan
    rng: Rng
    clean: np.ndarray | None
    settings: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name: the settings, and what will be spent."""
        spent = {"evaluations": None, "network_calls": self.degraded.calls(self.plan)}
        return {**self.settings, "run": self.run.place, **spent, "stds": [], "psnr": None}


@dataclass(frozen=True, eq=False)
class Restored(OfImages):
    """Images that were restored.

    Args:
        images: uint8 (n, C, H, W), in the grey levels of the inputs.
        inputs: what was to be restored, in the size of the restored ones, uint8 (n, C, H, W); a missing pixel is grey.
        clean: the images without flaw, uint8 (n, C, H, W), or None.
        levels: how many grey levels there are.
        seeds: of the images, int64 (n,).
        names: of each image, for a file of its own.
        stds: the noise that was taken out of each, in grey levels; empty where there was none.
        psnr: mean and standard error of the peak signal-to-noise ratio in decibels, by name, "restored" the last; None
            where nothing clean is known. A ratio is None where it is infinite, an error where it is not known.
        network_calls: for all images.
        place: of the run.
        settings: everything that decides the images, JSON literals by name.
    """

    images: np.ndarray
    inputs: np.ndarray
    clean: np.ndarray | None
    levels: int
    seeds: np.ndarray
    names: tuple[str, ...]
    stds: list[float]
    psnr: dict[str, list[float | None]] | None
    network_calls: int
    place: str
    settings: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name: the settings, and what came out; no pixels."""
        spent = {"evaluations": None, "network_calls": self.network_calls}
        return {**self.settings, "run": self.place, **spent, "stds": self.stds, "psnr": self.psnr}

    def png(self) -> bytes:
        """The first images, given above restored, and clean ones below where they are known; an incomplete row ends in
        black."""
        sets = [self.inputs, self.images, *([] if self.clean is None else [self.clean])]
        return above_png(sets, self.levels, {**self.settings, "psnr": self.psnr}, MOST_SHOWN, 0)

    _repr_png_ = png

    def __repr__(self) -> str:
        mean = None if self.psnr is None else self.psnr["restored"][0]
        near = "" if mean is None else f", {mean:.2f} dB"
        many = f"{len(self):,} image{'s' if len(self) > 1 else ''}"
        return f"{many} restored by {self.settings['run']} ({self.settings['flaw']}, {self.settings['method']}){near}"


def prepare_restore(run: Run, request: RestoreRequest, reporter: Reporter = SILENT) -> PreparedRestoration:
    """Check everything, read the images and load the network, without restoring.

    Raises:
        InputError: parts that do not go together, a run without a model, or images of another kind.
    """
    _check(request)
    run.space.require_pixels("a restoration")
    run.space.require_images("a restoration")
    process: Any = run.recipe.process
    if not isinstance(request.degradation, Inpaint):
        process.require_linear("a restoration of other than missing pixels")
    elif not process.is_linear and not hasattr(process, "given"):
        raise InputError(
            f"{run.name} draws levels anew, so that its chains keep none of the pixels that are known: a run of a "
            "LinearProcess(...) or an AbsorbingProcess(...) would be right"
        )
    images = read_images(request.images, run, reporter, request.n)
    device = request.sampling.compute.on()
    request = replace(request, sampling=replace(request.sampling, n=len(images)))
    rng = Rng.of(request.sampling.seed, len(images), device=device)
    degraded, clean, sampling = _read(run, request, images, rng, reporter)
    plan = plan_sampling(run, sampling, reporter, True, degraded.condition(run, device))
    settings = {
        **plan.settings,
        "flaw": degraded.kind,
        **images.provenance,
        "levels": images.levels,
        **degraded.settings(),
    }
    if request.clean is not None and clean is not None:
        settings |= clean.provenance_as("clean")
    if settings["method"] == GUIDED and plan.sampler.order is not None:
        reporter.note(
            f"{plan.sampler!r} is deterministic: guided chains tend to fall out of the data; DPMppSDE(2) do not"
        )
    return PreparedRestoration(run, degraded, plan, rng, None if clean is None else clean.pixels, settings)


def restore(run: Run, request: RestoreRequest, reporter: Reporter = SILENT) -> Restored:
    """Restore images.

    Raises:
        InputError: as `prepare_restore`.
        NumericalError: an image is not finite.
    """
    return make_restored(prepare_restore(run, request, reporter), reporter)


def make_restored(prepared: PreparedRestoration, reporter: Reporter = SILENT) -> Restored:
    """Restore what was prepared.

    Raises:
        NumericalError: an image is not finite.
    """
    degraded, plan, rng = prepared.degraded, prepared.plan, prepared.rng
    n, chunk = len(rng), plan.model.evaluation.chunk or 1
    size = degraded.together or chunk * math.ceil(PIECE / chunk)
    with network_progress(reporter, "restore", degraded.calls(plan), plan.model) as progress:
        pieces = [degraded.restored(plan, part, rng.select(part)) for part in slices(n, size)]
    x = torch.cat([images for images, _ in pieces])
    check_finite(x, rng, plan.model)
    images, inputs = degraded.inputs.to_levels(x), degraded.inputs
    return Restored(
        images=images,
        inputs=degraded.shown(),
        clean=prepared.clean,
        levels=inputs.levels,
        seeds=rng.seeds.cpu().numpy(),
        names=inputs.names,
        stds=[std for _, stds in pieces for std in stds],
        psnr=None if prepared.clean is None else _compared(degraded, images, prepared.clean),
        network_calls=progress.done,
        place=prepared.run.place,
        settings=prepared.settings,
    )


def _check(request: RestoreRequest) -> None:
    """Refuse parts of a request that do not go together."""
    degradation = request.degradation
    if not isinstance(degradation, Denoise):
        return
    if degradation.add_noise is not None and request.clean is not None:
        raise InputError(f"{option('add_noise')} and {option('clean')} exclude each other")
    chain_option = next((name for name in OF_CHAINS if getattr(request.sampling, name) is not None), None)
    if chain_option and not degradation.draw:
        raise InputError(
            f"{option(chain_option)} goes with {option('draw')}: the mean of the posterior takes one evaluation"
        )


def _compared(degraded: DegradedImages, images: np.ndarray, clean: np.ndarray) -> dict[str, list[float | None]]:
    """Mean and standard error of the peak signal-to-noise ratio, by name."""
    ratios: dict[str, list[float | None]] = {}
    for name, pixels in {**degraded.compared(), "restored": images}.items():
        both = mean_and_error(psnr(pixels, clean, degraded.inputs.levels, degraded.missing))
        ratios[name] = [value if math.isfinite(value) else None for value in both]
    return ratios


def _read(
    run: Run, request: RestoreRequest, images: InputImages, rng: Rng, reporter: Reporter
) -> tuple[DegradedImages, InputImages | None, Sampling]:
    """The images with what is wrong with them, clean ones where some are known, and how the unknown is drawn."""
    degradation, sampling = request.degradation, request.sampling
    if isinstance(degradation, SuperResolve):
        return *_small(run, request, images, degradation, reporter), sampling
    check_size(images, run)
    free = sampling.sampler is None and sampling.variance is None
    if isinstance(degradation, Denoise):
        if degradation.draw and free:
            sampling = replace(sampling, sampler=SAMPLER, steps=sampling.steps or STEPS)
        return *_noisy(run, request, images, degradation, rng, reporter), sampling
    if degradation.box is not None:
        missing, provenance = box_mask(degradation.box, run), {"box": ",".join(map(str, degradation.box))}
    else:
        assert degradation.mask is not None
        missing, masks = read_masks(degradation.mask, run, len(images), reporter)
        provenance = masks.provenance_as("mask")
    conditioned = not run.recipe.process.is_linear
    if conditioned:
        if degradation.method or degradation.jumps is not None:
            run.recipe.process.require_linear(option("method", degradation.chosen))
        sampling = replace(sampling, steps=sampling.steps or native_steps(run.recipe.process.schedule.steps))
    elif free:
        sampling = replace(sampling, sampler=SAMPLER)
    clean = _clean(run, request, images, reporter)
    return IncompleteImages(images, missing, degradation, provenance, run.space, conditioned), clean, sampling


def _noisy(
    run: Run, request: RestoreRequest, images: InputImages, degradation: Denoise, rng: Rng, reporter: Reporter
) -> tuple[NoisyImages, InputImages | None]:
    clean, std = _clean(run, request, images, reporter), degradation.noise
    if degradation.add_noise is not None:
        images, clean, std = _with_noise(images, degradation.add_noise, rng), images, degradation.add_noise
    if std is None:
        if min(images.shape[1:]) < 3:
            needed = option("noise", "STD")
            raise InputError(f"{images.text}: too small to estimate the noise; {needed} would be right")
        return NoisyImages(images, None, degradation.draw), clean
    low, high = (limit / images.unit for limit in known_noise(run.process))
    # 1e-9 for what was computed from the ends themselves.
    if std > high * (1 + 1e-9) or (std < low * (1 - 1e-9) and not degradation.draw):
        argument = option("noise" if degradation.noise is not None else "add_noise", f"{std:g}")
        known = f"{run.name} knows noise of {low:.3g} to {high:.3g} of {images.levels - 1} grey levels"
        raise InputError(f"{argument}: {known}" + ("" if std > high else f"; {option('draw')} also takes less"))
    return NoisyImages(images, std, degradation.draw), clean


def _with_noise(images: InputImages, std: float, rng: Rng) -> InputImages:
    """Noise of so many grey levels, rounded to grey levels and cut off at black and white as a file is."""
    x = images.to_model(rng.seeds.device)
    noisy = x + std * images.unit * normal_like(rng.fold("added"), x)
    return replace(images, pixels=images.to_levels(noisy))


def _small(
    run: Run, request: RestoreRequest, images: InputImages, degradation: SuperResolve, reporter: Reporter
) -> tuple[SmallImages, InputImages | None]:
    shape, condition = run.space.shape, run.recipe.condition
    if not isinstance(condition, LowResolution):
        raise InputError(f"{run.name} enlarges no images: one that is told smaller ones would be right")
    small = (shape[0], shape[1] // condition.factor, shape[2] // condition.factor)
    if images.shape != shape:
        if images.shape != small:
            theirs, right, large = (f"{wide}x{high}" for _, high, wide in (images.shape, small, shape))
            raise InputError(f"{images.text}: {theirs} pixels; {run.name} enlarges {right} to {large}")
        return SmallImages(images, shape, degradation.average), _clean(run, request, images, reporter)
    if request.clean is not None:
        raise InputError(
            f"{images.text}: as large as {run.name} draws, so they are the clean images; leave {option('clean')} out"
        )
    averaged = replace(images, pixels=images.to_levels(F.avg_pool2d(images.to_model("cpu"), condition.factor)))
    return SmallImages(averaged, shape, degradation.average), images


def _clean(run: Run, request: RestoreRequest, images: InputImages, reporter: Reporter) -> InputImages | None:
    """The clean images of the request, in the grey levels of the others."""
    if request.clean is None:
        return None
    n = len(images)
    clean = read_images(request.clean, run, reporter, n)
    check_size(clean, run)
    argument = option("clean", clean.text)
    if len(clean) != n:
        raise InputError(f"{argument}: {len(clean)} images for the {n} of {images.text}")
    if clean.levels != images.levels:
        raise InputError(f"{argument}: {clean.levels} grey levels, but {images.text} has {images.levels}")
    return clean
