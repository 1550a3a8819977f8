"""Baselines of a density: Glow and an energy-based model, for any images."""

from diffprob.base.errors import InputError
from diffprob.config.recipe import Baseline
from diffprob.data.images import Source
from diffprob.net.energy import EnergySpec
from diffprob.net.glow import GlowSpec
from diffprob.space.pixels import Pixels
from diffprob.training.contrastive import ContrastiveDivergence
from diffprob.training.maximum import MaximumLikelihood
from diffprob.training.settings import Training


def glow(name: str, data: Source, space: Pixels, steps: int = 4000) -> Baseline:
    """Glow (Kingma & Dhariwal 2018), as many scales as the size allows up to 3, small enough for a processor.

    Raises:
        InputError: an odd height or width, which cannot be halved once.
    """
    _, height, width = space.shape
    scales = next((scales for scales in (3, 2, 1) if not (height % 2**scales or width % 2**scales)), None)
    if scales is None:
        raise InputError(f"{name}: Glow halves its images, and {height}x{width} is odd; an even size would be right")
    return Baseline(
        name=f"{name}-glow",
        data=data,
        space=space,
        network=GlowSpec(space.shape, scales=scales),
        objective=MaximumLikelihood(),
        training=_training(steps, lr=1e-3, batch=64, ema=0.999),
    )


def ebm(name: str, data: Source, space: Pixels, steps: int = 1500) -> Baseline:
    """An energy-based model trained with Langevin chains and a replay buffer (Du & Mordatch 2019).

    Chains of 20 steps in a small network; the published 60 steps in a large one take many hours on a processor.
    """
    return Baseline(
        name=f"{name}-ebm",
        data=data,
        space=space,
        network=EnergySpec(space.shape[0], (16, 32, 64)),
        objective=ContrastiveDivergence(steps=20),
        training=_training(steps, lr=3e-4, batch=64, ema=0.999, betas=(0.0, 0.999)),
    )


def _training(steps: int, lr: float, batch: int, ema: float, betas: tuple[float, float] = (0.9, 0.999)) -> Training:
    every = max(1, steps // 8)
    return Training(
        steps=steps,
        batch=batch,
        lr=lr,
        warmup=min(200, steps // 10),
        cooldown=steps // 5,
        ema=ema,
        betas=betas,
        precision="auto",
        checkpoint_every=every,
        sample_every=every,
    )
