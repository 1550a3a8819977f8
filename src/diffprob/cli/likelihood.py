"""How probable images are under a run: -log2 p in bits per dimension, with its parts and its error bar.

bound: the variational bound of the run's chain, a code length of the grey levels without dequantisation. continuous:
the same for infinitely many steps. flow: the density of the probability flow, through uniform dequantisation.
"""

import argparse
import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError, NumericalError
from diffprob.cli import output
from diffprob.cli.bounding import CHUNKS, Asked, add_bounding, ask, each, in_model, said_images, summed
from diffprob.cli.drawing import blame, counted, table
from diffprob.cli.parser import component, whole
from diffprob.cli.progress import Progress, say
from diffprob.cli.recording import recorded, written

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from diffprob.base.rng import Rng
    from diffprob.likelihood.bound import Term

FLOWING = 16  # images followed together by the flow, whose gradients keep the memory of all of them

EXAMPLES = (
    "diffprob likelihood digits                              # the packaged digits on the test digits",
    "diffprob likelihood runs/mnist -n 1000 --precision bf16 # 1,000 test images, 50 random terms of the chain each",
    "diffprob likelihood runs/mnist --split train            # on training images: the gap is what it memorised",
    "diffprob likelihood runs/mnist --steps 50 --terms all   # the chain of 50 steps on the fitted path",
    'diffprob likelihood runs/x --variance "UnitData()" --grid "Native()" --steps 1000 --terms all  # as DDPM',
    "diffprob likelihood runs/x pictures/ --method flow --repeats 5 --out flow.json",
)

