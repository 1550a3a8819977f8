"""Text of one's own, character by character: an autoregressive model of any order, in minutes on two cores."""

from dataclasses import replace

from diffprob.config.recipe import Recipe
from diffprob.data.images import Images
from diffprob.data.text import Text
from diffprob.denoise.denoiser import Index
from diffprob.denoise.level_law import Softmax
from diffprob.net.transformer import TokenTransformerSpec
from diffprob.process.absorbing import AbsorbingProcess
from diffprob.process.survival import Staircase
from diffprob.space.tokens import Tokens
from diffprob.training.masked import OrderAgnostic
from diffprob.training.settings import Training


def own_text(name: str, source: Text, images: Images, steps: int = 4000) -> Recipe:
    """The recipe for windows of a text.

    Args:
        name: of the recipe.
        source: of the text; its characters are kept in the recipe.
        images: what it loads.
        steps: of the training.
    """
    characters = source.characters or source.alphabet()
    length, levels = source.length, images.levels
    return Recipe(
        name=name,
        data=replace(source, characters=characters),
        space=Tokens((1, 1, length), levels, characters),
        network=TokenTransformerSpec(levels, length, width=128, layers=4, heads=4),
        process=AbsorbingProcess(levels, Staircase(length)),
        prediction=Softmax(),
        clock=Index(length),
        variance=None,
        objective=OrderAgnostic(),
        training=Training(
            steps=steps,
            batch=64,
            lr=5e-4,
            warmup=100,
            ema=0.999,
            sample_every=max(1, steps // 4),
            checkpoint_every=max(1, min(500, steps // 4)),
            samples=16,
        ),
    )
