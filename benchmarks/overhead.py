"""The share of a sampling run that is not the network: 50 steps of DDIM, ours beside diffusers' DDIMPipeline.

Both call the very same network (diffusers' UNet2DModel of 1.0M parameters, random weights) on 32x32x1 images and return
grey levels; runs are interleaved. Time is the thread's processor time on one thread, which other programs on the
machine cannot stretch; what is measured is a run as a whole and, inside it, the calls of the network.

    python benchmarks/overhead.py --reps 5 --out overhead.json
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from diffusers import DDIMPipeline, DDIMScheduler
from torch import Tensor, nn
from unet import SMALL, reference

import diffprob as dp
from diffprob.tasks.drawing import draw

STEPS = 50


class Answer(NamedTuple):
    """What the network returns, under our names and theirs."""

    main: Tensor
    extra: Tensor | None = None

    @property
    def sample(self) -> Tensor:
        """Their name."""
        return self.main


class Timer:
    """Adds up the time of a network's calls."""

    def __init__(self, net: nn.Module) -> None:
        self.inside, self.calls = 0.0, 0
        forward = net.forward

        def timed(*args: Any, **named: Any) -> Answer:
            began = time.thread_time()
            result = Answer(forward(*args, **named).sample)
            self.inside += time.thread_time() - began
            self.calls += 1
            return result

        net.forward = timed


def ours(net: nn.Module, batch: int) -> None:
    """What `diffprob sample --steps 50 --sampler DDIM()` does between loading and writing."""
    process = dp.LinearProcess()
    model = dp.NetDenoiser(net, process, evaluation=dp.Evaluation(chunk=batch))
    with torch.no_grad():
        draw(model, dp.DDIM(), dp.Uniform()(process, STEPS), dp.Rng.of(0, batch), dp.Pixels((1, 32, 32), 256))


def theirs(pipeline: DDIMPipeline, batch: int) -> None:
    """The same by the pipeline."""
    pipeline(batch_size=batch, num_inference_steps=STEPS, output_type="np")


def measure(timer: Timer, run: Callable[[], None]) -> tuple[float, float]:
    """(processor seconds, of these in the network)."""
    timer.inside, timer.calls, began = 0.0, 0, time.thread_time()
    run()
    total = time.thread_time() - began
    assert timer.calls == STEPS, timer.calls
    return total, timer.inside


def compare(batch: int, reps: int) -> dict[str, Any]:
    """Interleaved runs after one of each to warm up; medians."""
    torch.manual_seed(0)
    network = reference(SMALL).eval()
    timer, pipeline = Timer(network), DDIMPipeline(unet=network, scheduler=DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    runs = {"ours": lambda: ours(network, batch), "diffusers": lambda: theirs(pipeline, batch)}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for k in range(reps + 1):
        for name, run in runs.items():
            result = measure(timer, run)
            if k:
                found[name].append(result)
    row: dict[str, Any] = {"batch": batch, "parameters": sum(p.numel() for p in network.parameters())}
    for name, times in found.items():
        row[name] = {
            "total_ms": 1000 * median(total for total, _ in times),
            "outside_ms": 1000 * median(total - inside for total, inside in times),
            "share": median(1 - inside / total for total, inside in times),
            "shares": sorted(1 - inside / total for total, inside in times),
        }
    return row


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [compare(batch, args.reps) for batch in args.batch]
    print("| batch | | run, ms | outside the network, ms | share (smallest to largest) |\n|---|---|---|---|---|")
    for row in rows:
        for name in ("ours", "diffusers"):
            r = row[name]
            ends = f"{r['shares'][0]:.2%} to {r['shares'][-1]:.2%}"
            print(
                f"| {row['batch']} | {name} | {r['total_ms']:.0f} | {r['outside_ms']:.1f} | {r['share']:.2%} ({ends}) |"
            )
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
