"""A network as an autoencoder: images to latents of mean 0 and standard deviation 1, and back."""

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from diffprob.base.rng import Rng, one_for_each
from diffprob.denoise.denoiser import Evaluation


class Autoencoder(nn.Module):
    """The one place that knows an autoencoder's dtype, memory format, chunk size, and the scale of its latents.

    It stands where a `NetDenoiser` stands for the trainer. Gradients flow through it: no grad mode is set here. The
    latents that `encode` gives are standardised, (z - mean)/std for each channel, by numbers that `standardise`
    measures and the weights' file keeps: the noise of a diffusion process, and the bounds of its ends, are those of
    data of standard deviation 1.

    Args:
        net: module with ``encode(x)``, ``decode(z)``, ``latent_shape(shape)`` and ``net(x, noise) -> Coded``.
        channels: of the latents.
        evaluation: chunk size and precision.

    Reference: Rombach et al., "High-resolution image synthesis with latent diffusion models" (2022), appendix G.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, net: nn.Module, channels: int, evaluation: Evaluation = Evaluation()) -> None:
        super().__init__()
        self.net, self.evaluation = net, evaluation
        self.register_buffer("latent_mean", torch.zeros(channels))
        self.register_buffer("latent_std", torch.ones(channels))

    def raw(self, x: Tensor, rng: Rng) -> Any:
        """The network's own answer, a `Coded`, for the whole batch at once: what training works with.

        Args:
            x: images (B, C, H, W) in model space.
            rng: one stream an image, which draws the latents of those that are drawn.
        """
        one_for_each(rng, x)
        noise = rng.normal(cast(Any, self.net).latent_shape(tuple(x.shape[1:])), dtype=x.dtype).to(x.device)
        return self.evaluation.call(self.net, self.net, x, noise)

    def encode(self, x: Tensor) -> Tensor:
        """Standardised latents (B, c, h, w) of images (B, C, H, W), in the dtype of ``x``."""
        return self._scaled(self._chunked(cast(Any, self.net).encode, x))

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) of standardised latents (B, c, h, w), in the dtype of ``z``."""
        mean, std = self._scale(z)
        return self._chunked(cast(Any, self.net).decode, z * std + mean)

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction of images (B, C, H, W)."""
        return self.decode(self.encode(x))

    @torch.no_grad()
    def standardise(self, batches: Iterable[Tensor]) -> None:
        """Measure mean and standard deviation of every latent channel, over images and positions.

        Args:
            batches: of images (B, C, H, W), in model space.

        Exact when: always, of these images.
        """
        latents = [self._chunked(cast(Any, self.net).encode, x).double() for x in batches]
        channels = torch.cat(latents).transpose(0, 1).flatten(1)
        std = channels.std(1, unbiased=False)
        self.latent_mean.copy_(channels.mean(1))
        self.latent_std.copy_(torch.where(std > 0, std, 1.0))  # a channel that says nothing stays as it is

    def _scaled(self, z: Tensor) -> Tensor:
        mean, std = self._scale(z)
        return (z - mean) / std

    def _scale(self, z: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (value.to(z.dtype)[:, None, None] for value in (self.latent_mean, self.latent_std))
        return mean, std

    def _chunked(self, part: Any, x: Tensor) -> Tensor:
        def whole(values: Tensor) -> tuple[Tensor]:
            return (self.evaluation.call(self.net, part, values).to(x.dtype),)

        return self.evaluation.chunked(whole, x)[0] if len(x) else whole(x)[0]
