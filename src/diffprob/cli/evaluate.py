"""Compare samples of a run with real images: Frechet distance, KID, precision, recall, memorisation and others.

Real images of the other split stand beside the samples in every row: what a perfect model would get, with this n.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from diffprob.base.errors import InputError
from diffprob.base.text import printable
from diffprob.cli import output
from diffprob.cli.options import add_drawing, add_place, sampling
from diffprob.cli.output import written
from diffprob.cli.parser import add_device, add_dry_run
from diffprob.cli.progress import TERMINAL, Progress, say

if TYPE_CHECKING:
    import numpy as np

    from diffprob.data.for_run import Selection
    from diffprob.data.images import Images
    from diffprob.evaluation.estimate import Estimate
    from diffprob.evaluation.features import Features
    from diffprob.evaluation.suite import View
    from diffprob.runs.folder import Run
    from diffprob.tasks.plan import SamplingPlan

EXAMPLES = (
    "diffprob evaluate digits                                     # the packaged digits, 1,000 samples",
    "diffprob evaluate runs/mnist -n 10000 --precision bf16       # against MNIST's test images",
    "diffprob evaluate mnist --data path/to/mnist --samples drawn.npz  # of `diffprob sample --out drawn.npz`",
    "diffprob evaluate runs/cifar10 -n 50000 --split train --features inception:fid.safetensors",
    'diffprob evaluate runs/mine --metrics frechet,kid,per-class --sampler "Ancestral()" --steps 250',
)

FEATURES = (
    "auto (a classifier where there are labels, else PCA), classifier, classifier:FILE (diffprob baseline), "
    "inception:FILE, dino:NAME, pca, pca:N or pixels"
)
MANY = 10_000  # below this many samples the bias of a Frechet distance is said aloud
MOST_PIXELS = 4096  # values of an image up to which repeated training images are looked for among the pixels
MOST_COMPARED = 2000  # samples, and held-out images, whose nearest training image is looked for
DRAWING = ("sampler", "steps", "grid", "variance", "told", "guidance", "clip", "chunk", "precision")
DRAWN = (*DRAWING, "step", "seeds")


class Sets(NamedTuple):
    """The real images: those of the training, held-out ones, and which of both samples are compared with.

    Args:
        train: what the run was trained on, or None where that is not here.
        test: held-out images, or None where there are none.
        reference: one of both.
    """

    train: "Selection | None"
    test: "Selection | None"
    reference: "Selection"

    @property
    def fitted(self) -> "tuple[Images, Images | None]":
        """What features are fitted to, and held-out images for them."""
        if self.train is None:
            return self.reference.images, None
        return self.train.images, None if self.test is None else self.test.images

    @property
    def other(self) -> "Images | None":
        """The real images that are compared with the reference as samples are."""
        found = self.train if self.reference is self.test else self.test
        return None if found is None else found.images


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of a packaged run")
    parser.add_argument("place", nargs="?", metavar="DATA", help="the same as --data")
    add_place(parser)
    parser.add_argument("--held-out", metavar="DATA", help="compare with these images: its test split, or all of it")
    add_drawing(parser, 1000)
    parser.add_argument("--samples", metavar="FILE", help="judge these images (an .npz of `sample`) instead of drawing")
    parser.add_argument("--features", default="auto", metavar="F", help=FEATURES)
    parser.add_argument("--accept-weights", default="", metavar="DIGEST", help="of Inception weights of another source")
    parser.add_argument("--statistics", metavar="FILE", help="also a Frechet distance to the mu and sigma of this .npz")
    parser.add_argument("--metrics", metavar="A,B", help="which (diffprob show metrics); by default those that fit")
    parser.add_argument(
        "--split", choices=("auto", "test", "train"), default="auto", help="auto: test, if there is one"
    )
    parser.add_argument("--out", metavar="FILE", help="also write the result to this .json file")
    parser.add_argument(
        "--record",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="add the numbers to the run's card (on, but for packaged runs)",
    )
    add_device(parser)
    add_dry_run(parser, "check everything and say what would be done, without drawing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Draw or read, compare, record."""
    from diffprob.evaluation.features import describe
    from diffprob.evaluation.frechet import Statistics, frechet
    from diffprob.evaluation.suite import DEFAULT, assess, check_names, usable, with_enough
    from diffprob.runs.folder import Run
    from diffprob.storage.files import followed, measure
    from diffprob.tasks.compute import choose_device
    from diffprob.tasks.features import class_names, parse_features, renumbered
    from diffprob.tasks.recording import recorded

    if args.out and Path(args.out).suffix.lower() != ".json":
        raise InputError(f"--out {args.out}: a name that ends in .json would be right")
    names = args.metrics.split(",") if args.metrics else list(DEFAULT)
    check_names(names)
    wanted = parse_features(args.features, args.accept_weights)
    found = Run.open(args.run)
    sets = _sets(found, args)
    numbers = _numbers(found, sets)
    choice, facts, pixels = _samples(args, found, sets, numbers)
    published = Statistics.load(args.statistics) if args.statistics else None
    n = args.n if pixels is None else len(pixels)
    names, left_out = _enough(names, min(n, len(sets.reference)), bool(args.metrics))
    about = {
        "run": found.place,
        "n": n,
        **sets.reference.facts,
        "reference": f"{len(sets.reference):,} {sets.reference.called}",
        "train_sha256": None if sets.train is None else sets.train.digest,
        "statistics": args.statistics,
        "statistics_sha256": measure(followed(Path(args.statistics)))["sha256"] if args.statistics else None,
        "drawing": facts,
    }
    if args.dry_run:
        return {**about, "features": args.features, "metrics": names, "dry_run": True}
    features = wanted.fit(*sets.fitted, choose_device(args.device), TERMINAL)
    called = class_names(features, sets.fitted[0])
    asked = None if choice is None else renumbered(choice.labels(n), numbers, called)
    names = names if args.metrics else usable([*names, *([] if asked is None else ["labels"])], features)
    if pixels is None:
        pixels = _draw(choice, args, found)
    own, reference, real = _views(features, pixels, sets, args.seed, called)
    own = replace(own, asked=asked)
    say("compare the samples with the real images")
    drawn = assess(own, reference, names, args.seed)
    beside = assess(real, reference, with_enough(names, len(real)), args.seed) if real else {}
    drawn |= _memorised(own, sets, args.seed)
    if published is not None:
        drawn[_to_statistics(args.statistics)] = frechet(own.features, published, args.seed)
    rows = [_row(title, each, beside.get(title)) for title, each in drawn.items()]
    result = {**about, "features": describe(features), "real_n": len(real) if real else None, "rows": rows}
    result["classes"] = list(called)
    result["notes"] = [*left_out, *_notes(result, drawn)]
    out = written(lambda: output.write_file(args.out, output.json_bytes(result))) if args.out else {}
    kept = recorded(found, lambda: _record(found, result, args, facts, sets.reference), TERMINAL, args.record)
    return {**result, **out, **kept, "dry_run": False}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    from diffprob.cli.text import table

    if result["dry_run"]:
        yield f"would compare {result['n']:,} samples of {result['run']} with {result['reference']}"
        yield f"in features {result['features']}: {', '.join(result['metrics'])}"
        return
    yield f"{result['n']:,} samples of {result['run']} against {result['reference']}"
    yield f"features: {result['features']}"
    drawing = result["drawing"]
    said = ", ".join(f"{name} {value}" for name, value in drawing.items() if value is not None)
    yield f"drawn with {said}, averaged (EMA) weights"
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


