"""Train an autoencoder: how near the images come back, and how its latents are kept in bounds."""

from dataclasses import dataclass

from torch import Tensor

from diffprob.base.checks import one_of, real
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng, normal_like
from diffprob.base.shapes import flat_sum
from diffprob.denoise.autoencoder import Autoencoder
from diffprob.net.autoencoder import gaussian_kl
from diffprob.space.pixels import Pixels


@dataclass(frozen=True)
class Reconstruction:
    """|x - r|^2 / d, or |x - r| / d, and what its kind of autoencoder adds, over the same d.

    With "kl": kl KL(q(z|x) || N(0, 1)). With "vq": |codes - sg(z)|^2 + commitment |z - sg(codes)|^2, where
    sg(.) passes no gradient.

    With ``noise`` sigma the network sees x + sigma eps: a denoising autoencoder, whose best r with the squared error is
    E[x | x + sigma eps] = x~ + sigma^2 grad log p_sigma(x~).

    Args:
        error: "squared" or "absolute".
        kl: weight of the divergence, for "kl".
        commitment: how far latents are drawn to their codes, for "vq".
        noise: standard deviation of what is added to the images that the network sees, in model space.

    Exact when: the network is linear and without noise: the least squared error is the sum of the eigenvalues of the
    covariance that the latents leave out, over d (principal components).

    Reference: Rombach et al. 2022, section 3.1; van den Oord et al. 2017, eq. 3; Bengio et al., "Generalized denoising
    auto-encoders as generative models" (2013), for the noise.
    """

    error: str = "squared"
    kl: float = 1e-6
    commitment: float = 0.25
    noise: float = 0.0

    def __post_init__(self) -> None:
        one_of("error", self.error, ("squared", "absolute"))
        real("kl", self.kl, "[0, inf)")
        real("commitment", self.commitment, "[0, inf)")
        real("noise", self.noise, "[0, inf)")

    def bind(self, model: Autoencoder, space: Pixels) -> "Reconstruction":
        """The loss for such images: itself.

        Raises:
            InputError: the model is no `Autoencoder`.
        """
        if not isinstance(model, Autoencoder):
            raise InputError(f"{self!r} trains an Autoencoder, got a {type(model).__name__}")
        return self

    def __call__(self, model: Autoencoder, x0: Tensor, rng: Rng) -> Tensor:
        """Loss of each image (B, C, H, W), (B,): a function of the image, its seed and the step."""
        seen = x0 + self.noise * normal_like(rng.fold("noise"), x0) if self.noise else x0
        coded = model.raw(seen, rng.fold("latent"))
        difference = coded.images.to(x0.dtype) - x0
        loss = flat_sum(difference.abs() if self.error == "absolute" else difference.square())
        if coded.log_variance is not None:
            loss = loss + self.kl * flat_sum(gaussian_kl(coded.mean.to(x0.dtype), coded.log_variance.to(x0.dtype)))
        if coded.codes is not None:
            z, codes = coded.mean.to(x0.dtype), coded.codes.to(x0.dtype)
            loss = loss + flat_sum((codes - z.detach()).square() + self.commitment * (z - codes.detach()).square())
        return loss / x0[0].numel()
