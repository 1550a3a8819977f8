"""Which proxies are taken where none is named, fixed before any outside image was looked at."""

from diffprob.density.likelihood import BoundDensity, ComplexityCorrected, FlowDensity
from diffprob.density.noise import DenoisingScore, NoiseNorm, ReconstructionError
from diffprob.density.path import PathStatistics, Scoped, ScoreNorms
from diffprob.density.proxy import Proxy
from diffprob.density.typicality import Typical

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
SLOW: tuple[Proxy, ...] = (FlowDensity(),)
