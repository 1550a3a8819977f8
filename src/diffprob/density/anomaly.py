"""Where in an image the model would have put something else."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffprob.base.checks import MOST_STEPS, able, instance, real, whole
from diffprob.base.rng import Rng
from diffprob.denoise.denoiser import Denoiser
from diffprob.density.measure import MOST_NOISES, descent
from diffprob.density.simplex import SimplexNoise
from diffprob.sampling.ancestral import Ancestral
from diffprob.sampling.between import add_noise
from diffprob.sampling.simulate import Sampler, simulate


@dataclass(frozen=True)
class AnomalyMap:
    """(x_0 - y_0)^2 of every element, averaged over ``repeats``: y_0 is x_0 noised to depth t and brought back.

    What the noise hides the model puts back as it knows it. The chain of ``sampler`` runs on t, t (steps - 1)/steps,
    ..., t/steps and ends with the reconstruction. It is a map, not a density: larger is less usual.

    Args:
        noise: None: that of the process, for which the model is trained; `SimplexNoise` also hides what is large, and
            wants a model that was trained with it.

    Exact when: the expectation on normal data is that of a linear chain, with either noise.

    Reference: Wyatt et al., "AnoDDPM: anomaly detection with denoising diffusion probabilistic models using simplex
    noise" (2022); there t = 0.25 and the steps of training.
    """

    t: float = 0.25
    steps: int = 25
    repeats: int = 4
    sampler: Sampler = Ancestral()
    noise: SimplexNoise | None = None

    def __post_init__(self) -> None:
        real("t", self.t, "(0, 1]")
        whole("steps", self.steps, 1, MOST_STEPS)
        whole("repeats", self.repeats, 1, MOST_NOISES)
        able("sampler", self.sampler, "step", "Ancestral()")
        instance("noise", self.noise, SimplexNoise, none=True)

    @torch.no_grad()
    def __call__(self, model: Denoiser, x: Tensor, rng: Rng) -> Tensor:
        """The map of images in model space (B, *event), float64 (B, *event); one stream per image.

        Raises:
            InputError: a discrete schedule with fewer times up to t than steps, or simplex noise for other than images.
        """
        process, times = model.process, descent(model.process, self.t, self.steps, self)
        squares = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
        for k in range(self.repeats):
            streams = rng.fold(f"repeat {k}")
            if self.noise is None:
                xt = add_noise(process, x, times[0], streams)
            else:
                xt = process.add_noise(x, self.noise(streams.fold("noised"), x), times[0])
            *_, last = simulate(model, self.sampler, xt, times, streams)
            squares += (x.double() - last.x.double()).square()
        return squares / self.repeats
