"""The chain of a denoising autoencoder: corrupt, then draw from what may have been there before."""

from collections.abc import Callable, Iterator

from torch import Tensor

from diffprob.base.distributions import Distribution
from diffprob.base.rng import Rng, one_for_each


def denoising_chain(
    corrupt: Callable[[Tensor, Rng], Tensor],
    posterior: Callable[[Tensor], Distribution],
    x: Tensor,
    rng: Rng,
    steps: int,
) -> Iterator[Tensor]:
    """x~ ~ C(x~|x), then x ~ P(x|x~), ``steps`` times: the states x, (B, *event) each.

    Where P is the posterior of C under a law of the data, that law is stationary. The *draw* is what keeps its
    variance: a chain that takes the mean of P instead has, for data N(m, s^2) and noise of variance v, the stationary
    variance s^4/(2 s^2 + v), less than half of s^2.

    Args:
        corrupt: C, (x, rng) -> x~; such as noise added at a time of a process.
        posterior: P, x~ -> p(x|x~); such as a denoiser at that time, or N(r(x~), error) of a reconstruction r.
        x: where the chain starts, (B, *event).
        rng: one stream a sample.
        steps: how many.

    Exact when: P is the posterior: the law of the data is stationary.

    Reference: Bengio, Yao, Alain & Vincent, "Generalized denoising auto-encoders as generative models" (2013),
    algorithm 1 and theorem 1.
    """
    one_for_each(rng, x)
    for step in range(steps):
        streams = rng.at(step)
        x = posterior(corrupt(x, streams.fold("corrupt"))).sample(streams.fold("draw"))
        yield x
