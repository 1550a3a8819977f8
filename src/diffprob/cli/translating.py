"""How `translate` translates: what the options mean, a part of the images at a time, and what is written."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError
from diffprob.base.text import printable
from diffprob.cli import output
from diffprob.cli.progress import TERMINAL

if TYPE_CHECKING:
    import argparse

    import numpy as np
    from torch import Tensor

    from diffprob.base.rng import Rng
    from diffprob.data.images import Images
    from diffprob.denoise.denoiser import Denoiser, NetDenoiser
    from diffprob.guidance.noisy_classifier import NoisyClassifier
    from diffprob.runs.folder import Run
    from diffprob.tasks.plan import SamplingPlan

EGSDE, SDEDIT, INVERT = METHODS = ("egsde", "sdedit", "invert")
IMAGES, GRID, FACTS = "images", "before-and-after.png", "facts.json"
ACROSS, SHOWN = 12, 36  # images in a row of the grid, and in all of it


@dataclass(frozen=True, eq=False)
class Energies:
    """The two energies of EGSDE: their scales, and what they look at."""

    recogniser: "NoisyClassifier | None"
    realistic: float
    faithful: float
    factor: int

    def around(self, model: "Denoiser", source: "Tensor", rng: "Rng") -> "Denoiser":
        """The model, steered by them for these source images."""
        from diffprob.guidance import egsde as experts
        from diffprob.guidance import energy

        process, parts = model.process, []
        if self.recogniser is not None:
            parts.append(experts.Realistic(self.recogniser.features, source, process, rng, self.realistic))
        parts.append(experts.Faithful(experts.LowPass(self.factor), source, process, rng, self.faithful))
        return energy.EnergyGuided(model, energy.Energies(tuple(parts)))


@dataclass(frozen=True, eq=False)
class Way:
    """From source images to translated ones.

    Args:
        choice: the run's network, sampler and grid.
        start: the time up to which noise is added, on the schedule.
        repeats: how often.
        energies: of EGSDE, or None.
        source: invert: the network of the source's kind, not yet told any rows.
        rows: invert: what it is told about each image, (N,), or None.
    """

    choice: "SamplingPlan"
    start: float
    repeats: int = 1
    energies: Energies | None = None
    source: "NetDenoiser | None" = None
    rows: "Tensor | None" = None

    @property
    def visited(self) -> "Tensor":
        """The times of the chain."""
        from diffprob.sampling.between import remaining

        return remaining(self.choice.model.process, self.choice.times, self.start)

    @property
    def evaluations(self) -> int | None:
        """Of the model for each image on the way down; None where a tolerance decides."""
        from diffprob.sampling.simulate import cost

        each = cost(self.choice.sampler, len(self.visited))
        return None if each is None else each * self.repeats

    def calls(self, n: int) -> int | None:
        """Of the run's network for n images; None where a tolerance decides."""
        from diffprob.tasks.drawing import calls

        down = self.choice.calls(n, self.evaluations)
        if self.source is None or self.source.net is not self.choice.model.net:
            return down
        up = calls(self.source, n, len(self.visited))
        return None if down is None or up is None else down + up

    def translated(self, x0: "Tensor", part: slice, rng: "Rng") -> "Tensor":
        """Images (B, C, H, W) in model space, which are ``part`` of all of them, with one stream for each.

        Raises:
            NumericalError: one is not finite.
        """
        from diffprob.sampling.translate import carried, sdedit
        from diffprob.tasks.drawing import check_finite, limited

        choice, model = self.choice, self.choice.guided
        if self.source is not None:
            source = self.source if self.rows is None else self.source.given(self.rows[part])
            x = carried(limited(source, choice.clip), limited(model, choice.clip), x0, self.visited)
        else:
            if self.energies is not None:
                model = self.energies.around(model, x0, rng)
            x = sdedit(limited(model, choice.clip), x0, self.start, choice.sampler, choice.times, rng, self.repeats)
        check_finite(x, rng, choice.model)
        return x


