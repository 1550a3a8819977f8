"""What the steps of a run's chain cost, and what they show: rate and distortion at every time.

The rate is what it costs to send x_t; the distortion is the error with which the model then guesses the image from x_t.
The last bits, from that guess at the last noisy time to the exact grey levels, are the reconstruction.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffprob.base.errors import InputError
from diffprob.base.finite import check_numbers
from diffprob.cli import output
from diffprob.cli.options import add_bounding, bound, compute, images, optional
from diffprob.cli.parser import whole
from diffprob.cli.progress import TERMINAL
from diffprob.cli.text import images_measured, table
from diffprob.tasks.display import json_bytes

EXAMPLES = (
    "diffprob rate digits                                    # 64 test digits, all 1000 steps: table and rate.png",
    "diffprob rate runs/mnist --out mnist-rate.png",
    "diffprob rate runs/mnist --steps 100 -n 256             # the chain of 100 steps on the fitted path",
    "diffprob rate runs/mnist --measured -n 16               # and what `diffprob encode` spends, at its times",
    'diffprob rate runs/cifar10 --variance "UnitData()" --out rate.json   # with beta; numbers alone',
)

ROWS = 10  # of the table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, which images, the chain, and how the curves are shown."""
    add_bounding(parser, 64)
    parser.add_argument(
        "--measured",
        nargs="?",
        const="PoissonFunctional()",
        metavar="CODER",
        help="also what a code spends, at its own times (default coder PoissonFunctional(); diffprob show coders)",
    )
    parser.add_argument("--rows", type=whole(2), default=ROWS, metavar="N", help=f"rows of the table (default {ROWS})")
    parser.add_argument(
        "--out",
        default="rate.png",
        metavar="FILE",
        help="the curves as .png, or all numbers as .json (default rate.png)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure every term, add up, write."""
    from diffprob.runs.folder import Run
    from diffprob.tasks.bounds import ChainBound
    from diffprob.tasks.options import requesting
    from diffprob.tasks.rate import RateRequest, measure_rate, prepare_rate

    if Path(args.out).suffix.lower() not in (".png", ".json"):
        raise InputError(f"--out {args.out}: a name that ends in .png or .json would be right")
    chain, coder = ChainBound(**bound(args, terms=None)), optional(args.measured, "--measured", "coder")
    with requesting():
        request = RateRequest(images=images(args), chain=chain, measured=coder, label=args.label, compute=compute(args))
    setup, settings = prepare_rate(Run.open(args.run), request, TERMINAL)
    if args.dry_run:
        return {**settings, "out": args.out, "dry_run": True}
    rates = measure_rate(setup, settings, request, TERMINAL)
    result = {**rates.to_json(args.rows), "out": args.out, "dry_run": False}
    check_numbers(result)
    wants_picture = args.out.lower().endswith(".png")

    def write() -> None:
        output.write_file(args.out, rates.figure() if wants_picture else json_bytes(result))

    return {**result, **output.written(write)}


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    where = images_measured(result)
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
            *([f"{row['spent']:.5f}", f"{row['spent_rmse']:.3f}"] if "spent" in row else []),
        )
        for row in result["rows"]
    ]
    coded = ("spent", "RMSE coded") if "spent" in result else ()
    yield from table(rows, ("steps done", "t", "rate, bits/dim", "+-", f"RMSE of 0..{result['levels'] - 1}", *coded))
    error = " (of one image)" if result["total_error"] is None else f" +- {result['total_error']:.4f}"
    yield (
        f"total {result['total']:.4f}{error} bits/dim: rate {result['rate']:.4f}, "
        f"distortion {result['reconstruction']:.4f} (from RMSE {result['rmse']:.3f} to lossless)"
    )
    if "spent" in result:
        yield f"spent by {result['coder']}:"
        shares = [(row["what"], f"{row['bits']:.4f}", f"{row['share']:.1%}") for row in result["shares"]]
        yield from table([*shares, ("all", f"{result['spent']:.4f}", "100%")], ("", "bits/dim", "share"))
    if "not_written" not in result:
        yield f"wrote {result['out']}"
