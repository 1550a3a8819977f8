"""From an image to another like it: noised and drawn again, with energies or without, or up by one model and down by
another."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffprob.base.checks import whole
from diffprob.base.rng import Rng
from diffprob.denoise.denoiser import Denoiser
from diffprob.guidance.egsde import FaithfulnessEnergy, RealismEnergy
from diffprob.guidance.energy import Energies, EnergyGuided
from diffprob.process.chain import nearest
from diffprob.sampling.ancestral import DDIM
from diffprob.sampling.between import add_noise, sample_from
from diffprob.sampling.invert import invert
from diffprob.sampling.simulate import Sampler, simulate


def sdedit(
    model: Denoiser,
    source: Tensor,
    t0: Tensor | float,
    sampler: Sampler,
    times: Tensor,
    rng: Rng,
    repeats: int = 1,
) -> Tensor:
    """x_t0 = alpha x + sigma e, and from there down by the model: an image of its domain, like the source in what is
    coarser than the noise, (B, *event).

    Args:
        model: of the target domain.
        source: x, (B, *event), in model space.
        t0: the time, in (0, 1]: how much is changed; on a discrete schedule the nearest one of it.
        sampler: for the way down.
        times: a whole grid, decreasing, float64 (n,); see `times_from` for the part that is visited.
        rng: one stream per image.
        repeats: how often; the result is then the source of the next, with noise of its own.

    Raises:
        ValueError: t0 is not in (0, 1], or no repeats.

    Exact when: source and target have the same law q(x_0) and the chain is exact: so has the result.

    Reference: Meng et al., "SDEdit: guided image synthesis and editing with stochastic differential equations" (2022),
    algorithms 1 and 3.
    """
    whole("repeats", repeats, 1)
    t = nearest(model.process, t0)
    for k in range(repeats):
        streams = rng if k == 0 else rng.fold(f"repeat {k}")
        xt = add_noise(model.process, source, t, streams)
        for state in sample_from(model, sampler, xt, t, times, streams):
            source = state.x
    return source


def egsde(
    model: Denoiser,
    source: Tensor,
    t0: Tensor | float,
    sampler: Sampler,
    times: Tensor,
    rng: Rng,
    features: Callable[[Tensor, Tensor], Tensor],
    low_pass: Callable[[Tensor], Tensor],
    realistic: float = 500.0,
    faithful: float = 2.0,
    repeats: int = 1,
) -> Tensor:
    """`sdedit` with two energies: away from the source's domain in the features, towards its coarse content.

    The noise of the energies is a draw of its own, the stream "egsde"; the released code has the start's.

    Args:
        model, source, t0, sampler, times, rng: as for `sdedit`; the source is (B, C, H, W).
        features: (x_t, t) -> (B, C, h, w) of a classifier of the two domains, see `RealismEnergy`.
        low_pass: such as `LowPass`, see `FaithfulnessEnergy`.
        realistic, faithful: lambda_s and lambda_i; the defaults are for 256x256.
        repeats: K, draws of noise in the energies.

    Exact when: both scales are 0: `sdedit`, to the bit.

    Reference: Zhao et al., "EGSDE: unpaired image-to-image translation via energy-guided SDEs" (2022), algorithm 1.
    """
    energies = (
        RealismEnergy(features, source, model.process, rng, realistic, repeats),
        FaithfulnessEnergy(low_pass, source, model.process, rng, faithful, repeats),
    )
    return sdedit(EnergyGuided(model, Energies(energies)), source, t0, sampler, times, rng)


@torch.no_grad()
def ddib(
    source_model: Denoiser, target_model: Denoiser, source: Tensor, times: Tensor, rng: Rng | None = None
) -> Tensor:
    """Up by `invert` under one model, down by `DDIM` under another, both of one process: what the first explains by
    noise the second draws from the same noise, (B, *event).

    The models may be one network under different labels (editing), or two networks (dual diffusion implicit bridges).
    Times up to less than 1 keep more of the image.

    Args:
        source_model: what the image is one of.
        target_model: what it is to become.
        source: images (B, *event), in model space.
        times: decreasing noisy times, float64 (n,), for both ways.
        rng: as for `invert`: noise at the last time.

    Raises:
        ValueError: models of different processes.

    Exact when: in the limit of small steps and for a last time near 0: the flow of the source's density up, that of the
    target's down.

    Reference: Su et al., "Dual diffusion implicit bridges for image-to-image translation" (2023), algorithm 1.
    """
    if source_model.process != target_model.process:
        raise ValueError(f"one process for both, got {source_model.process} and {target_model.process}")
    x = invert(source_model, source, times, rng)
    streams = Rng.of(0, len(x), device=x.device)  # DDIM() draws nothing from them
    for state in simulate(target_model, DDIM(), x, times, streams):
        x = state.x
    return x