def _sets(found: "Run", args: argparse.Namespace) -> Sets:
    """The real images; those of the training must be those of the run, unless others are given to compare with.

    Raises:
        InputError: other images than the run's, or none.
    """
    from diffprob.base.errors import Missing
    from diffprob.runs.images import OtherData, OwnImages
    from diffprob.tasks.images import held_out_of

    if args.data and args.place:
        raise InputError("DATA and --data are the same option: one of the two would be right")
    own = OwnImages(found, args.data or args.place)
    if args.held_out is None:
        train, test = own.train, own.test
    else:
        test = held_out_of(found, args.held_out, TERMINAL, None, args.resize)
        try:
            train = own.train
        except (Missing, OtherData) as error:
            if args.split == "train" or args.data or args.place:
                raise
            say(f"note: without the training images ({error})")
            train = None
    for text in own.notes:
        say(text)
    if args.split == "test" and test is None:
        name = own.train.images.name
        raise InputError(f"--split test: {name} has none; --held-out DATA or --split train would be right")
    if train is None or (test is not None and args.split != "train"):
        assert test is not None
        return Sets(train, test, test)
    return Sets(train, test, train)


def _numbers(found: "Run", sets: Sets) -> tuple[str, ...]:
    """Names of the run's classes by number; a line for images that have others."""
    from diffprob.config.classes import numbering, strangers

    numbers = numbering(found.recipe, sets.fitted[0])
    for text in strangers(found.name, numbers, sets.fitted[0], sets.reference.images):
        say(text)
    return numbers


