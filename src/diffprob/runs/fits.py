"""What is fitted to the weights of a run afterwards, a file each: reverse variances, the least-cost path, proxies."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from diffprob.base.errors import InputError, NumericalError
from diffprob.base.finite import check_tensors
from diffprob.base.single import single
from diffprob.config.recipe import Recipe
from diffprob.denoise.learned import LearnedDiagonal, LearnedRange
from diffprob.denoise.moments import NoiseMoments, VarianceQuantiles
from diffprob.denoise.variance import (
    HEADS,
    Analytic,
    Fitted,
    GaussianNLL,
    Headed,
    NoiseResidual,
    OptimalCovariance,
    Variance,
)
from diffprob.net.captioned import CaptionedUNetSpec
from diffprob.net.head import HeadSpec
from diffprob.net.unet import UNetSpec
from diffprob.process.linear import LinearProcess
from diffprob.process.path import LeastCost
from diffprob.runs.files import library_version
from diffprob.space.space import Space
from diffprob.storage import tensors
from diffprob.storage.files import kind_of
from diffprob.storage.records import load, record

ANALYTIC, NLL, STEPS, PROXIES = "analytic", HEADS[GaussianNLL], "steps", "proxies"
MOST_TIMES = 1 << 15  # rows of a table; int16 counts them
KINDS = (ANALYTIC, *HEADS.values(), STEPS)  # what `diffprob fit` makes
LIKELIEST = (GaussianNLL, OptimalCovariance, NoiseResidual, Analytic)  # variances by what bounds cost, the best first


ProxyTensors = dict[str, dict[str, Tensor]]  # tensors by name, by the key of the proxy


class FittedRun(Protocol):
    """What a fit has to know of its run (`diffprob.runs.folder.Run`)."""

    @property
    def path(self) -> Path:
        """The folder."""
        ...

    @property
    def place(self) -> str:
        """What opens it again."""
        ...

    @property
    def recipe(self) -> Recipe:
        """What was trained."""
        ...

    @property
    def space(self) -> Space:
        """Of its images."""
        ...

    def sha256(self, best: bool = False) -> str:
        """Of the weights."""
        ...

    def add(self, name: str, contents: bytes) -> None:
        """Put a file into the run."""
        ...


def fits_for(recipe: Recipe) -> tuple[str, ...]:
    """The fits that make a model draw and bound better, in order: of levels the groups in which an order draws them,
    and without an order none."""
    process = recipe.process
    if not isinstance(process, LinearProcess):
        return () if process.schedule.steps is None else (STEPS,)
    bounded = process.law.stable and recipe.space.bins is not None
    head = (NLL,) if bounded and has_features(recipe) else ()
    return ANALYTIC, *head, STEPS


def has_features(recipe: Recipe) -> bool:
    """Whether the network is one whose features a variance head reads, and has no learned variance of its own."""
    spec = recipe.network
    if not isinstance(spec, UNetSpec | CaptionedUNetSpec):
        return False
    return spec.out_channels == spec.in_channels and (spec.dims if isinstance(spec, UNetSpec) else 2) == 2


def fit_path(run: FittedRun, kind: str) -> Path:
    """The file of a fit, one of `KINDS`."""
    return run.path / f"fit-{kind}.safetensors"


def fit_bytes(
    run: FittedRun, kind: str, contents: Mapping[str, Tensor], about: Mapping[str, Any], best: bool = False
) -> bytes:
    """The file of a fit: its tensors, what it was fitted to, and ``about`` (settings that JSON can say)."""
    metadata = {
        "format": "pt",
        "diffprob": library_version(),
        "kind": kind,
        "model_sha256": run.sha256(best),
        "about": json.dumps(dict(about), sort_keys=True),
    }
    return b"".join(bytes(piece) for piece in tensors.pieces(contents, metadata))


def read_fit(run: FittedRun, kind: str, best: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and settings of a fit.

    Raises:
        InputError: never fitted, or fitted to other weights than the run's.
        NumericalError: it holds a number that is not finite.
    """
    path = fit_path(run, kind)
    again = f"diffprob fit {run.place} {kind}{' --best' if best else ''}"
    if kind_of(path) is None:
        raise InputError(f"{run.place} has no {kind} fit: {again}")
    metadata = tensors.read_metadata(path)
    if metadata.get("kind") != kind or "about" not in metadata:
        raise InputError(f"{path} is not a {kind} fit of diffprob; make it with {again}")
    if metadata.get("model_sha256") != run.sha256(best):
        raise InputError(f"{path} was fitted to other weights than the run has now; fit it again: {again}")
    about = load(metadata["about"], f"what {path} says of itself")
    if not isinstance(about, dict):
        raise InputError(f"{path} is not a {kind} fit of diffprob; make it with {again}")
    contents = tensors.read(path)
    check_tensors(contents, f"{path} holds numbers that are")
    return contents, about