METHODS = {
    "bound": "variational bound",
    "continuous": "variational bound of infinitely many steps",
    "flow": "probability flow",
}
PARTS = ("prior", "steps", "reconstruction")  # of a bound
SHOWN = 5  # images that cost most
TERMS = 50  # random terms of each image
# Options that only some methods have.
_OWN = {
    "bound": ("terms", "eta", "steps", "grid", "variance", "decoder_std", "clip"),
    "continuous": ("terms", "variance", "decoder_std", "clip"),
    "flow": ("divergence", "tolerance", "repeats", "importance"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("--method", choices=tuple(METHODS), default="bound", help="what stands for -log p (bound)")
    add_bounding(parser, 1000)
    parser.add_argument("--terms", metavar="N", help=f"bounds: random terms for each image, or all ({TERMS})")
    parser.add_argument("--eta", type=float, metavar="X", help="bound: of the family of chains, in (0, 1] (1: DDPM's)")
    parser.add_argument("--divergence", metavar="D", help='flow: "Hutchinson(probes=1)" or "Exact()", for small images')
    parser.add_argument("--tolerance", type=float, metavar="X", help="flow: of a solver's step (1e-5)")
    parser.add_argument("--repeats", type=whole(1), metavar="N", help="flow: dequantisations averaged (1)")
    parser.add_argument("--importance", type=whole(1), metavar="N", help="flow: importance samples in each (1)")
    parser.add_argument("--out", metavar="FILE", help="the result as .json, or one row an image as .csv")
    parser.add_argument(
        "--record",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="add the number to the run's card (on, but for packaged runs)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, summarise, record."""
    _check(args)
    flow = args.method == "flow"
    asked = ask(args, None if args.terms == "all" else int(args.terms or TERMS), not flow)
    way = {"bound": _bound, "continuous": _continuous, "flow": _flow}[args.method](args, asked)
    about = {"method": METHODS[args.method], **way.facts}
    if args.dry_run:
        return {**about, "dry_run": True}
    calls = None if flow else asked.calls(way.facts["evaluations"])
    with Progress("likelihood", calls, "network call") as bar, counted(asked.model, bar.update):
        found = each(asked, way.measure, max(1, FLOWING // asked.chunk) if flow else CHUNKS)
    parts = dict(zip(way.parts, found, strict=True))
    result = {**about, **_summary(asked, parts), "dry_run": False}
    out = written(lambda: output.write_file(args.out, _file(args.out, result))) if args.out else {}
    return {**result, **out, **recorded(asked.run, lambda: _record(asked, result), args.record)}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    how = [f"{name} {result[name]}" for name in _SAID if name in result]
    where = said_images(result)
    if result["dry_run"]:
        yield f"would measure {where}: {result['method']}"
        yield ", ".join(how)
        return
    yield where
    error = "" if result["standard_error"] is None else f" +- {result['standard_error']:.4f}"
    yield f"{result['method']}: {result['bits_per_dim']:.4f}{error} bits/dim"
    yield from table([(name, f"{value:.4f}") for name, value in result["terms_bits_per_dim"].items()])
    yield from _worst(result["images"])
    yield ", ".join(how)
    if result["recorded"]:
        yield f"recorded in {result['run']}/README.md"


def _worst(images: list[dict[str, Any]]) -> Iterator[str]:
    """The images that cost most, by the name of their file."""
    if not any("file" in image for image in images):
        return
    ordered = sorted(images, key=lambda image: -image["bits_per_dim"])[:SHOWN]
    yield "most bits/dim: " + ", ".join(f"{image['file']} {image['bits_per_dim']:.4f}" for image in ordered)


_SAID = (
    *("levels", "dequantisation", "grid", "steps", "terms", "eta", "variance", "decoder", "clip"),
    *("divergence", "tolerance", "evaluations", "precision", "seed"),
)


@dataclass(frozen=True)
class Way:
    """How a method measures.

    Args:
        measure: levels and streams to the nats of every part, each (B,).
        parts: their names.
        facts: everything that decides the numbers, JSON literals by name.
    """

    measure: "Callable[[Tensor, Rng], list[Tensor]]"
    parts: tuple[str, ...]
    facts: dict[str, Any]


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
    if args.eta is not None and not 0 < args.eta <= 1:
        why = "a chain without noise (DDIM) has no density, so no bound; " if args.eta == 0 else ""
        raise InputError(f"--eta {args.eta:g}: {why}a number in (0, 1] would be right")
    if args.tolerance is not None and not 1e-12 <= args.tolerance < 1:
        raise InputError(f"--tolerance {args.tolerance:g}: a number in [1e-12, 1) would be right")
    if args.out and Path(args.out).suffix.lower() not in (".json", ".csv"):
        raise InputError(f"--out {args.out}: a name that ends in .json or .csv would be right")


def _bound(args: argparse.Namespace, asked: Asked) -> Way:
    from diffprob.likelihood.bound import bound_terms, prior_nats

    eta = 1.0 if args.eta is None else args.eta

    def measure(levels: "Tensor", rng: "Rng") -> "list[Tensor]":
        x0 = in_model(asked, levels)
        terms = bound_terms(asked.denoiser, x0, asked.times, rng, asked.decoder, asked.terms, eta)
        return _parts(prior_nats(asked.model.process, x0, asked.times[0]), terms)

    own = {"eta": eta, "dequantisation": "none", "evaluations": asked.evaluations}
    return Way(measure, PARTS, {**asked.facts, **own})


def _continuous(args: argparse.Namespace, asked: Asked) -> Way:
    from diffprob.likelihood.bound import continuous_terms, prior_nats

    count = int(args.terms or TERMS)

    def measure(levels: "Tensor", rng: "Rng") -> "list[Tensor]":
        x0 = in_model(asked, levels)
        terms = continuous_terms(asked.denoiser, x0, rng, count, asked.decoder)
        return _parts(prior_nats(asked.model.process, x0, asked.times[0]), terms)

    own = {"terms": count, "dequantisation": "none", "evaluations": count + 1}
    return Way(measure, PARTS, {**_without(asked, "grid", "steps"), **own})


def _parts(prior: "Tensor", terms: "Iterable[Term]") -> "list[Tensor]":
    nats, _ = summed(terms)
    return [prior, nats[:-1].sum(0), nats[-1]]


def _flow(args: argparse.Namespace, asked: Asked) -> Way:
    from diffprob.likelihood.flow import Exact, Hutchinson, flow_log_prob
    from diffprob.space.dequantise import Dequantisation

    divergence = component(args.divergence, "--divergence", "divergence") if args.divergence else Hutchinson()
    tolerance, space = args.tolerance or 1e-5, asked.run.space
    rule = Dequantisation(args.repeats or 1, args.importance or 1)

    if rule.importance > 1 and not isinstance(divergence, Exact):
        say("note: with an estimated divergence importance samples are no bound any more; Exact() keeps it one")

    def density(x: "Tensor", rng: "Rng") -> "Tensor":
        return flow_log_prob(asked.denoiser, x, rng, divergence, tolerance, tolerance).log_prob

    def measure(levels: "Tensor", rng: "Rng") -> "list[Tensor]":
        # bits/dim = -log2 p/d - log2 w: the width w of a bin is a part of its own.
        nats = -rule.log_prob(density, space, levels, rng)
        return [nats, nats.new_full(nats.shape, -math.log(space.bin_width) * space.dimensions)]

    own = {
        "dequantisation": f"uniform, centred, {rule!r}",
        "divergence": repr(divergence),
        "tolerance": tolerance,
    }
    facts = _without(asked, "grid", "steps", "terms", "variance", "decoder")
    return Way(measure, ("density", "width of a bin"), {**facts, **own})


def _without(asked: Asked, *names: str) -> dict[str, Any]:
    """The facts but for those that this method has not."""
    return {name: value for name, value in asked.facts.items() if name not in names}


def _summary(asked: Asked, parts: "dict[str, np.ndarray]") -> dict[str, Any]:
    """Bits/dim of every image, their mean and its standard error, and the parts of the mean."""
    import numpy as np

    scale = asked.run.space.dimensions * math.log(2)
    bits = {name: values / scale for name, values in parts.items()}
    total = np.sum(list(bits.values()), 0)
    n = len(asked.chosen)
    error = float(total.std(ddof=1) / math.sqrt(n)) if n > 1 else None  # one image has no spread
    files = asked.images.files
    images = [
        {
            "index": int(index),
            **({"file": files[index]} if files else {}),
            "bits_per_dim": float(total[k]),
            **{name: float(b[k]) for name, b in bits.items()},
        }
        for k, index in enumerate(asked.chosen)
    ]
    if not all(math.isfinite(image["bits_per_dim"]) for image in images):
        worst = next(image["index"] for image in images if not math.isfinite(image["bits_per_dim"]))
        raise NumericalError(f"the bits/dim of image {worst} are not finite: {blame(asked.model)}")
    return {
        "bits_per_dim": float(total.mean()),
        "standard_error": error,
        "terms_bits_per_dim": {name: float(b.mean()) for name, b in bits.items()},
        "images": images,
    }


def _record(asked: Asked, result: dict[str, Any]) -> None:
    from diffprob.cli.reals import recorded
    from diffprob.runs.measurements import Measurement

    mean, error = result["bits_per_dim"], result["standard_error"]
    asked.run.record(
        Measurement(
            name=f"bits/dim ({result['method']})",
            value=mean,
            n=result["n"],
            seed=result["seed"],
            step=result["step"],
            details={name: result[name] for name in _SAID if name in result and name != "seed"},
            low=None if error is None else mean - 1.96 * error,
            high=None if error is None else mean + 1.96 * error,
            **recorded(asked.found),
        )
    )


def _file(path: str, result: dict[str, Any]) -> bytes:
    if Path(path).suffix.lower() == ".json":
        return output.json_bytes(result)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(result["images"][0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(result["images"])
    return text.getvalue().encode()
