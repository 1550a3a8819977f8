"""What ``precision="auto"`` is: fp32 for numbers of a network, bf16 for images where it is fast and large enough."""

import numpy as np
import pytest
import torch

from diffprob.density.noise import ReconstructionError
from diffprob.runs.folder import Run
from diffprob.tasks import compute as computing
from diffprob.tasks.bounds import ChainBound
from diffprob.tasks.compute import BULK, Compute
from diffprob.tasks.detection import DetectionRequest, prepare_detection
from diffprob.tasks.images import ImageSelection
from diffprob.tasks.likelihood import LikelihoodRequest, prepare_likelihood
from diffprob.tasks.plan import Sampling
from diffprob.tasks.sample import SampleRequest, sample
from diffprob.training import optimise
from diffprob.training.optimise import choose_precision

CPU = Compute(device="cpu")


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that is fast in bf16."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network is a large one."""
    monkeypatch.setattr(computing, "LARGE", 1)


@pytest.mark.parametrize(
    ("amx", "avx", "amd", "precision"),
    [
        (True, False, False, "bf16"),
        (False, True, True, "bf16"),
        (False, True, False, "fp32"),
        (False, False, True, "fp32"),
    ],
)
def test_bf16_is_fast_with_amx_and_on_amd_with_avx512_bf16(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx: bool, amd: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr(optimise, "_is_amd", lambda: amd)
    assert choose_precision("auto", torch.device("cpu")) == precision
    assert choose_precision("fp16", torch.device("cpu")) == "fp16"


@pytest.mark.usefixtures("fast")
def test_small_networks_stay_in_fp32() -> None:
    run = Run.open("digits")
    assert CPU.for_images(run).precision == CPU.exact == "fp32"
    assert Compute(device="cpu", precision="bf16").for_images(run).precision == "bf16"


@pytest.mark.usefixtures("fast", "large")
def test_images_are_drawn_in_bf16_and_likelihoods_measured_in_fp32() -> None:
    run, wanted = Run.open("digits"), Sampling(n=3, steps=3, compute=CPU)
    own, said = (
        sample(run, SampleRequest(sampling=Sampling(n=3, steps=3, compute=compute)))
        for compute in (CPU, Compute(device="cpu", precision="bf16"))
    )
    assert own.settings["precision"] == "bf16" and (own.images == said.images).all()
    assert (sample(run, SampleRequest(sampling=wanted)).images == own.images).all()
    bound = LikelihoodRequest(images=ImageSelection(n=4), method=ChainBound(terms=1), compute=CPU)
    assert prepare_likelihood(run, bound).settings["precision"] == "fp32"


@pytest.mark.usefixtures("fast", "large")
def test_sets_are_told_apart_in_bf16_by_the_measured_proxies_alone() -> None:
    run, noise = Run.open("digits"), np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
    for proxies, precision in ((None, "bf16"), ((ReconstructionError(),), "fp32")):
        request = DetectionRequest(outside=(noise,), proxies=proxies, resize=True, n=50, compute=CPU)
        prepared = prepare_detection(run, request)
        evaluation = prepared.subjects[0].model.evaluation
        assert prepared.settings["precision"] == evaluation.precision == precision
        assert evaluation.chunk == BULK * 16
