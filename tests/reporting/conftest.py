"""Runs for pages, written without training, and samples that were never drawn."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from diffprob.config.recipe import Recipe, build_model
from diffprob.data.sources import Digits, Folder
from diffprob.net.unet import UNetSpec
from diffprob.reporting.material import Material, Samples
from diffprob.runs.folder import Run
from diffprob.runs.publish import write_run
from diffprob.space.pixels import Pixels
from diffprob.training.settings import Training

NETWORK = UNetSpec(in_channels=1, out_channels=1, widths=(8,), layers=1, attention=(False,), groups=4)
RECIPE = Recipe(
    name="tiny", data=Digits(), space=Pixels((1, 8, 8), 17), network=NETWORK, training=Training(steps=100, batch=4)
)
SAMPLES = Samples(
    levels=np.random.default_rng(0).integers(0, 17, (6, 1, 8, 8)).astype(np.uint8),
    seed=7,
    step=100,
    model_sha256="0123456789abcdef" * 4,
    sampler="DDIM(eta=0.0, spread=False)",
    steps=5,
    grid="Uniform()",
    variance="Zero()",
    clip=True,
    chunk=64,
    precision="fp32",
    device="cpu",
    seconds=1.5,
    evaluations=5,
    frames=[np.full((2, 1, 8, 8), k, np.uint8) for k in range(3)],
    times=[1.0, 0.5, 0.001],
)
LOG = [
    {"step": k, "epoch": k * 4 / 1437, "loss": 1 / k, "gradient_norm": 0.5, "lr": 1e-3, "seconds": 0.25 * k}
    for k in range(1, 101)
]


@pytest.fixture(scope="session")
def weights():
    torch.manual_seed(0)
    return build_model(RECIPE).state_dict()


@pytest.fixture
def material(tmp_path, weights):
    """``material(name="x", data=..., images=..., log=...)``: a finished run of random weights, ready for a page."""
    made = 0

    def make(log=LOG, images=None, note="not on this machine", samples=SAMPLES, **changes):
        nonlocal made
        made += 1
        folder = tmp_path / f"run-{made}"
        write_run(folder, replace(RECIPE, **changes), weights, digest="ab" * 32, step=100)
        run = Run.open(folder)
        verbs = ("train", "sample", "report", "evaluate")
        return Material(run, f"runs/run-{made}", log, samples, images, note, verbs)

    return make


HOSTILE = (
    "<script>window.__executed=true</script><img src=x onerror='window.__executed=true'>\"'`javascript:alert(1)&lt;"
)
HOSTILE_NAME = HOSTILE.replace("/", "")  # a recipe is called by one part of a path
HOSTILE_DATA = Folder(path=f"/home/somebody/{HOSTILE_NAME}", size=8, channels=1)
