"""Diffusion models as probability models.

    import diffprob as dp

    run = dp.Run.open("mnist")                                  # a packaged run, or a folder
    model = dp.Clip(run.load())                                 # model(xt, t) is p(x_0 | x_t)
    times = dp.Uniform()(model.process, 50)
    x = dp.draw(model, dp.DDIM(), times, dp.Rng.of(seed=0, n=64), run.space.shape)
    dp.save_grid(run.space.to_data(x).numpy(), "mnist.png")

Names are imported when first used: `import diffprob` alone costs next to nothing and does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from diffprob.api import *  # noqa: F403


def __getattr__(name: str) -> Any:
    if not name.startswith("_"):
        # Not `from diffprob import api`, which would ask this function for "api".
        api = import_module("diffprob.api")
        value = getattr(api, name) if name in api.__all__ else _registered().get(name)
        if value is not None:
            globals()[name] = value  # the next time Python finds it by itself
            return value
    raise AttributeError(f"module 'diffprob' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *import_module("diffprob.api").__all__, *_registered()})


def _registered() -> dict[str, Any]:
    """Every component by name: a new one is offered here as well, without another list that names it."""
    return import_module("diffprob.config.registry").ALL
