"""Real numbers: the map and its determinant, and densities in the user's own units, against closed forms."""

import math

import pytest
import torch

from diffprob.base.errors import InputError, NumericalError
from diffprob.base.rng import Rng
from diffprob.denoise.ideal import GaussianData
from diffprob.likelihood.bound import Decoder, variational_bound
from diffprob.likelihood.flow import Exact, flow_log_prob
from diffprob.process.grids import Uniform
from diffprob.process.linear import LinearProcess
from diffprob.space.pixels import Pixels
from diffprob.space.real_numbers import Reals
from diffprob.space.tokens import Tokens
from diffprob.space.units import BITS, CHARACTERS, NATS, unit_of

SHAPES = [(3,), (2, 5), (2, 4, 3), (2, 3, 2, 2)]


@pytest.mark.parametrize("shape", SHAPES)
def test_determinant_is_that_of_the_map(shape: tuple[int, ...]) -> None:
    channels = shape[0]
    space = Reals(shape, tuple(float(3 * c - 1) for c in range(channels)), tuple(0.5 + c for c in range(channels)))
    x = Rng.of(0, 1).normal(shape, torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: space.to_model(x, torch.float64).flatten(), x)
    matrix = jacobian.reshape(space.dimensions, space.dimensions)  # pyright: ignore[reportAttributeAccessIssue]
    assert math.isclose(space.log_det(), float(torch.linalg.slogdet(matrix)[1]), rel_tol=1e-12)
    assert torch.allclose(space.to_data(space.to_model(x, torch.float64)), x, rtol=0, atol=1e-14)


def test_data_times_a_thousand_has_d_log_a_thousand_less() -> None:
    space = Reals((2, 4), (1.0, -2.0), (0.5, 3.0))
    large = Reals((2, 4), (1000.0, -2000.0), (500.0, 3000.0))
    x = Rng.of(1, 5).normal((2, 4), torch.float64)
    assert torch.equal(
        large.to_model(1000 * x, torch.float64).round(decimals=12), space.to_model(x, torch.float64).round(decimals=12)
    )
    assert math.isclose(large.log_det() - space.log_det(), -8 * math.log(1000), rel_tol=1e-14)


def test_density_of_gaussian_data_in_the_users_units_is_the_closed_form() -> None:
    # x ~ N(m, S): standardised by its channels, with the exact denoiser of z, bound and flow have log N(x; m, S).
    m, deviation = torch.tensor([300.0, -7.0]).double(), torch.tensor([20.0, 0.25]).double()
    correlation = torch.tensor([[1.0, 0.6], [0.6, 1.0]]).double()
    space, process = Reals((2,), tuple(m.tolist()), tuple(deviation.tolist())), LinearProcess()
    law = torch.distributions.MultivariateNormal(m, torch.diag(deviation) @ correlation @ torch.diag(deviation))
    torch.manual_seed(0)
    x = law.sample((32,))
    z, model = space.to_model(x, torch.float64), GaussianData(torch.zeros(2).double(), correlation, process)
    flow = flow_log_prob(model, z, Rng.of(0, 32), Exact(), 1e-7, 1e-7).log_prob + space.log_det()
    assert torch.allclose(flow, law.log_prob(x), rtol=0, atol=2e-3)  # from the first time of the schedule on
    bound = variational_bound(model, z, Uniform()(process, 300), Rng.of(0, 32), Decoder(None)).total - space.log_det()
    gap = bound + law.log_prob(x)  # one draw of x_t for every term: exact on average
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / math.sqrt(32) + 1e-3


def test_units() -> None:
    assert unit_of(Reals((2,))) is NATS and unit_of(Pixels((1, 2, 2))) is BITS
    assert unit_of(Tokens((3,), 2, "ab")) is CHARACTERS and unit_of(Tokens((3,), 2)) is BITS
    assert NATS.of(6.0, 3) == 2.0 and math.isclose(BITS.of(6 * math.log(2), 3), 2)


def test_what_is_no_number_of_the_shape_is_refused() -> None:
    space = Reals((2, 3))
    with pytest.raises(ValueError, match=r"expected numbers of shape \(B, 2, 3\), got \(1, 3, 2\)"):
        space.to_model(torch.zeros(1, 3, 2))
    with pytest.raises(NumericalError, match="not finite"):
        space.to_model(torch.full((1, 2, 3), math.inf))
    with pytest.raises(NumericalError, match="NaN"):
        space.to_data(torch.full((1, 2, 3), math.nan))
    with pytest.raises(ValueError, match="scale must have 2 numbers"):
        Reals((2, 3), scale=(1.0,))
    with pytest.raises(InputError, match=r"encode works on grey levels"):
        space.require_pixels("encode")
