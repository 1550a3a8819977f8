"""Images as bytes, by a run's chain: `diffprob encode`."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from diffprob.base.checks import able, instance, real, whole
from diffprob.base.errors import FieldError, InputError, NumericalError
from diffprob.codec.bits_back import BitsBack
from diffprob.codec.coders import Ideal
from diffprob.codec.container import MOST_IMAGES, Coded, Group, digest_of, fewest_bytes, head_size, most_images
from diffprob.codec.entropy import Damaged
from diffprob.codec.grid import coding_times
from diffprob.codec.poisson import PoissonFunctional
from diffprob.denoise.variance import Variance
from diffprob.evaluation.image_quality import psnr
from diffprob.process.times import native_steps
from diffprob.runs.fits import ANALYTIC, best_variance, fitted, step_variance
from diffprob.runs.folder import Run
from diffprob.tasks.bounds import ChainBound, LikelihoodSetup, bound_variance, prepare
from diffprob.tasks.coding import (
    DIGITS,
    LEAST_PROBE,
    MOST_CHUNK,
    AnyCode,
    AnyCoder,
    code_of,
    finite_psnr,
    made_with,
    most_psnr,
    probe,
    received,
    shown,
    times_as_numbers,
)
from diffprob.tasks.compute import Compute
from diffprob.tasks.display import write_file
from diffprob.tasks.images import ImageSelection
from diffprob.tasks.options import option
from diffprob.tasks.reporter import SILENT, Reporter

GROUP, GROUP_BACK = 100, 1000  # images that are coded together, and with bits back


@dataclass(frozen=True, kw_only=True)
class EncodeRequest:
    """What is to be coded, and how.

    Args:
        images: which.
        coder: of the steps.
        steps: times of the chain; None: as many as cost the fewest bits.
        variance: of the steps; None: ``GaussianNLL()``, ``OptimalCovariance()``, ``NoiseResidual()`` or ``Analytic()``,
            the first that was fitted.
        group: images that are coded together: more share what comes once a group, and are decoded at once; None: 100,
            of ``BitsBack()`` 1,000.
        bits: at most so many for each image on average, all of the file counted, in place of every bit: of each group
            so many steps of the chain are sent as its share of them allows.
        psnr: in place of every bit, steps until what a decoder shows has this mean PSNR in each group, dB.
        compute: where and how precisely.

    Raises:
        ValueError: a number outside its domain, no coder, or bits and psnr together.
    """

    images: ImageSelection = ImageSelection(n=16)
    coder: AnyCoder = PoissonFunctional()
    steps: int | None = None
    variance: Variance | None = None
    group: int | None = None
    bits: float | None = None
    psnr: float | None = None
    compute: Compute = Compute()

    def __post_init__(self) -> None:
        able("coder", self.coder, "cost", "PoissonFunctional()")
        real("bits", self.bits, "(0, 1e6]", none=True)
        real("psnr", self.psnr, "(0, 200]", none=True)
        if self.bits is not None and self.psnr is not None:
            raise FieldError("psnr", "and bits exclude each other: one of them says how far a code goes")
        whole("steps", self.steps, 1, none=True)
        whole("group", self.group, 1, MOST_IMAGES, none=True)
        instance("images", self.images, ImageSelection)
        if isinstance(self.coder, BitsBack) and (self.bits or self.psnr):
            raise FieldError("coder", "BitsBack() sends all or nothing: PoissonFunctional() sends coarse images")

    @property
    def most_together(self) -> int:
        """Images of a group."""
        return self.group or (GROUP_BACK if isinstance(self.coder, BitsBack) else GROUP)


@dataclass(frozen=True, eq=False)
class EncodeResult:
    """Coded images.

    Args:
        data: the file.
        bits: "steps" of the chain, "levels" at its end, "first", which a code with bits back begins with, where there
            are any, and the "rest" (header, lengths, checks), of all images.
        n: images.
        dimensions: of an image.
        times: t of the chain at which the code of each image ends, float64 (n,); 0: it says every bit.
        psnr: of what a decoder shows of each image, dB, float64 (n,); inf where it is the image itself.
        seconds: of encoding, and of decoding to look whether it comes back.
        settings: everything that decides the bytes, JSON literals by name.
    """

    data: bytes
    bits: Mapping[str, float]
    n: int
    dimensions: int
    times: np.ndarray
    psnr: np.ndarray
    seconds: Mapping[str, float]
    settings: dict[str, Any]

    @property
    def bits_per_dim(self) -> float:
        """All bits over all elements."""
        return 8 * len(self.data) / (self.n * self.dimensions)

    @property
    def mean_psnr(self) -> float | None:
        """In dB, an exact image as one that is off by one level once; None: all are exact."""
        if not self.times.any():
            return None
        return float(np.minimum(self.psnr, most_psnr(self.settings["levels"], self.dimensions)).mean())

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name; not the bytes."""
        each = self.n * self.dimensions
        return {
            **self.settings,
            "bytes": len(self.data),
            "bytes_per_image": len(self.data) / self.n,
            "bits_per_dim": self.bits_per_dim,
            "bits_per_dim_of": {name: bits / each for name, bits in self.bits.items()},
            "t": [float(self.times.min()), float(self.times.max())],
            "lossless": int((self.times == 0).sum()),
            "psnr": self.mean_psnr,
            "seconds": dict(self.seconds),
        }

    def save(self, path: str | Path) -> None:
        """Write the file.

        Raises:
            InputError: the disk refuses; what existed before is intact.
        """
        write_file(path, self.data)

    def __repr__(self) -> str:
        text = f"{self.n:,} images in {len(self.data):,} bytes, {self.bits_per_dim:.4f} bits/dim"
        return text if self.mean_psnr is None else f"{text}, PSNR {self.mean_psnr:.2f} dB"