def check_folder(out: str) -> None:
    """Look whether results can be written to the folder ``out``.

    Raises:
        InputError: no name of a folder, or one that holds files: none is overwritten.
    """
    path = Path(out)
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"--out {out} is not empty; a new folder would be right")
    if output.kind_of(out) != "folder":
        raise InputError(f"--out {out}: a picture for each image needs a folder")


def read(args: "argparse.Namespace", run: "Run") -> "tuple[Images, dict[str, Any]]":
    """The first ``args.n`` images of the source, in the run's shape and grey levels, and which they are.

    Raises:
        InputError: nothing there, or other images than the run takes.
    """
    from diffprob.tasks.images import measured_on

    found = measured_on(run, args.source, TERMINAL, split=args.split, resize=args.resize)
    n = min(args.n or len(found), len(found))
    images = replace(found.images.some(range(n)), captions=None)
    facts = {"source": args.source, "split": found.split, "role": found.role, "converted": found.converted or None}
    return images, {**facts, "n": n, "source_sha256": images.digest()}


def source_model(args: "argparse.Namespace", run: "Run", choice: "SamplingPlan", images: "Images") -> Any:
    """invert: the network of the source's kind, what it is told about each image or None, and how to say both.

    Raises:
        InputError: another space or process, or labels that are missing or unknown.
    """
    from diffprob.conditions.condition import Labels
    from diffprob.runs.folder import Run
    from diffprob.tasks.compute import choose_device

    other = run if args.source_model is None else Run.open(args.source_model)
    if other.space != run.space or other.recipe.process != run.recipe.process:
        raise InputError(f"--source-model {args.source_model}: another space or process than {run.name}")
    condition = other.recipe.condition
    if other is run and (not isinstance(condition, Labels) or args.label is None):
        raise InputError(
            f"--method invert: --source-model RUN of the source's kind, or a {run.name} that knows labels and --label L"
            " for the result, would be right"
        )
    if args.from_label is not None and not isinstance(condition, Labels):
        raise InputError(f"--from-label {args.from_label}: {other.name} is told no labels")
    model = choice.model
    if other is not run:
        model = other.load(choose_device(args.device), args.batch or "auto", args.precision)
    if condition is None:
        return model, None, other.name
    if not isinstance(condition, Labels):
        return model, condition.null().expand(len(images), *condition.null().shape[1:]), other.name
    rows, said = _from_labels(args.from_label, condition, images, other.name)
    return model, rows, f"{other.name}, told {said}"


def _from_labels(asked: str | None, condition: Any, images: "Images", name: str) -> "tuple[Tensor, str]":
    """The label of each source image, (N,), and how to say it."""
    import torch

    if asked is None:
        if images.labels is None:
            raise InputError(f"{images.name} has no labels: --from-label L, what all the images are, would be right")
        return torch.from_numpy(condition.read(images)), "their labels"
    try:
        return torch.full((len(images),), condition.number(asked)), f"label {printable(asked)}"
    except InputError as error:
        raise InputError(f"--from-label {asked}: {name}: {error}") from error


def write(out: str, images: "Images", levels: "np.ndarray", facts: dict[str, Any]) -> None:
    """A picture for each image, numbered in the source's order, a grid of sources above results, and the facts."""
    import numpy as np

    folder, most = Path(out), images.levels
    seed = int(facts["seeds"].partition("..")[0])
    for k, image in enumerate(levels):
        own = {**facts, "seeds": str(seed + k), "n": 1, "source_image": k}
        output.write_file(folder / IMAGES / f"{k:05d}.png", output.tile_png(image, most, own))
    rows = []
    for first in range(0, min(len(levels), SHOWN), ACROSS):
        part = slice(first, min(first + ACROSS, SHOWN))
        for row in (images.pixels[part], levels[part]):
            short = min(ACROSS, len(levels)) - len(row)  # an incomplete row ends in white
            rows.append(np.concatenate([row, np.full((short, *row.shape[1:]), most - 1, np.uint8)]))
    grid = output.grid_png(np.concatenate(rows), most, facts, len(rows[0]))
    output.write_file(folder / GRID, grid)
    output.write_file(folder / FACTS, output.json_bytes(facts))
