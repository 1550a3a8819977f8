"""Train a classifier of noised images, and see what it has learned."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.guidance.noisy_classifier import NoisyClassifier
from diffprob.process.chain import nearest
from diffprob.space.pixels import Pixels
from diffprob.training.denoising import add_noise
from diffprob.training.times import uniform_times


@dataclass(frozen=True)
class NoisyClassifierLoss:
    """-log p(y|x_t) of the image's class, nats, x_t = alpha x_0 + sigma eps, t uniform as in `Denoising`.

    The least expected loss at t is that of Bayes' rule for the noised classes; at pure noise log K for K classes alike.

    Exact when: the logits are 0: log K.

    Reference: Dhariwal & Nichol, "Diffusion models beat GANs on image synthesis" (2021), section 4.
    """

    def bind(self, model: NoisyClassifier, space: Pixels) -> "NoisyClassifierLoss":
        """The loss for such images: itself.

        Raises:
            InputError: the model is no `NoisyClassifier`.
        """
        if not isinstance(model, NoisyClassifier):
            raise InputError(f"{self!r} trains a NoisyClassifier, got a {type(model).__name__}")
        return self

    def __call__(self, model: NoisyClassifier, x0: Tensor, rng: Rng) -> Tensor:
        """Loss of each sample, (B,): a function of the sample, its class, its seed and the step.

        Raises:
            ValueError: the model was not given the classes.
        """
        if model.condition_rows is None:
            raise ValueError(f"{self!r} needs to be told the classes: model.condition_on(rows), as the trainer does")
        process = model.process
        case = add_noise(process, x0, uniform_times(process, rng.fold("time")).to(x0.device), rng.fold("noise"))
        return F.cross_entropy(model(case.xt, case.t), model.condition_rows.to(x0.device), reduction="none")


@torch.no_grad()
def is_correct(model: NoisyClassifier, x0: Tensor, labels: Tensor, t: float, rng: Rng) -> Tensor:
    """Whether the likeliest class of x_t ~ q(x_t|x_0) is the label, bool (B,).

    Args:
        x0: images in model space, (B, C, H, W).
        labels: their classes, int64 (B,).
        t: the time, in (0, 1]; on a discrete schedule the nearest one of it.
        rng: one stream per image.

    Exact when: always; an image's answer depends on its own stream alone.
    """
    process = model.process
    time = nearest(process, t).expand(len(x0)).to(x0.device)
    return model(add_noise(process, x0, time, rng.fold("noise")).xt, time).argmax(1) == labels.to(x0.device)