def encode(run: Run, request: EncodeRequest = EncodeRequest(), reporter: Reporter = SILENT) -> EncodeResult:
    """Code images, decode them again, and give the bytes out if they say the very same images.

    Raises:
        InputError: a run without a model, one whose steps have no code, images of another kind, or no fitted variance.
        NumericalError: what was decoded is not what was encoded, so no bytes are given out.
    """
    return encode_prepared(run, prepare_encoding(run, request, reporter), request, reporter)


def encode_prepared(
    run: Run, setup: LikelihoodSetup, request: EncodeRequest, reporter: Reporter = SILENT
) -> EncodeResult:
    """What `encode` does after `prepare_encoding`.

    Raises:
        InputError: steps that have no code.
        NumericalError: what was decoded is not what was encoded, so no bytes are given out.
    """
    header = header_of(setup, request.coder, request.compute.best)
    budgets = _budgets(header, len(setup.chosen), request)
    pieces: list[_Piece] = []
    encoding, decoding = 0.0, 0.0
    with reporter.progress("encoding", len(setup.chosen), "image") as progress:
        for k, first in enumerate(range(0, len(setup.chosen), request.most_together)):
            index = setup.chosen[first : first + request.most_together]
            levels = setup.selection.images.take(index)
            code = code_of(setup.model, setup.clip, setup.times, setup.decoder, request.coder, first, len(index))
            began = time.monotonic()
            piece = _encoded(code, run, levels, budgets[k], request.psnr)
            encoding += time.monotonic() - began
            began = time.monotonic()
            _verify(code, run, piece)
            decoding += time.monotonic() - began
            pieces.append(piece)
            progress.update(first + len(index))
    file = Coded(header, tuple(piece.group for piece in pieces))
    steps, first = (sum(piece.bits[name] for piece in pieces) for name in ("steps", "first"))
    streams = sum(8.0 * len(piece.group.stream) for piece in pieces)
    settings = {**setup.without("terms", "grid"), "coder": repr(request.coder), "group": request.most_together}
    return EncodeResult(
        data=file.data(),
        bits={
            "steps": steps,
            "levels": streams - steps - first,
            **({"first": first} if first else {}),
            "rest": 8.0 * file.overhead,
        },
        n=len(setup.chosen),
        dimensions=run.space.dimensions,
        times=np.repeat([piece.t for piece in pieces], [piece.group.images for piece in pieces]),
        psnr=np.concatenate([piece.psnr for piece in pieces]),
        seconds={"encode": encoding, "decode": decoding},
        settings={**settings, "bits_at_most": request.bits, "psnr_at_least": request.psnr},
    )


def prepare_encoding(run: Run, request: EncodeRequest, reporter: Reporter = SILENT) -> LikelihoodSetup:
    """Images, model and times, everything chosen and nothing coded.

    Raises:
        InputError: a run without a model, one whose steps have no code, images of another kind, or no fitted variance.
    """
    if isinstance(request.coder, Ideal):
        raise InputError("Ideal() writes no bytes: PoissonFunctional() would be right")
    if (request.compute.batch or 1) > MOST_CHUNK:
        batch = option("batch", request.compute.batch)
        raise InputError(f"{batch}: a file of coded images takes at most {MOST_CHUNK:,} in a network call")
    run.recipe.process.check_law("encoding")
    compute = request.compute
    if isinstance(request.coder, BitsBack):
        run.recipe.process.require_linear("BitsBack()")
        compute = replace(compute, batch=compute.batch or request.coder.lanes)  # so many images come at once
    best, linear = request.compute.best, run.recipe.process.is_linear
    variance = request.variance or (coding_variance(run, best) if linear else None)
    setup = prepare(
        run, request.images, ChainBound(terms=None, steps=request.steps, variance=variance), compute, reporter
    )
    if linear and ANALYTIC in fitted(run, best):
        steps, space = native_steps(run.recipe.process.schedule.steps), run.space
        native = torch.arange(1, steps + 1, dtype=torch.float64) / steps
        noisy = native[native >= setup.model.process.schedule.start]
        spread = step_variance(run, setup.model.process, noisy, best)
        times = coding_times(
            setup.model.process, noisy, spread, space.dimensions, space.levels, request.coder, request.steps
        )
        setup = replace(setup, times=times)
    evaluation = setup.model.evaluation
    if request.compute.batch is None and evaluation.chunk:  # what fills up a call would cost as much as an image
        fewest = min(evaluation.chunk, request.most_together, len(setup.chosen))
        setup.model.evaluation = replace(evaluation, chunk=fewest)
    settings = {**setup.settings, "steps": len(setup.times), "chunk": setup.model.evaluation.chunk}
    return replace(setup, settings=settings)


