"""What the steps of a run's chain cost, and what they show: rate and distortion at every time.

Sending x_t from noise to data costs the rate; whoever has x_t guesses the image with the error called distortion. The
last bits, from the guess at the last noisy time to the exact grey levels, are the reconstruction.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError
from diffprob.base.finite import check_numbers
from diffprob.cli import output
from diffprob.cli.bounding import add_bounding, ask, each, in_model, said_images, summed
from diffprob.cli.drawing import counted, table
from diffprob.cli.parser import whole
from diffprob.cli.progress import Progress
from diffprob.cli.recording import written

if TYPE_CHECKING:
    from torch import Tensor

    from diffprob.base.rng import Rng
    from diffprob.likelihood.rate import RateDistortion

EXAMPLES = (
    "diffprob rate digits                                    # 64 test digits, all 1000 steps: table and rate.png",
    "diffprob rate runs/mnist --precision bf16 --out mnist-rate.png",
    "diffprob rate runs/mnist --steps 100 -n 256             # the chain of 100 steps on the fitted path",
    'diffprob rate runs/cifar10 --variance "UnitData()" --out rate.json   # with beta; numbers alone',
)

ROWS = 10  # of the table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add_bounding(parser, 64)
    parser.add_argument("--rows", type=whole(2), default=ROWS, metavar="N", help=f"of the table ({ROWS})")
    parser.add_argument("--out", default="rate.png", metavar="FILE", help="the curves as .png, or all numbers as .json")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure every term, add up, write."""
    import torch

    from diffprob.likelihood.bound import bound_terms, prior_nats
    from diffprob.likelihood.rate import rate_distortion

    if Path(args.out).suffix.lower() not in (".png", ".json"):
        raise InputError(f"--out {args.out}: a name that ends in .png or .json would be right")
    asked = ask(args, None)
    about = {**asked.facts, "evaluations": asked.evaluations, "out": args.out}
    if args.dry_run:
        return {**about, "dry_run": True}

    def measure(levels: "Tensor", rng: "Rng") -> "list[Tensor]":
        x0 = in_model(asked, levels)
        terms = bound_terms(asked.denoiser, x0, asked.times, rng, asked.decoder)
        return [prior_nats(asked.model.process, x0, asked.times[0]), *summed(terms)]

    with Progress("rate", asked.calls(asked.evaluations), "network call") as bar, counted(asked.model, bar.update):
        prior, nats, error = (torch.from_numpy(part) for part in each(asked, measure))
    found = rate_distortion(asked.times, prior, nats, error, asked.run.space.dimensions)
    result = {**about, **_summary(found, args.rows, asked.run.space.levels), "dry_run": False}
    check_numbers(result)
    wants_picture = args.out.lower().endswith(".png")

    def write() -> None:
        picture = _picture(found, asked.run.space.levels) if wants_picture else None
        output.write_file(args.out, output.json_bytes(result) if picture is None else picture)

    return {**result, **written(write)}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    where = said_images(result)
    how = ", ".join(f"{name} {result[name]}" for name in ("grid", "steps", "variance", "decoder", "clip", "seed"))
    if result["dry_run"]:
        yield f"would measure {where}"
        yield how
        return
    yield f"{where}; {how}"
    rows = [
        (
            row["steps"],
            f"{row['t']:.3f}",
            f"{row['rate']:.5f}",
            "-" if row["rate_error"] is None else f"{row['rate_error']:.5f}",
            f"{row['rmse']:.3f}",
        )
        for row in result["rows"]
    ]
    yield from table(rows, ("steps done", "t", "rate, bits/dim", "+-", f"RMSE of 0..{result['levels'] - 1}"))
    error = " (of one image)" if result["total_error"] is None else f" +- {result['total_error']:.4f}"
    yield (
        f"total {result['total']:.4f}{error} bits/dim: rate {result['rate']:.4f}, "
        f"distortion {result['reconstruction']:.4f} (from RMSE {result['rmse']:.3f} to lossless)"
    )
    if "not_written" not in result:
        yield f"wrote {result['out']}"


def _summary(found: "RateDistortion", rows: int, levels: int) -> dict[str, Any]:
    bits, grey = 1 / math.log(2), (levels - 1) / 2
    points = [
        {
            "steps": k,
            "t": float(found.t[k]),
            "rate": float(found.rate[k]) * bits,
            "rate_error": None if found.rate_error is None else float(found.rate_error[k]) * bits,
            "rmse": float(found.distortion[k]) * grey,
        }
        for k in range(len(found.t))
    ]
    shown = sorted({round(k * (len(points) - 1) / (rows - 1)) for k in range(rows)})
    return {
        "total": found.total * bits,
        "total_error": None if found.total_error is None else found.total_error * bits,
        "rate": float(found.rate[-1]) * bits,
        "reconstruction": found.reconstruction * bits,
        "rmse": points[-1]["rmse"],
        "rows": [points[k] for k in shown],
        "points": points,
    }


def _picture(found: "RateDistortion", levels: int) -> bytes:
    from diffprob.reporting.rates import rate_figure

    return rate_figure(found, levels)
