"""Diffusion models as probability models.

    import diffprob as dp

    model = dp.load("digits")                                   # a packaged run, a folder, a diffusers folder
    test = model.data(split="test", n=20)                       # its own held-out images, or others
    print(model.bits_per_dim(test))                             # the number of `diffprob likelihood`
    model.log_prob(test.images * 15, resize=True)               # nats, (20,), of any images in memory

Components stand in families (`dp.samplers.DDIM`, `dp.predictions.V`), and by their names alone where these say enough
(`dp.DDIM`). Names are imported when first used: `import diffprob` alone costs next to nothing and imports no torch.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Threads of torch that wait for each other spin only shortly before they sleep. Against OpenMP's own choice a step of
# training was 2 to 4 times as fast on a busy machine, and took 1.1 to 1.2 times as long on a free one (2 times where
# threads sleep at once). OpenMP reads it when torch is loaded; whoever has chosen is heeded.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & set(os.environ):
    os.environ["GOMP_SPINCOUNT"] = "20000"

if TYPE_CHECKING:
    from diffprob.api import *  # noqa: F403


def __getattr__(name: str) -> Any:
    if not name.startswith("_"):
        # Not `from diffprob import api`, which would ask this function for "api".
        api = import_module("diffprob.api")
        value = getattr(api, name) if name in api.__all__ else _families().get(name)
        if value is not None:
            globals()[name] = value  # the next time Python finds it by itself
            return value
        if name in (only := api.IN_FAMILIES):
            raise AttributeError(f"module 'diffprob' has no attribute {name!r}; dp.{only[name]}.{name} would be right")
        if (value := _registered().get(name)) is not None:  # not kept: one of a notebook may be registered anew
            return value
        from diffprob.base.errors import did_you_mean

        near = did_you_mean(name, {*api.__all__, *_families(), *_registered()}.difference(only))
        raise AttributeError(f"module 'diffprob' has no attribute {name!r}{near}")
    raise AttributeError(f"module 'diffprob' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *import_module("diffprob.api").FACE, *_families()})


def _registered() -> dict[str, Any]:
    """Every component by name: a new one is offered here as well, without another list that names it."""
    return import_module("diffprob.config.registry").ALL


def _families() -> dict[str, Any]:
    """The families of components, by their plural; what can be wrong with images, and ways to translate them."""
    modules = {"degradations": "degradations", "translations": "translation"}
    tasks = {name: import_module(f"diffprob.tasks.{module}") for name, module in modules.items()}
    return {**import_module("diffprob.config.families").families(), **tasks}
