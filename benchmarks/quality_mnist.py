"""Samples of an MNIST or Fashion-MNIST run, judged by a classifier trained on the real images.

    python benchmarks/quality_mnist.py RUN --data data/mnist --out mnist.json

The criterion, with 1000 samples: the share on which the classifier is at least 90% confident is at least 0.85 times
that among the real test images, and every class has 5 to 15% of the samples. The classifier is trained once and kept
(``--cache``).
"""

import hashlib
import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from quality import answer, draw_levels, drawing, finish, options

from diffprob.base.rng import permutation
from diffprob.data.images import Images
from diffprob.data.sources import Idx
from diffprob.evaluation.classifier import load_classifier, save_classifier
from diffprob.evaluation.classify import FitProgress, FitSettings, fit_classifier, judge
from diffprob.net.classifier import Classifier, ClassifierSpec
from diffprob.recipes import data_path
from diffprob.reporting.figures import save_grid
from diffprob.runs.folder import Run
from diffprob.runs.measurements import Measurement

SPEC = ClassifierSpec(widths=(16, 32, 64))
SETTINGS = FitSettings(epochs=3, precision="bf16")
SHARE, LEAST, MOST = 0.85, 0.05, 0.15
ACCURACY = {"mnist": 0.98}  # what the criterion asks of the classifier itself


def classifier(images: Images, cache: Path, device: str) -> Classifier:
    """The classifier for these images: the kept one, or a new one that is then kept."""
    assert images.labels is not None
    labels = images.labels
    spec = replace(SPEC, in_channels=images.event_shape[0], classes=int(labels.max()) + 1)
    notes = {"data": images.digest(), "settings": repr(SETTINGS)}
    key = hashlib.sha256(repr((spec, notes)).encode()).hexdigest()[:16]
    path = cache / f"classifier-{key}.safetensors"
    if path.exists():
        return load_classifier(path, spec, notes).to(device)
    began = time.perf_counter()

    def tell(progress: FitProgress) -> None:
        if progress.step % 100 == 0 or progress.step == progress.steps:
            taken = time.perf_counter() - began
            print(f"classifier: step {progress.step}/{progress.steps}, {taken:.0f} s", file=sys.stderr)

    net = fit_classifier(np.asarray(images.pixels), labels, spec, SETTINGS, images.levels, device, tell)
    cache.mkdir(parents=True, exist_ok=True)
    save_classifier(net, path, notes)
    return net


def main() -> int:
    """Measure, print, and say whether the criterion is met."""
    parser = options(__doc__ or "", "mnist")
    parser.add_argument("--data", help="folder with the idx files (default: where recipes look)")
    parser.add_argument("-n", type=int, default=1000, help="number of samples")
    parser.add_argument("--seed", type=int, default=0)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffprob"
    parser.add_argument("--cache", type=Path, default=home, help="where the classifier is kept")
    parser.add_argument("--only-classifier", action="store_true", help="judge real images instead of samples")
    arguments = parser.parse_args()
    run = None if arguments.only_classifier else Run.open(arguments.run)
    name = run.name if run else str(arguments.run)
    folder = arguments.data or data_path({"fashion": "fashion-mnist"}.get(name, name))
    train, test = Idx(folder, "train").load(), Idx(folder, "test").load()
    net = classifier(train, arguments.cache, arguments.device)
    real = judge(net, np.asarray(test.pixels), test.labels)
    details: dict[str, object] = {"run": str(arguments.run), "data": Path(folder).name, "classifier": repr(net.spec)}
    details |= {"settings": repr(SETTINGS), "real": asdict(real)}
    rows = [_row("real test images", real.n, real.confident, 1.0, real.histogram, real.accuracy)]
    if run is None:
        # Real training images in the place of samples: what a perfect model would get, and the noise of n.
        samples, how = train.take(permutation(arguments.seed, 0, len(train))[: arguments.n]), {}
    else:
        model = run.load(arguments.device, arguments.chunk, arguments.precision)
        samples, seconds = draw_levels(model, run.space, arguments.n, arguments.seed, arguments)
        how = drawing(model, arguments)
        details |= {"step": run.meta["step"], "seed": arguments.seed, **how, "seconds": seconds}
    if arguments.picture:
        save_grid(samples[:100], arguments.picture, columns=10)
    drawn = judge(net, samples)
    ratio = drawn.confident / real.confident
    rows.append(_row("samples", drawn.n, drawn.confident, ratio, drawn.histogram, None))
    checks = {
        f"ratio >= {SHARE}": ratio >= SHARE,
        f"classes {LEAST:.0%} to {MOST:.0%}": min(drawn.histogram) >= LEAST and max(drawn.histogram) <= MOST,
    }
    if name in ACCURACY:
        checks[f"classifier accuracy >= {ACCURACY[name]}"] = (real.accuracy or 0) >= ACCURACY[name]
    if run and arguments.record:
        seen = {**how, "fewest in a class": min(drawn.histogram), "most": max(drawn.histogram)}
        title = "share of confidently classified samples, relative to real test images"
        run.record(Measurement(title, ratio, drawn.n, arguments.seed, details=seen))
    details |= {"samples": asdict(drawn), "ratio": ratio, "checks": checks}
    for check, met in checks.items():
        print(f"{check}: {'yes' if met else 'NO'}")
    return finish(rows, all(checks.values()), details, arguments.out)


def _row(
    what: str, n: int, confident: float, ratio: float, histogram: tuple[float, ...], accuracy: float | None
) -> dict[str, object]:
    row: dict[str, object] = {"images": what, "n": n, "confident": confident, "ratio": ratio}
    row["fewest"], row["most"] = min(histogram), max(histogram)
    row["classes %"] = " ".join(f"{100 * share:.1f}" for share in histogram)
    return row | {"accuracy": accuracy}


if __name__ == "__main__":
    raise SystemExit(answer(main))
