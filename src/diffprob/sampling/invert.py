"""From an image back to the noise it would be drawn from: DDIM upwards."""

import torch
from torch import Tensor

from diffprob.base.rng import Rng, one_for_each
from diffprob.base.shapes import check_points
from diffprob.denoise.denoiser import Denoiser
from diffprob.process.chain import noisy_times
from diffprob.sampling.between import add_noise


@torch.no_grad()
def invert(model: Denoiser, x0: Tensor, times: Tensor, rng: Rng | None = None) -> Tensor:
    """The latent at times[0] from which `DDIM` on the same times draws x_0 again up to O(h), (B, *event).

    x_t = alpha_t D + sigma_t (x_s - alpha_s D)/sigma_s with D = E[x_0|x_s] at the lower time: as many evaluations as
    the chain down has. At s = 0, where that is 0/0, D is x_0 and the noise is the one predicted at alpha_t x_0; with
    ``rng`` it is drawn, x_t ~ q(x_t|x_0), so that the latents are spread like noise also where the data is flat, at the
    cost of a worse reconstruction.

    Args:
        x0: images (B, *event).
        times: decreasing noisy times of the chain down, float64 (n,).
        rng: one stream per image, for the noise of the last time; None: none is drawn.

    Raises:
        ValueError: times as `simulate` refuses them, or another number of streams than of images.
        NumericalError: a value of an image that is not finite.

    Exact when: in the limit of small steps, without ``rng`` and for a last time near 0: x_0 + O(h).

    Reference: Song et al., "Denoising diffusion implicit models" (2021), sections 4.3 and 5.4.
    """
    times = noisy_times(model.process, times)
    process, t = model.process, times[-1]
    check_points(x0, "an image")
    if rng is None:
        guess = process.marginal(x0, t).mean
        x = process.add_noise(x0, process.predicted_noise(model(guess, t).mean, guess, t), t)
    else:
        one_for_each(rng, x0)
        x = add_noise(process, x0, t, rng)
    for above in times.flip(0)[1:]:
        posterior = model(x, t)
        x = process.add_noise(posterior.mean, process.predicted_noise(posterior.mean, x, t), above)
        t = above
    return x
