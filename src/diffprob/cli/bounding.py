"""Images under the bound of a run: what `likelihood` and `rate` share."""

import argparse
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError
from diffprob.base.text import one_line
from diffprob.cli.choices import weights_facts
from diffprob.cli.parser import add_device, add_dry_run, add_seed, choose_device, component, whole
from diffprob.cli.reals import add_place, measured_on

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from diffprob.base.rng import Rng
    from diffprob.data.for_run import Selection
    from diffprob.data.images import Images
    from diffprob.denoise.denoiser import Denoiser, NetDenoiser
    from diffprob.likelihood.bound import Decoder, Term
    from diffprob.runs.folder import Run

NEAR = 1e-3  # how far from a grey level rounding errors of float32 may leave a value
CHUNKS = 8  # network calls that one block of images takes at each time, where no gradients are kept


@dataclass(frozen=True)
class Asked:
    """Which images, and how they are to be bounded.

    Args:
        run: whose density.
        model: its denoiser, with the variance asked for.
        found: the data that the images are of.
        chosen: their indices, increasing.
        times: of the chain.
        decoder: p(x_0|x_t1).
        terms: random steps for each image, None for all.
        clip: whether the predicted image is clamped to [-1, 1].
        facts: everything that decides the numbers, JSON literals by name.
    """

    run: "Run"
    model: "NetDenoiser"
    found: "Selection"
    chosen: "np.ndarray"
    times: "Tensor"
    decoder: "Decoder"
    terms: int | None
    clip: bool
    facts: dict[str, Any]

    @property
    def images(self) -> "Images":
        """The data that the images are of."""
        return self.found.images

    @property
    def denoiser(self) -> "Denoiser":
        """The model, clipped if that was asked for."""
        from diffprob.cli.drawing import limited

        return limited(self.model, self.clip)

    @property
    def evaluations(self) -> int:
        """Of the network for each image."""
        return 1 + min(len(self.times) - 1, self.terms or len(self.times))

    @property
    def chunk(self) -> int:
        """Images in a network call."""
        return self.model.evaluation.chunk or len(self.chosen)

    def calls(self, evaluations: int) -> int:
        """Network calls for all images with so many evaluations each."""
        return evaluations * math.ceil(len(self.chosen) / self.chunk)


