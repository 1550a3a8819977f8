"""What a run that was trained beside a diffusion model says of an image's density."""

from diffprob.base.errors import InputError
from diffprob.density.baselines import LogDensity, NegativeEnergy
from diffprob.density.potential import V0
from diffprob.density.proxy import Proxy
from diffprob.net.energy import EnergySpec
from diffprob.net.glow import GlowSpec
from diffprob.net.potential import PotentialSpec
from diffprob.runs.folder import AnyRun

_OF = {GlowSpec: LogDensity(), EnergySpec: NegativeEnergy(), PotentialSpec: V0()}


def density_of(run: AnyRun) -> Proxy:
    """The proxy that reads the density such a run was trained for.

    Raises:
        InputError: it was trained for none: a denoiser without a potential.
    """
    proxy = _OF.get(type(run.recipe.network))
    if proxy is None:
        raise InputError(
            f"{run.place} has no density of its own: a run of `diffprob distill`, or of `diffprob baseline glow` or "
            "`ebm`, would be right"
        )
    return proxy
