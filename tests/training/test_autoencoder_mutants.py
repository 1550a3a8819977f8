"""Planted mistakes in autoencoders and in the chain of denoising ones: each turns the test that guards it red."""

from typing import Any

import pytest
import torch
from net import test_autoencoder as networks
from sampling import test_denoising_chain as chains
from space import test_latents as latents
from training import test_reconstruction as losses

from diffprob.base.distributions import Dirac
from diffprob.base.shapes import flat_sum
from diffprob.denoise.autoencoder import Autoencoder
from diffprob.net.autoencoder import AutoencoderNet, Coded
from diffprob.training import reconstruction
from diffprob.training.reconstruction import Reconstruction

RED = (AssertionError, RuntimeError)  # torch's own where a gradient is asked for that there is none of
right_kl, right_loss, right_forward = reconstruction.gaussian_kl, Reconstruction.__call__, AutoencoderNet.forward


def negative_kl(mean, log_variance):
    return -right_kl(mean, log_variance)


def not_straight_through(self, x, noise):
    coded = right_forward(self, x, noise)
    return coded if coded.codes is None else Coded(self._decode(coded.codes.detach()), coded.mean, None, coded.codes)


def code_alone(self, x, noise):
    """The gradient of the decoder goes to the codebook in the place of the latents."""
    coded = right_forward(self, x, noise)
    return coded if coded.codes is None else Coded(self._decode(coded.codes), coded.mean, None, coded.codes)


def commitment_swapped(self, model, x0, rng):
    """The weight of the commitment stands at the codes."""
    coded = model.raw(x0, rng.fold("latent"))
    if coded.codes is None:
        return right_loss(self, model, x0, rng)
    z, codes = coded.mean, coded.codes
    pulls = self.commitment * (codes - z.detach()).square() + (z - codes.detach()).square()
    return (flat_sum((coded.images - x0).square()) + flat_sum(pulls)) / x0[0].numel()


def scale_inverted(self, z):
    mean, std = self._scale(z)
    return (z - mean) * std


def decoded_without_scale(self, z):
    return self._chunked(self.net.decode, z)


def mean_alone(*arguments: Any):
    corrupt, posterior, *rest = arguments
    return right_chain(corrupt, lambda seen: Dirac(posterior(seen).mean), *rest)


right_chain = chains.denoising_chain
PLANTED = {
    "sign of the divergence": (
        *(reconstruction, "gaussian_kl", negative_kl),
        lambda: losses.test_loss_is_the_sum_of_its_parts("kl"),
    ),
    "no straight-through gradient": (
        *(AutoencoderNet, "forward", not_straight_through),
        networks.test_codes_are_the_nearest_and_pass_the_gradient_straight_through,
    ),
    "gradient to the codes": (
        *(AutoencoderNet, "forward", code_alone),
        networks.test_codes_are_the_nearest_and_pass_the_gradient_straight_through,
    ),
    "commitment swapped": (
        *(Reconstruction, "__call__", commitment_swapped),
        losses.test_codebook_moves_to_the_latents_and_latents_by_the_commitment_alone,
    ),
    "scale inverted": (
        *(Autoencoder, "_scaled", scale_inverted),
        latents.test_it_encodes_and_decodes_as_the_autoencoder_does,
    ),
    "decoder without the scale": (
        *(Autoencoder, "decode", decoded_without_scale),
        latents.test_it_encodes_and_decodes_as_the_autoencoder_does,
    ),
    "chain of the mean alone": (
        *(chains, "denoising_chain", mean_alone),
        chains.test_drawing_keeps_mean_and_variance_of_the_data,
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_mistake_turns_its_test_red(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, wrong, guard = PLANTED[name]
    monkeypatch.setattr(owner, attribute, wrong)
    with torch.random.fork_rng(), pytest.raises(RED):
        guard()
