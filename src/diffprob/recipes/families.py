"""The families of docs/families.md on MNIST, and on the embedded digits: each differs from `mnist` or `digits` in the
noise, the prediction and the times of the training alone. Twenty minutes on two cores with ``--for 20m``."""

from dataclasses import replace
from typing import Any, cast

from diffprob.base.mixture_law import MixtureOfGaussians
from diffprob.config.recipe import Recipe
from diffprob.denoise.denoiser import Clock, Constant, Index, LogNoise, Scale
from diffprob.denoise.level_law import LevelLaw, Softmax
from diffprob.denoise.prediction import EDM, Epsilon, V
from diffprob.net.levels import CategoricalUNetSpec, StagedUNetSpec
from diffprob.net.unet import UNetSpec
from diffprob.process.absorbing import AbsorbingProcess
from diffprob.process.geometric import Geometric
from diffprob.process.linear import LinearProcess, StraightScaling, VarianceExploding
from diffprob.process.schedule import LinearBetas, LogLinear, Straight
from diffprob.process.survival import LinearSurvival, Staircase, Survival
from diffprob.process.upscale import UpscaleProcess
from diffprob.recipes.digits import digits
from diffprob.recipes.mnist import mnist
from diffprob.space.tokens import Tokens
from diffprob.training.denoising import Denoising
from diffprob.training.masked import MaskedCrossEntropy, OrderAgnostic
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


def _discrete(base: Recipe, name: str, survival: Survival, objective: Any, clock: Clock, law: LevelLaw) -> Recipe:
    """Levels that are masked and drawn: the network of the base, seen and answered as levels."""
    space, body = Tokens(base.space.shape, base.space.levels), base.network
    levels, each = space.levels, law.outputs(space.levels)
    network = CategoricalUNetSpec(cast(UNetSpec, body), levels, None if each == levels else each)
    parts: dict[str, Any] = {"prediction": law, "variance": None, "clock": clock, "objective": objective}
    return replace(base, name=name, space=space, network=network, process=AbsorbingProcess(levels, survival), **parts)


def _ardm(base: Recipe, name: str, law: LevelLaw) -> Recipe:
    """ARDM: one pixel after the other in any order, trained on all orders at once."""
    steps = base.space.dimensions
    return _discrete(base, name, Staircase(steps), OrderAgnostic(), Index(steps), law)


def _ardm_upscale(base: Recipe, name: str, law: LevelLaw, branching: int) -> Recipe:
    """ARDM from coarse to fine: the first digit to the base of ``branching`` of every pixel, then the next."""
    plain = _ardm(base, name, law)
    process = UpscaleProcess(base.space.levels, Staircase(base.space.dimensions), branching=branching)
    network: Any = plain.network
    network = StagedUNetSpec(network.body, network.levels, network.outputs, branching)
    clock = Index(process.stages * base.space.dimensions)
    return replace(plain, network=network, process=process, clock=clock)


def _masked(base: Recipe, name: str, law: LevelLaw) -> Recipe:
    """Masked diffusion: pixels are masked each by itself, at uniform times."""
    return _discrete(base, name, LinearSurvival(), MaskedCrossEntropy(), Scale(), law)


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


def mnist_ardm(path: str | None = None) -> Recipe:
    """ARDM on MNIST, any law of the 256 levels of a pixel."""
    return _ardm(mnist(path), "mnist_ardm", Softmax())


def mnist_ardm_upscale(path: str | None = None) -> Recipe:
    """ARDM on MNIST, 16 intervals of each pixel first and then one of 16 levels in each."""
    return _ardm_upscale(mnist(path), "mnist_ardm_upscale", Softmax(), 16)


def mnist_masked(path: str | None = None) -> Recipe:
    """Masked diffusion on MNIST."""
    return _masked(mnist(path), "mnist_masked", Softmax())


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


def digits_ardm() -> Recipe:
    """ARDM on the embedded digits, any law of the 17 levels of a pixel."""
    return _ardm(digits(), "digits_ardm", Softmax())


def digits_ardm_upscale() -> Recipe:
    """ARDM on the embedded digits from coarse to fine, in two stages: 17 levels to the base of 5."""
    return _ardm_upscale(digits(), "digits_ardm_upscale", Softmax(), 5)


def digits_masked() -> Recipe:
    """Masked diffusion on the embedded digits."""
    return _masked(digits(), "digits_masked", Softmax())