def _samples(
    args: argparse.Namespace, run: "Run", sets: Sets, numbers: tuple[str, ...]
) -> "tuple[SamplingPlan | None, dict[str, Any], np.ndarray | None]":
    """How samples will be drawn, or None; what is said of the drawing; and those of a file, or None."""
    from diffprob.config.classes import class_counts
    from diffprob.tasks.images import read_samples
    from diffprob.tasks.plan import plan_sampling

    if args.samples:
        facts, pixels = read_samples(Path(args.samples), run, DRAWN, args.best)
        return None, facts, pixels
    counts = class_counts(run.recipe, numbers, sets.reference.images, sets.fitted[0])
    choice = plan_sampling(run, sampling(args), TERMINAL, counts=counts)
    return choice, {name: choice.facts[name] for name in DRAWN}, None


def _enough(names: Sequence[str], n: int, asked: bool) -> tuple[list[str], list[str]]:
    """The metrics that n images on the smaller side are enough for, and a sentence for each that is left out.

    Raises:
        InputError: one that was asked for is left out, or all are.
    """
    from diffprob.evaluation.suite import METRICS, with_enough

    kept = with_enough(names, n)
    said = [
        f"{name} is left out: it needs {METRICS[name].least} images a side, there are {n}"
        for name in names
        if name not in kept
    ]
    if said and (asked or not kept):
        raise InputError(f"{said[0]}; a larger -n, or other --metrics, would be right")
    return kept, said


def _draw(choice: Any, args: argparse.Namespace, found: "Run") -> "np.ndarray":
    from diffprob.base.rng import Rng
    from diffprob.tasks.compute import choose_device
    from diffprob.tasks.drawing import counted, draw

    streams = Rng.of(args.seed, args.n, device=choose_device(args.device))
    total = choice.calls(args.n, choice.steps)
    with Progress("draw", total, "network call") as bar, counted(choice.model, bar.update):
        return draw(choice.guided, choice.sampler, choice.times, streams, found.space, choice.clip).levels


def _views(
    features: "Features", pixels: "np.ndarray", sets: Sets, seed: int, names: tuple[str, ...]
) -> "tuple[View, View, View | None]":
    """Samples, reference, and as many real images of the other split (or all, where it has fewer).

    Args:
        names: of the classes that the features judge.
    """
    import numpy as np

    from diffprob.base.rng import derive, permutation
    from diffprob.evaluation.cache import FeatureCache
    from diffprob.evaluation.suite import view
    from diffprob.tasks.features import judged

    cache = FeatureCache()

    def real(images: "Images", indices: "np.ndarray") -> "View":
        with Progress(f"features of {images.name}", len(indices), "image") as bar:
            found = cache.extract(features, images, images.digest(), indices, progress=bar.update)
        for text in found.notes:
            say(text)
        labels, called = judged(images, names)
        labels = None if labels is None else labels[indices]
        return view(features, images.take(indices), labels, found.features, names=called)

    with Progress("features of the samples", len(pixels), "image") as bar:
        own = view(features, pixels, progress=bar.update, names=names)
    reference = real(sets.reference.images, np.arange(len(sets.reference)))
    if sets.other is None:
        return own, reference, None
    chosen = np.sort(permutation(derive(seed, "real"), 0, len(sets.other))[: len(pixels)])
    return own, reference, real(sets.other, chosen)


