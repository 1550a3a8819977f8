"""Named recipes. Each is a function that returns a `Recipe`; this module knows their names without importing any."""

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from diffprob.base.errors import InputError, did_you_mean
from diffprob.base.options import option

if TYPE_CHECKING:
    from diffprob.config.recipe import Recipe

# of models, on data of which there are recipes
FAMILIES = ("ncsn", "edm", "flow", "mixture", "ardm", "ardm_upscale", "masked")
# name: the module with a function of that name
RECIPES = {
    "digits": "digits",
    "mnist": "mnist",
    "mnist_labels": "mnist",
    "fashion": "mnist",
    "captioned_digits": "captions",
    "digits_superresolution": "superresolution",
    "digits_autoencoder": "autoencoders",
    "fashion_autoencoder": "autoencoders",
    "digits_latent": "latents",
    "fashion_latent": "latents",
    "swiss_roll": "first",
    "heartbeat": "first",
    "cifar10": "cifar10",
    "cifar10_small": "cifar10",
    "thesis_mnist": "thesis",
    "thesis_cifar10": "thesis",
    "celebahq256": "large",
    "lsun256": "large",
    **{f"{data}_{family}": "families" for data in ("digits", "mnist") for family in FAMILIES},
}
OLD_NAMES = {"digits_enlarged": "digits_superresolution"}  # today's name of a recipe, by each that it had
# recipes whose data comes with the library
EMBEDDED = (
    *("digits", "captioned_digits", "digits_superresolution", "digits_autoencoder", "digits_latent"),
    *("swiss_roll", "heartbeat"),
    *(f"digits_{family}" for family in FAMILIES),
)


def data_path(name: str) -> str:
    """Where recipes look for a data set unless told: ``$DIFFPROB_DATA/name``, or ``data/name`` here."""
    return str(Path(os.environ.get("DIFFPROB_DATA") or "data") / name)


def is_named(name: str) -> bool:
    """Whether a recipe has this name, or had it before."""
    return OLD_NAMES.get(name, name) in RECIPES


def named(name: str, path: str | None = None) -> "Recipe":
    """The recipe ``name`` (or by a name of before) for the data at ``path``; without, where `data_path` looks.

    Raises:
        InputError: no such recipe, or a path for data that is embedded.
    """
    name = OLD_NAMES.get(name, name)
    if name not in RECIPES:
        raise InputError(f"no recipe {name!r} (recipes: {', '.join(RECIPES)}){did_you_mean(name, RECIPES)}")
    if name in EMBEDDED and path is not None:
        raise InputError(
            f"recipe {name} uses embedded data and takes no {option('data')}, got {path}; train other data with "
            f"{option('data')} alone"
        )
    make = getattr(import_module(f"diffprob.recipes.{RECIPES[name]}"), name)
    return make() if path is None else make(path)
