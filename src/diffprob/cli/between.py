"""Images that chains start from, and rows of what became of them: what `sample --from` and `interpolate` share."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError, Missing
from diffprob.cli import output
from diffprob.cli.options import sampling
from diffprob.cli.parser import component
from diffprob.cli.progress import TERMINAL, say

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from diffprob.base.rng import Rng
    from diffprob.runs.folder import Run
    from diffprob.tasks.plan import SamplingPlan

IMAGE = "a picture, or DATA:INDEX such as digits:0"


def read_image(text: str, option: str, run: "Run") -> "np.ndarray":
    """One image for ``run`` as grey levels, uint8 (1, C, H, W): a picture file, or DATA:INDEX, counted from 0 in the
    test split of the data, or in all of it.

    Raises:
        InputError: nothing of this name, or not the run's size, channels and grey levels.
    """
    from diffprob.data.for_run import is_picture

    if is_picture(text):
        return _taken(text, run, lambda _: 0)
    data, _, index = text.rpartition(":")
    if not data or not index.isdecimal():
        raise InputError(f"{option} {text}: a picture (x.png) or DATA:INDEX would be right (digits:0)")
    return _of_data(data, int(index), f"{option} {text}", run)


def source_facts(name: str, text: str, image: "np.ndarray") -> dict[str, str]:
    """What is recorded of an image that was given: what it was called, under ``name``, and its SHA-256."""
    from diffprob.data.images import Images

    return {name: text, f"{name}_sha256": Images(image).digest()}


def _taken(text: str, run: "Run", which: "Callable[[int], int]") -> "np.ndarray":
    """One of the images at ``text``, by their number; nothing is converted to the run's shape."""
    from diffprob.data.for_run import select

    found = select(text, run.space, run.name, how="an image like those of `diffprob sample` would be right")
    for note in [*found.images.notes, *([found.converted] if found.converted else [])]:
        say(f"{text}: {note}")
    return found.images.take([which(len(found))])


def _of_data(data: str, index: int, asked: str, run: "Run") -> "np.ndarray":
    from diffprob.data.detect import open_data
    from diffprob.data.formats.folder import list_pictures, split_roots
    from diffprob.data.sources import Folder

    source = open_data(data)
    if isinstance(source, Folder):
        # One of the pictures: reading all of them would take long.
        root = Path(source.path).expanduser()
        try:
            roots = split_roots(root, "test")
        except Missing:
            roots = split_roots(root, "train")
        paths = [path for root in roots for path in list_pictures(root)[0]]
        return _taken(str(paths[_within(index, len(paths), data, asked)]), run, lambda _: 0)
    return _taken(data, run, lambda count: _within(index, count, data, asked))


def _within(index: int, count: int, data: str, asked: str) -> int:
    if index >= count:
        raise InputError(f"{asked}: {data} has {count:,} images, counted from 0")
    return index


