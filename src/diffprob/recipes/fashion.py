"""Fashion-MNIST: 28x28 pixels, idx files; trained as MNIST is."""

from dataclasses import replace

from diffprob.config.recipe import Recipe
from diffprob.recipes.common import data_path
from diffprob.recipes.mnist import mnist


def fashion(path: str | None = None) -> Recipe:
    """Fashion-MNIST; ``path`` is the folder with its idx files."""
    return replace(mnist(path or data_path("fashion-mnist")), name="fashion")
