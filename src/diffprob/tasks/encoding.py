"""Images as bytes, by a run's chain: `diffprob encode`."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffprob.base.checks import able, instance, whole
from diffprob.base.errors import InputError, NumericalError
from diffprob.codec.chain import ChainCode
from diffprob.codec.coders import Coder, Ideal
from diffprob.codec.container import Coded, Group, digest_of
from diffprob.codec.entropy import Damaged, Writer
from diffprob.codec.grid import coding_times
from diffprob.codec.poisson import PoissonFunctional
from diffprob.denoise.variance import HEADS, Analytic, Variance
from diffprob.runs.fits import ANALYTIC, fitted, read_moments
from diffprob.runs.folder import Run
from diffprob.tasks.bounds import ChainBound, LikelihoodSetup, bound_variance, prepare
from diffprob.tasks.coding import DIGITS, code_of, made_with, probe, received, times_as_numbers
from diffprob.tasks.compute import Compute
from diffprob.tasks.display import write_file
from diffprob.tasks.images import ImageSelection
from diffprob.tasks.reporter import SILENT, Reporter

GROUP = 100  # images that are coded together
BEST = ("ocm", "npr")  # fitted heads, the first that there is, before the analytic variance (docs/codec.md)


@dataclass(frozen=True, kw_only=True)
class EncodeRequest:
    """What is to be coded, and how.

    Args:
        images: which.
        coder: of the steps.
        steps: times of the chain; None: as many as cost the fewest bits.
        variance: of the steps; None: ``OptimalCovariance()``, ``NoiseResidual()`` or ``Analytic()``, the first that was
            fitted.
        group: images that are coded together: more share what comes once a group, and are decoded at once.
        compute: where and how precisely.

    Raises:
        ValueError: a number outside its domain, or no coder.
    """

    images: ImageSelection = ImageSelection(n=16)
    coder: Coder = PoissonFunctional()
    steps: int | None = None
    variance: Variance | None = None
    group: int = GROUP
    compute: Compute = Compute()

    def __post_init__(self) -> None:
        able("coder", self.coder, "encode", "PoissonFunctional()")
        whole("steps", self.steps, 1, none=True)
        whole("group", self.group, 1, 10_000)
        instance("images", self.images, ImageSelection)


@dataclass(frozen=True, eq=False)
class EncodeResult:
    """Coded images.

    Args:
        data: the file.
        bits: of the steps, of the levels at the end, and of all else (header, lengths, checks), of all images.
        n: images.
        dimensions: of an image.
        seconds: of encoding, and of decoding to look whether it comes back.
        settings: everything that decides the bytes, JSON literals by name.
    """

    data: bytes
    bits: Mapping[str, float]
    n: int
    dimensions: int
    seconds: Mapping[str, float]
    settings: dict[str, Any]

    @property
    def bits_per_dim(self) -> float:
        """All bits over all elements."""
        return 8 * len(self.data) / (self.n * self.dimensions)

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name; not the bytes."""
        each = self.n * self.dimensions
        return {
            **self.settings,
            "bytes": len(self.data),
            "bytes_per_image": len(self.data) / self.n,
            "bits_per_dim": self.bits_per_dim,
            "bits_per_dim_of": {name: bits / each for name, bits in self.bits.items()},
            "seconds": dict(self.seconds),
        }

    def save(self, path: str | Path) -> None:
        """Write the file.

        Raises:
            InputError: the disk refuses; what existed before is intact.
        """
        write_file(path, self.data)

    def __repr__(self) -> str:
        return f"{self.n:,} images in {len(self.data):,} bytes, {self.bits_per_dim:.4f} bits/dim"


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
    header = _header(run, setup, request)
    groups: list[Group] = []
    bits = {"steps": 0.0, "levels": 0.0}
    encoding, decoding = 0.0, 0.0
    with reporter.progress("encoding", len(setup.chosen), "image") as progress:
        for first in range(0, len(setup.chosen), request.group):
            index = setup.chosen[first : first + request.group]
            levels = setup.selection.images.take(index)
            code = code_of(setup.model, setup.clip, setup.times, setup.decoder, request.coder, first, len(index))
            began = time.monotonic()
            group, steps = _encoded(code, run, levels)
            encoding += time.monotonic() - began
            bits["steps"] += steps
            bits["levels"] += 8 * len(group.stream) - steps
            began = time.monotonic()
            _verify(code, run, group, levels)
            decoding += time.monotonic() - began
            groups.append(group)
            progress.update(first + len(index))
    file = Coded(header, tuple(groups))
    bits["rest"] = 8.0 * file.overhead
    settings = {**setup.without("terms", "grid"), "coder": repr(request.coder), "group": request.group}
    seconds = {"encode": encoding, "decode": decoding}
    return EncodeResult(file.data(), bits, len(setup.chosen), run.space.dimensions, seconds, settings)


