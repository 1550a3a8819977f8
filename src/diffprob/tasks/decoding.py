"""Bytes as images again, all of them or the first ones: `diffprob decode`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffprob.base.checks import whole
from diffprob.base.errors import InputError
from diffprob.base.text import one_line
from diffprob.codec.chain import ChainCode, Received
from diffprob.codec.coders import Coder
from diffprob.codec.container import Group, digest_of, read
from diffprob.codec.entropy import Damaged, Incomplete
from diffprob.config.registry import CODERS, VARIANCES
from diffprob.config.spec import parse
from diffprob.denoise.denoiser import NetworkModel
from diffprob.likelihood.bound import Decoder
from diffprob.process.chain import noisy_times
from diffprob.reporting.artifacts import arrays, grid_png
from diffprob.runs.folder import Run
from diffprob.storage import files
from diffprob.tasks.bounds import bound_variance
from diffprob.tasks.coding import DIGITS, code_of, made_with, numbers_as_times, probe, received
from diffprob.tasks.compute import Compute
from diffprob.tasks.display import OfImages, save
from diffprob.tasks.reporter import SILENT, Reporter

MOST_BYTES = 1 << 31  # of a file


@dataclass(frozen=True, eq=False)
class DecodeResult(OfImages):
    """Images that were decoded.

    Args:
        images: grey levels, uint8 (n, C, H, W): those that were coded, or what is known of them so far.
        complete: of which images every bit is there and was checked, bool (n,).
        times: t of the chain that each image has reached, float64 (n,); 0 for complete ones.
        levels: grey levels K.
        settings: of the file, and what was read of it, JSON literals by name.
    """

    images: np.ndarray
    complete: np.ndarray
    times: np.ndarray
    levels: int
    settings: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name; no pixels."""
        return {**self.settings, "n": len(self), "complete": int(self.complete.sum()), "t": float(self.times.max())}

    def save(self, path: str | Path) -> None:
        """Write all images side by side (x.png), or the arrays images, seeds (their places) and metadata (x.npz).

        Raises:
            InputError: another suffix, or the disk refuses; what existed before is intact.
        """
        about = {**self.settings, "complete": self.complete.tolist()}
        save(
            path,
            {
                ".png": lambda: grid_png(self.images, self.levels, about),
                ".npz": lambda: arrays(self.images, np.arange(len(self.images)), {**about, "levels": self.levels}),
            },
        )

    def _repr_png_(self) -> bytes:
        return grid_png(self.images[:64], self.levels, {})

    def __repr__(self) -> str:
        whole_ = int(self.complete.sum())
        return f"{len(self)} images, {'all' if whole_ == len(self) else whole_} of them complete"


def read_coded(path: str | Path) -> bytes:
    """The bytes of a file, of which `decode` says whether they are coded images.

    Raises:
        InputError: there is no such file, or it has more than 2 GiB.
    """
    return files.read_bytes(files.expanded(path), MOST_BYTES)


def decode(
    run: Run, data: bytes, first_bytes: int | None = None, compute: Compute = Compute(), reporter: Reporter = SILENT
) -> DecodeResult:
    """The images in a file, or what its first bytes say of them.

    Args:
        run: that they were coded with.
        data: the file, or the beginning of one.
        first_bytes: read so many bytes; None: all.
        compute: where; how precisely the file says.
        reporter: hears of progress.

    Raises:
        InputError: no such file, a damaged one, one of another model, or one that this machine computes other bits for.
    """
    whole("first_bytes", first_bytes, 1, none=True)
    coded = read(data if first_bytes is None else data[:first_bytes], partly=True)
    header = coded.header
    model, coder, decoder, times = _opened(run, header, compute)
    images, complete, reached, first = [], [], [], 0
    first_code = code_of(model, header["clip"], times, decoder, coder, 0, 1)
    if (here := probe(first_code, run)) != header["probe"]:
        raise InputError(
            f"this machine computes other last bits of {run.name} than the file was made with: it needs "
            f"{header['made']} ({header['probe']}), and here is {made_with()} ({here})"
        )
    with reporter.progress("decoding", sum(group.images for group in coded.groups), "image") as progress:
        for group in coded.groups:
            code = code_of(model, header["clip"], times, decoder, coder, first, group.images)
            state, all_there = _last(code, run, group)
            levels = run.space.to_data(state.mean).numpy()
            if all_there and digest_of(levels) != group.digest:
                raise Damaged("damaged: the images are not those that were coded")
            images.append(levels)
            complete += [all_there] * group.images
            reached += [float(state.t)] * group.images
            first += group.images
            progress.update(first)
    if not images:
        raise InputError(f"the first {len(data):,} bytes say nothing of an image yet")
    settings = {**header, "bytes": len(data) if first_bytes is None else min(first_bytes, len(data))}
    return DecodeResult(np.concatenate(images), np.array(complete), np.array(reached), run.space.levels, settings)


def _last(code: ChainCode, run: Run, group: Group) -> tuple[Received, bool]:
    """The last state that the bytes of a group say, and whether it is the images themselves."""
    last = None
    try:
        for state in received(code, run, group):
            last = state
    except Incomplete:
        if last is None or group.complete:
            raise
    if last is None:
        raise Damaged("damaged: no state comes of these bytes")
    return last, float(last.t) == 0 and group.complete


def _opened(
    run: Run, header: Mapping[str, Any], compute: Compute
) -> tuple[NetworkModel[Any], Coder, Decoder, torch.Tensor]:
    """The model and the code that a header names.

    Raises:
        InputError: another model, or a header that says what there is not.
    """
    wanted = {
        "run": str, "model": str, "best": bool, "shape": list, "levels": int, "of": int, "times": list, "variance": str,
        "coder": str, "clip": bool, "chunk": int, "precision": str, "device": str, "probe": str, "made": str,
    }  # fmt: skip
    if set(header) != set(wanted) or any(not isinstance(header[name], kind) for name, kind in wanted.items()):
        raise Damaged("damaged: the header has not the names that it should have")
    if (own := run.sha256(header["best"])[:DIGITS]) != header["model"]:
        raise InputError(
            f"the file was made with a model called {header['run']} ({header['model']}), and {run.place} is another "
            f"({own})"
        )
    if header["shape"] != list(run.space.shape) or header["levels"] != run.space.levels:
        raise Damaged("damaged: the header is of other images than the run's")
    try:
        compute = replace(compute, batch=header["chunk"], precision=header["precision"], best=header["best"])
        times = noisy_times(run.recipe.process, numbers_as_times(header["of"], header["times"]))
    except ValueError as error:
        raise Damaged(f"damaged: the header is none: {one_line(error)}") from error
    if compute.on().type != header["device"]:
        raise InputError(
            f"the file was made on {header['device']}, and here it would be decoded on {compute.on().type}"
        )
    variance = None
    if header["variance"] != repr(None):
        variance = bound_variance(run, header["best"], parse(header["variance"], VARIANCES))
    model = compute.load(run, variance)
    return model, parse(header["coder"], CODERS), Decoder(run.space.bins), times
