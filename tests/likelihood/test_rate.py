"""Rate, distortion and time: sums and averages of terms, and Shannon's curve for data that lie on it."""

import math

import pytest
import torch
from truth.models import IsotropicData, tensor

from diffprob.base.errors import NumericalError
from diffprob.base.rng import Rng
from diffprob.likelihood.bound import Decoder, bound_terms, prior_nats
from diffprob.likelihood.rate import rate_distortion
from diffprob.process.grids import Uniform
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import Cosine


def test_rate_and_distortion_are_running_sums_and_averages() -> None:
    t = tensor([1.0, 0.5, 0.1])
    prior, nats = tensor([0.5, 1.5]), tensor([[1.0, 3.0], [2.0, 2.0], [4.0, 6.0]])
    curve = rate_distortion(t, prior, nats, tensor([[8.0, 8.0], [2.0, 6.0], [0.0, 2.0]]), 4)
    assert torch.allclose(curve.rate, tensor([1.0, 3.0, 5.0]) / 4)
    assert curve.rate_error is not None and torch.allclose(
        curve.rate_error, tensor([0.5, 1.5, 1.5]) / 4
    )  # half the difference of two images
    assert torch.allclose(curve.distortion, tensor([2.0, 1.0, 0.25]).sqrt())
    assert curve.total == pytest.approx(10 / 4) and curve.reconstruction == pytest.approx(5 / 4)
    one = rate_distortion(t, prior[:1], nats[:, :1], nats[:, :1], 4)
    assert one.total_error is None and one.rate_error is None  # not 0: it is not known


def test_normal_data_lie_on_shannons_rate_distortion_curve() -> None:
    """R(D) = 1/2 log(c/D) nats per dimension for N(0, c I), within the standard errors of 2,000 images."""
    process, c, d, n = LinearProcess(Cosine()), 0.4, 4, 2000
    x0 = math.sqrt(c) * Rng.of(7, n).fold("data").normal((d,), torch.float64)
    times, model = Uniform()(process, 12), IsotropicData(0.0, c, process)
    terms = list(bound_terms(model, x0, times, Rng.of(0, n), Decoder(None)))
    columns = (torch.stack([getattr(term, name) for term in terms]) for name in ("nats", "error"))
    curve = rate_distortion(times, prior_nats(process, x0, times[0]), *columns, d)
    errors = torch.stack([term.error for term in terms])
    relative = errors.std(1) / errors.mean(1) / n**0.5  # of D; half of it enters R(D)
    shannon = 0.5 * torch.log(c / curve.distortion**2)
    assert curve.rate_error is not None
    assert bool(((curve.rate - shannon).abs() < 4 * (curve.rate_error + relative / 2) + 1e-9).all())
    assert float(curve.rate[-1] - curve.rate[0]) > 1


def test_invalid_curves_are_errors() -> None:
    t, prior, terms = tensor([1.0, 0.5]), torch.ones(3), torch.ones(2, 3)
    for d in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="dimensions"):
            rate_distortion(t, prior, terms, terms, d)
    for wrong in (
        (t, prior, terms[:1], terms),
        (t, prior, terms, terms[:1]),
        (t[:1], prior, terms, terms),
        (t, prior[:2], terms, terms),
        (t, prior[:0], terms[:, :0], terms[:, :0]),
        (t[:0], prior, terms[:0], terms[:0]),
    ):
        with pytest.raises(ValueError, match="K and n at least 1"):
            rate_distortion(*wrong, 4)
    with pytest.raises(NumericalError, match="nats holds NaN"):
        rate_distortion(t, prior, terms * math.nan, terms, 4)
