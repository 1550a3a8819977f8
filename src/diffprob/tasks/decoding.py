"""Bytes as images again, all of them or the first ones: `diffprob decode`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffprob.base.checks import whole
from diffprob.base.errors import InputError, NumericalError
from diffprob.base.text import one_line
from diffprob.codec.arriving import Arriving
from diffprob.codec.bits_back import BitsBack
from diffprob.codec.container import CutShort, Group, Head, Source, digest_of, read, read_head, read_header
from diffprob.codec.entropy import Damaged, Incomplete
from diffprob.config.registry import CODERS, VARIANCES
from diffprob.config.spec import parse
from diffprob.denoise.denoiser import NetworkModel
from diffprob.likelihood.bound import Decoder
from diffprob.process.chain import noisy_times
from diffprob.reporting.artifacts import arrays, grid_png, progression_png
from diffprob.runs.folder import Run
from diffprob.storage import files
from diffprob.tasks.bounds import bound_variance
from diffprob.tasks.coding import (
    DIGITS,
    LEAST_PROBE,
    MOST_CHUNK,
    AnyCode,
    AnyCoder,
    code_of,
    made_with,
    numbers_as_times,
    probe,
    received,
    shown,
)
from diffprob.tasks.compute import Compute
from diffprob.tasks.display import OfImages, save
from diffprob.tasks.reporter import SILENT, Reporter

MOST_BYTES = 1 << 31  # of a file
SHARES = (0.01, 0.05, 0.2, 0.5, 1.0)  # of the bytes of a group, after which images are looked at


@dataclass(frozen=True, eq=False)
class DecodeResult(OfImages):
    """Images that were decoded.

    Args:
        images: grey levels, uint8 (n, C, H, W): those that were coded, or E[x_0 | x_t] at their times.
        complete: of which images all is there that the file has of them, and was checked, bool (n,).
        times: t of the chain that each image has reached, float64 (n,); 0: it is the image, if it is complete.
        levels: grey levels K.
        settings: of the file, and what was read of it, JSON literals by name.
        frames: the first images of the first group as `SHARES` of its bytes say them, each uint8 (rows, C, H, W).
        frame_bytes: of the file for each image of the group, that each frame takes.
    """

    images: np.ndarray
    complete: np.ndarray
    times: np.ndarray
    levels: int
    settings: dict[str, Any]
    frames: Sequence[np.ndarray] = ()
    frame_bytes: Sequence[float] = ()

    @property
    def exact(self) -> np.ndarray:
        """Which images are those that were coded, to the last bit, bool (n,)."""
        return self.complete & (self.times == 0)

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name; no pixels."""
        counts = {"complete": int(self.complete.sum()), "exact": int(self.exact.sum())}
        return {**self.settings, "n": len(self), **counts, "t": float(self.times.max())}

    def save(self, path: str | Path) -> None:
        """Write all images side by side (x.png), or the arrays images, seeds (their places) and metadata (x.npz).

        Raises:
            InputError: another suffix, or the disk refuses; what existed before is intact.
        """
        about = {**self.settings, "complete": self.complete.tolist(), "t": self.times.tolist()}
        save(
            path,
            {
                ".png": lambda: grid_png(self.images, self.levels, about),
                ".npz": lambda: arrays(self.images, np.arange(len(self.images)), {**about, "levels": self.levels}),
            },
        )

    def progression_png(self) -> bytes:
        """The images from the first bytes on: one row an image, one column for each of `SHARES`."""
        captions = [f"{share:.0%}, {size:.0f} B" for share, size in zip(SHARES, self.frame_bytes, strict=True)]
        return progression_png(self.frames, self.levels, captions=captions)

    def _repr_png_(self) -> bytes:
        return grid_png(self.images[:64], self.levels, {})

    def __repr__(self) -> str:
        n, exact, complete = len(self), int(self.exact.sum()), int(self.complete.sum())
        return f"{n} images: {exact} exact, {complete - exact} as coarse as they were coded, {n - complete} incomplete"


def read_coded(path: str | Path) -> bytes:
    """The bytes of a file, of which `decode` says whether they are coded images.

    Raises:
        InputError: there is no such file, or it has more than 2 GiB.
    """
    return files.read_bytes(files.expanded(path), MOST_BYTES)


def decode(
    run: Run,
    data: bytes,
    first_bytes: int | None = None,
    compute: Compute = Compute(),
    reporter: Reporter = SILENT,
    progressive: int = 0,
) -> DecodeResult:
    """The images in a file, or what its first bytes say of them.

    Args:
        run: that they were coded with.
        data: the file, or the beginning of one.
        first_bytes: read so many bytes; None: all.
        compute: where; how precisely the file says.
        reporter: hears of progress.
        progressive: the first so many images of the first group are followed on their way.

    Raises:
        InputError: no such file, a damaged one, one of another model, or one that this machine computes other bits for.
    """
    whole("first_bytes", first_bytes, 1, none=True)
    data = data if first_bytes is None else data[:first_bytes]
    coded = read(data, partly=True)
    unpacking = Unpacking(run, coded.header, compute)
    if progressive and coded.groups:
        unpacking.require_progressive()
        states = decode_progressively(run, [data], compute)
        with reporter.progress("decoding", unpacking.states_of(coded.groups), "time") as progress:
            return _followed(states, progressive, coded.groups[0].images, progress.update)
    with reporter.progress("decoding", sum(group.images for group in coded.groups), "image") as progress:
        for group in coded.groups:
            for _ in unpacking.states(group):
                pass
            progress.update(unpacking.n)
    if not unpacking.n:
        raise InputError(f"the first {len(data):,} bytes say nothing of an image yet")
    return unpacking.result(len(data))