def fitted(run: FittedRun, best: bool = False) -> list[str]:
    """The fits that the run has for its present weights."""
    kinds = []
    for kind in KINDS:
        path = fit_path(run, kind)
        if kind_of(path) is not None and tensors.read_metadata(path).get("model_sha256") == run.sha256(best):
            kinds.append(kind)
    return kinds


def best_variance(run: FittedRun, best: bool = False) -> Fitted | None:
    """The fitted variance with which bounds and codes cost least (docs/variances.md), without the bound on its last
    step that is meant for samples; None: none was fitted."""
    kinds = fitted(run, best)
    chosen = next((one for one in LIKELIEST if HEADS.get(one, ANALYTIC) in kinds), None)
    return None if chosen is None else chosen(last=math.inf)


def moments_tensors(moments: NoiseMoments) -> dict[str, Tensor]:
    """The table of an analytic fit as named tensors."""
    table = {field.name: getattr(moments, field.name) for field in fields(moments)}
    return {**table, "count": torch.tensor(moments.count)}


def read_moments(run: FittedRun, best: bool = False) -> NoiseMoments:
    """The table of the analytic fit.

    Raises:
        InputError: as in `read_fit`.
    """
    contents, _ = read_fit(run, ANALYTIC, best)
    path, names = fit_path(run, ANALYTIC), {name.name for name in fields(NoiseMoments)}
    count, table = contents.get("count", torch.empty(0)), {name: contents[name] for name in set(contents) - {"count"}}
    kinds = {(value.dtype, value.shape) for value in table.values()}
    length = next(iter(table.values())).numel() if table else 0
    sound = set(contents) == names and 0 < length < MOST_TIMES and kinds == {(torch.float64, torch.Size((length,)))}
    sound = sound and count.shape == () and count.dtype == torch.int64 and int(count) > 0
    if not (sound and all(bool(value.isfinite().all()) for value in table.values()) and _increasing(contents["times"])):
        raise InputError(f"{path} is damaged: it is no table of moments")
    return NoiseMoments(**{**table, "count": int(count)})