def add_bounding(parser: argparse.ArgumentParser, n: int) -> None:
    """The run, the images, and what decides a bound on them."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of a packaged run (diffprob show runs)")
    parser.add_argument(
        "images",
        nargs="?",
        metavar="DATA",
        help="the images: a picture, a folder, a file of arrays, ... (by default held-out ones of the run's own data)",
    )
    parser.add_argument("--held-out", metavar="DATA", help="the same as DATA, whose test split or all of it is taken")
    add_place(parser)
    parser.add_argument(
        "--split", choices=("auto", "test", "train"), default="auto", help="of the data; auto: test, if there is one"
    )
    parser.add_argument("-n", type=whole(1), default=n, metavar="N", help=f"at most so many images ({n:,})")
    add_seed(parser, "which images, and their noise: image i of the data has the seed N + i (0)")
    parser.add_argument("--steps", type=whole(1), metavar="N", help="times of the chain (the fitted path's, or all)")
    parser.add_argument("--grid", metavar="G", help='such as "Native()"; best, if fitted the default: the fitted path')
    parser.add_argument(
        "--variance", metavar="V", help="such as UnitData(); by default Analytic() if fitted, else the run's"
    )
    parser.add_argument("--decoder-std", type=float, metavar="X", help="of p(x_0|x_t1), in model space, [-1, 1]")
    parser.add_argument(
        "--clip", action=argparse.BooleanOptionalAction, help="clamp the predicted image to [-1, 1] (on for bounds)"
    )
    parser.add_argument("--batch", type=whole(1), metavar="N", help="images per network call; decides the last bits")
    parser.add_argument("--best", action="store_true", help="the best averaged weights that the training watched for")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of the network (fp32)")
    add_device(parser)
    add_dry_run(parser, "check everything and say what would be done, without doing it")


def ask(args: argparse.Namespace, terms: int | None, clip: bool = True) -> Asked:
    """What the options of `add_bounding` and ``--device`` ask for.

    Args:
        terms: random steps for each image, None for all.
        clip: unless the option says so.

    Raises:
        InputError: an option that names nothing, a run without a model, or images of another kind.
    """
    from diffprob.cli.drawing import make_times
    from diffprob.likelihood.bound import Decoder
    from diffprob.runs.folder import Run

    run = Run.open(args.run)
    found, chosen = _images(args, run)
    device = choose_device(args.device)
    model = run.load(
        device, args.batch or "auto", args.precision, args.best, bound_variance(run, args.best, args.variance)
    )
    grid, n = _grid(args, run)
    times = make_times(grid, model.process, n)
    if args.decoder_std is not None and not 0 < args.decoder_std < math.inf:
        raise InputError(f"--decoder-std {args.decoder_std:g}: a number above 0 would be right")
    decoder = Decoder(run.space.levels, args.decoder_std)
    terms = None if terms is None or terms >= len(times) - 1 else terms
    facts = {
        "run": run.place,
        **weights_facts(run, args.best),
        **found.facts,
        "n": len(chosen),
        "seed": args.seed,
        "levels": run.space.levels,
        "grid": repr(grid),
        "steps": len(times),
        "terms": "all" if terms is None else terms,
        "variance": repr(model.variance),
        "decoder": repr(decoder),
        "clip": clip if args.clip is None else args.clip,
        "chunk": model.evaluation.chunk,
        "precision": model.evaluation.precision,
        "device": str(device),
    }
    return Asked(run, model, found, chosen, times, decoder, terms, facts["clip"], facts)


def each(
    asked: Asked, measure: Callable[["Tensor", "Rng"], list["Tensor"]], chunks: int = CHUNKS
) -> list["np.ndarray"]:
    """Call ``measure`` on block after block of levels, uint8 (B, C, H, W), with their streams, and put what it
    returns, (..., B) each, together again; a block has ``chunks`` network calls' images.

    Raises:
        InputError: there is no bound or density of this kind.
    """
    import numpy as np
    import torch

    from diffprob.base.rng import Rng

    device = torch.device(asked.facts["device"])
    parts: list[list[np.ndarray]] = []
    block = chunks * asked.chunk
    for first in range(0, len(asked.chosen), block):
        index = asked.chosen[first : first + block]
        levels = torch.from_numpy(asked.images.take(index)).to(device)
        rng = Rng(torch.from_numpy(asked.facts["seed"] + index.astype(np.int64)).to(device))
        try:
            parts.append([part.double().cpu().numpy() for part in measure(levels, rng)])
        except ValueError as error:
            raise InputError(f"{asked.run.name}: {one_line(error)}") from error
    return [np.concatenate(column, -1) for column in zip(*parts, strict=True)]


def said_images(result: dict[str, Any]) -> str:
    """Which images, under which run, in words."""
    how = f", {result['converted']}" if result["converted"] else ""
    many = f"{result['n']:,} image{'s' if result['n'] > 1 else ''}"
    return f"{many} of {result['data']} ({result['role']}{how}) under {result['run']}"


def summed(terms: "Iterable[Term]") -> tuple["Tensor", "Tensor"]:
    """Weighted nats and squared errors of the terms of a block, each (K, B)."""
    import torch

    rows = [(term.share, term.error) for term in terms]
    nats, errors = zip(*rows, strict=True)
    return torch.stack(nats), torch.stack(errors)


def in_model(asked: Asked, levels: "Tensor") -> "Tensor":
    """Levels as points of model space: float64, so that differences of means are exact to rounding."""
    import torch

    return asked.run.space.to_model(levels, torch.float64)


def _images(args: argparse.Namespace, run: "Run") -> "tuple[Selection, np.ndarray]":
    import numpy as np

    from diffprob.base.rng import derive, permutation

    place = args.data or (args.images if args.held_out else None)  # DATA beside --held-out is the run's own
    found = measured_on(run, args.held_out or args.images, place, args.split, args.resize)
    images = found.images
    if images.rounded > NEAR:
        raise InputError(
            f"{images.name}: values between whole grey levels (up to {images.rounded:.2g} off) have no "
            "probability here; uint8 images would be right"
        )
    chosen = np.sort(permutation(derive(args.seed, "images"), 0, len(images))[: args.n])
    return found, chosen


def bound_variance(run: "Run", best: bool = False, wanted: str | None = None) -> Any:
    """The variance asked for or, unless one is, the analytic one where it was fitted; never bounded where the chain
    lands: that is for samples, and costs nats here."""
    from diffprob.denoise.variance import Analytic, Fitted
    from diffprob.runs.fits import ANALYTIC, fitted

    if wanted is not None:
        chosen = component(wanted, "--variance", "variance")
    else:
        chosen = Analytic() if ANALYTIC in fitted(run, best) else run.recipe.variance
    return replace(chosen, last=math.inf) if isinstance(chosen, Fitted) else chosen


def _grid(args: argparse.Namespace, run: "Run") -> tuple[Any, int]:
    """The fitted path of the whole bound, as long as it was fitted, or else every time of training."""
    from diffprob.process.grids import Native, Uniform
    from diffprob.process.path import LeastCost
    from diffprob.runs.fits import STEPS, bind_grid, fitted

    native, best = run.recipe.process.schedule.steps, LeastCost(whole=True)
    if args.grid is not None:
        grid = best if args.grid == "best" else component(args.grid, "--grid", "grid")
        return bind_grid(run, grid, args.best), args.steps or native or 1000
    if STEPS in fitted(run, args.best):
        best = bind_grid(run, best, args.best)
        n = args.steps or len(best.paths or ())
        if best.paths and n <= len(best.paths):
            return best, n
    n = args.steps or native or 1000
    return (Native() if n == native else Uniform()), n
