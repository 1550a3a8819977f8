"""Speed of diffprob's U-Net beside diffusers' UNet2DModel: interleaved A/B; medians and fastest.

On a machine that others share, the ratio of the fastest repetitions (last column) is the steadier number: a stall makes
a repetition slower, never faster.

Theirs is eager fp32 or bf16 as diffusers' own training example has it: torch's default AdamW and diffusers' EMAModel.
Ours: channels-last, fused AdamW and one `torch._foreach_lerp_` for the moving average. A ratio above 1 means that ours
is faster.

    python benchmarks/unet.py --size small --reps 15 --out unet.json
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from diffprob.net import UNetSpec

SMALL = UNetSpec(in_channels=1, out_channels=1, widths=(32, 64, 64), attention=(False, True, False))
LARGE = UNetSpec()
NETWORKS = {"small": ("1.0M 32x32x1", SMALL), "large": ("35.7M 32x32x3", LARGE)}
LAYOUTS = {"channels-last": torch.channels_last, "contiguous": torch.contiguous_format}
BATCH, DECAY = 16, 0.999


def reference(spec: UNetSpec) -> UNet2DModel:
    """diffusers' network with the settings of ``spec``."""
    return UNet2DModel(
        sample_size=32,
        in_channels=spec.in_channels,
        out_channels=spec.out_channels,
        block_out_channels=spec.widths,
        layers_per_block=spec.layers,
        down_block_types=tuple("AttnDownBlock2D" if here else "DownBlock2D" for here in spec.attention),
        up_block_types=tuple("AttnUpBlock2D" if here else "UpBlock2D" for here in spec.attention[::-1]),
        attention_head_dim=spec.head_dim,
        norm_num_groups=spec.groups,
        norm_eps=spec.eps,
        downsample_padding=spec.padding,
        freq_shift=spec.freq_shift,
        flip_sin_to_cos=spec.cosine_first,
    )


def precision(bf16: bool) -> AbstractContextManager[object]:
    """bf16 autocast or nothing; autocast's cache of cast weights lives as long as the context."""
    return torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext()


def training_step(
    net: nn.Module, call: Callable[[Tensor, Tensor], Tensor], ours: bool, bf16: bool
) -> Callable[[Tensor, Tensor], None]:
    """One whole step on (x, t): loss, gradients, clipping, optimiser, moving average."""
    parameters = list(net.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, fused=True if ours else None)
    theirs = None if ours else EMAModel(parameters, decay=DECAY)
    average = [p.detach().clone() for p in parameters] if ours else []

    def step(x: Tensor, t: Tensor) -> None:
        noise = torch.randn_like(x)
        with precision(bf16):
            loss = F.mse_loss(call(x + noise, t).float(), noise)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if theirs is None:
            torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - DECAY)
        else:
            theirs.step(parameters)

    return step


def forward_step(call: Callable[[Tensor, Tensor], Tensor], bf16: bool) -> Callable[[Tensor, Tensor], None]:
    """One evaluation without gradients."""

    @torch.no_grad()
    def step(x: Tensor, t: Tensor) -> None:
        with precision(bf16):
            call(x, t)

    return step


def seconds(step: Callable[[Tensor, Tensor], None], x: Tensor, t: Tensor) -> float:
    start = time.perf_counter()
    step(x, t)
    return time.perf_counter() - start


def interleave(
    first: Callable[[Tensor, Tensor], None], second: Callable[[Tensor, Tensor], None], x: Tensor, t: Tensor, reps: int
) -> dict[str, float]:
    """Median ms of both, median of the ratios theirs/ours, ratio of the fastest; after one warm-up call each."""
    first(x, t)
    second(x, t)
    pairs = [(seconds(first, x, t), seconds(second, x, t)) for _ in range(reps)]
    return {
        "theirs_ms": 1e3 * median(a for a, _ in pairs),
        "ours_ms": 1e3 * median(b for _, b in pairs),
        "ratio": median(a / b for a, b in pairs),
        "ratio_of_fastest": min(a for a, _ in pairs) / min(b for _, b in pairs),
    }


def compare(
    name: str, spec: UNetSpec, reps: int, layout: torch.memory_format, tasks: list[str]
) -> list[dict[str, Any]]:
    """Every row of one network: forward and training step, ours against theirs in fp32 and bf16."""
    torch.manual_seed(0)
    theirs, ours = reference(spec), spec.build()
    ours.load_state_dict(theirs.state_dict())
    ours.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    x = torch.randn(BATCH, spec.in_channels, 32, 32)
    t = torch.randint(0, 1000, (BATCH,))

    def call_theirs(x: Tensor, t: Tensor) -> Tensor:
        return theirs(x, t, return_dict=False)[0]

    def call_ours(x: Tensor, t: Tensor) -> Tensor:
        return ours(x.contiguous(memory_format=layout), t).main

    rows: list[dict[str, Any]] = []
    for task in tasks:
        for their_bf16, our_bf16 in ((False, False), (False, True), (True, True)):
            if task == "forward":
                a, b = forward_step(call_theirs, their_bf16), forward_step(call_ours, our_bf16)
            else:
                a = training_step(theirs, call_theirs, ours=False, bf16=their_bf16)
                b = training_step(ours, call_ours, ours=True, bf16=our_bf16)
            found = interleave(a, b, x, t, reps)
            kinds = f"{'bf16' if our_bf16 else 'fp32'} / {'bf16' if their_bf16 else 'fp32'}"
            row = {"network": name, "task": task, "ours / theirs": kinds, "batch": BATCH, "reps": reps}
            rows.append(row | found)
            slow, fast, ratio, best = found.values()
            print(f"{name:16} {task:8} {kinds:12} {slow:9.1f} {fast:9.1f} {ratio:7.2f} {best:7.2f}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=[*NETWORKS, "all"], default="all")
    parser.add_argument("--task", choices=["forward", "train"], action="append", help="only this one")
    parser.add_argument("--reps", type=int, default=9)
    parser.add_argument("--layout", choices=LAYOUTS, default="channels-last", help="memory format of ours")
    parser.add_argument("--out", type=Path, help="write the rows as JSON to this file")
    arguments = parser.parse_args()
    print(f"{'network':16} {'task':8} {'ours/theirs':12} {'theirs ms':>9} {'ours ms':>9} {'ratio':>7} {'fastest':>7}")
    rows: list[dict[str, Any]] = []
    layout, tasks = LAYOUTS[arguments.layout], arguments.task or ["forward", "train"]
    specs = {}
    for size, (name, spec) in NETWORKS.items():
        if arguments.size in (size, "all"):
            rows += compare(name, spec, arguments.reps, layout, tasks)
            specs[name] = asdict(spec)
    if arguments.out:
        machine = {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "machine": platform.processor() or platform.machine(),
        }
        arguments.out.write_text(
            json.dumps({"machine": machine, "layout": arguments.layout, "specs": specs, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
