"""What the quality scripts share: options, drawing samples from a run, the table and the JSON they end with."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.config.registry import ALL
from diffprob.config.spec import parse
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.process.grids import Uniform
from diffprob.space.pixels import Pixels
from diffprob.tasks.drawing import calls, counted, draw, make_times


def options(description: str, run: str) -> argparse.ArgumentParser:
    """The options that all quality scripts have."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("run", nargs="?", default=run, help="a run's folder, or the name of a packaged run")
    parser.add_argument("--sampler", default="Ancestral()", help='such as "DDIM(eta=0)"')
    parser.add_argument("--steps", type=int, default=1000, help="network evaluations a sample")
    parser.add_argument("--clip", action=argparse.BooleanOptionalAction, default=True, help="clamp the predicted image")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", help="of the network: fp32, bf16 or fp16")
    parser.add_argument("--chunk", type=int, default=128, help="samples per network call")
    parser.add_argument("--out", type=Path, help="write the numbers to this JSON file")
    parser.add_argument("--picture", type=Path, help="write a grid of 100 samples to this .png")
    parser.add_argument("--record", action="store_true", help="add the numbers to the run's model card")
    return parser


def draw_levels(
    model: NetDenoiser, space: Pixels, n: int, seed: int, arguments: argparse.Namespace
) -> tuple[np.ndarray, float]:
    """n samples as uint8 levels (n, C, H, W), and the seconds they took; sample i has the seed ``seed + i``."""
    streams = Rng.of(seed, n, device=arguments.device)
    times = make_times(Uniform(), model.process, arguments.steps, "--steps")
    total, began = calls(model, n, arguments.steps), time.perf_counter()

    def tell(done: int) -> None:
        if done % max(1, total // 20) == 0:
            taken = time.perf_counter() - began
            print(f"seed {seed}: network call {done}/{total}, {taken:.0f} s", file=sys.stderr)

    with counted(model, tell):
        drawn = draw(model, parse(arguments.sampler, ALL), times, streams, space, arguments.clip)
    return drawn.levels, time.perf_counter() - began


def drawing(model: NetDenoiser, arguments: argparse.Namespace) -> dict[str, Any]:
    """How the samples are drawn, for the record."""
    return {
        "sampler": arguments.sampler,
        "evaluations": arguments.steps,
        "clip": arguments.clip,
        **asdict(model.evaluation),
        "device": arguments.device,
    }


def answer(main: Callable[[], int]) -> int:
    """What main returns; bad input ends in one line and exit code 2."""
    try:
        return main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


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
