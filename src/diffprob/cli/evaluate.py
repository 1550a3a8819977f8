"""Compare samples of a run with real images: Frechet distance, KID, precision, recall, memorisation and others.

Real images of the other split stand beside the samples in every row: what a perfect model would get, with this n.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffprob.base.errors import InputError
from diffprob.base.text import printable
from diffprob.cli import output
from diffprob.cli.options import add_drawing, add_place, sampling
from diffprob.cli.parser import add_device, add_dry_run
from diffprob.cli.progress import TERMINAL
from diffprob.cli.text import table
from diffprob.tasks.display import json_bytes

EXAMPLES = (
    "diffprob evaluate digits                                     # the packaged digits, 1,000 samples",
    "diffprob evaluate runs/mnist -n 10000                        # against MNIST's test images",
    "diffprob evaluate mnist --data path/to/mnist --samples drawn.npz  # of `diffprob sample --out drawn.npz`",
    "diffprob evaluate runs/cifar10 -n 50000 --split train --features inception:fid.safetensors",
    'diffprob evaluate runs/mine --metrics frechet,kid,per-class --sampler "Ancestral()" --steps 250',
)

FEATURES = (
    "auto (a classifier where there are labels, else PCA), classifier, classifier:FILE (diffprob baseline), "
    "inception:FILE, dino:NAME, pca, pca:N or pixels"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, the real images, which metrics in which features, and how samples are drawn."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of a packaged run")
    parser.add_argument("place", nargs="?", metavar="DATA", help="where the run's own images are, like --data")
    add_place(parser)
    parser.add_argument(
        "--held-out", metavar="DATA", help="compare with these images instead: their test split, or all of them"
    )
    add_drawing(parser, 1000)
    parser.add_argument(
        "--samples", metavar="FILE", help="measure these images, an .npz that `sample` wrote, instead of drawing"
    )
    parser.add_argument("--features", default="auto", metavar="F", help=FEATURES)
    parser.add_argument(
        "--accept-weights",
        default="",
        metavar="DIGEST",
        help="take Inception weights whose SHA-256 begins so, though they are not the published ones",
    )
    parser.add_argument(
        "--statistics", metavar="FILE", help="also measure the Frechet distance to the mu and sigma in this .npz"
    )
    parser.add_argument(
        "--metrics", metavar="A,B", help="which metrics (diffprob show metrics; default: those that apply)"
    )
    parser.add_argument(
        "--split",
        choices=("auto", "test", "train"),
        default="auto",
        help="split of real images to compare with; auto: test, if there is one",
    )
    parser.add_argument("--out", metavar="FILE", help="also write the result to this .json file")
    parser.add_argument(
        "--record",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="add the numbers to the run's model card (default: on, except for packaged runs)",
    )
    add_device(parser)
    add_dry_run(parser, "check everything and say what would be done, without drawing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Draw or read, compare, record."""
    from diffprob.runs.folder import Run
    from diffprob.tasks.evaluation import (
        EvaluationRequest,
        evaluation_measurements,
        measure_evaluation,
        prepare_evaluation,
    )
    from diffprob.tasks.features import parse_features
    from diffprob.tasks.recording import recorded

    if args.out and Path(args.out).suffix.lower() != ".json":
        raise InputError(f"--out {args.out}: a name that ends in .json would be right")
    if args.data and args.place:
        raise InputError("DATA and --data are the same option: one of the two would be right")
    request = EvaluationRequest(
        sampling=sampling(args),
        samples=args.samples,
        held_out=args.held_out,
        place=args.data or args.place,
        split=args.split,
        resize=args.resize,
        features=parse_features(args.features, args.accept_weights),
        statistics=args.statistics,
        metrics=tuple(args.metrics.split(",")) if args.metrics else None,
    )
    run = Run.open(args.run)
    prepared = prepare_evaluation(run, request, TERMINAL)
    if args.dry_run:
        return {**prepared.to_json(), "dry_run": True}
    evaluation = measure_evaluation(prepared, TERMINAL)
    result = evaluation.to_json()
    out = output.written(lambda: output.write_file(args.out, json_bytes(result))) if args.out else {}
    kept = recorded(run, lambda: run.record(*evaluation_measurements(evaluation)), TERMINAL, args.record)
    return {**result, **out, **kept, "dry_run": False}


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    if result["dry_run"]:
        yield f"would compare {result['n']:,} samples of {result['run']} with {result['reference']}"
        yield f"in features {result['features']}: {', '.join(result['metrics'])}"
        return
    yield f"{result['n']:,} samples of {result['run']} against {result['reference']}"
    yield f"features: {result['features']}"
    drawing = result["drawing"]
    settings = ", ".join(f"{name} {value}" for name, value in drawing.items() if value is not None)
    yield f"drawn with {settings}, averaged (EMA) weights"
    yield ""
    real = "-" if result["real_n"] is None else f"{result['real_n']:,} real images"
    rows = [
        (
            printable(row["title"]),
            f"{row['value']:.4g}",
            "-" if row["low"] is None else f"{row['low']:.4g} to {row['high']:.4g}",
            "-" if row["real"] is None else f"{row['real']:.4g}",
        )
        for row in result["rows"]
    ]
    yield from table(rows, ("", f"{result['n']:,} samples", "95% interval", real))
    yield ""
    yield from result["notes"]
    if result["recorded"]:
        yield f"recorded in {result['run']}/README.md; diffprob report {result['run']} draws the page"
