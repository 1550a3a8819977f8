"""Diffusion in the latents of an autoencoder."""

from diffprob.conditions.condition import Labels
from diffprob.config.pretrained import PretrainedRun
from diffprob.config.recipe import AutoencoderRecipe, Recipe
from diffprob.denoise.prediction import V
from diffprob.net.unet import UNetSpec
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import Cosine
from diffprob.recipes.autoencoders import digits_autoencoder, fashion_autoencoder
from diffprob.space.latents import Latents
from diffprob.training.settings import Training


def digits_latent() -> Recipe:
    """The embedded digits, by class, in the latents of ``runs/digits_autoencoder``."""
    return latent("digits_latent", digits_autoencoder(), (32, 64), steps=2000)


def fashion_latent(path: str | None = None) -> Recipe:
    """Fashion-MNIST, by class, in the latents of ``runs/fashion_autoencoder``; ``path``: its idx files."""
    return latent("fashion_latent", fashion_autoencoder(path), (96,), steps=8000)


def latent(name: str, of: AutoencoderRecipe, widths: tuple[int, ...], steps: int, classes: int = 10) -> Recipe:
    """A diffusion model of labelled images in the latents of the run ``runs/NAME`` of an autoencoder of this recipe.

    Args:
        name: of the recipe.
        of: the recipe of the autoencoder; its data and images are the model's.
        widths: of the U-Net, which sees the latents.
        steps: of the training.
        classes: of the images.
    """
    shape = of.network.latent_shape(of.space.shape)
    condition = Labels(classes)
    return Recipe(
        name=name,
        data=of.data,
        space=Latents(of.space.shape, of.space.levels, autoencoder=PretrainedRun(f"runs/{of.name}"), latent=shape),
        network=UNetSpec(
            in_channels=shape[0],
            out_channels=shape[0],
            widths=widths,
            layers=1,
            attention=(False,) * (len(widths) - 1) + (True,),
            groups=8,
            padding=1,
            classes=condition.rows,
        ),
        process=LinearProcess(Cosine(1000)),
        prediction=V(),
        condition=condition,
        training=Training(
            steps=steps,
            batch=64,
            lr=1e-3,
            warmup=min(200, steps // 10),
            cooldown=steps // 5,
            ema=0.999,
            sample_every=max(1, steps // 4),
            checkpoint_every=max(1, steps // 4),
        ),
    )
