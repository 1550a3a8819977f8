"""The latents of an autoencoder as a space: against the autoencoder itself, and what it has not."""

from dataclasses import dataclass, replace

import pytest
import torch

from diffprob.base.errors import InputError, NumericalError
from diffprob.base.rng import Rng
from diffprob.denoise.autoencoder import Autoencoder
from diffprob.denoise.denoiser import Evaluation
from diffprob.net.autoencoder import AutoencoderSpec
from diffprob.space.dequantise import dequantised
from diffprob.space.latents import Latents
from diffprob.space.pixels import Pixels
from diffprob.space.space import Space

SPEC, PIXELS = AutoencoderSpec(1, 3, (8, 16), groups=4), Pixels((1, 8, 8), 17)


@dataclass(frozen=True)
class Source:
    """An autoencoder that no folder holds."""

    run: str = "here"

    def load_autoencoder(self) -> Autoencoder:
        """One with random weights, the same whenever it is asked for."""
        with torch.random.fork_rng():
            torch.manual_seed(4)
            model = Autoencoder(SPEC.build(), 3, Evaluation(4))
        model.standardise([PIXELS.to_model(levels(40))])
        return model.eval().requires_grad_(False)


def levels(n: int) -> torch.Tensor:
    return Rng.of(3, n).integers(PIXELS.shape, 17).to(torch.uint8)


SPACE = Latents(PIXELS.shape, 17, autoencoder=Source(), latent=(3, 4, 4))


def test_it_encodes_and_decodes_as_the_autoencoder_does():
    images, net = levels(10), Source().load_autoencoder()
    z = SPACE.to_model(images)
    scale = net.latent_mean[:, None, None], net.latent_std[:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(z, (net.net.encode(PIXELS.to_model(images)) - scale[0]) / scale[1])
        wanted = PIXELS.to_data(net.net.decode(z * scale[1] + scale[0]))
    assert ((SPACE.to_data(z).int() - wanted.int()).abs() <= 1).all()
    assert z.shape == (10, 3, 4, 4) == (10, *SPACE.model_shape)
    assert torch.equal(SPACE.to_model(images[3:5]), z[3:5])  # nothing depends on the companions
    many = SPACE.to_model(levels(40))
    torch.testing.assert_close(many.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(many.transpose(0, 1).flatten(1).std(1), torch.ones(3), rtol=0, atol=1e-2)
    assert SPACE.shape == PIXELS.shape
    assert SPACE.to_model(images, torch.float64).dtype == torch.float64


def test_it_is_a_space_of_its_own():
    space: Space = SPACE
    assert not isinstance(space, Pixels)
    assert (space.dimensions, space.pixels) == (64, PIXELS)
    x = torch.linspace(-3, 3, 48).reshape(1, 3, 4, 4)
    assert torch.equal(space.nearest(x), space.to_data(x))
    assert repr(space) == "Latents(shape=(1, 8, 8), levels=17, autoencoder=Source(run='here'), latent=(3, 4, 4))"
    for wrong in ({"shape": (1, 8)}, {"levels": 1}, {"latent": 3}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            replace(space, **wrong)


def test_it_has_no_density_of_the_images():
    z = SPACE.to_model(levels(2))
    for refused in (
        SPACE.log_det,
        lambda: SPACE.bin_width,
        lambda: SPACE.exact(z),
        lambda: SPACE.bits_per_dim(torch.zeros(2)),
        lambda: dequantised(SPACE, levels(2), Rng.of(0, 2)),
    ):
        with pytest.raises(InputError, match=r"no density of the images.*Pixels"):
            refused()
    with pytest.raises(InputError, match="clipping works on pixels"):
        SPACE.require_pixels("clipping")
    assert not SPACE.bounded
    assert PIXELS.bounded
    nats = torch.tensor([3.0], dtype=torch.float64)
    bits = (nats - PIXELS.log_det()) / (64 * torch.log(torch.tensor(2.0, dtype=torch.float64)))
    torch.testing.assert_close(PIXELS.bits_per_dim(nats), bits)


def test_other_latents_than_the_autoencoder_makes_are_an_error():
    space = Latents(PIXELS.shape, 17, autoencoder=Source(), latent=(3, 8, 8))
    with pytest.raises(
        InputError, match=r"makes latents \(3, 4, 4\) of images \(1, 8, 8\); space.latent is \(3, 8, 8\)"
    ):
        space.to_model(levels(1))
    with pytest.raises(NumericalError, match="NaN"):
        SPACE.to_data(torch.full((1, 3, 4, 4), torch.nan))
    with pytest.raises(ValueError, match="load_autoencoder"):
        Latents((1, 8, 8), autoencoder=3, latent=(1, 2, 2))
