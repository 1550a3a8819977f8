"""What density proxies were fitted to, kept with the run: ``fit-proxies.safetensors``."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.runs.fits import fit_bytes, fit_path, read_fit
from diffprob.runs.folder import Run
from diffprob.storage import tensors
from diffprob.storage.files import kind_of

KIND = "proxies"

Fits = dict[str, dict[str, Tensor]]


def read_proxies(run: Run, best: bool = False) -> tuple[Fits, dict[str, Any]]:
    """What was fitted for each proxy, by its key, and what to; nothing where the weights have changed since.

    Raises:
        InputError: the file is not what it says it is.
    """
    path = fit_path(run, KIND)
    if kind_of(path) is None or tensors.read_metadata(path).get("model_sha256") != run.sha256(best):
        return {}, {}
    found, about = read_fit(run, KIND, best)
    fits: Fits = {key: {} for key in about}
    for name, value in found.items():
        key, _, own = name.rpartition("/")
        if key not in fits or value.dtype != torch.float64 or not value.isfinite().all():
            raise InputError(f"{path} is damaged: {name} in it belongs to no fit")
        fits[key][own] = value
    return fits, about


def keep_proxies(run: Run, fits: Mapping[str, Mapping[str, Tensor]], about: dict[str, Any], best: bool = False) -> None:
    """Put fits into the run, in the place of those that are there.

    Raises:
        InputError: the folder cannot be written, or a training is using it.
    """
    named = {f"{key}/{name}": value for key, found in fits.items() for name, value in found.items()}
    run.add(fit_path(run, KIND).name, fit_bytes(run, KIND, named, about, best))
