"""The families of docs/families.md on MNIST, and on the embedded digits: each differs from `mnist` or `digits` in the
noise, the prediction and the times of the training alone. Twenty minutes on two cores with ``--for 20m``."""

from dataclasses import replace
from typing import Any

from diffprob.base.mixture_law import MixtureOfGaussians
from diffprob.config.recipe import Recipe
from diffprob.denoise.denoiser import Constant, LogNoise
from diffprob.denoise.prediction import EDM, Epsilon, V
from diffprob.process.geometric import Geometric
from diffprob.process.linear import LinearProcess, StraightScaling, VarianceExploding
from diffprob.process.schedule import LinearBetas, LogLinear, Straight
from diffprob.recipes.digits import digits
from diffprob.recipes.mnist import mnist
from diffprob.training.denoising import Denoising
from diffprob.training.times import LogitNormal, LogNormal


def _ncsn(base: Recipe, name: str, schedule: Geometric) -> Recipe:
    """NCSNv2: one network without a condition for all levels, s(x)/sigma, denoising score matching with sigma^2."""
    process = LinearProcess(schedule, VarianceExploding())
    return replace(base, name=name, process=process, prediction=Epsilon(), clock=Constant())


def _edm(base: Recipe, name: str, sigma_data: float) -> Recipe:
    """EDM: noise from 0.002 to 80 without a change of the signal, preconditioned, noise levels drawn log-normally."""
    process = LinearProcess(LogLinear(0.002, 80.0), VarianceExploding())
    parts: dict[str, Any] = {"prediction": EDM(sigma_data), "clock": LogNoise(), "objective": Denoising(LogNormal())}
    return replace(base, name=name, process=process, **parts)


def _flow(base: Recipe, name: str) -> Recipe:
    """Straight paths from noise to data, the middle of the way trained most."""
    process = LinearProcess(Straight(), StraightScaling())
    return replace(base, name=name, process=process, prediction=V(), objective=Denoising(LogitNormal()))


def _mixture(base: Recipe, name: str) -> Recipe:
    """MG-DDM: DDPM whose noise is a mixture of two normals, one draw for each x_t."""
    process = LinearProcess(LinearBetas(1000), law=MixtureOfGaussians())
    return replace(base, name=name, process=process, prediction=Epsilon())


def mnist_ncsn(path: str | None = None) -> Recipe:
    """NCSNv2 on MNIST: 104 levels that overlap by half, from the largest distance of its images (among 10,000) on."""
    return _ncsn(mnist(path), "mnist_ncsn", Geometric(104, 0.01, 32.0))


def mnist_edm(path: str | None = None) -> Recipe:
    """EDM on MNIST, whose standard deviation in [-1, 1] is 0.62."""
    return _edm(mnist(path), "mnist_edm", 0.62)


def mnist_flow(path: str | None = None) -> Recipe:
    """Straight paths on MNIST."""
    return _flow(mnist(path), "mnist_flow")


def mnist_mixture(path: str | None = None) -> Recipe:
    """Mixture noise on MNIST."""
    return _mixture(mnist(path), "mnist_mixture")


def digits_ncsn() -> Recipe:
    """NCSNv2 on the embedded digits, by the same two rules."""
    return _ncsn(digits(), "digits_ncsn", Geometric(24, 0.01, 9.63))


def digits_edm() -> Recipe:
    """EDM on the embedded digits, whose standard deviation in [-1, 1] is 0.75."""
    return _edm(digits(), "digits_edm", 0.75)


def digits_flow() -> Recipe:
    """Straight paths on the embedded digits."""
    return _flow(digits(), "digits_flow")


def digits_mixture() -> Recipe:
    """Mixture noise on the embedded digits."""
    return _mixture(digits(), "digits_mixture")
