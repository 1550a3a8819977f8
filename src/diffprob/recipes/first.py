"""The toys of the first diffusion model (Sohl-Dickstein et al., "Deep unsupervised learning using nonequilibrium
thermodynamics", 2015, sec. 3.1); docs/families.md says what they come to here."""

from diffprob.config.recipe import Recipe
from diffprob.data.toys import Heartbeat, SwissRoll
from diffprob.denoise.denoiser import Index
from diffprob.denoise.learned import LearnedRange
from diffprob.denoise.level_law import Softmax
from diffprob.denoise.prediction import EDM
from diffprob.net.dense import DenseSpec, RadialBasisSpec
from diffprob.process.linear import LinearProcess
from diffprob.process.multinomial import MultinomialProcess
from diffprob.process.schedule import ConstantErasure, Quadratic
from diffprob.space.pixels import Pixels
from diffprob.space.tokens import Tokens
from diffprob.training.bound import Hybrid
from diffprob.training.categorical import CategoricalBound
from diffprob.training.settings import Training


def swiss_roll(units: int = 64) -> Recipe:
    """A spiral in the plane in 40 steps of a radial basis network, which says means and variances; a minute.

    Args:
        units: radial basis functions; the paper has 16.
    """
    shape, steps = (1, 1, 2), 40
    return Recipe(
        name="swiss_roll",
        data=SwissRoll(),
        space=Pixels(shape),
        network=RadialBasisSpec(shape, 2, units, steps, steps),
        process=LinearProcess(Quadratic(steps, 1e-4, 0.4)),
        prediction=EDM(0.45),
        clock=Index(steps),
        variance=LearnedRange(),
        objective=Hybrid(),
        training=Training(
            steps=3000,
            batch=256,
            lr=1e-2,
            warmup=100,
            cooldown=2000,
            ema=0.99,
            sample_every=1000,
            checkpoint_every=1000,
        ),
    )


def heartbeat(steps: int = 100) -> Recipe:
    """Twenty bits with a 1 in every fifth place, by binomial diffusion towards their frequency of 1; a minute.

    A perceptron of three layers of 50 says the law of the data, from which that of a step follows; tanh learns it in
    fewer steps than the paper's sigmoids. There are log2(5) = 2.322 bits in a row.

    Args:
        steps: T; the paper has 2000. Bits of a step are drawn as if independent, which costs less the more there are.
    """
    shape = (1, 1, 20)
    return Recipe(
        name="heartbeat",
        data=Heartbeat(),
        space=Tokens(shape, 2),
        network=DenseSpec(shape, 2, 50, 3, "tanh", 10, steps, levels=2),
        process=MultinomialProcess(2, ConstantErasure(steps), (0.8, 0.2)),
        prediction=Softmax(),
        clock=Index(steps),
        variance=None,
        objective=CategoricalBound(),
        training=Training(
            steps=3000,
            batch=256,
            lr=1e-2,
            warmup=100,
            cooldown=2000,
            ema=0.99,
            sample_every=1000,
            checkpoint_every=1000,
        ),
    )
