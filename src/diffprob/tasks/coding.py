"""What the two sides of a run's code share: the chain, and what decides the last bits of its network."""

import hashlib
import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch

from diffprob.base.checks import MOST_STEPS, whole
from diffprob.base.rng import Rng
from diffprob.codec.bits_back import BitsBack, BitsBackCode
from diffprob.codec.chain import ChainCode, Received
from diffprob.codec.coders import Coder
from diffprob.codec.container import Group, Head
from diffprob.codec.entropy import Damaged
from diffprob.denoise.denoiser import NetworkModel
from diffprob.evaluation.image_quality import psnr
from diffprob.likelihood.bound import Decoder
from diffprob.runs.files import library_version
from diffprob.runs.folder import Run
from diffprob.tasks.drawing import limited

AnyCoder = Coder | BitsBack
AnyCode = ChainCode | BitsBackCode

MOST_CHUNK = 1024  # images in a network call: what decoding a file takes is bounded, whatever its header says
DIGITS = 16  # hexadecimal ones of a SHA-256 that a file keeps
LEAST_PROBE = 8  # of those of a network's answer, which says how a machine computes and not whose a file is


def code_of(
    model: NetworkModel[Any], clip: bool, times: torch.Tensor, decoder: Decoder, coder: AnyCoder, first: int, n: int
) -> AnyCode:
    """The code of images first, ..., first + n - 1 of a file."""
    if isinstance(coder, BitsBack):
        return BitsBackCode(limited(model, clip), times, decoder, coder)
    return ChainCode(limited(model, clip), times, decoder, coder, Rng.of(0, n, first).fold("codec"))


def received(code: AnyCode, run: Run, group: Group | Head, reader: Any) -> Iterator[Received]:
    """What the stream of a group says, from noise to where it ends.

    Raises:
        Damaged: another stream, or another end than there can be.
        Incomplete: see `diffprob.codec.entropy.Reader.get`.
    """
    last = code.states - 1 - group.left  # of the times, and x_0 after them
    if last < 0:
        raise Damaged(f"damaged: a chain of {code.states - 1:,} times that ends {group.left:,} before its end")
    like = torch.zeros(group.images, *run.space.model_shape, dtype=torch.float64)
    return islice(code.decode(like, reader), last + 1)


def shown(run: Run, state: Received) -> np.ndarray:
    """The images as they are known at a time, levels, uint8 (n, C, H, W)."""
    return run.space.to_data(state.mean.round() if run.space.is_discrete else state.mean).numpy()


def most_psnr(levels: int, dimensions: int) -> float:
    """Of an image that is off by one level in one element, dB: what an exact one counts as in means."""
    return 10 * math.log10((levels - 1) ** 2 * dimensions)


def finite_psnr(images: np.ndarray, wanted: np.ndarray, levels: int) -> np.ndarray:
    """Peak signal-to-noise ratio of each image in dB, (n,), at most `most_psnr`."""
    return np.minimum(psnr(images, wanted, levels), most_psnr(levels, math.prod(images.shape[1:])))


def made_with() -> str:
    """What decides the last bits of a network here, in words."""
    return f"diffprob {library_version()}, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"


def probe(code: AnyCode, run: Run) -> str:
    """A digest of the network's answer to noise: whether its last bits are here what they were there."""
    like = torch.zeros(1, *run.space.model_shape, dtype=torch.float64)
    x = code.model.process.prior(like).sample(Rng.of(0, 1).fold("probe"))
    with torch.no_grad():
        posterior = code.model(x, code.times[len(code.times) // 2])
    parts = (posterior.mean, posterior.variance.expand_as(posterior.mean))
    return hashlib.sha256(b"".join(part.contiguous().cpu().numpy().tobytes() for part in parts)).hexdigest()[:DIGITS]


def times_as_numbers(times: torch.Tensor, steps: int | None) -> dict[str, Any]:
    """Times for a header: of a discrete schedule the differences of whole numbers, else as they are."""
    if steps is not None:
        index = (times * steps).round()
        if torch.equal(index / steps, times):
            return {"of": steps, "times": [int(k) for k in torch.diff(index, prepend=index.new_zeros(1))]}
    return {"of": 0, "times": times.tolist()}


def numbers_as_times(of: int, numbers: list[Any]) -> torch.Tensor:
    """The times that `times_as_numbers` wrote, float64 (n,).

    Raises:
        ValueError: no numbers, or too large ones.
    """
    whole("of", of, 0, MOST_STEPS)
    if not numbers or not all(isinstance(k, int if of else float) and abs(k) <= MOST_STEPS for k in numbers):
        raise ValueError("its times are no numbers")
    times = torch.tensor(numbers, dtype=torch.float64)
    return times.cumsum(0) / of if of else times