@dataclass(frozen=True)
class Rows:
    """How rows of images are made: one row for each time.

    Args:
        choice: the model, sampler and grid.
        at: the times that chains start from, on the schedule.
        space: of the run.
        device: of the chains.
    """

    choice: "SamplingPlan"
    at: tuple[float, ...]
    space: Any
    device: Any

    @property
    def evaluations(self) -> list[int | None]:
        """Of the model for each image of each row; None where a tolerance decides."""
        from diffprob.sampling.between import remaining
        from diffprob.sampling.simulate import cost

        process, times = self.choice.model.process, self.choice.times
        return [cost(self.choice.sampler, len(remaining(process, times, t))) for t in self.at]

    def calls(self, n: int, up: int = 0) -> int | None:
        """Of the network for n images a row, ``up`` of which are inverted first; None where a tolerance decides."""
        each = [self.choice.calls(size, steps) for steps in self.evaluations for size in (n, up) if size]
        return None if None in each else sum(count or 0 for count in each)

    def to_model(self, levels: "np.ndarray") -> "Tensor":
        """Grey levels on the device, in [-1, 1]."""
        import torch

        return self.space.to_model(torch.from_numpy(levels).to(self.device))

    def decode(self, xt: "Tensor", t: float, rng: "Rng") -> "np.ndarray":
        """Grey levels of what a chain from t makes of x_t, uint8 (B, C, H, W)."""
        from diffprob.sampling.between import continued
        from diffprob.tasks.drawing import check_finite, limited

        choice, x = self.choice, xt
        for state in continued(limited(choice.guided, choice.clip), choice.sampler, xt, t, choice.times, rng):
            x = state.x
        check_finite(x, rng, self.choice.model)
        return self.space.to_data(x).cpu().numpy()

    def encode(self, x0: "Tensor", t: float) -> "Tensor":
        """The latents at t of images, by DDIM upwards."""
        from diffprob.sampling.between import remaining
        from diffprob.sampling.invert import invert
        from diffprob.tasks.drawing import limited

        choice = self.choice
        return invert(limited(choice.guided, choice.clip), x0, remaining(choice.model.process, choice.times, t))

    def visible(self, xt: "Tensor", t: float) -> "np.ndarray":
        """x_t as a picture: divided by (alpha^2 + sigma^2)^(1/2), which is 1 where variance is preserved."""
        alpha, sigma = self.choice.model.process.coefficients(t)
        return self.space.to_data(xt / float((alpha**2 + sigma**2) ** 0.5)).cpu().numpy()


def prepare_rows(args: argparse.Namespace, run: "Run", at: Sequence[float], alone: bool = False) -> Rows:
    """What the options of a drawing mean for chains from the times ``at``;
    one image a call, unless --batch, where there is only one."""
    import torch

    from diffprob.tasks.compute import choose_device
    from diffprob.tasks.plan import plan_sampling

    device = choose_device(args.device)
    if alone and args.batch is None and device.type == "cpu":
        args.batch = 1
    choice = plan_sampling(run, sampling(args), TERMINAL, one=True)
    snapped = choice.model.process.schedule.snap(torch.tensor(at, dtype=torch.float64)).tolist()
    last = float(choice.times[-1])
    for t in snapped:
        if t < last:
            say(f"note: t = {t:g} lies below the grid's last time, {last:g}: a single evaluation; use more --steps")
    rows = Rows(choice, tuple(snapped), run.space, device)
    choice.facts.update({"at": list(rows.at), "evaluations": rows.evaluations})
    return rows


def only_ddim(args: argparse.Namespace, option: str) -> None:
    """Set the options for going up and down the same way, by DDIM on `Trailing` times unless a grid is given.

    Raises:
        InputError: another sampler was asked for.
    """
    from diffprob.sampling.ancestral import DDIM

    if args.sampler is not None and component(args.sampler, "--sampler", "sampler") != DDIM():
        raise InputError(f"--sampler {args.sampler}: {option} goes up and down by DDIM(); leave --sampler out")
    args.sampler, args.grid = "DDIM()", args.grid or "Trailing()"


def no_folder(out: str) -> str:
    """What ``--out`` asks for, "png" or "npz".

    Raises:
        InputError: a folder, or as `output.kind_of`.
    """
    kind = output.kind_of(out)
    if kind == "folder":
        raise InputError(f"--out {out}: rows of images are one file; x.png or x.npz would be right")
    return kind


def write_rows(kind: str, out: str, rows: "Sequence[np.ndarray]", rng: "Rng", most: int, facts: dict[str, Any]) -> None:
    """Write rows of equal length, each uint8 (columns, C, H, W), as a grid or as arrays with images (rows, columns, C,
    H, W)."""
    import numpy as np

    if kind == "npz":
        seeds = rng.seeds.cpu().numpy()
        output.write_file(out, output.arrays(np.stack(rows), seeds, {**facts, "levels": most}))
    else:
        output.write_file(out, output.grid_png(np.concatenate(rows), most, facts, len(rows[0])))


def rmse(a: "np.ndarray", b: "np.ndarray") -> float:
    """Root of the mean squared difference, in grey levels."""
    return float(((a.astype(float) - b.astype(float)) ** 2).mean() ** 0.5)
