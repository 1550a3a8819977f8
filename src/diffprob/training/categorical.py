"""The variational bound of a chain of discrete laws, as a loss: one random step of it for each sample."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from diffprob.base.checks import real
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.base.shapes import flat_sum
from diffprob.denoise.multinomial import MultinomialDenoiser
from diffprob.likelihood.bound import step_nats
from diffprob.process.multinomial import MultinomialProcess, StepLaw
from diffprob.training.masked import spread_uniform


@dataclass(frozen=True)
class CategoricalBound:
    """T KL(q(x_s|x_t,x_0) || p(x_s|x_t)) / d at one t = k/T, s = t - 1/T, nats per element.

    k is uniform on 1..T, spread evenly over the batch; at k = 1 the term is -log p(x_0|x_t). d times it is, in
    expectation, the bound on -log p(x_0) but for the prior's part, which has nothing to train.

    Args:
        auxiliary: weight of the cross-entropy -log p(x_0|x_t) / d, which is added for a network that predicts x_0;
            Austin et al. take 0.001 to 0.01.

    Exact when: averaged over t; it is the bound of `diffprob.likelihood.bound.variational_bound`.

    Reference: Sohl-Dickstein et al., "Deep unsupervised learning using nonequilibrium thermodynamics" (2015), eq. 14;
    Austin et al., "Structured denoising diffusion models in discrete state-spaces" (2021), eq. 5.
    """

    auxiliary: float = 0.0

    def __post_init__(self) -> None:
        real("auxiliary", self.auxiliary, "[0, inf)")

    def check(self, process: Any, variance: Any = None) -> None:
        """Refuse what this loss cannot train.

        Raises:
            InputError: another process than a multinomial one, or a schedule without steps.
        """
        if not isinstance(process, MultinomialProcess):
            raise InputError(
                f"{self!r} needs process=MultinomialProcess(levels), not a {type(process).__name__}: a model of masks "
                "is trained by OrderAgnostic() or MaskedCrossEntropy()"
            )
        if process.schedule.steps is None:
            raise InputError(f"{self!r} needs a chain, but {process.schedule!r} is continuous: take ConstantErasure()")

    def __call__(self, model: MultinomialDenoiser, x0: Tensor, rng: Rng) -> Tensor:
        """Loss of each sample, (B,): a function of the sample, its seed and the step."""
        process: Any = model.process
        self.check(process)
        steps = process.schedule.steps or 1
        k = ((spread_uniform(rng.fold("time")) * steps).floor().clamp_max(steps - 1) + 1).to(x0.device)
        t, s = k / steps, (k - 1) / steps
        xt = process.marginal(x0, t).sample(rng.fold("noise"))
        posterior = model.posterior(xt, t)
        loss = steps * step_nats(process, posterior, x0, xt, s, t)
        if self.auxiliary:
            if isinstance(posterior, StepLaw):
                raise InputError(f"{self!r} needs a network that predicts x_0: auxiliary must be 0")
            logs = posterior.log_probabilities.gather(-1, x0.long()[..., None])[..., 0]
            loss = loss - self.auxiliary * flat_sum(logs)
        return loss / x0[0].numel()
