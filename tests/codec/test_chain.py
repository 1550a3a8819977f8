"""A chain's bytes say the images, every beginning of them says what the encoder had there, and they cost the bound."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from truth.models import IsotropicData

from diffprob.base.errors import InputError, NoClosedForm
from diffprob.base.rng import Rng
from diffprob.codec.chain import ChainCode, Received
from diffprob.codec.coders import Ideal
from diffprob.codec.entropy import Incomplete, Reader, Writer
from diffprob.codec.poisson import PoissonFunctional
from diffprob.codec.universal import UniversalQuantisation
from diffprob.denoise.categorical import JointLaw
from diffprob.likelihood.bound import Decoder, variational_bound
from diffprob.process.absorbing import AbsorbingProcess
from diffprob.process.grids import LogSNR
from diffprob.process.linear import LinearProcess
from diffprob.process.survival import LinearSurvival, Staircase

D, LEVELS, STEPS = 12, 33, 8
CODERS = (PoissonFunctional(), UniversalQuantisation())


def gaussian(n: int = 3, coder: object = CODERS[0]) -> tuple[ChainCode, Tensor]:
    """Normal data of independent elements, rounded to levels, and the chain of its exact model."""
    model = IsotropicData(torch.zeros(D).double(), 0.09, LinearProcess())
    times = LogSNR()(model.process, STEPS)
    x0 = 0.3 * Rng.of(5, n).normal((D,), torch.float64)
    x0 = (x0.clamp(-1, 1) * (LEVELS - 1) / 2).round() * 2 / (LEVELS - 1)
    return ChainCode(model, times, Decoder(LEVELS), coder, Rng.of(1, n)), x0  # type: ignore[arg-type]


def discrete(n: int = 4) -> tuple[ChainCode, Tensor]:
    """Three dependent bits, and the chain that draws them in a random order for each sample."""
    points = torch.tensor([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)], dtype=torch.float64)
    law = JointLaw(
        points, torch.tensor([0.3, 0.02, 0.05, 0.2, 0.08, 0.1, 0.05, 0.2]), AbsorbingProcess(2, Staircase(3))
    )
    x0 = points[torch.arange(n) * 3 % 8]
    times = torch.arange(3, 0, -1, dtype=torch.float64) / 3
    return ChainCode(law.bind(Rng.of(2, n), x0), times, Decoder(None), CODERS[0], Rng.of(1, n)), x0  # type: ignore[arg-type]


def encoded(code: ChainCode, x0: Tensor) -> tuple[list[Received], list[int], bytes]:
    """What both sides have at each time, the bits that said it, and all bytes."""
    writer, states, bits = Writer(), [], []
    for state in code.encode(x0, writer):
        states.append(state)
        bits.append(8 * len(writer.data()))
    return states, bits, writer.data()


def known(code: ChainCode, like: Tensor, data: bytes) -> list[Received]:
    """What a beginning of the bytes says."""
    received: list[Received] = []
    with pytest.raises(Incomplete):
        received.extend(code.decode(like, Reader(data, whole=False)))
    return received


@pytest.mark.parametrize("coder", CODERS, ids=repr)
def test_images_come_back_and_so_does_every_state(coder: object) -> None:
    code, x0 = gaussian(coder=coder)
    states, _, data = encoded(code, x0)
    received = list(code.decode(torch.zeros_like(x0), Reader(data)))
    assert len(received) == STEPS + 1 == len(states)
    for ours, theirs in zip(states, received, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert torch.equal(received[-1].x, x0)


@pytest.mark.parametrize("make", [gaussian, discrete])
def test_a_beginning_of_the_bytes_says_the_encoders_states(make: object) -> None:
    code, x0 = make()  # type: ignore[operator]
    states, bits, data = encoded(code, x0)
    reached = []
    for n in range(len(data)):
        received = known(code, torch.zeros_like(x0), data[:n])
        for ours, theirs in zip(states, received, strict=False):
            assert torch.equal(ours.x, theirs.x) and torch.equal(ours.mean, theirs.mean)
        reached.append(len(received))
    assert reached == sorted(reached) and reached[0] == 1
    # What was said in b bits is known from b bits and the six bytes on that a range coder may hold back.
    for seen, n in zip(reached, range(len(data)), strict=True):
        assert seen >= sum(b + 48 <= 8 * n for b in bits[:-1])


def test_distortion_falls_as_bytes_arrive() -> None:
    code, x0 = gaussian(n=20)
    errors = [float(((state.mean - x0) ** 2).mean()) for state in encoded(code, x0)[0]]
    assert errors[0] > 0.7 * 0.09 and errors[-1] == 0
    assert all(later < 1.02 * earlier for earlier, later in pairwise(errors))
    assert errors[-2] < 0.02 * 0.09


def test_bytes_cost_the_bound_and_what_blocks_cost() -> None:
    """The ideal code charges the bound; the Poisson functional one adds log2(KL + 1) + [0, 2] for a block, and the
    tail adds nothing to what the levels cost."""
    n = 60
    code, x0 = gaussian(n)
    nats = variational_bound(code.model, x0, code.times, Rng.of(9, n), code.decoder)
    bound = float((nats.steps + nats.reconstruction).mean()) / math.log(2)
    spread = float((nats.steps + nats.reconstruction).std()) / math.log(2) / math.sqrt(n)
    writer = Writer()
    for _ in replace(code, coder=Ideal()).encode(x0, writer):
        pass
    assert writer.charged / n + 8 * len(writer.data()) / n == pytest.approx(bound, abs=4 * 1.5 * spread)
    measured = 8 * len(encoded(code, x0)[2]) / n
    blocks = (STEPS - 1) * (math.log2(float(nats.steps.mean()) / math.log(2) / (STEPS - 1) + 1) + 2)
    assert bound - 6 * spread < measured < bound + blocks + 6 * spread


def test_discrete_images_cost_their_probability() -> None:
    code, x0 = discrete(n=400)
    law = code.model
    _, _, data = encoded(code, x0)
    bits = -float(law.log_prob(x0).sum()) / math.log(2)  # type: ignore[attr-defined]
    assert 8 * len(data) == pytest.approx(bits, abs=24, rel=0.005)
    *_, last = code.decode(torch.zeros_like(x0), Reader(data))
    assert torch.equal(last.x, x0)


def test_two_sides_that_differ_do_not_agree_in_silence() -> None:
    """Another stream, grid or variance gives other images; that they are others is found by the container."""
    code, x0 = gaussian(n=6)
    data = encoded(code, x0)[2]
    for other in (
        replace(code, rng=Rng.of(2, 6)),
        replace(code, times=LogSNR()(code.model.process, STEPS + 1)),
        replace(code, model=IsotropicData(torch.zeros(D).double(), 0.08, code.model.process)),
    ):
        try:
            *_, last = other.decode(torch.zeros_like(x0), Reader(data))
        except InputError:
            continue
        assert not torch.equal(last.x, x0)


def test_what_has_no_code_is_refused() -> None:
    code, x0 = gaussian()
    with pytest.raises(NoClosedForm, match="Decoder"):
        list(replace(code, decoder=Decoder(None)).encode(x0, Writer()))
    with pytest.raises(ValueError, match="levels"):
        code.encode(x0 + 0.01, Writer())
    law = JointLaw(x0[:1, :3].abs() * 0, torch.ones(1), AbsorbingProcess(2, LinearSurvival()))
    times = torch.tensor([1.0, 0.5], dtype=torch.float64)
    random = ChainCode(law, times, Decoder(None), CODERS[0], Rng.of(0, 1))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Staircase"):
        list(random.encode(torch.zeros(1, 3, dtype=torch.float64), Writer()))
