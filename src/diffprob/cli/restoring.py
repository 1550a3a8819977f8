"""What `restore` does to images: noise taken out, missing pixels drawn, small images enlarged."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from diffprob.cli.given import Given
from diffprob.cli.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from diffprob.base.rng import Rng
    from diffprob.runs.folder import Run
    from diffprob.tasks.plan import SamplingPlan

GUIDED, REPAINT = "guided", "repaint"
METHODS = (GUIDED, REPAINT)
PIECE = 64  # images at a time, about: what is kept for gradients grows with them


class Flaw(Protocol):
    """What is wrong with the images that were given, and how it is taken away."""

    @property
    def given(self) -> Given:
        """The images."""
        ...

    @property
    def together(self) -> int | None:
        """Images that are restored at a time; None: any number."""
        ...

    @property
    def missing(self) -> "np.ndarray | None":
        """The pixels to which comparisons are limited, bool, broadcastable to the images; None: all."""
        ...

    def restored(self, choice: "SamplingPlan", part: slice, rng: "Rng") -> "tuple[Tensor, list[float]]":
        """Some of the images in model space, one stream of ``rng`` for each, and the noise that was taken out."""
        ...

    def calls(self, choice: "SamplingPlan") -> int | None:
        """Of the network for all images; None where that depends on the images."""
        ...

    def beside(self) -> "dict[str, np.ndarray]":
        """Images to be compared beside the restored ones, by name."""
        ...

    def shown(self) -> "np.ndarray":
        """The given images for a picture, in the size of the restored ones, uint8 (N, C, H, W)."""
        ...

    def told(self, run: "Run", device: Any) -> "Tensor | None":
        """What the network is told, a row for each image; None where images tell it nothing."""
        ...

    def facts(self) -> dict[str, Any]:
        """What decided the images beside the choice of the drawing, JSON literals by name."""
        ...


@dataclass(frozen=True, eq=False)
class Noisy:
    """White noise on every pixel, cut off at black and white where the image is either.

    Args:
        given: the noisy images.
        std: of the noise, in grey levels; None: estimated for each image.
        drawn: whether the posterior is drawn from, in the place of its mean.
    """

    given: Given
    std: float | None
    drawn: bool

    missing = None

    @property
    def together(self) -> int | None:
        """One, where each image has noise of its own size and so a chain of its own."""
        return 1 if self.drawn and self.std is None else None

    def calls(self, choice: "SamplingPlan") -> int | None:
        """Unknown: images of which nothing is cut off take less."""
        return None

    def restored(self, choice: "SamplingPlan", part: slice, rng: "Rng") -> "tuple[Tensor, list[float]]":
        """E[x_0|y], or a draw of it; where there is less noise than the model knows, the mean is the image itself."""
        import torch

        from diffprob.sampling.restore import denoised, draw_denoised, known_noise, uncut
        from diffprob.tasks.drawing import limited

        model, noisy = limited(choice.guided, choice.clip), self.given.to_model(rng.seeds.device, part)
        unit = self.given.unit
        std, reach = None if self.std is None else self.std * unit, 1 - unit / 2
        whole, stds = uncut(model, noisy, std, rng, -reach, reach)
        greys = (stds / unit).tolist()
        if self.drawn:
            return draw_denoised(model, choice.sampler, whole, float(stds[0]), choice.times, rng), greys
        low, _ = known_noise(choice.model.process)
        with torch.no_grad():
            mean = denoised(model, whole, stds.clamp_min(low)).mean
        return torch.where((stds >= low * (1 - 1e-9))[:, None, None, None], mean, noisy), greys

    def beside(self) -> "dict[str, np.ndarray]":
        """The noisy images."""
        return {"noisy": self.given.pixels}

    def shown(self) -> "np.ndarray":
        """The noisy images."""
        return self.given.pixels

    def told(self, run: "Run", device: Any) -> None:
        """Nothing."""
        return

    def facts(self) -> dict[str, Any]:
        """The noise; a mean has no chain."""
        method = {"method": "draw"} if self.drawn else {"method": "mean", "sampler": None, "grid": None, "steps": None}
        return {**method, "average": 1, "noise": self.std}


@dataclass(frozen=True, eq=False)
class Holed:
    """Pixels that are missing, the others being right.

    Args:
        given: the images; where they are missing, anything.
        missing: bool (1 or N, 1, H, W).
        method: one of `METHODS`.
        jumps: of "repaint".
        average: draws of which the mean is taken.
        said: what says which pixels are missing, JSON literals by name.
    """

    given: Given
    missing: "np.ndarray"
    method: str
    jumps: int
    average: int
    said: Mapping[str, Any]

    together = None

    def calls(self, choice: "SamplingPlan") -> int | None:
        """Those of every draw, repetitions included."""
        one = (
            choice.steps if self.method == GUIDED or choice.steps is None else 1 + (choice.steps - 1) * (self.jumps + 1)
        )
        each = choice.calls(len(self.given.pixels), one)
        return None if each is None else each * self.average

    def restored(self, choice: "SamplingPlan", part: slice, rng: "Rng") -> "tuple[Tensor, list[float]]":
        """Draws of the missing pixels, given the others."""
        import torch

        from diffprob.guidance.energy import EnergyGuided, Observed
        from diffprob.sampling.restore import Inpaint
        from diffprob.sampling.simulate import draw
        from diffprob.tasks.drawing import limited

        missing = self.missing if len(self.missing) == 1 else self.missing[part]
        known = torch.from_numpy(~missing).to(rng.seeds.device)
        image = self.given.to_model(rng.seeds.device, part)
        model, sampler = choice.guided, choice.sampler
        if self.method == GUIDED:
            model = EnergyGuided(model, Observed(known, image, model.process))
        else:
            sampler = Inpaint(sampler, known, image, self.jumps)
        model = limited(model, choice.clip)
        drawn = mean_of(
            lambda streams: draw(model, sampler, choice.times, streams, self.given.shape), rng, self.average
        )
        return torch.where(known, image, drawn), []

    def beside(self) -> "dict[str, np.ndarray]":
        """None: what is missing has no error."""
        return {}

    def shown(self) -> "np.ndarray":
        """The images with middle grey where they are missing."""
        import numpy as np

        return np.where(self.missing, self.given.levels // 2, self.given.pixels).astype(np.uint8)

    def told(self, run: "Run", device: Any) -> None:
        """Nothing."""
        return

    def facts(self) -> dict[str, Any]:
        """The method, and the share of each image (or of all) that is missing."""
        shares = self.missing.mean((1, 2, 3)).tolist()
        jumps = self.jumps if self.method == REPAINT else None
        return {"method": self.method, "jumps": jumps, "average": self.average, "missing": shares, **self.said}


@dataclass(frozen=True, eq=False)
class Small:
    """Fewer pixels than the run draws, which its network is told.

    Args:
        given: the small images.
        shape: of the large ones, (C, H, W).
        average: draws of which the mean is taken.
    """

    given: Given
    shape: tuple[int, int, int]
    average: int

    missing = None

    @property
    def together(self) -> int | None:
        """All of them: the network was told them together."""
        return len(self.given.pixels)

    def calls(self, choice: "SamplingPlan") -> int | None:
        """Those of every draw."""
        each = choice.calls(len(self.given.pixels), choice.steps)
        return None if each is None else each * self.average

    def restored(self, choice: "SamplingPlan", part: slice, rng: "Rng") -> "tuple[Tensor, list[float]]":
        """Draws of the large images."""
        from diffprob.sampling.simulate import draw
        from diffprob.tasks.drawing import limited

        model = limited(choice.guided, choice.clip)
        return mean_of(
            lambda streams: draw(model, choice.sampler, choice.times, streams, self.shape), rng, self.average
        ), []

    def beside(self) -> "dict[str, np.ndarray]":
        """What bicubic interpolation makes of them."""
        import torch.nn.functional as F

        size = self.shape[1:]
        large = F.interpolate(self.given.to_model("cpu"), size=size, mode="bicubic", align_corners=False)
        return {"bicubic": self.given.to_levels(large)}

    def shown(self) -> "np.ndarray":
        """The small images, every pixel repeated."""
        high, wide = (large // small for large, small in zip(self.shape[1:], self.given.shape[1:], strict=True))
        return self.given.pixels.repeat(high, 2).repeat(wide, 3)

    def told(self, run: "Run", device: Any) -> "Tensor":
        """The small images in the size of the large ones."""
        condition: Any = run.recipe.condition
        return condition.spread(self.given.to_model(device))

    def facts(self) -> dict[str, Any]:
        """The number of draws."""
        return {"method": "told", "average": self.average}


def mean_of(drawn: "Callable[[Rng], Tensor]", rng: "Rng", count: int) -> "Tensor":
    """The mean of so many draws, the first of which is that of ``rng`` itself."""
    import torch

    return torch.stack([drawn(rng if k == 0 else rng.fold(f"average {k}")) for k in range(count)]).mean(0)


def restore(flaw: Flaw, choice: "SamplingPlan", rng: "Rng") -> "tuple[np.ndarray, list[float], int]":
    """All images without the flaw, in the grey levels of those given; the noise that was taken out of each; and how
    often the network was called.

    Raises:
        NumericalError: one is not finite.
    """
    import torch

    from diffprob.tasks.drawing import check_finite, counted

    n, chunk = len(rng), choice.model.evaluation.chunk or 1
    size = flaw.together or chunk * math.ceil(PIECE / chunk)
    with (
        Progress("restore", flaw.calls(choice), "network call") as progress,
        counted(choice.model, progress.update),
    ):
        parts = [slice(first, min(first + size, n)) for first in range(0, n, size)]
        pieces = [flaw.restored(choice, part, rng.select(part)) for part in parts]
    x = torch.cat([images for images, _ in pieces])
    check_finite(x, rng, choice.model)
    return flaw.given.to_levels(x), [std for _, stds in pieces for std in stds], progress.done
