"""Denoisers: a distribution of x_0 for every x_t, the same for the same arguments, and right where data is given."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffprob.base.checks import shown
from diffprob.base.rng import Rng
from diffprob.base.shapes import per_sample
from diffprob.conform.absorbing import check_categorical
from diffprob.conform.expectations import check_mean, expect, refuses, said_of
from diffprob.conform.multinomial import check_multinomial
from diffprob.denoise.denoiser import Denoiser
from diffprob.process.multinomial import MultinomialProcess

TIMES = (0.2, 0.6, 0.95)
ROUNDING = 1e-4  # of values of about 1, between batches of other sizes


def check_denoiser(
    model: Denoiser,
    shape: Sequence[int] = (1, 8, 8),
    data: Tensor | None = None,
    exact: bool = False,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Whether a model is a denoiser: p(x_0 | x_t) for any x_t and t, as samplers, bounds and proxies ask for it.

    Mean and variance have the state's shape and are finite, the same arguments give the same bits, one time for all
    and one for each agree, an image depends on none of its companions, and what is no time is refused.

    Of an absorbing process the law is a categorical one that knows what is not masked; of exact ones on distinct data,
    the cross-entropy is that of the points' own weights (`diffprob.conform.absorbing.check_categorical`). Of a
    multinomial process too it is a categorical one; of exact ones the probabilities are the shares that occur.

    Args:
        model: an instance, on the CPU.
        shape: of an image.
        data: images in model space, (n, *shape), on which the mean has to be no worse than the mean image; None: not
            looked at.
        exact: whether ``model`` is the exact posterior of ``data``, independent draws: then its errors have mean 0 and
            the variance that it says.
        dtype: of the states.

    Raises:
        ConformanceError: the first thing that it does not do, in one sentence.
    """
    event = tuple(shape if data is None else data.shape[1:])
    if hasattr(getattr(model, "process", None), "mask"):
        with torch.no_grad(), said_of(model, "as a denoiser of discrete data"):
            check_categorical(model, event, data, exact, dtype)
        return
    if isinstance(getattr(model, "process", None), MultinomialProcess):
        with torch.no_grad(), said_of(model, "as a denoiser of discrete data"):
            check_multinomial(model, event, data, exact, dtype)
        return
    with torch.no_grad(), said_of(model, "as a denoiser"):
        _check_interface(model, event, dtype)
        _check_agreement(model, event, dtype)
        refuses(model, lambda: _ask(model, event, dtype, 1.5), "t = 1.5 for a time")
        if data is not None:
            for t in TIMES[:2]:
                _check_data(model, data.to(dtype), torch.tensor(t, dtype=torch.float64), exact)


def _states(event: tuple[int, ...], dtype: torch.dtype, n: int = 6) -> Tensor:
    return Rng.of(4, n).normal(event, dtype)


def _ask(model: Denoiser, event: tuple[int, ...], dtype: torch.dtype, t: float) -> Any:
    return model(_states(event, dtype), torch.tensor(t, dtype=torch.float64))


def _check_interface(model: Denoiser, event: tuple[int, ...], dtype: torch.dtype) -> None:
    """A process, and a distribution of the state's shape."""
    who = shown(model)
    process = getattr(model, "process", None)
    expect(hasattr(process, "coefficients"), f"{who} has no process: the noise that it removes")
    x = _states(event, dtype)
    kept = x.clone()
    for t in TIMES:
        time = torch.tensor(t, dtype=torch.float64)
        posterior, again = model(x, time), model(x, time)
        for name in ("mean", "variance"):
            expect(hasattr(posterior, name), f"{who} answers {type(posterior).__name__}, which has no {name}")
        mean, variance = posterior.mean, posterior.variance
        same = mean.shape == x.shape and mean.dtype == dtype
        expect(same, f"{who}: the mean is {mean.dtype} {tuple(mean.shape)} for states {dtype} {tuple(x.shape)}")
        expect(torch.isfinite(mean).all(), f"{who}: a mean at t = {t:g} is not finite")
        wide = torch.broadcast_shapes(variance.shape, x.shape) == x.shape
        expect(wide, f"{who}: a variance {tuple(variance.shape)} does not belong to states {tuple(x.shape)}")
        good = torch.isfinite(variance).all() and (variance >= 0).all()
        expect(good, f"{who}: a variance at t = {t:g} is negative or not finite")
        expect(torch.equal(again.mean, mean), f"{who}: other bits for the same arguments at t = {t:g}")
    expect(torch.equal(x, kept), f"{who} changes the states that it is given")


def _check_agreement(model: Denoiser, event: tuple[int, ...], dtype: torch.dtype) -> None:
    """One time or many, one image or many: the same answer."""
    who, x = shown(model), _states(event, dtype)
    times = torch.linspace(0.1, 1.0, len(x), dtype=torch.float64)
    together = model(x, times).mean

    def agree(other: Tensor, mean: Tensor) -> bool:
        return bool(((other - mean).abs() <= ROUNDING * (1 + mean.abs())).all())

    for k in (0, len(x) - 1):
        one = model(x[k : k + 1], times[k]).mean
        expect(
            agree(one, together[k : k + 1]),
            f"{who}: an image alone, with its own time, has another mean than among six",
        )
    expect(
        agree(model(x.flip(0), times.flip(0)).mean.flip(0), together), f"{who}: the order of images changes their means"
    )
    everywhere = model(x, times[2].expand(len(x))).mean
    expect(agree(model(x, times[2]).mean, everywhere), f"{who}: one time for all and the same time for each disagree")


def _check_data(model: Denoiser, data: Tensor, t: Tensor, exact: bool) -> None:
    """The mean is better than the data's; an exact one has no bias, and the variance that it says."""
    who, n = shown(model), len(data)
    alpha, sigma = (per_sample(c, data) for c in model.process.coefficients(t))
    xt = alpha * data + sigma * Rng.of(7, n).normal(tuple(data.shape[1:]), data.dtype)
    posterior = model(xt, t)
    error = (data - posterior.mean).double()
    ours, theirs = float((error**2).mean()), float((data - data.mean(0)).double().square().mean())
    where = f"{who} at t = {float(t):g}"
    # Where hardly any signal is left, the best mean is that of the data, up to a few draws.
    expect(
        ours < 1.05 * theirs,
        f"{where}: squared error {ours:.4g}; the mean image without looking at x_t has {theirs:.4g}",
    )
    if exact:
        with said_of(model, f"as the posterior of the data at t = {float(t):g}"):
            variance = posterior.variance.double().expand(error.shape)
            for name, values in (("error", error), ("squared error", error**2 - variance)):
                try:
                    check_mean(values.flatten(1).mean(1), 0.0, 5.0)
                except AssertionError as failed:
                    expected = "0" if name == "error" else "the variance"
                    expect(False, f"{where}: the mean {name} is not {expected}: {failed}")