def _memorised(own: "View", sets: Sets, seed: int) -> "dict[str, Estimate]":
    """The memorisation ratio among the pixels, where there is a held-out split and images are small."""
    import numpy as np

    from diffprob.evaluation.estimate import subset
    from diffprob.evaluation.memorisation import FEWEST, memorisation

    if sets.test is None or sets.train is None or own.pixels[0].size > MOST_PIXELS:
        return {}
    if min(len(sets.train), len(sets.test)) < FEWEST:
        return {}
    samples = own.pixels[subset(len(own), min(len(own), MOST_COMPARED), seed, "samples")]
    held = sets.test.images.take(subset(len(sets.test), min(len(sets.test), MOST_COMPARED), seed, "held out"))
    train = sets.train.images.take(np.arange(len(sets.train)))
    return {"memorisation ratio (nearest training image, pixels)": memorisation(samples, train, held, seed)}


def _row(title: str, each: "Estimate", real: "Estimate | None") -> dict[str, Any]:
    return {
        "title": title,
        "value": each.value,
        "low": each.low,
        "high": each.high,
        "n": each.n,
        "m": each.m,
        "real": None if real is None else real.value,
        "details": each.details,
    }


def _notes(result: dict[str, Any], drawn: "dict[str, Estimate]") -> Iterator[str]:
    """What a reader must know before comparing these numbers with any others."""
    frechet = drawn.get("Frechet distance")
    if frechet is not None and result["n"] < MANY:
        bias, details = frechet.details["bias"], frechet.details
        about = details["expected_bias"] if bias is None else bias
        text = f"n = {result['n']:,} is below {MANY:,}: the Frechet distance is about {about:.3g} too large"
        if details["extrapolated"] is not None:
            ends = f"{details['low_inf']:.4g} to {details['high_inf']:.4g}"
            text += f"; extrapolated to infinitely many samples: {details['extrapolated']:.4g} ({ends})"
        yield text
    if frechet is not None:
        yield "Frechet distances and KIDs compare with others in the same features, split and n, and with nothing else"
    if result["train_sha256"] is None:
        yield "the training images are not here: features are fitted to those compared with; no memorisation ratio"
    if result["role"] == "train":
        yield "compared with the training images themselves: a model that repeats them looks perfect"
    for title, each in drawn.items():
        if title.startswith("memorisation"):
            z, share = each.details["z"], each.details["share"]
            how = f"{share:.1%} of the samples are nearer to training images than to held-out ones, z = {z:.1f}"
            why = f": {each.details['why']}" if each.details["why"] else ""
            yield f"memorisation: {each.details['verdict']}{why} ({how})"


def _record(
    found: "Run", result: dict[str, Any], args: argparse.Namespace, facts: dict[str, Any], reference: "Selection"
) -> None:
    """Every row into the run's measurements."""
    from diffprob.tasks.images import measurement

    said = {"evaluations" if name == "steps" else name: facts[name] for name in DRAWING if facts[name] is not None}
    features = ["pixels" if _of_pixels(row) else result["features"] for row in result["rows"]]
    rows = [
        measurement(row, args.seed, facts["step"], space, reference, said)
        for row, space in zip(result["rows"], features, strict=True)
    ]
    if args.statistics:  # the one number that is not against these images
        file = {"data": Path(args.statistics).name, "digest": result["statistics_sha256"], "role": "other data"}
        name = _to_statistics(args.statistics)
        rows = [replace(row, split="all", converted="", **file) if row.name == name else row for row in rows]
    found.record(*rows)


def _to_statistics(file: str) -> str:
    return f"Frechet distance to the statistics {Path(file).name}"


def _of_pixels(row: dict[str, Any]) -> bool:
    from diffprob.evaluation.suite import METRICS

    metric = row["details"].get("metric")
    return row["title"].startswith("memorisation") if metric is None else METRICS[metric].space == "pixels"
