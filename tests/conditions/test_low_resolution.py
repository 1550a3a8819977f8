"""Images of a low resolution as a condition: block means, refusals, and a network that takes them."""

import pytest
import torch

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.conditions.condition import with_dropout
from diffprob.conditions.low_resolution import LowResolution
from diffprob.denoise.denoiser import Evaluation, NetDenoiser
from diffprob.guidance.classifier_free import ClassifierFree
from diffprob.net.concatenated import ConcatenatedUNetSpec
from diffprob.net.unet import UNetSpec
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import VPSDE

HALF = LowResolution((1, 4, 4))
X = Rng.of(0, 5).normal((1, 4, 4), torch.float64)


def test_low_resolution_images_are_block_means() -> None:
    """A product with matrices: P x P', where P averages pairs and repeats the mean."""
    p = torch.kron(torch.eye(2), torch.full((2, 2), 0.5)).double()
    torch.testing.assert_close(HALF.from_images(X), p @ X @ p.T, rtol=1e-14, atol=1e-14)
    assert torch.equal(HALF.from_images(HALF.from_images(X)), HALF.from_images(X))
    whole = LowResolution((1, 4, 4), 4).from_images(X)
    torch.testing.assert_close(whole, X.mean((2, 3), keepdim=True).expand_as(X), rtol=1e-14, atol=1e-14)
    with pytest.raises(ValueError, match="expected images of shape"):
        HALF.from_images(X[:, :, :2])


def test_invalid_conditions_are_errors() -> None:
    for rows in (
        HALF.from_images(X),
        HALF.from_images(X.float()),
        HALF.example_rows(3),
        LowResolution((1, 4, 4), drop=0.1).null(),
    ):
        HALF.check(rows)
    for wrong in (X[:, :, :2], X.long(), X[0]):
        with pytest.raises(InputError, match="expected degraded images"):
            HALF.check(wrong)
    for wrong in (X, HALF.from_images(X) * torch.inf):
        with pytest.raises(InputError, match="one finite value in each block of 2x2"):
            HALF.check(wrong)
    examples = HALF.example_rows(3)
    assert examples[:, 0, 0, 0].tolist() == [-1, 0, 1] and torch.equal(HALF.from_images(examples), examples)


def test_null_condition_without_drop_is_an_error() -> None:
    with pytest.raises(InputError, match="trained with drop above 0"):
        HALF.null()
    assert LowResolution((3, 4, 8), drop=0.1).null().shape == (1, 3, 4, 8)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shape": (4, 4)}, "shape must be"),
        ({"factor": 1}, "factor must be at least 2, got 1"),
        ({"factor": 3}, "factor must"),
        ({"drop": 1.0}, "drop must lie"),
    ],
)
def test_invalid_fields_are_errors(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LowResolution(**{"shape": (1, 4, 4), **fields})


def test_training_computes_conditions_from_the_images() -> None:
    """All of them kept, or a share dropped: 4 standard errors of 0.25 among 2000 are 0.039."""
    assert HALF.from_dataset(object()) is None
    assert torch.equal(with_dropout(HALF, None, X, Rng.of(0, 5)), HALF.from_images(X))
    x = Rng.of(0, 2000).normal((1, 4, 4))
    kept = with_dropout(LowResolution((1, 4, 4), drop=0.25), None, x, Rng.of(0, 2000))
    gone = (kept == 0).all(3).all(2)[:, 0]
    assert torch.equal(kept[~gone], HALF.from_images(x)[~gone])
    assert abs(gone.double().mean() - 0.25) < 4 * (0.1875 / 2000) ** 0.5


def test_network_takes_low_resolution_conditions_and_guidance() -> None:
    condition, t, w = LowResolution((1, 4, 4), drop=0.1), torch.tensor(0.4).double(), 1.5
    torch.manual_seed(0)
    net = ConcatenatedUNetSpec(UNetSpec(1, 1, (8, 8), 1, (False, True), groups=4)).build().double()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model = NetDenoiser(net.eval(), LinearProcess(VPSDE()), evaluation=Evaluation(2), condition=condition)
    model.requires_grad_(False)
    rows = condition.from_images(X)
    own, none = model.condition_on(rows)(X, t).mean, model(X, t).mean
    assert (own - none).abs().amax((1, 2, 3)).min() > 1e-3
    torch.testing.assert_close(model.condition_on(rows[1:2])(X, t).mean[1], own[1], rtol=1e-11, atol=1e-11)
    guided = ClassifierFree(model, rows, w)(X, t).mean
    torch.testing.assert_close(guided, (1 + w) * own - w * none, rtol=1e-10, atol=1e-10)
