"""Asymmetry of Jacobians and loop integrals: matrices, potentials and networks with known answers."""

import math

import pytest
import torch
from torch import Tensor
from truth.models import gaussian_data, mixture_data

from diffprob.base.distributions import LocationScale
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.base.shapes import per_sample
from diffprob.denoise.denoiser import Evaluation, NetDenoiser
from diffprob.density.integrability import asymmetry, integrability, loop_integral
from diffprob.net.potential import PotentialSpec
from diffprob.net.unet import UNetSpec
from diffprob.process.linear import LinearProcess


class Linear:
    """A denoiser whose noise prediction is A x_t."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.process = matrix, LinearProcess()

    def __call__(self, xt: Tensor, t: Tensor) -> LocationScale:
        alpha, sigma = (per_sample(c, xt) for c in self.process.coefficients(t))
        noise = (xt.flatten(1) @ self.matrix.T.to(xt)).reshape(xt.shape)
        return LocationScale((xt - sigma * noise) / alpha, torch.zeros((), dtype=xt.dtype))


T = torch.tensor(0.2, dtype=torch.float64)


def test_jacobian_products_match_frobenius_norms() -> None:
    """E|Jv - J^T v|^2 = |J - J^T|_F^2 and E|Jv|^2 = |J|_F^2, within 4 standard errors."""
    matrix = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.randn(4000, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    above, below = asymmetry(Linear(matrix), x, T, Rng.of(0, 4000))
    for values, exact in ((above, (matrix - matrix.T).square().sum()), (below, matrix.square().sum())):
        assert abs(float(values.mean() - exact)) < 4 * float(values.std()) / math.sqrt(4000)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rho_of_symmetric_random_and_antisymmetric_matrices(dtype: torch.dtype) -> None:
    """rho = 0, 1/2 and 1: exactly for the first and last, in expectation for independent entries."""
    d = 40
    random = torch.randn(d, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x0 = torch.randn(50, 1, 5, 8, generator=torch.Generator().manual_seed(1), dtype=dtype)
    cases = {"symmetric": random + random.T, "random": random, "antisymmetric": random - random.T}
    results = {name: integrability(Linear(m), x0, (0.2,), Rng.of(0, 50))[0] for name, m in cases.items()}
    small = 1e-10 if dtype == torch.float32 else 1e-24  # squares of roundings
    assert results["symmetric"].rho < small and results["symmetric"].loop < 10 * small**0.5
    assert abs(results["antisymmetric"].rho - 1) < small**0.5
    exact = float((random - random.T).square().sum() / (4 * random.square().sum()))
    assert abs(results["random"].rho - exact) < 4 * results["random"].rho_error
    # tr(J J)/|J|_F^2 has standard deviation near sqrt(2)/d over matrices: rho = (1 - that)/2.
    assert abs(exact - 0.5) < 4 * math.sqrt(2) / d / 2
    assert results["random"].n == 50 and results["random"].t == 0.2 and 0 < results["random"].rho_error < 0.1


def test_loop_integral_of_a_rotation_is_twice_its_area() -> None:
    """(-y, x): the integral around a triangle is 2 area; its sign is the direction."""
    model = Linear(torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64))
    corners = torch.randn(20, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one, other = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    twice_area = one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]
    length = sum((corners[:, i] - corners[:, i - 1]).norm(dim=1) for i in range(3))
    integral = loop_integral(model, corners, T, nodes=1)  # one node is exact for a linear field
    torch.testing.assert_close(integral, twice_area / length, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(loop_integral(model, corners.flip(1), T), -integral, rtol=1e-10, atol=1e-12)


def test_standard_errors_of_loop_and_rho_cover_the_truth() -> None:
    """Root mean square and standard errors against many more images."""
    matrix = torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x0 = torch.randn(4000, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    many = integrability(Linear(matrix), x0, (0.3,), Rng.of(0, 4000), nodes=1)[0]
    few = [
        integrability(Linear(matrix), part, (0.3,), Rng.of(50 * i, 50), nodes=1)[0]
        for i, part in enumerate(x0.split(50))
    ]
    for value, error in (("rho", "rho_error"), ("loop", "loop_error")):
        z = torch.tensor([(getattr(one, value) - getattr(many, value)) / getattr(one, error) for one in few])
        # 80 values near N(0, 1): their mean square has a standard deviation of 0.16; half an error would give 4.
        assert abs(float(z.square().mean()) - 1) < 4 * 0.16


@pytest.mark.parametrize("data", [gaussian_data(), mixture_data()], ids=["gaussian", "mixture"])
def test_rho_and_loop_of_exact_scores_are_zero(data) -> None:
    """0 up to the square of float64's rounding, times the condition of the Jacobians (1e3 at the least times)."""
    d = len(data.components[0].mean) if hasattr(data, "components") else len(data.mean)
    x0 = 0.5 * torch.randn(30, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for results in integrability(data, x0, (0.05, 0.5, 1.0), Rng.of(0, 30), nodes=24):
        assert results.rho < 1e-20 and results.loop < 1e-6


def network(potential: bool) -> NetDenoiser:
    """A random one for 1x8x8 images, as a gradient or plain."""
    torch.manual_seed(0)
    spec = UNetSpec(1, 1, widths=(8, 16), layers=1, attention=(False, True), groups=4)
    net = (PotentialSpec(spec) if potential else spec).build().eval().requires_grad_(False)
    for parameter in net.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    return NetDenoiser(net, LinearProcess())


@pytest.mark.parametrize("t", [0.001, 0.9])
def test_rho_is_zero_for_a_potential_and_not_for_a_plain_network(t: float) -> None:
    """A potential's rho is 0 up to squares of roundings, 1e-13 in float32; a plain network's is like a matrix's.

    Random activations bend the potential between the corners, so the loop takes more nodes than a trained one.
    """
    x0 = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    (conservative,) = integrability(network(True), x0, (t,), Rng.of(0, 4), nodes=24)
    (plain,) = integrability(network(False), x0, (t,), Rng.of(0, 4), nodes=24)
    assert conservative.rho < 1e-10
    assert plain.rho > 0.1 and plain.loop > 10 * conservative.loop  # which is the quadrature's error


def test_rho_of_a_network_matches_its_dense_jacobian() -> None:
    model = network(False).double()
    x = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alpha, sigma = model.process.coefficients(T)
    jacobian = torch.autograd.functional.jacobian(lambda y: (y - alpha * model(y, T).mean) / sigma, x).reshape(64, 64)
    above, below = asymmetry(model, x.expand(100, -1, -1, -1), T, Rng.of(0, 100))
    for values, exact in ((above, (jacobian - jacobian.T).square().sum()), (below, jacobian.square().sum())):
        assert abs(float(values.mean() - exact)) < 4 * float(values.std()) / 10


def test_results_depend_only_on_images_and_seeds() -> None:
    """Images on their own, or others beside them, change nothing; neither does another time before."""
    model = Linear(torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    x0 = torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rng = Rng.of(0, 4)
    whole = integrability(model, x0, (0.2, 0.5), rng)
    parts = [integrability(model, x0[i : i + 2], (0.2, 0.5), rng.select(slice(i, i + 2))) for i in (0, 2)]
    for i in range(2):
        mean_square = sum(part[i].loop ** 2 for part in parts) / 2
        assert mean_square == pytest.approx(whole[i].loop ** 2, rel=1e-12)
    again = integrability(model, x0, (0.2,), rng)[0]
    assert again == whole[0]
    other = integrability(model, x0, (0.2,), rng, probes=3)[0]
    assert other.rho != again.rho and other.loop == again.loop


def test_invalid_arguments_are_errors() -> None:
    x0 = torch.zeros(1, 1, 8, 8)
    with pytest.raises(InputError, match="at least 2 images, got 1"):
        integrability(network(True), x0, (0.2,), Rng.of(0, 1))
    model = network(True)
    model.evaluation = Evaluation(precision="bf16")
    with pytest.raises(InputError, match="precision='fp32', got 'bf16'"):
        integrability(model, x0.expand(2, -1, -1, -1), (0.2,), Rng.of(0, 2))
