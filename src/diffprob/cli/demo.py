"""Train on the embedded handwritten digits, draw, measure, write a report; minutes on two cores, offline."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffprob.cli.parser import add_device, add_dry_run, add_seed
from diffprob.cli.progress import TERMINAL
from diffprob.cli.text import table
from diffprob.tasks.progress import duration
from diffprob.tasks.signals import stopping

EXAMPLES = (
    "diffprob demo",
    "diffprob demo --short        # about 40 s, with a worse model",
    "diffprob demo --fresh        # once more from the start",
    "diffprob sample runs/demo --progressive",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How long, where the run goes, and its seed."""
    parser.add_argument("--short", action="store_true", help="about 40 s in all, with a worse model")
    parser.add_argument("--fresh", action="store_true", help="delete the run of an earlier demo and start anew")
    parser.add_argument("--out", metavar="RUN", help="the run's folder (default runs/demo, or runs/demo-short)")
    add_seed(parser, "decides the training, and is the seed of the first sample (default 0)")
    add_device(parser)
    add_dry_run(parser, "say what would be done, and do nothing")


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    """Train (or go on with, or take) the run; draw; measure; make pictures."""
    from diffprob.tasks import demo

    request = demo.DemoRequest(
        out=Path(args.out or ("runs/demo-short" if args.short else "runs/demo")),
        plan=demo.SHORT if args.short else demo.FULL,
        fresh=args.fresh,
        seed=args.seed,
        device=args.device,
    )
    if args.dry_run:
        return {"dry_run": True, **demo.plan_demo(request)}
    with stopping() as halt:
        result = demo.demo(request, TERMINAL, halt)
    return None if result is None else {**result.to_json(), "dry_run": False}


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    if result["dry_run"]:
        most = f"{result['steps']:,} steps or {duration(result['seconds_at_most'])}"
        yield f"would train {result['run']} for {most}, then draw and measure"
        return
    if result["timed_out"]:
        yield f"stopped by the clock at step {result['step']:,} of {result['steps']:,}; the same command goes on"
    yield ""
    yield "sliced Wasserstein-2 distance to held-out digits, in grey levels (0..16)"
    rows = [(row["what"], f"{row['distance']:.4f}", f"{row['ratio']:.3f}", row["seeds"]) for row in result["table"]]
    yield from table(rows, ("n = 360 each", "distance", "over real", "seeds"))
    yield f"{result['directions']} directions; real: the mean of {result['real_draws']} random sets of training digits"
    yield ""
    yield "how many bits a held-out digit costs, for each of its 64 values; log2 17 = 4.09 says nothing about digits"
    rows = [
        (row["what"], f"{row['value']:.3f}", f"+- {row['error']:.3f}", str(row["n"])) for row in result["bits_per_dim"]
    ]
    yield from table(rows, ("", "bits/dim", "standard error", "digits"))
    file = result["coded"]
    yield f"{file['n']} digits as one file: {file['bytes']:,} bytes, {file['bits_per_dim']:.3f} bits/dim, exact again"
    yield ""
    yield "telling the held-out digits from the same ones upside down: AUROC, 0.5 is chance"
    rows = [
        (row["proxy"], f"{row['auroc']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}") for row in result["detection"]
    ]
    yield from table(rows, ("proxy", "AUROC", "95% interval"))
    yield ""
    yield from table([*result["pictures"].items(), ("report, for a browser", result["report"])])
    step = f"{result['parameters']:,} parameters, step {result['step']:,}"
    yield f"{step}, trained for {duration(result['seconds_training'])}; this command took {duration(result['seconds'])}"
    yield f"next: diffprob sample {result['run']} --progressive"
