"""Runs of several families on one data set, side by side: what they draw, what an image costs them, what drawing takes.

    python benchmarks/families.py runs/mnist runs/flow runs/ardm --data data/mnist --out families.jsonl

For each run: the Frechet distance of its samples to the held-out images, in the features of a classifier trained on
the real ones; the accuracy on held-out images of a second classifier that has seen these samples alone, with the
labels that the first gives them; bits/dim of held-out images by the default of `diffprob likelihood`; and seconds of
the processor for a sample. Real training images, as many as samples, take the same way and are the first row. A row
that is in the file already is not measured again. A grid of each run's samples lies beside the rows.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.base.rng import permutation
from diffprob.data import Images, open_data
from diffprob.evaluation.classifier import TrainedClassifier, default_epochs, plan
from diffprob.evaluation.classify import FitSettings, classify, fit_classifier, judge
from diffprob.evaluation.features import extract
from diffprob.evaluation.frechet import frechet
from diffprob.reporting.artifacts import grid_png
from diffprob.tasks.classifier import trained_classifier


class Judge:
    """Held-out images and a classifier of real ones: what they say of a set of samples."""

    def __init__(self, train: Images, test: Images) -> None:
        self.train, self.test = train, test
        self.real: TrainedClassifier = trained_classifier(train, test)
        self.features: Any = self.real.features()
        self.held = extract(self.features, np.asarray(test.pixels))

    def __call__(self, pixels: np.ndarray) -> dict[str, Any]:
        """Of samples uint8 (n, C, H, W)."""
        distance = frechet(extract(self.features, pixels), self.held)
        labels = classify(self.real.net, pixels, self.train.levels).argmax(1).numpy()
        settings = FitSettings(epochs=default_epochs(len(pixels)))
        taught = fit_classifier(pixels, labels, plan(self.train, self.test).spec, settings, self.train.levels)
        accuracy = judge(taught, np.asarray(self.test.pixels), self.test.labels, levels=self.train.levels).accuracy
        low, high = distance.low, distance.high
        return {"frechet": distance.value, "low": low, "high": high, "accuracy": accuracy, "n": len(pixels)}


def cost(call: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and the seconds of the processor that it took."""
    began = time.process_time()
    answer = call()
    return answer, time.process_time() - began


def measure(place: str, ask: Judge, given: argparse.Namespace) -> dict[str, Any]:
    """The row of one run."""
    run = dp.load(place)
    drawn, seconds = cost(lambda: run.sample(given.n, steps=given.steps).images)
    given.out.with_name(f"{Path(place).name}.png").write_bytes(grid_png(drawn[:100], ask.train.levels, {}, columns=10))
    row = {"run": Path(place).name, **ask(drawn), "seconds": seconds / len(drawn), "evaluations": given.steps}
    try:
        bits, spent = cost(lambda: run.bits_per_dim(given.data, n=given.images))
        row |= {"bits/dim": bits.mean, "standard error": bits.standard_error, "images": given.images}
        row |= {"seconds of an image's bits": spent / given.images}
    except InputError as error:
        row["bits/dim"] = str(error)
    return row | {"parameters": sum(p.numel() for p in run.denoiser().parameters())}


def main() -> None:
    """Measure what is not in the file yet, and print every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="folders of runs")
    parser.add_argument("--data", required=True, help="their images, with labels and a test split")
    parser.add_argument("-n", type=int, default=1000, help="samples of each run")
    parser.add_argument("--steps", type=int, default=50, help="evaluations for each sample")
    parser.add_argument("--images", type=int, default=100, help="held-out images whose bits are measured")
    parser.add_argument("--out", type=Path, default=Path("families.jsonl"))
    given = parser.parse_args()
    known = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    train, test = (cast(Images, open_data(given.data, split=split).load()) for split in ("train", "test"))
    ask = Judge(train, test)
    for name in ("real images", *given.runs):
        row = next((row for row in known if row["run"] == Path(name).name), None)
        if row is None:
            some = permutation(0, 0, len(train))[: given.n]
            real = name == "real images"
            row = {"run": name, **ask(train.take(some))} if real else measure(name, ask, given)
            with given.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
