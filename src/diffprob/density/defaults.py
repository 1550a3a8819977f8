"""Which proxies are taken where none is named, fixed before any outside image was looked at."""

from diffprob.density.likelihood import BoundDensity, ComplexityCorrected, FlowDensity
from diffprob.density.noise import DenoisingScore, NoiseNorm, ReconstructionError
from diffprob.density.path import PathStatistics, Scoped, ScoreNorms
from diffprob.density.proxy import Proxy
from diffprob.density.typicality import Typical
from diffprob.process.process import Process

# Fitted, so that it looks on both sides: an image may be too simple as well as too strange; and at every noise level,
# so that nobody has to know at which one the difference is.
DEFAULT: Proxy = ScoreNorms()

# Of sets that are compared: 10, 1 and 4 evaluations an image, no gradients, and one of them fitted to training images.
QUICK: tuple[Proxy, ...] = (DEFAULT, DenoisingScore(), ReconstructionError())
STANDARD: tuple[Proxy, ...] = (
    DEFAULT,
    NoiseNorm(),
    Typical(NoiseNorm()),
    ReconstructionError(),
    DenoisingScore(),
    PathStatistics(),
    Scoped(),
    BoundDensity(),
    Typical(BoundDensity()),
    ComplexityCorrected(BoundDensity()),
)
# Of levels the bound is what there is, and both sides of it.
OF_LEVELS: tuple[Proxy, ...] = (Typical(BoundDensity()), BoundDensity())
SLOW: tuple[Proxy, ...] = (FlowDensity(),)


def chosen_for(process: Process, judged: bool) -> tuple[Proxy, ...]:
    """The proxies where none is named: one for images that are ranked, else a few quick ones."""
    quick = QUICK if process.is_linear else OF_LEVELS
    return quick[:1] if judged else quick