def prepare_encoding(run: Run, request: EncodeRequest, reporter: Reporter = SILENT) -> LikelihoodSetup:
    """Images, model and times, everything chosen and nothing coded.

    Raises:
        InputError: a run without a model, one whose steps have no code, images of another kind, or no fitted variance.
    """
    if isinstance(request.coder, Ideal):
        raise InputError("Ideal() writes no bytes: PoissonFunctional() would be right")
    best, linear = request.compute.best, run.recipe.process.is_linear
    variance = request.variance or (coding_variance(run, best) if linear else None)
    setup = prepare(run, request.images, ChainBound(terms=None, variance=variance), request.compute, reporter)
    if linear and ANALYTIC in fitted(run, best):
        moments = Analytic(moments=read_moments(run, best))
        steps = run.recipe.process.schedule.steps or len(moments.moments.times)  # pyright: ignore[reportOptionalMemberAccess]
        native = torch.arange(1, steps + 1, dtype=torch.float64) / steps
        noisy = native[native >= setup.model.process.schedule.start]
        spread, space = moments(setup.model.process, noisy), run.space
        times = coding_times(
            setup.model.process, noisy, spread, space.dimensions, space.levels, request.coder, request.steps
        )
        setup = replace(setup, times=times)
    return replace(setup, settings={**setup.settings, "steps": len(setup.times)})


def coding_variance(run: Run, best: bool = False) -> Variance:
    """The fitted variance that a code of the run's steps takes.

    Raises:
        InputError: none was fitted.
    """
    has = fitted(run, best)
    heads = {kind: variance for variance, kind in HEADS.items()}
    if chosen := next((kind for kind in BEST if kind in has), None):
        return bound_variance(run, best, heads[chosen]())
    if ANALYTIC not in has:
        raise InputError(f"{run.name} has no fitted variance, which its steps are coded by: diffprob fit {run.place}")
    return bound_variance(run, best)


def _encoded(code: ChainCode, run: Run, levels: np.ndarray) -> tuple[Group, float]:
    """The coded images, and the bits of the steps among them."""
    x0, writer, steps = run.space.to_model(torch.from_numpy(levels), torch.float64), Writer(), 0.0
    for state in code.encode(x0, writer):
        if float(state.t) > 0:
            steps = writer.bits
    return Group(len(levels), writer.data(), digest_of(levels)), steps


def _verify(code: ChainCode, run: Run, group: Group, levels: np.ndarray) -> None:
    try:
        *_, last = received(code, run, group)
        same = np.array_equal(run.space.to_data(last.x).numpy(), levels)
    except Damaged:
        same = False
    if not same:
        raise NumericalError("the bytes did not say the same images when they were decoded; none are given out")


def _header(run: Run, setup: LikelihoodSetup, request: EncodeRequest) -> dict[str, Any]:
    """What a decoder needs."""
    evaluation = setup.model.evaluation
    code = code_of(setup.model, setup.clip, setup.times, setup.decoder, request.coder, 0, 1)
    return {
        "run": run.name,
        "model": run.sha256(request.compute.best)[:DIGITS],
        "best": request.compute.best,
        "shape": list(run.space.shape),
        "levels": run.space.levels,
        **times_as_numbers(setup.times, run.recipe.process.schedule.steps),
        "variance": repr(setup.model.variance),
        "coder": repr(request.coder),
        "clip": setup.clip,
        "chunk": evaluation.chunk,
        "precision": evaluation.precision,
        "device": torch.device(setup.settings["device"]).type,
        "probe": probe(code, run),
        "made": made_with(),
    }
