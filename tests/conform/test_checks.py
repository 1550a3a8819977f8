"""The public checks pass what is right and find what was planted, each in one sentence."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from conform.components import PROCESSES, instances, name
from truth.models import IsotropicData, exact_models, net_denoiser

import diffprob as dp
from diffprob.base.errors import ConformanceError, DiffprobError
from diffprob.config import registry as tables
from diffprob.conform import check_denoiser, check_process, check_proxy, check_sampler, check_times
from diffprob.denoise.denoiser import Evaluation, NetDenoiser
from diffprob.density.baselines import DensityModel
from diffprob.net.potential import PotentialSpec
from diffprob.net.unet import UNetSpec
from diffprob.sampling.simulate import State

SDE = dp.LinearProcess(dp.VPSDE())
DATA = 0.3 + 0.2**0.5 * dp.Rng.of(0, 400).normal((1, 4, 4))
PROXIES = instances({key: maker for key, maker in tables.PROXIES.items() if key not in ("PathStatistics", "Scoped")})


class Square(torch.nn.Module):
    """log p of a standard normal law, for proxies that ask a density."""

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        return -0.5 * (x.double() ** 2).flatten(1).sum(1)

    energy = log_prob


def model_for(proxy: Any) -> Any:
    if isinstance(proxy, dp.V0):
        torch.manual_seed(0)
        body = UNetSpec(in_channels=1, out_channels=1, widths=(8,), layers=1, attention=(False,), groups=4)
        return NetDenoiser(PotentialSpec(body).build(), SDE, evaluation=Evaluation(chunk=1))
    return DensityModel(Square()) if isinstance(proxy, dp.LogDensity | dp.NegativeEnergy) else None


def test_library_samplers_processes_and_denoisers_pass_the_checks() -> None:
    for sampler in (dp.Ancestral, dp.DDIM(spread=True), dp.UniPC(), dp.DPMAdaptive()):
        check_sampler(sampler)
    for process in (*PROCESSES, dp.Cosine, dp.LinearProcess):
        check_process(process)
    for times in tables.TIMES.values():
        check_times(times)
    for model in exact_models().values():
        check_denoiser(model, (2,), dtype=torch.float64)
    check_denoiser(net_denoiser(chunk=4))
    check_denoiser(IsotropicData(0.3, 0.2, SDE), data=DATA, exact=True)


@pytest.mark.parametrize("proxy", PROXIES, ids=name)
def test_every_proxy_passes_the_checks(proxy) -> None:
    check_proxy(proxy, model_for(proxy))


def test_path_proxies_pass_the_checks() -> None:
    check_proxy(dp.PathStatistics(steps=3))
    check_proxy(dp.Scoped())


@dataclass(frozen=True)
class Midpoint(dp.DDIM):
    """A sampler to spoil."""


class Thawed(Midpoint):
    __setattr__ = object.__setattr__


class Boastful(Midpoint):
    order = 2


class Chatty(Midpoint):
    evaluations = 2


class Upward(Midpoint):
    def step(self, model, state, s, rng):
        return State(state.x * 0.9, s, state.index + 1, model(state.x, state.t))


class Stuck(Midpoint):
    def step(self, model, state, s, rng):
        return replace(super().step(model, state, s, rng), t=state.t)


class Spoiling(Midpoint):
    def step(self, model, state, s, rng):
        new = super().step(model, state, s, rng)
        state.x.mul_(0.5)
        return new


@dataclass(frozen=True)
class Forgetful(dp.DDIM):
    """The same noise at every step."""

    eta: float = 1.0

    def step(self, model, state, s, rng):
        return replace(super().step(model, replace(state, index=0), s, rng), index=state.index + 1)


class Together(Midpoint):
    def step(self, model, state, s, rng):
        new = super().step(model, state, s, rng)
        return replace(new, x=new.x + 1e-3 * (new.x.mean() - new.x))


class Narrow(Midpoint):
    order = None

    def step(self, model, state, s, rng):
        new = super().step(model, state, s, rng)
        return replace(new, x=0.99 * new.x)


class Raising(Midpoint):
    def step(self, model, state, s, rng):
        raise KeyError("memory")


@dataclass(frozen=True)
class Crooked(dp.VPSDE):
    """A schedule whose inverse is off by a thousandth."""

    def time(self, logsnr):
        return super().time(logsnr) + 1e-3


@dataclass(frozen=True)
class Halved(dp.VariancePreserving):
    """Another ratio than the log-SNR says."""

    def coefficients(self, logsnr):
        return super().coefficients(logsnr / 2)


@dataclass(frozen=True)
class Leaking(dp.LinearProcess):
    """A bridge of too little noise."""

    def bridge_coefficients(self, s, t, eta=1.0):
        c = super().bridge_coefficients(s, t, eta)
        return replace(c, ell=0.9 * c.ell)


class Mirrored(IsotropicData):
    def __call__(self, xt, t):
        return super().__call__(-xt, t)


class Certain(IsotropicData):
    def __call__(self, xt, t):
        law = super().__call__(xt, t)
        return replace(law, std=0.7 * law.std)


class Crowded(IsotropicData):
    def __call__(self, xt, t):
        return super().__call__(xt - 0.1 * xt.mean(0), t)


class Restless(IsotropicData):
    def __call__(self, xt, t):
        return super().__call__(xt + 1e-3 * torch.randn_like(xt), t)


class Plain(IsotropicData):
    def __call__(self, xt, t):
        return super().__call__(xt, t).mean.double().numpy()


class Timeless(IsotropicData):
    def __call__(self, xt, t):
        return super().__call__(xt, torch.as_tensor(t).clamp(0, 1))


@dataclass(frozen=True)
class Norm(dp.NoiseNorm):
    """A proxy to spoil."""


class Single(Norm):
    def statistics(self, model, x, rng):
        return super().statistics(model, x, rng).float()


class Flat(Norm):
    def statistics(self, model, x, rng):
        return super().statistics(model, x, rng)[:, 0]


class Ranked(Norm):
    def statistics(self, model, x, rng):
        result = super().statistics(model, x, rng)
        return result - result.mean(0)


@dataclass(frozen=True)
class Eager(dp.Typical):
    """Scores before it is fitted."""

    def score(self, statistics, fitted=None):
        return statistics[:, 0]


class Doubled(Norm):
    columns = ("a", "a")


@dataclass(frozen=True)
class Hasty(dp.times.LogNormal):
    """Times of another law than the distribution function says."""

    def __call__(self, process, rng):
        return process.schedule.snap(super().__call__(process, rng) * 0.95)


PLANTED = {
    "times": (lambda: check_times(Hasty), "away from its distribution function"),
    "thawed": (lambda: check_sampler(Thawed), "Thawed(eta=0.0, spread=False) can be changed"),
    "order": (lambda: check_sampler(Boastful), "on Gaussian data: the order is 0.99, not the declared 2"),
    "evaluations": (lambda: check_sampler(Chatty), "asks the model 4 times, and says 7"),
    "up": (lambda: check_sampler(Upward), "takes a step up in time; a ValueError would be right"),
    "clock": (lambda: check_sampler(Stuck), "the state after a step stands at t = 0."),
    "state": (lambda: check_sampler(Spoiling), "other bits for the same arguments"),
    "noise": (lambda: check_sampler(Forgetful), "the noise depends on the seed alone, not on both"),
    "companions": (lambda: check_sampler(Together), "an image has other bits alone than in a batch of nine"),
    "moments": (lambda: check_sampler(Narrow), "standard errors off"),
    "raises": (lambda: check_sampler(Raising), "purity: raised KeyError: 'memory'"),
    "no defaults": (lambda: check_sampler(dp.PretrainedRun), "PretrainedRun cannot be made with its defaults"),
    "inverse": (lambda: check_process(Crooked), "time(logsnr(t)) is not t, but up to 0.001 off"),
    "ratio": (lambda: check_process(dp.LinearProcess(scaling=Halved())), "log(alpha^2/sigma^2) is not the log-SNR"),
    "bridge": (lambda: check_process(Leaking), "the bridge does not keep the variance"),
    "sign": (lambda: check_denoiser(Mirrored(0.3, 0.2, SDE), data=DATA), "squared error"),
    "variance": (lambda: check_denoiser(Certain(0.3, 0.2, SDE), data=DATA, exact=True), "is not the variance"),
    "crowd": (lambda: check_denoiser(Crowded(0.3, 0.2, SDE)), "an image alone, with its own time, has another mean"),
    "rest": (lambda: check_denoiser(Restless(0.3, 0.2, SDE)), "other bits for the same arguments"),
    "array": (lambda: check_denoiser(Plain(0.3, 0.2, SDE)), "which has no variance"),
    "no time": (lambda: check_denoiser(Timeless(0.3, 0.2, SDE)), "takes t = 1.5 for a time"),
    "no process": (lambda: check_denoiser(np.tanh), "has no process"),
    "float32": (lambda: check_proxy(Single), "statistics are torch.float32, not float64"),
    "flat": (lambda: check_proxy(Flat), "statistics are (6,), not (images, columns) = (6, 1)"),
    "ranks": (lambda: check_proxy(Ranked), "the statistics of an image depend on its companions"),
    "unfitted": (lambda: check_proxy(Eager()), "takes statistics before it is fitted"),
    "columns": (lambda: check_proxy(Doubled), "two columns have one name"),
}


@pytest.mark.parametrize("case", PLANTED)
def test_planted_errors_are_detected(case: str) -> None:
    check, sentence = PLANTED[case]
    with pytest.raises(ConformanceError) as caught:
        check()
    message = str(caught.value)
    assert sentence in message and "\n" not in message and len(message) <= 300
    assert isinstance(caught.value, AssertionError) and isinstance(caught.value, DiffprobError)
