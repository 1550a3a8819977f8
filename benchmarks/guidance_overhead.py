"""What a guided step costs beside two unguided ones: ours and diffusers' way, on the very same network.

    python benchmarks/guidance_overhead.py --reps 7 --out guidance-overhead.json

One class-conditional network (1.1M parameters, random weights, 32x32x1, under diffusers' names in both), one thread,
interleaved, the thread's processor time. "two plain": two evaluations of a batch with labels. "guided": one evaluation
of the guided model. Theirs: a batch of both branches through their UNet2DModel, cut in two and combined, as their
guided pipelines do, with their DDIM scheduler's step; ours with `DDIM().step`.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DModel
from quality import answer, finish

import diffprob as dp
from diffprob.interop.configs import network_config
from diffprob.sampling.simulate import State

LIMIT = 1.03  # guided over two plain ones
SPEC = dp.UNetSpec(1, 1, (32, 64, 64), 1, (False, False, True), groups=8, padding=1, classes=11)
WEIGHT, STEPS = 1.5, 50


def main() -> int:
    """Measure, print, and say whether the limit holds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--reps", type=int, default=7)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    runs = {**_ours(arguments.batch), **_theirs(arguments.batch)}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for rep in range(arguments.reps + 1):
        for name, run in runs.items():
            began = time.thread_time()
            run()
            if rep:
                seconds[name].append(time.thread_time() - began)
    rows = []
    for who in ("ours", "diffusers"):
        plain, guided = seconds[f"{who}, two plain"], seconds[f"{who}, guided"]
        ratios = sorted(g / p for g, p in zip(guided, plain, strict=True))
        rows.append(
            {
                "who": who,
                "two plain, ms": 1e3 * median(plain),
                "guided, ms": 1e3 * median(guided),
                "ratio": median(ratios),
                "least": ratios[0],
                "most": ratios[-1],
            }
        )
    settings = {"batch": arguments.batch, "reps": arguments.reps, "torch": torch.__version__}
    return finish(rows, rows[0]["ratio"] <= LIMIT, settings, arguments.out)


def _ours(batch: int) -> dict[str, Callable[[], Any]]:
    torch.manual_seed(0)
    net = SPEC.build().to(memory_format=torch.channels_last).eval()
    process = dp.LinearProcess()
    model = dp.NetDenoiser(net, process, evaluation=dp.Evaluation(batch), condition=dp.Labels(10))
    labels = torch.arange(batch) % 10
    conditional, guided = model.condition_on(labels), dp.ClassifierFree(model, labels, WEIGHT)
    t, s = (torch.tensor(k / STEPS, dtype=torch.float64) for k in (25, 24))
    x, rng, ddim = torch.randn(batch, 1, 32, 32), dp.Rng.of(0, batch), dp.DDIM()
    state = State(x, t)
    return {
        "ours, two plain": lambda: (ddim.step(conditional, state, s, rng), ddim.step(conditional, state, s, rng)),
        "ours, guided": lambda: ddim.step(guided, state, s, rng),
    }


def _theirs(batch: int) -> dict[str, Callable[[], Any]]:
    torch.manual_seed(0)
    config = {name: value for name, value in network_config(SPEC, (32, 32)).items() if not name.startswith("_")}
    net = UNet2DModel(**config).to(memory_format=torch.channels_last).eval()
    scheduler = DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(STEPS)
    labels = torch.arange(batch) % 10
    both = torch.cat([labels, torch.full_like(labels, 10)])
    t, x = scheduler.timesteps[25], torch.randn(batch, 1, 32, 32)

    def plain() -> None:
        scheduler.step(net(x, t, class_labels=labels).sample, t, x)

    def guided() -> None:
        conditional, unconditional = net(torch.cat([x, x]), t, class_labels=both).sample.chunk(2)
        scheduler.step(unconditional + (1 + WEIGHT) * (conditional - unconditional), t, x)

    return {"diffusers, two plain": lambda: (plain(), plain()), "diffusers, guided": guided}


if __name__ == "__main__":
    raise SystemExit(answer(main))
