"""Maximum likelihood: train a density by its code length."""

from dataclasses import dataclass

from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.base.levels import check_levels
from diffprob.base.rng import Rng
from diffprob.density.baselines import DensityModel
from diffprob.space.dequantise import dequantised
from diffprob.space.pixels import Pixels


@dataclass(frozen=True)
class MaximumLikelihood:
    """-log2 p(x + u)/d - log2(bin width), bits/dim, u uniform on the bin of a grey level, centred.

    Its mean over u is at least the bits that the grey levels cost under P(k) = integral of p over the bins of k.

    Args:
        levels: grey levels of the images; None takes those of the trainer's space.

    Exact when: p is constant on bins: a uniform density on the K bins costs log2 K.

    Reference: Theis, van den Oord & Bethge, "A note on the evaluation of generative models" (2016), eq. 12; Kingma &
    Dhariwal, "Glow" (2018), eq. 2.
    """

    levels: int | None = None

    def __post_init__(self) -> None:
        check_levels(self.levels)

    def bind(self, model: DensityModel, space: Pixels) -> "MaximumLikelihood":
        """The loss for such images.

        Raises:
            InputError: the model's density is not normalised.
        """
        if not isinstance(model, DensityModel) or not model.normalised:
            name = type(getattr(model, "net", model)).__name__
            raise InputError(f"{self!r} trains a normalised density such as Glow's, got a {name}")
        return MaximumLikelihood(self.levels or space.levels)

    def __call__(self, model: DensityModel, x0: Tensor, rng: Rng) -> Tensor:
        """Loss of each image (B, C, H, W), bits/dim, (B,).

        Raises:
            ValueError: the number of grey levels is not known.
        """
        if self.levels is None:
            raise ValueError(f"{self!r} does not know the grey levels: take what bind() returns, or give levels=")
        space = Pixels((x0.shape[1], x0.shape[2], x0.shape[3]), self.levels)
        x = dequantised(space, space.to_data(x0), rng).to(x0.dtype)
        return space.bits_per_dim(-model.raw(x)).to(x0.dtype)