def head_tensors(spec: HeadSpec, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A fitted head as named tensors, and its settings."""
    return {f"head.{name}": value for name, value in state.items()}, {"spec": asdict(spec)}


def bind_variance(
    run: FittedRun, variance: Variance | None, best: bool = False
) -> tuple[Variance | None, nn.Module | None]:
    """``variance`` with what was fitted for it, and its head if it has one.

    Raises:
        InputError: as in `read_fit`, or a learned variance for a network that was trained without one.
    """
    if run.recipe.variance is None and variance is not None:
        raise InputError(f"{run.place}: {variance!r} goes with no law of levels, which has a spread of its own")
    spec, channels = run.recipe.network, run.space.model_shape[0]
    if isinstance(variance, LearnedRange | LearnedDiagonal) and spec.out_channels != 2 * channels:
        has = f"this one has {spec.out_channels} for images of {channels}: it was trained with another variance"
        raise InputError(f"{run.place}: {variance!r} needs a network of twice as many outputs as inputs, {has}")
    if isinstance(variance, Analytic) and variance.moments is None:
        return replace(variance, moments=read_moments(run, best)), None
    if isinstance(variance, Headed):
        kind = HEADS[type(variance)]
        contents, about = read_fit(run, kind, best)
        path = fit_path(run, kind)
        with single():
            head = record(HeadSpec, about.get("spec"), path).build()
        wanted, weights = head.state_dict(), {name.removeprefix("head."): value for name, value in contents.items()}
        kinds = [{name: (value.dtype, value.shape) for name, value in named.items()} for named in (wanted, weights)]
        if kinds[0] != kinds[1]:
            raise InputError(f"{path} is damaged: it has not the weights of its own head")
        head.load_state_dict(weights)
        return variance, head.eval().requires_grad_(False)
    return variance, None


def path_tensors(
    times: Tensor, paths: list[Tensor], whole: list[Tensor], spread: VarianceQuantiles | None = None
) -> dict[str, Tensor]:
    """Paths of 1, 2, ... of the increasing ``times``, of the steps alone and of the whole bound, as named tensors; rows
    are filled up with -1. ``spread``: the variances that the whole bound was counted with, if not the analytic one."""
    tables = {"times": times}
    if spread is not None:
        tables |= {"spread_times": spread.times, "spread": spread.values}
    for name, rows in (("paths", paths), ("whole", whole)):
        tables[name] = torch.full((len(rows), len(rows)), -1, dtype=torch.int16)
        for row, path in zip(tables[name], rows, strict=True):
            row[: len(path)] = path
    return tables


def bind_grid(run: FittedRun, grid: Any, best: bool = False) -> Any:
    """``grid`` with the paths that were fitted for it.

    Raises:
        InputError: as in `read_fit`.
    """
    if not isinstance(grid, LeastCost) or grid.paths is not None:
        return grid
    contents, _ = read_fit(run, STEPS, best)
    table = contents.get("whole" if grid.whole else "paths")
    if table is None:
        again = f"diffprob fit {run.place} steps"
        raise InputError(f"the steps fit of {run.place} is an older one, without the paths of the whole bound: {again}")
    times = contents.get("times", torch.empty(0))
    path, n = fit_path(run, STEPS), times.numel()
    if not (times.dtype == torch.float64 and times.ndim == 1 and 0 < n < MOST_TIMES and _increasing(times)):
        raise InputError(f"{path} is damaged: it has no increasing times")
    rows = [row[row >= 0].long() for row in table] if table.ndim == 2 and table.dtype == torch.int16 else []
    if not rows or any(not (0 < len(row) <= n and int(row.max()) < n and _increasing(row)) for row in rows):
        raise InputError(f"{path} is damaged: it has no paths of its times")
    return LeastCost(grid.whole, tuple(times[row] for row in rows))


def step_variance(run: FittedRun, process: LinearProcess, times: Tensor, best: bool = False) -> Tensor:
    """Var[x_0|x_t] at increasing times (K,), for what the steps of a chain cost (`step_costs`): as it is spread over
    elements, (K, Q), where the path was fitted with a head; otherwise the analytic one, (K,).

    Raises:
        InputError: as in `read_fit`.
    """
    if STEPS in fitted(run, best):
        contents, _ = read_fit(run, STEPS, best)
        if "spread" in contents:
            try:
                spread = VarianceQuantiles(contents.get("spread_times", torch.empty(0)), contents["spread"])
            except (ValueError, NumericalError) as error:
                raise InputError(f"{fit_path(run, STEPS)} is damaged: {error}") from error
            return spread.variance(process, times).clamp(max=1)
    return Analytic(moments=read_moments(run, best))(process, times).clamp(0, 1)


def read_proxies(run: FittedRun, best: bool = False) -> tuple[ProxyTensors, dict[str, Any]]:
    """What was fitted for each proxy, by its key, and what to; nothing where the weights have changed since.

    Raises:
        InputError: the file is not what it says it is.
    """
    path = fit_path(run, PROXIES)
    if kind_of(path) is None or tensors.read_metadata(path).get("model_sha256") != run.sha256(best):
        return {}, {}
    contents, about = read_fit(run, PROXIES, best)
    fits: ProxyTensors = {key: {} for key in about}
    for name, value in contents.items():
        key, _, own = name.rpartition("/")
        if key not in fits or value.dtype != torch.float64 or not value.isfinite().all():
            raise InputError(f"{path} is damaged: {name} in it belongs to no fit")
        fits[key][own] = value
    return fits, about


def keep_proxies(
    run: FittedRun, fits: Mapping[str, Mapping[str, Tensor]], about: dict[str, Any], best: bool = False
) -> None:
    """Put fits into the run, in the place of those that are there.

    Raises:
        InputError: the folder cannot be written, or a training is using it.
    """
    named = {f"{key}/{name}": value for key, fit in fits.items() for name, value in fit.items()}
    run.add(fit_path(run, PROXIES).name, fit_bytes(run, PROXIES, named, about, best))


def _increasing(values: Tensor) -> bool:
    return bool(values.isfinite().all() and (values[1:] > values[:-1]).all())
