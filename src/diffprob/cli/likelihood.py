"""How probable images are under a run: -log2 p in bits per dimension, with its parts and its error bar.

bound: the variational bound of the run's chain, a code length of the grey levels without dequantisation. continuous:
the same for infinitely many steps. flow: the density of the probability flow, through uniform dequantisation. order:
log p of a model of levels that draws in one order, exactly; its bound is over all orders.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffprob.base.errors import InputError
from diffprob.cli import output
from diffprob.cli.options import add_bounding, bound, compute, images, optional
from diffprob.cli.parser import share, whole
from diffprob.cli.progress import TERMINAL
from diffprob.cli.text import images_measured, table
from diffprob.tasks.display import json_bytes
from diffprob.tasks.options import requesting

EXAMPLES = (
    "diffprob likelihood digits                              # the packaged digits on the test digits",
    "diffprob likelihood runs/mnist --until 0.01             # as many test images as that standard error takes",
    "diffprob likelihood runs/mnist --split train            # on training images: the gap is what it memorised",
    "diffprob likelihood runs/x --label own                  # of a run with labels: p(x|its label), not p(x)",
    "diffprob likelihood runs/mnist --steps 50 --terms all   # the chain of 50 steps on the fitted path",
    'diffprob likelihood runs/x --variance "UnitData()" --grid "Native()" --steps 1000 --terms all  # as DDPM',
    "diffprob likelihood runs/x pictures/ --method flow --repeats 5 --out flow.json",
)

METHODS = ("bound", "continuous", "flow", "order")
SHOWN = 5  # images that cost most
TERMS = 50  # `diffprob.tasks.bounds.TERMS`, whose module imports torch
# Options that only some methods have.
_OWN = {
    "bound": ("terms", "eta", "steps", "grid", "variance", "decoder_std", "clip"),
    "continuous": ("terms", "variance", "decoder_std", "clip"),
    "flow": ("divergence", "tolerance", "repeats", "importance"),
    "order": ("order",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, which images, by which method with options of its own, and where the numbers go."""
    parser.add_argument("--method", choices=METHODS, default="bound", help="how -log p is computed (default bound)")
    add_bounding(parser, 1000)
    parser.add_argument(
        "--terms", metavar="N", help=f"bound, continuous: random terms for each image; bound: or all (default {TERMS})"
    )
    parser.add_argument(
        "--eta", type=float, metavar="X", help="bound: which chain of the DDIM family, in (0, 1] (default 1: DDPM)"
    )
    parser.add_argument(
        "--divergence",
        metavar="D",
        help='flow: divergence by "Hutchinson(probes=1)" (default), or "Exact()" for small images',
    )
    parser.add_argument(
        "--tolerance", type=float, metavar="X", help="flow: error that the solver may make in a step (default 1e-5)"
    )
    parser.add_argument(
        "--repeats", type=whole(1), metavar="N", help="flow: average over N dequantisations (default 1)"
    )
    parser.add_argument(
        "--importance", type=whole(1), metavar="N", help="flow: importance samples in each dequantisation (default 1)"
    )
    parser.add_argument(
        "--order", choices=("raster", "random"), help="order: row by row (default), or one of --seed for all images"
    )
    parser.add_argument(
        "--until", type=share, metavar="X", help="stop once the mean's standard error is at most X bits/dim; -n at most"
    )
    parser.add_argument("--out", metavar="FILE", help="also write the result as .json, or a row for each image as .csv")
    parser.add_argument(
        "--record",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="add the number to the run's model card (default: on, except for packaged runs)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, write, record."""
    from diffprob.runs.folder import Run
    from diffprob.tasks.likelihood import (
        LikelihoodRequest,
        likelihood_measurement,
        measure_likelihood,
        prepare_likelihood,
    )
    from diffprob.tasks.recording import recorded

    _check(args)
    run = Run.open(args.run)
    with requesting():
        request = LikelihoodRequest(
            images=images(args), method=_method(args), label=args.label, until=args.until, compute=compute(args)
        )
    prepared = prepare_likelihood(run, request, TERMINAL)
    if args.dry_run:
        return {**prepared.settings, "dry_run": True}
    measured = measure_likelihood(prepared, TERMINAL)
    result = {**measured.to_json(), "dry_run": False}
    contents = measured.to_csv().encode if str(args.out).lower().endswith(".csv") else lambda: json_bytes(result)
    out = output.written(lambda: output.write_file(args.out, contents())) if args.out else {}
    return {
        **result,
        **out,
        **recorded(run, lambda: run.record(likelihood_measurement(measured)), TERMINAL, args.record),
    }


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    from diffprob.tasks.likelihood import SETTINGS

    how = [f"{name} {result[name]}" for name in SETTINGS if name in result]
    where = images_measured(result)
    if result["dry_run"]:
        yield f"would measure {where}: {result['method']}"
        yield ", ".join(how)
        return
    yield where
    key = "nats_per_dim" if "nats_per_dim" in result else "bits_per_dim"
    error = "" if result["standard_error"] is None else f" +- {result['standard_error']:.4f}"
    yield f"{result['method']}: {result[key]:.4f}{error} {result.get('unit', 'bits/dim')}"
    yield from table([(name, f"{value:.4f}") for name, value in result[f"terms_{key}"].items()])
    yield from _worst(result["images"], key)
    yield ", ".join(how)
    if result["recorded"]:
        yield f"recorded in {result['run']}/README.md"


def _worst(images: list[dict[str, Any]], key: str) -> Iterator[str]:
    """The images that cost most, by the name of their file."""
    if not any("file" in image for image in images):
        return
    ordered = sorted(images, key=lambda image: -image[key])[:SHOWN]
    yield f"most {key.replace('_per_', '/')}: " + ", ".join(f"{image['file']} {image[key]:.4f}" for image in ordered)


def _check(args: argparse.Namespace) -> None:
    for method, names in _OWN.items():
        for name in names:
            if getattr(args, name) is not None and name not in _OWN[args.method]:
                option = name.replace("_", "-")
                raise InputError(f"--{option} belongs to --method {method}, not to --method {args.method}")
    if args.terms not in (None, "all") and not (args.terms.isdigit() and int(args.terms) > 0):
        raise InputError(f"--terms {args.terms}: a whole number of at least 1, or all, would be right")
    if args.method == "continuous" and args.terms == "all":
        raise InputError("--terms all: infinitely many steps have no last one; a number would be right")
    if args.out and Path(args.out).suffix.lower() not in (".json", ".csv"):
        raise InputError(f"--out {args.out}: a name that ends in .json or .csv would be right")


def _method(args: argparse.Namespace) -> Any:
    """The method, with the options that are its own."""
    from diffprob.tasks.bounds import ChainBound
    from diffprob.tasks.likelihood_methods import ContinuousTimeBound, FixedOrder, ProbabilityFlow

    if args.method == "order":
        return FixedOrder(order=args.order or "raster", seed=args.seed)
    if args.method == "flow":
        own = {name: getattr(args, name) for name in _OWN["flow"]}
        own["divergence"] = optional(args.divergence, "--divergence", "divergence")
        return ProbabilityFlow(**{name: value for name, value in own.items() if value is not None})
    terms = None if args.terms == "all" else int(args.terms or TERMS)
    own = bound(args, terms=terms)
    if args.method == "continuous":
        return ContinuousTimeBound(**{name: own[name] for name in ("terms", "variance", "decoder_std", "clip")})
    return ChainBound(**own, eta=1.0 if args.eta is None else args.eta)
