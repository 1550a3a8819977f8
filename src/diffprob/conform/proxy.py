"""Density proxies: float64, a row for each image, bits that no neighbour changes, and a fit where one is needed."""

from typing import Any

import torch
from torch import Tensor

from diffprob.base.checks import shown
from diffprob.base.rng import Rng
from diffprob.conform.expectations import check_frozen, expect, made, refuses, said_of
from diffprob.conform.references import IsotropicData
from diffprob.density.proxy import LEAST, Proxy
from diffprob.process.linear import LinearProcess
from diffprob.space.pixels import Pixels

N, LEVELS, SHAPE = 6, 17, (1, 4, 4)
ROUNDING = 1e-6


def check_proxy(
    proxy: Proxy | type[Proxy], model: Any = None, images: Tensor | None = None, space: Pixels | None = None
) -> None:
    """Whether a density proxy gives what detection, fits and the records of a run rely on.

    Statistics are finite float64, a row for each image and a column for each name, the same for the same arguments, and
    depend on no other image; a proxy that has to be fitted refuses to score before, and fewer than 50 images.

    Args:
        proxy: of any kind; a class is made with its defaults.
        model: what it asks; None: the exact denoiser of independent pixels N(0.3, 0.2).
        images: in model space, (n, *shape); None: six of random grey levels.
        space: that the proxy is bound to; None: of ``images``, in 17 grey levels.

    Raises:
        ConformanceError: the first thing that it does not do, in one sentence.
    """
    ours: Any = made(proxy)
    check_frozen(ours)
    x = images
    if x is None:
        x = Rng.of(11, N).integers(space.shape if space else SHAPE, LEVELS).float() * (2 / (LEVELS - 1)) - 1
    space = space or Pixels(tuple(x.shape[1:]), LEVELS)  # pyright: ignore[reportArgumentType]
    model = IsotropicData(0.3, 0.2, LinearProcess()) if model is None else model
    with said_of(ours, "as a proxy"):
        bound = ours.bind(space)
        expect(type(bound) is type(ours), f"{shown(ours)}: bind() makes {type(bound).__name__} of it")
        _check_columns(bound)
        statistics = _check_statistics(bound, model, x)
        _check_score(bound, model, x, statistics)


def _check_columns(proxy: Proxy) -> None:
    who, columns = shown(proxy), proxy.columns
    named = isinstance(columns, tuple) and columns and all(isinstance(name, str) and name for name in columns)
    expect(named, f"{who}: columns must be a tuple of names, got {shown(columns)}")
    expect(len(set(columns)) == len(columns), f"{who}: two columns have one name: {', '.join(columns)}")


def _check_statistics(proxy: Proxy, model: Any, x: Tensor) -> Tensor:
    who, n, kept = shown(proxy), len(x), x.clone()
    rng = Rng.of(5, n)
    statistics = proxy.statistics(model, x, rng)
    shape = (n, len(proxy.columns))
    expect(
        statistics.shape == shape, f"{who}: statistics are {tuple(statistics.shape)}, not (images, columns) = {shape}"
    )
    expect(statistics.dtype == torch.float64, f"{who}: statistics are {statistics.dtype}, not float64")
    expect(not statistics.requires_grad, f"{who}: statistics carry gradients")
    expect(torch.isfinite(statistics).all(), f"{who}: a statistic is not finite")
    expect(torch.equal(x, kept), f"{who} changes the images that it is given")
    expect(torch.equal(proxy.statistics(model, x, rng), statistics), f"{who}: other statistics for the same arguments")
    for k in (0, n - 1):
        one = slice(k, k + 1)
        alone = proxy.statistics(model, x[one], rng.select(one))
        near = ((alone - statistics[one]).abs() <= ROUNDING * (1 + statistics[one].abs())).all()
        expect(near, f"{who}: the statistics of an image depend on its companions")
    shared = proxy.complete(proxy.measured.statistics(model, x, rng), x)
    expect(torch.equal(shared, statistics), f"{who}: complete() of what `measured` measures gives other statistics")
    return statistics


def _check_score(proxy: Proxy, model: Any, x: Tensor, statistics: Tensor) -> None:
    who, fitted = shown(proxy), None
    if proxy.needs_fit:
        refuses(proxy, lambda: proxy.score(statistics), "statistics before it is fitted")
        few = statistics[:1].expand(LEAST - 1, -1)
        refuses(proxy, lambda: proxy.fit(few), f"a fit to {LEAST - 1} images")
        spread = torch.linspace(0.9, 1.1, 4 * LEAST, dtype=torch.float64)[:, None]
        noise = Rng.of(3, 4 * LEAST).normal((statistics.shape[1],), torch.float64)
        fitted = proxy.fit(statistics.mean(0) * spread + 0.1 * noise)
        tensors = isinstance(fitted, dict) and all(isinstance(value, Tensor) for value in fitted.values())
        expect(tensors and fitted, f"{who}: fit() must give tensors by name, got {shown(fitted)}")
    score = proxy.score(statistics, fitted)
    right = score.shape == (len(x),) and score.dtype == torch.float64
    expect(right, f"{who}: the score is {score.dtype} {tuple(score.shape)}, not float64 ({len(x)},)")
    expect(torch.isfinite(score).all(), f"{who}: a score is not finite")
    again = proxy(model, x, Rng.of(5, len(x)), fitted)
    expect(torch.equal(again, score), f"{who}: calling it gives another answer than score(statistics(...))")
