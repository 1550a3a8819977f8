"""What the two sides of a run's code share: the chain, and what decides the last bits of its network."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch

from diffprob.base.checks import MOST_STEPS
from diffprob.base.rng import Rng
from diffprob.codec.chain import ChainCode, Received
from diffprob.codec.coders import Coder
from diffprob.codec.container import Group
from diffprob.codec.entropy import Reader
from diffprob.denoise.denoiser import NetworkModel
from diffprob.likelihood.bound import Decoder
from diffprob.runs.files import library_version
from diffprob.runs.folder import Run
from diffprob.tasks.drawing import limited

DIGITS = 16  # hexadecimal ones of a SHA-256 that a file keeps


def code_of(
    model: NetworkModel[Any], clip: bool, times: torch.Tensor, decoder: Decoder, coder: Coder, first: int, n: int
) -> ChainCode:
    """The code of images first, ..., first + n - 1 of a file."""
    return ChainCode(limited(model, clip), times, decoder, coder, Rng.of(0, n, first).fold("codec"))


def received(code: ChainCode, run: Run, group: Group) -> Iterator[Received]:
    """What the stream of a group says, from noise to data.

    Raises:
        Damaged, Incomplete: see `diffprob.codec.entropy.Reader.get`.
    """
    like = torch.zeros(group.images, *run.space.model_shape, dtype=torch.float64)
    return code.decode(like, Reader(group.stream, whole=group.complete))


def made_with() -> str:
    """What decides the last bits of a network here, in words."""
    return f"diffprob {library_version()}, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"


def probe(code: ChainCode, run: Run) -> str:
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
    if not numbers or not all(isinstance(k, int if of else float) and abs(k) <= MOST_STEPS for k in numbers):
        raise ValueError("its times are no numbers")
    times = torch.tensor(numbers, dtype=torch.float64)
    return times.cumsum(0) / of if of else times