def _followed(states: Iterator[DecodeResult], rows: int, n: int, update: Callable[[int], object]) -> DecodeResult:
    """The last result, with the first images as they were after `SHARES` of the bytes of the first group."""
    seen: list[tuple[int, np.ndarray]] = []
    state = None
    for k, state in enumerate(states):
        if len(state) == n:
            seen.append((state.settings["bytes"], state.images[:rows]))
        update(k + 1)
    if state is None:
        raise Damaged("damaged: no state comes of these bytes")
    first, last = seen[0][0], seen[-1][0]
    sizes = [first + share * (last - first) for share in SHARES]
    reached = [max(k for k, (size, _) in enumerate(seen) if size <= most) for most in sizes]
    frames, at = [seen[k][1] for k in reached], [(seen[k][0] - first) / n for k in reached]
    return replace(state, frames=frames, frame_bytes=at)


def decode_progressively(run: Run, data: Iterable[bytes], compute: Compute = Compute()) -> Iterator[DecodeResult]:
    """What the bytes of a file say, as they arrive: once for each time of the chain of each group of images.

    The last result is that of `decode`; ``settings["bytes"]`` says how many bytes each of them takes.

    Args:
        run: that the images were coded with.
        data: the file in pieces; the next one is asked for when nothing more follows from those that came.
        compute: where; how precisely the file says.

    Raises:
        InputError: as `decode`, as soon as it shows.
    """
    rest = Source(more=data)
    header, count = read_header(rest)
    unpacking = Unpacking(run, header, compute)
    unpacking.require_progressive()
    for _ in range(count):
        try:
            head = read_head(rest)
            began, reader = rest.at, Arriving(rest, head)
            for _ in unpacking.states(head, reader):
                yield unpacking.result(began + reader.needed)
            head.group(rest.take(head.length))
        except CutShort:
            if unpacking.n:
                return
            raise
    if rest.here(1):
        raise Damaged("damaged: bytes follow the last image")


class Unpacking:
    """The images of a file, group after group.

    Args:
        run: that they were coded with.
        header: of the file.
        compute: where.

    Raises:
        InputError: another model, another machine, or a header that says what there is not.
    """

    def __init__(self, run: Run, header: Mapping[str, Any], compute: Compute) -> None:
        header = {"shape": list(run.space.shape), "levels": run.space.levels, **header}  # as the model's, if unsaid
        self.run, self.header = run, header
        self._of = _opened(run, header, compute)
        self._groups: list[tuple[np.ndarray, bool, float]] = []  # images, whether complete, time
        if (here := probe(self._code(1), run)[: max(LEAST_PROBE, len(header["probe"]))]) != header["probe"]:
            raise InputError(
                f"this machine computes other last bits of {run.name} than the file was made with: it needs "
                f"{header['made']} ({header['probe']}), and here is {made_with()} ({here})"
            )

    @property
    def n(self) -> int:
        """Images so far."""
        return sum(len(images) for images, _, _ in self._groups)

    def states_of(self, groups: Sequence[Group]) -> int:
        """Times that the chains of some groups come to, if they are whole."""
        states = self._code(1).states
        return sum(states - group.left for group in groups)

    def require_progressive(self) -> None:
        """Refuse a file whose beginning says nothing.

        Raises:
            InputError: it was coded with bits back.
        """
        if isinstance(self._of[1], BitsBack):
            raise InputError(f"a file of {self._of[1]!r} says no image before its last byte: decode it whole")

    def _code(self, n: int) -> AnyCode:
        """Of the next n images."""
        model, coder, decoder, times = self._of
        return code_of(model, self.header["clip"], times, decoder, coder, self.n, n)

    def states(self, group: Group | Head, arriving: Arriving | None = None) -> Iterator[None]:
        """Decode a group; what is known of it is there after each time of the chain that the bytes say.

        Args:
            group: all of it, or what stands before its bytes.
            arriving: these; None: those of the group.

        Raises:
            Damaged: bytes that say another image than was coded, or none.
        """
        code, at = self._code(group.images), len(self._groups)
        try:
            reader = code.reader(group.stream, group.complete) if isinstance(group, Group) else arriving
            for k, state in enumerate(received(code, self.run, group, reader)):
                images, complete = shown(self.run, state), k == code.states - 1 - group.left
                if complete and digest_of(images) != group.digest:
                    raise Damaged("damaged: the images are not those that were coded")
                self._groups[at:] = [(images, complete, float(state.t))]
                yield
        except Incomplete:
            return
        except (NumericalError, ValueError, OverflowError) as error:  # what laws without a meaning lead to
            raise Damaged(f"damaged: {one_line(error)}") from error

    def result(self, size: int) -> DecodeResult:
        """All images so far, from so many bytes."""
        images, complete, times = zip(*self._groups, strict=True)
        each, levels = [len(part) for part in images], self.run.space.levels
        settings = {**self.header, "bytes": size}
        return DecodeResult(np.concatenate(images), np.repeat(complete, each), np.repeat(times, each), levels, settings)


def _opened(
    run: Run, header: Mapping[str, Any], compute: Compute
) -> tuple[NetworkModel[Any], AnyCoder, Decoder, torch.Tensor]:
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
        whole("chunk", header["chunk"], 1, MOST_CHUNK)
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
