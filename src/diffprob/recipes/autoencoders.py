"""Small autoencoders, for diffusion in their latents."""

from diffprob.config.recipe import AutoencoderRecipe
from diffprob.data.images import Source
from diffprob.data.sources import Digits, Idx
from diffprob.net.autoencoder import AutoencoderSpec
from diffprob.recipes import data_path
from diffprob.space.pixels import Pixels
from diffprob.training.reconstruction import Reconstruction
from diffprob.training.settings import Training


def digits_autoencoder() -> AutoencoderRecipe:
    """The embedded digits in latents of 4 channels and 4x4 positions."""
    return autoencoder("digits_autoencoder", Digits(), Pixels((1, 8, 8), 17), (16, 32), steps=1500)


def fashion_autoencoder(path: str | None = None) -> AutoencoderRecipe:
    """Fashion-MNIST in latents of 4 channels and 7x7 positions; ``path`` is the folder with its idx files."""
    return autoencoder(
        "fashion_autoencoder", Idx(path or data_path("fashion-mnist")), Pixels((1, 28, 28)), (16, 32, 64), steps=6000
    )


def autoencoder(
    name: str, data: Source, space: Pixels, widths: tuple[int, ...], latent_channels: int = 4, steps: int = 6000
) -> AutoencoderRecipe:
    """An autoencoder with a divergence of small weight, for images of any kind.

    Args:
        name: of the recipe.
        data: its images.
        space: their shape and grey levels.
        widths: of the network; each after the first halves the images.
        latent_channels: of the latents.
        steps: of the training.
    """
    every = max(1, steps // 6)
    return AutoencoderRecipe(
        name=name,
        data=data,
        space=space,
        network=AutoencoderSpec(space.shape[0], latent_channels, widths),
        objective=Reconstruction(kl=1e-4),
        training=Training(
            steps=steps,
            batch=64,
            lr=1e-3,
            warmup=min(100, steps // 10),
            cooldown=steps // 3,
            ema=0.999,
            sample_every=every,
            checkpoint_every=every,
        ),
    )
