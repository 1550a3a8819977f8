"""Folders of diffusers: configurations with odd values, weights with other headers, links and pipes in their place."""

import functools
import json
import os
import random
import shutil
import tempfile
from pathlib import Path

import torch
from fuzz.driver import JSON, Target, flipped, mutated_json
from fuzz.recipes import NETWORK, run_command

from diffprob.denoise.denoiser import Index, NetDenoiser
from diffprob.denoise.prediction import Epsilon
from diffprob.denoise.variance import Zero
from diffprob.interop.configs import network_spec, scheduling
from diffprob.interop.diffusers import WEIGHTS, export_pipeline, open_pipeline
from diffprob.process.linear import LinearProcess

CONFIGS = ("model_index.json", "unet/config.json", "scheduler/scheduler_config.json")


@functools.cache
def pipeline() -> Path:
    """A tiny one; not to be changed."""
    path = Path(tempfile.mkdtemp(prefix="fuzz-diffusers-")) / "model"
    torch.manual_seed(0)
    export_pipeline(path, NetDenoiser(NETWORK.build(), LinearProcess(), Epsilon(), Index(), Zero()), (8, 8))
    return path


def configuration(rng: random.Random, folder: Path) -> None:
    """One configuration with odd values, of keys that are there or that diffusers has besides."""
    for name, read in (("unet/config.json", network_spec), ("scheduler/scheduler_config.json", scheduling)):
        config = json.loads((pipeline() / name).read_text())
        keys = ("trained_betas", "thresholding", "sample_size", "num_class_embeds", "act_fn", "down_block_types", "x")
        if rng.random() < 0.3:
            config[rng.choice(keys)] = rng.choice((*JSON, [0.1] * 1000, ["DownBlock2D"] * 3))
        changed = mutated_json(config, rng)
        if isinstance(changed, dict):
            made = read(changed)
            if hasattr(made, "build"):
                with torch.device("meta"):
                    made.build()


def whole(rng: random.Random, folder: Path) -> None:
    """A folder with one file changed, cut, or replaced by something else; it is opened and imported."""
    place = folder / "model"
    shutil.copytree(pipeline(), place)
    name = rng.choice((*CONFIGS, f"unet/{WEIGHTS}"))
    path = place / name
    kind = rng.randrange(6)
    if kind == 0:
        path.write_bytes(flipped(path.read_bytes(), rng))
    elif kind == 1 and name.endswith(".json"):
        path.write_text(json.dumps(mutated_json(json.loads(path.read_text()), rng)))
    else:
        path.unlink()
        if kind == 2:
            os.mkfifo(path)
        elif kind == 3:
            path.mkdir()
        elif kind == 4:
            path.symlink_to(rng.choice(("/dev/zero", "/etc/passwd", "nothing", "../../beside/key")))
    if rng.random() < 0.5:
        open_pipeline(place)
    run_command(["import", str(place), "--out", str(folder / "out"), *(["--dry-run"] if rng.random() < 0.8 else [])])


def targets() -> dict[str, Target]:
    """What the driver runs."""
    return {"configuration": configuration, "whole": whole}
