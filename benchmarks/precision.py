"""Do numbers change where the network is computed in bf16? Samples, detection and bits/dim in both precisions.

    python benchmarks/precision.py digits -n 360 --outside data/emnist-letters
    python benchmarks/precision.py mnist --data data/mnist --outside data/fashion-mnist -n 500

Everything has the same seeds in both: the same starting noise, the same images, the same noise on them. ``--speed``
measures milliseconds of the processor for an evaluation of an image instead, where nothing else may run.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffprob.density.noise import DenoisingScore, ReconstructionError
from diffprob.density.path import ScoreNorms
from diffprob.runs.folder import Run
from diffprob.tasks.compute import Compute
from diffprob.tasks.detection import DetectionRequest, detect
from diffprob.tasks.evaluation import EvaluationRequest, evaluate
from diffprob.tasks.images import ImageSelection
from diffprob.tasks.likelihood import LikelihoodRequest, likelihood
from diffprob.tasks.plan import Sampling
from diffprob.tasks.sample import SampleRequest, sample

BOTH = ("fp32", "bf16")
PROXIES = (ScoreNorms(), DenoisingScore(), ReconstructionError())


def drawing(run: Run, data: str | None, n: int, steps: int) -> dict[str, Any]:
    """Frechet distance and KID of samples in both, and how far the same sample is apart, in grey levels."""
    images, numbers = {}, {}
    for precision in BOTH:
        wanted = Sampling(n=n, steps=steps, compute=Compute(device="cpu", precision=precision))
        images[precision] = sample(run, SampleRequest(sampling=wanted)).images
        request = EvaluationRequest(samples=images[precision], place=data, metrics=("frechet", "kid"))
        rows = evaluate(run, request).rows
        numbers[precision] = {row["title"]: (row["value"], row["low"], row["high"], row["real"]) for row in rows}
    one, other = (images[precision].astype(float) for precision in BOTH)
    apart = np.sqrt(((one - other) ** 2).mean((1, 2, 3)))
    return {**numbers, "rmse of the same sample, median and 95%": np.quantile(apart, (0.5, 0.95)).tolist()}


def detection(run: Run, data: str | None, outside: str, n: int) -> dict[str, Any]:
    """AUROC in both, and differences of the scores of an image over their spread among images that belong."""
    results = {}
    for precision in BOTH:
        compute = Compute(device="cpu", precision=precision)
        how: dict[str, Any] = {"proxies": PROXIES, "n": n, "place": data, "resize": True, "compute": compute}
        results[precision] = detect(run, DetectionRequest(outside=(outside,), **how))
    rows = {}
    for one, other in zip(*(results[precision].separations for precision in BOTH), strict=True):
        own, theirs = (results[precision].scores[one.proxy] for precision in BOTH)
        inside = results["fp32"].inside.name
        rows[one.proxy] = {
            "fp32": (one.auroc.value, one.auroc.low, one.auroc.high),
            "bf16": (other.auroc.value, other.auroc.low, other.auroc.high),
            "root mean squared difference / spread inside": {
                name: float(np.sqrt(np.mean((own[name] - theirs[name]) ** 2)) / np.std(own[inside])) for name in own
            },
        }
    return rows


def bits(run: Run, data: str | None, n: int) -> dict[str, Any]:
    """Bits/dim in both, and the mean and spread of the differences of an image."""
    each = {}
    for precision in BOTH:
        compute = Compute(device="cpu", precision=precision)
        each[precision] = likelihood(run, LikelihoodRequest(images=ImageSelection(n=n, place=data), compute=compute))
    apart = each["bf16"].per_image - each["fp32"].per_image
    error = float(apart.std(ddof=1) / np.sqrt(n))
    means = {precision: (result.mean, result.standard_error) for precision, result in each.items()}
    return {**means, "bf16 - fp32": (float(apart.mean()), error), "largest": float(np.abs(apart).max())}


def speed(run: Run, n: int = 128, repetitions: int = 3) -> dict[str, Any]:
    """Milliseconds of one thread for an evaluation of an image, the fastest of a few, by images in a call."""
    torch.set_num_threads(1)
    rows = {}
    for chunk in ("auto", 64):
        models = {precision: run.load(chunk=chunk, precision=precision) for precision in BOTH}  # pyright: ignore[reportArgumentType]
        x, fastest = torch.randn(n, *run.space.shape), dict.fromkeys(BOTH, float("inf"))
        with torch.no_grad():
            for _ in range(repetitions):
                for precision, model in models.items():
                    began = time.process_time()
                    model(x, torch.tensor(0.5))
                    fastest[precision] = min(fastest[precision], 1000 * (time.process_time() - began) / n)
        rows[str(models["fp32"].evaluation.chunk)] = fastest
    return rows


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--data")
    parser.add_argument("--outside", metavar="DATA")
    parser.add_argument("-n", type=int, default=500)
    parser.add_argument("--steps", type=int, default=20, help="evaluations of a sample")
    parser.add_argument("--bits", type=int, default=100, metavar="N", help="images whose bits/dim are measured")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--out", type=Path, metavar="FILE")
    args = parser.parse_args()
    run = Run.open(args.run)
    parts = {
        "speed": lambda: speed(run),
        "drawing": lambda: drawing(run, args.data, args.n, args.steps),
        "detection": lambda: detection(run, args.data, args.outside, args.n),
        "bits/dim": lambda: bits(run, args.data, args.bits),
    }
    chosen = ["speed"] if args.speed else ["drawing", *(["detection"] if args.outside else []), "bits/dim"]
    result: dict[str, Any] = {"run": args.run, "n": args.n}
    for name in chosen:
        result[name] = parts[name]()
        print(json.dumps({name: result[name]}, indent=1), flush=True)
    if args.out:
        args.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