def coding_variance(run: Run, best: bool = False) -> Variance:
    """The fitted variance that a code of the run's steps takes.

    Raises:
        InputError: none was fitted.
    """
    if run.space.levels is None:
        run.space.require_pixels("a code")
    if best_variance(run, best) is None:
        raise InputError(f"{run.name} has no fitted variance, which its steps are coded by: diffprob fit {run.place}")
    return bound_variance(run, best)


class _Piece(NamedTuple):
    """A coded group.

    Args:
        group: of the file.
        bits: of its stream: of the steps of the chain, and those that it was begun with.
        t: at which its stream ends.
        psnr: of each image as it is shown there, (n,).
        images: as they are shown there, levels, uint8 (n, C, H, W).
    """

    group: Group
    bits: dict[str, float]
    t: float
    psnr: np.ndarray
    images: np.ndarray


def _encoded(code: AnyCode, run: Run, levels: np.ndarray, most: int | None, quality: float | None) -> _Piece:
    """The images coded to the last bit, or in at most so many bytes, or until they are shown so well."""
    writer: Any = code.writer()
    x0 = run.space.to_model(torch.from_numpy(levels), torch.float64)
    ends, left = None, code.states - 1
    for state in code.encode(x0, writer):
        if most is not None and writer.size > most and ends is not None:
            break
        parts = {"steps": writer.bits - writer.levels - writer.first, "first": writer.first}
        if not left or most is not None:
            ends = (state, left, writer.data(), parts)
        elif quality is not None:
            psnrs = finite_psnr(shown(run, state), levels, run.space.levels)
            if psnrs.mean() >= quality:
                ends = (state, left, writer.data(), parts)
                break
        left -= 1
    if ends is None:
        raise ValueError("a chain without an end")
    state, left, stream, parts = ends
    images = shown(run, state)
    stream = stream.ljust(fewest_bytes(len(levels)), b"\0")
    group = Group(len(levels), stream, digest_of(images), left)
    return _Piece(group, parts, float(state.t), psnr(images, levels, run.space.levels), images)


def _budgets(header: Mapping[str, Any], n: int, request: EncodeRequest) -> list[int | None]:
    """Bytes of each group's stream at most, None where there is no bound.

    Raises:
        InputError: fewer bits than the header and the checks take, or than so many images in a group.
    """
    each = request.most_together
    sizes = [min(each, n - first) for first in range(0, n, each)]
    if request.bits is None:
        return [None] * len(sizes)
    fixed = len(Coded(header, ()).data()) + 2  # the number of groups may take three bytes
    budgets: list[int | None] = []
    for size in sizes:
        share = request.bits * size / 8 - fixed * size / n
        overhead = head_size(size, len(header["times"]), max(0, int(share)))
        if share < overhead:
            least = 8 * (fixed / n + overhead / min(sizes))
            raise InputError(
                f"{option('bits', f'{request.bits:g}')}: the header and the checks of {n:,} images alone take up to "
                f"{least:.0f} bits an image; more would be right, or more images"
            )
        budget, fewest = int(share - overhead), fewest_bytes(size)
        if budget < fewest:
            raise InputError(
                f"{option('bits', f'{request.bits:g}')}: {size:,} images in a group take {fewest:,} bytes at least, "
                f"and this leaves {budget:,}; groups of {most_images(0)} would be right, or more bits"
            )
        budgets.append(budget)
    return budgets


def _verify(code: AnyCode, run: Run, piece: _Piece) -> None:
    try:
        *_, last = received(code, run, piece.group, code.reader(piece.group.stream))
        same = np.array_equal(shown(run, last), piece.images)
    except Damaged:
        same = False
    if not same:
        raise NumericalError("the bytes did not say the same images when they were decoded; none are given out")


def header_of(setup: LikelihoodSetup, coder: AnyCoder, best: bool = False) -> dict[str, Any]:
    """What a decoder needs, JSON literals by name."""
    run, evaluation = setup.run, setup.model.evaluation
    code = code_of(setup.model, setup.clip, setup.times, setup.decoder, coder, 0, 1)
    return {
        "run": run.name,
        "model": run.sha256(best)[:DIGITS],
        "best": best,
        **times_as_numbers(setup.times, run.recipe.process.schedule.steps),
        "variance": repr(setup.model.variance),
        "coder": repr(coder),
        "clip": setup.clip,
        "chunk": evaluation.chunk,
        "precision": evaluation.precision,
        "device": torch.device(setup.settings["device"]).type,
        "probe": probe(code, run)[:LEAST_PROBE],
        "made": made_with(),
    }
