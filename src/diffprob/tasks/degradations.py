"""What images that are to be restored lack: noise that is to go, pixels that are missing, pixels that are too few."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffprob.base.checks import flag, one_of, real, several, whole
from diffprob.base.rng import Rng
from diffprob.guidance.energy import EnergyGuided, ReconstructionGuidance
from diffprob.runs.folder import Run
from diffprob.sampling.restore import RePaint, denoised, draw_denoised, draw_given, known_noise, unclip
from diffprob.sampling.simulate import draw
from diffprob.space.space import Space
from diffprob.tasks.drawing import limited
from diffprob.tasks.images import ImageSource
from diffprob.tasks.inputs import InputImages
from diffprob.tasks.plan import SamplingPlan

GUIDED, REPAINT, CONDITIONED = "guided", "repaint", "conditioned"
METHODS = (GUIDED, REPAINT)
JUMPS = 5


@dataclass(frozen=True, kw_only=True)
class Denoise:
    """White noise on every pixel, cut off at black and white where the image is either.

    Args:
        noise: its standard deviation, in grey levels of the images; None: estimated for each of them.
        draw: draw from the posterior p(image|noisy image), in the place of its mean.
        add_noise: the images are clean: add so much noise first, in grey levels, as a file holds it.

    Raises:
        ValueError: a number outside its domain, or both noise and add_noise.
    """

    noise: float | None = None
    draw: bool = False
    add_noise: float | None = None

    def __post_init__(self) -> None:
        real("noise", self.noise, "(0, inf)", none=True)
        flag("draw", self.draw)
        real("add_noise", self.add_noise, "(0, inf)", none=True)
        if self.noise is not None and self.add_noise is not None:
            raise ValueError("add_noise and noise exclude each other")


@dataclass(frozen=True, kw_only=True, eq=False)
class Inpaint:
    """Pixels that are missing, the others being right.

    Args:
        mask: pictures of what is missing, in white (at least half): one, or one an image; or bool (1 or n, 1, H, W).
        box: (top, left, height, width) of what is missing, in pixels, in the place of a mask.
        method: "guided" towards the known pixels, or "repaint" (Lugmayr et al. 2022); None: guided, unless ``jumps``
            are given. A model of levels needs neither: its chains keep what is known, and None alone is right.
        jumps: of "repaint": repetitions of each step; None: 5.
        average: draws of which the mean is taken.

    Raises:
        ValueError: a number outside its domain, both a mask and a box, or neither.
    """

    mask: ImageSource | None = None
    box: tuple[int, int, int, int] | None = None
    method: str | None = None
    jumps: int | None = None
    average: int = 1

    def __post_init__(self) -> None:
        if (self.mask is None) == (self.box is None):
            raise ValueError("what is missing is a mask or a box: one of both, and not both")
        if self.box is not None:
            several("box", self.box, whole, 4, 4, "(8, 8, 12, 12)")
        if self.method is not None:
            one_of("method", self.method, METHODS)
        whole("jumps", self.jumps, none=True)
        if self.method == GUIDED and self.jumps is not None:
            raise ValueError(f"jumps goes with method={REPAINT!r}")
        whole("average", self.average, 1)

    @property
    def chosen(self) -> str:
        """The method."""
        return self.method or (GUIDED if self.jumps is None else REPAINT)


@dataclass(frozen=True, kw_only=True)
class SuperResolve:
    """Fewer pixels than the run draws, which was trained to be told such images.

    Args:
        average: draws of which the mean is taken.

    Raises:
        ValueError: a number outside its domain.
    """

    average: int = 1

    def __post_init__(self) -> None:
        whole("average", self.average, 1)


Degradation = Denoise | Inpaint | SuperResolve


class DegradedImages(Protocol):
    """Images that are to be restored, what is wrong with them, and how it is taken away."""

    kind: str  # "noise", "missing" or "small"

    @property
    def inputs(self) -> InputImages:
        """The images."""
        ...

    @property
    def together(self) -> int | None:
        """Images that are restored at a time; None: any number."""
        ...

    @property
    def missing(self) -> np.ndarray | None:
        """The pixels to which comparisons are limited, bool, broadcastable to the images; None: all."""
        ...

    def restored(self, plan: SamplingPlan, part: slice, rng: Rng) -> tuple[Tensor, list[float]]:
        """Some of the images in model space, one stream of ``rng`` for each, and the noise that was taken out."""
        ...

    def calls(self, plan: SamplingPlan) -> int | None:
        """Of the network for all images; None where that depends on the images."""
        ...

    def compared(self) -> dict[str, np.ndarray]:
        """Images to be compared beside the restored ones, by name."""
        ...

    def shown(self) -> np.ndarray:
        """The images for a picture, in the size of the restored ones, uint8 (N, C, H, W)."""
        ...

    def condition(self, run: Run, device: Any) -> Tensor | None:
        """The condition of the network, a row for each image; None where it has none."""
        ...

    def settings(self) -> dict[str, Any]:
        """What decided the images beside the plan of the drawing, JSON literals by name."""
        ...


@dataclass(frozen=True, eq=False)
class NoisyImages:
    """Images with white noise.

    Args:
        inputs: the noisy images.
        std: of the noise, in grey levels; None: estimated for each image.
        drawn: whether the posterior is drawn from, in the place of its mean.
    """

    inputs: InputImages
    std: float | None
    drawn: bool

    kind, missing = "noise", None

    @property
    def together(self) -> int | None:
        """One, where each image has noise of its own size and so a chain of its own."""
        return 1 if self.drawn and self.std is None else None

    def calls(self, plan: SamplingPlan) -> int | None:
        """Unknown: images of which nothing is cut off take less."""
        return None

    def restored(self, plan: SamplingPlan, part: slice, rng: Rng) -> tuple[Tensor, list[float]]:
        """E[x_0|y], or a draw of it; where there is less noise than the model knows, the mean is the image itself."""
        model, noisy = limited(plan.guided, plan.clip), self.inputs.to_model(rng.seeds.device, part)
        unit = self.inputs.unit
        std, reach = None if self.std is None else self.std * unit, 1 - unit / 2
        whole, stds = unclip(model, noisy, std, rng, -reach, reach)
        greys = (stds / unit).tolist()
        if self.drawn:
            return draw_denoised(model, plan.sampler, whole, float(stds[0]), plan.times, rng), greys
        low, _ = known_noise(plan.model.process)
        with torch.no_grad():
            mean = denoised(model, whole, stds.clamp_min(low)).mean
        return torch.where((stds >= low * (1 - 1e-9))[:, None, None, None], mean, noisy), greys

    def compared(self) -> dict[str, np.ndarray]:
        """The noisy images."""
        return {"noisy": self.inputs.pixels}

    def shown(self) -> np.ndarray:
        """The noisy images."""
        return self.inputs.pixels

    def condition(self, run: Run, device: Any) -> None:
        """Nothing."""
        return

    def settings(self) -> dict[str, Any]:
        """The noise; a mean has no chain."""
        method = {"method": "draw"} if self.drawn else {"method": "mean", "sampler": None, "grid": None, "steps": None}
        return {**method, "average": 1, "noise": self.std}


@dataclass(frozen=True, eq=False)
class IncompleteImages:
    """Images of which pixels are missing.

    Args:
        inputs: the images; where they are missing, anything.
        missing: bool (1 or N, 1, H, W).
        request: how they are drawn.
        provenance: what says which pixels are missing, JSON literals by name.
        space: of the run.
        conditioned: whether its chains keep what is known, so that nothing has to lead them there.
    """

    inputs: InputImages
    missing: np.ndarray
    request: Inpaint
    provenance: Mapping[str, Any]
    space: Space
    conditioned: bool = False

    kind = "missing"

    @property
    def together(self) -> int | None:
        """One, where the chain depends on how many pixels are missing and these are not as many in all images."""
        counts = self.missing.sum((1, 2, 3))
        return 1 if self.conditioned and counts.min() != counts.max() else None

    @property
    def method(self) -> str:
        """How the missing pixels are drawn."""
        return CONDITIONED if self.conditioned else self.request.chosen

    @property
    def jumps(self) -> int:
        """Repetitions of each step, of "repaint"."""
        return JUMPS if self.request.jumps is None else self.request.jumps

    def calls(self, plan: SamplingPlan) -> int | None:
        """Those of every draw, repetitions included."""
        if self.conditioned:
            return None
        guided = self.request.chosen == GUIDED
        one = plan.steps if guided or plan.steps is None else 1 + (plan.steps - 1) * (self.jumps + 1)
        calls = plan.calls(len(self.inputs), one)
        return None if calls is None else calls * self.request.average

    def restored(self, plan: SamplingPlan, part: slice, rng: Rng) -> tuple[Tensor, list[float]]:
        """Draws of the missing pixels, given the others."""
        missing = self.missing if len(self.missing) == 1 else self.missing[part]
        known = torch.from_numpy(~missing).to(rng.seeds.device)
        image = self.inputs.to_model(rng.seeds.device, part)
        model, sampler = plan.guided, plan.sampler
        if self.conditioned:
            levels = self.space.of_pixels(image)

            def conditional(streams: Rng) -> Tensor:
                return self.space.pixels_of(draw_given(model, sampler, known, levels, plan.times, streams))

            return torch.where(known, image, mean_of(conditional, rng, self.request.average)), []
        if self.request.chosen == GUIDED:
            model = EnergyGuided(model, ReconstructionGuidance(known, image, model.process))
        else:
            sampler = RePaint(sampler, known, image, self.jumps)
        model, shape = limited(model, plan.clip), self.inputs.shape
        drawn = mean_of(lambda streams: draw(model, sampler, plan.times, streams, shape), rng, self.request.average)
        return torch.where(known, image, drawn), []

    def compared(self) -> dict[str, np.ndarray]:
        """None: what is missing has no error."""
        return {}

    def shown(self) -> np.ndarray:
        """The images with middle grey where they are missing."""
        return np.where(self.missing, self.inputs.levels // 2, self.inputs.pixels).astype(np.uint8)

    def condition(self, run: Run, device: Any) -> None:
        """Nothing."""
        return

    def settings(self) -> dict[str, Any]:
        """The method, and the share of each image (or of all) that is missing."""
        method, shares = self.method, self.missing.mean((1, 2, 3)).tolist()
        jumps = self.jumps if method == REPAINT else None
        return {"method": method, "jumps": jumps, "average": self.request.average, "missing": shares, **self.provenance}


@dataclass(frozen=True, eq=False)
class SmallImages:
    """Images of fewer pixels than the run draws, which are the condition of its network.

    Args:
        inputs: the small images.
        shape: of the large ones, (C, H, W).
        average: draws of which the mean is taken.
    """

    inputs: InputImages
    shape: tuple[int, int, int]
    average: int

    kind, missing = "small", None

    @property
    def together(self) -> int | None:
        """All of them: they are one condition of the network."""
        return len(self.inputs)

    def calls(self, plan: SamplingPlan) -> int | None:
        """Those of every draw."""
        calls = plan.calls(len(self.inputs), plan.steps)
        return None if calls is None else calls * self.average

    def restored(self, plan: SamplingPlan, part: slice, rng: Rng) -> tuple[Tensor, list[float]]:
        """Draws of the large images."""
        model = limited(plan.guided, plan.clip)
        drawn = mean_of(lambda streams: draw(model, plan.sampler, plan.times, streams, self.shape), rng, self.average)
        return drawn, []

    def compared(self) -> dict[str, np.ndarray]:
        """What bicubic interpolation makes of them."""
        size = self.shape[1:]
        large = F.interpolate(self.inputs.to_model("cpu"), size=size, mode="bicubic", align_corners=False)
        return {"bicubic": self.inputs.to_levels(large)}

    def shown(self) -> np.ndarray:
        """The small images, every pixel repeated."""
        high, wide = (large // small for large, small in zip(self.shape[1:], self.inputs.shape[1:], strict=True))
        return self.inputs.pixels.repeat(high, 2).repeat(wide, 3)

    def condition(self, run: Run, device: Any) -> Tensor:
        """The small images in the size of the large ones."""
        condition: Any = run.recipe.condition
        return condition.spread(self.inputs.to_model(device))

    def settings(self) -> dict[str, Any]:
        """The number of draws."""
        return {"method": "told", "average": self.average}


def mean_of(drawn: Callable[[Rng], Tensor], rng: Rng, count: int) -> Tensor:
    """The mean of so many draws, the first of which is that of ``rng`` itself."""
    return torch.stack([drawn(rng if k == 0 else rng.fold(f"average {k}")) for k in range(count)]).mean(0)
