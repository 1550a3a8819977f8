"""What the quality scripts share: options, drawing samples from a run, the table and the JSON they end with."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffprob.base.rng import Rng
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.process.grids import Uniform
from diffprob.recipe.spec import parse
from diffprob.recipe.tables import ALL
from diffprob.sample.simulate import simulate, start
from diffprob.space.pixels import Pixels


def options(description: str, run: str) -> argparse.ArgumentParser:
    """The options that all quality scripts have."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("run", nargs="?", default=run, help="a run's folder, or the name of a packaged run")
    parser.add_argument("--sampler", default="Ancestral()", help='such as "DDIM(eta=0)"')
    parser.add_argument("--steps", type=int, default=1000, help="network evaluations a sample")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", help="of the network: fp32, bf16 or fp16")
    parser.add_argument("--chunk", type=int, default=128, help="samples per network call")
    parser.add_argument("--out", type=Path, help="write the numbers to this JSON file")
    parser.add_argument("--picture", type=Path, help="write a grid of 100 samples to this .png")
    parser.add_argument("--record", action="store_true", help="add the numbers to the run's model card")
    return parser


def draw(
    model: NetDenoiser, space: Pixels, n: int, seed: int, arguments: argparse.Namespace
) -> tuple[np.ndarray, float]:
    """n samples as uint8 levels (n, C, H, W), and the seconds they took; sample i has the seed ``seed + i``."""
    rng = Rng.of(seed, n, device=arguments.device)
    sampler = parse(arguments.sampler, ALL)
    times = Uniform()(model.process, arguments.steps)
    began = time.perf_counter()
    state = None
    for state in simulate(model, sampler, start(model, rng, space.shape), times, rng):
        if state.index % max(1, arguments.steps // 20) == 0:
            taken = time.perf_counter() - began
            print(f"seed {seed}: step {state.index}/{arguments.steps}, {taken:.0f} s", file=sys.stderr)
    assert state is not None
    return space.to_data(state.x).cpu().numpy(), time.perf_counter() - began


def finish(rows: Sequence[dict[str, Any]], passed: bool, details: dict[str, Any], out: Path | None) -> int:
    """Print one line a row under a heading, and the verdict; write or print the JSON; 0 if passed, else 1."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(names, *cells, strict=True)]
    for line in (names, *cells):
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    print("passed" if passed else "FAILED")
    text = json.dumps({"passed": passed, **details, "rows": list(rows)}, indent=1)
    if out:
        out.write_text(text + "\n")
    else:
        print(text)
    return 0 if passed else 1


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
