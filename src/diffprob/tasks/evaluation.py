"""How near samples of a run are to real images: Frechet distance, KID, precision, recall, memorisation and others.

Real images of the other split stand beside the samples in every row: what a perfect model would get, with this n.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffprob.base.checks import MOST_TEXT, able, flag, instance, one_of, several
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng, increasing_subset, subset
from diffprob.config.classes import class_counts, numbering, strangers
from diffprob.data.for_run import Selection
from diffprob.data.images import Images
from diffprob.evaluation.cache import FeatureCache
from diffprob.evaluation.estimate import Estimate
from diffprob.evaluation.features import Features, describe
from diffprob.evaluation.frechet import Statistics, frechet
from diffprob.evaluation.memorisation import memorisation
from diffprob.evaluation.suite import METRICS, View, assess, check_names, chosen, usable, view, with_enough
from diffprob.runs.folder import Run
from diffprob.runs.measurements import Measurement
from diffprob.space.space import Space
from diffprob.storage.files import followed, measure
from diffprob.tasks.display import html_table
from diffprob.tasks.drawing import draw, network_progress
from diffprob.tasks.features import Auto, FeatureChoice, class_names, judged, renumbered
from diffprob.tasks.forecast import forecast
from diffprob.tasks.images import ImageSource, RealImages, measurement, read_samples, real_images, samples_of
from diffprob.tasks.plan import Sampling, SamplingPlan, plan_sampling
from diffprob.tasks.reporter import SILENT, Reporter

MANY = 10_000  # below this many samples the bias of a Frechet distance is said aloud
MOST_PIXELS = 4096  # values of an image up to which repeated training images are looked for among the pixels
MOST_COMPARED = 2000  # samples, and held-out images, whose nearest training image is looked for
DRAWING = ("sampler", "steps", "grid", "variance", "told", "guidance", "clip", "chunk", "precision")
DRAWN = (*DRAWING, "step", "seeds")
MEMORISED = "memorisation ratio (nearest training image, pixels)"
OF_NUMBERS = "memorisation ratio (nearest training datum, standardised numbers)"


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationRequest:
    """Which samples are compared with which real images, and how.

    Args:
        sampling: how samples are drawn; its seed decides all randomness, its compute where everything is computed.
        samples: judge these instead of drawing: a file of `diffprob sample --out x.npz`, or uint8 (N, C, H, W).
        held_out: compare with these images: their test split, or all of them. None: the run's own held-out ones.
        place: where the run's own images lie, if not where its recipe says.
        split: "auto" compares with held-out images where there are some; or "train", "test".
        resize: convert ``held_out`` of another shape or number of grey levels.
        features: what they are looked at through.
        statistics: also a Frechet distance to the mu and sigma of this .npz.
        metrics: names of `diffprob.evaluation.suite.METRICS`; None: those of `DEFAULT` that fit.

    Raises:
        ValueError: a split that there is not, or no metrics.
    """

    sampling: Sampling = Sampling(n=1000)
    samples: str | Path | np.ndarray | None = None
    held_out: ImageSource | None = None
    place: str | None = None
    split: str = "auto"
    resize: bool = False
    features: FeatureChoice = Auto()
    statistics: str | Path | None = None
    metrics: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        one_of("split", self.split, ("auto", "test", "train"))
        flag("resize", self.resize)
        able("features", self.features, "fit", "Auto() or Pca(64)")
        if self.metrics is not None:
            several("metrics", self.metrics, _is_text, most=MOST_TEXT, like='("frechet", "kid")')


@dataclass(frozen=True, eq=False)
class PreparedEvaluation:
    """A comparison that is about to be made.

    Args:
        run: whose samples.
        request: what was asked for.
        real: the real images.
        numbers: names of the run's classes by number.
        plan: how samples will be drawn; None where they are given.
        samples: uint8 (n, C, H, W), where they are given.
        statistics: to which there is one more Frechet distance.
        metrics: which.
        notes: a sentence for each metric that is left out.
        settings: everything that decides the numbers, JSON literals by name.
    """

    run: Run
    request: EvaluationRequest
    real: RealImages
    numbers: tuple[str, ...]
    plan: SamplingPlan | None
    samples: np.ndarray | None
    statistics: Statistics | None
    metrics: tuple[str, ...]
    notes: tuple[str, ...]
    settings: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        return {**self.settings, "features": self.request.features.text, "metrics": list(self.metrics)}


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Numbers of samples, each beside that of real images.

    Args:
        estimates: of the samples, by title, with intervals where they are known.
        real: the same of as many real images of the other split, where there are some, of the metrics alone.
        real_n: how many; None where there are none.
        features: what images were looked at through, with its hash.
        classes: names of the classes that the features judge.
        reference: the real images that samples were compared with.
        seed: of all randomness.
        notes: what a reader must know before comparing these numbers with any others.
        settings: everything that decides the numbers, JSON literals by name.
    """

    estimates: dict[str, Estimate]
    real: dict[str, Estimate]
    real_n: int | None
    features: str
    classes: tuple[str, ...]
    reference: Selection
    seed: int
    notes: tuple[str, ...]
    settings: dict[str, Any]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One for each number: title, value, interval, n samples, m reference images, and what real images get."""
        return [
            {
                "title": title,
                "value": estimate.value,
                "low": estimate.low,
                "high": estimate.high,
                "n": estimate.n,
                "m": estimate.m,
                "real": self.real[title].value if title in self.real else None,
                "details": estimate.details,
            }
            for title, estimate in self.estimates.items()
        ]

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        how = {"features": self.features, "real_n": self.real_n}
        return {**self.settings, **how, "rows": self.rows, "classes": list(self.classes), "notes": list(self.notes)}

    def __repr__(self) -> str:
        numbers = ", ".join(f"{title} {estimate.value:.4g}" for title, estimate in self.estimates.items())
        return f"{numbers} ({self.settings['n']:,} samples against {self.settings['reference']})"

    def _repr_html_(self) -> str:
        head = ("", "samples", "95% interval", "real images")
        rows = [
            (
                title,
                f"{estimate.value:.4g}",
                "" if estimate.low is None else f"{estimate.low:.4g} to {estimate.high:.4g}",
                f"{self.real[title].value:.4g}" if title in self.real else "",
            )
            for title, estimate in self.estimates.items()
        ]
        return html_table(f"{self.settings['n']:,} samples against {self.settings['reference']}", rows, head)


def prepare_evaluation(run: Run, request: EvaluationRequest, reporter: Reporter = SILENT) -> PreparedEvaluation:
    """Check everything, read the images and load the network, without drawing.

    Raises:
        InputError: a metric that there is not, a run without a model, other images than the run's, or too few for the
            metrics.
    """
    file, sampling = request.statistics, request.sampling
    check_names(request.metrics or ())
    if run.space.levels is not None:  # numbers of any kind are compared
        run.space.require_images("evaluation")
    real = real_images(run, request.held_out, request.place, request.split, request.resize, reporter)
    numbers = numbering(run.recipe, real.fitted[0])
    for line in strangers(run.name, numbers, real.fitted[0], real.reference.images):
        reporter.note(line)
    plan, drawing, samples = None, dict[str, Any](), None
    if request.samples is None:
        counts = class_counts(run.recipe, numbers, real.reference.images, real.fitted[0])
        plan = plan_sampling(run, sampling, reporter, counts=counts)
        drawing = {name: plan.settings[name] for name in DRAWN}
    elif isinstance(request.samples, np.ndarray):
        samples, drawing = samples_of(request.samples, run), dict.fromkeys(DRAWN)
    else:
        drawing, samples = read_samples(Path(request.samples), run, DRAWN, sampling.compute.best)
    statistics = Statistics.load(file) if file else None
    n = sampling.n if samples is None else len(samples)
    metrics, notes = chosen(request.metrics or None, min(n, len(real.reference)), run.space.levels is not None)
    settings = {
        "run": run.place,
        "n": n,
        **real.reference.provenance,
        "reference": f"{len(real.reference):,} {real.reference.called}",
        "train_sha256": None if real.train is None else real.train.digest,
        "statistics": str(file) if file else None,
        "statistics_sha256": measure(followed(Path(file)))["sha256"] if file else None,
        "drawing": drawing,
    }
    return PreparedEvaluation(run, request, real, numbers, plan, samples, statistics, metrics, notes, settings)


def evaluate(
    run: Run, request: EvaluationRequest = EvaluationRequest(), reporter: Reporter = SILENT
) -> EvaluationResult:
    """Draw samples of a run, or take given ones, and compare them with real images.

    Raises:
        InputError: a run without a model, other images than the run's, or metrics that do not fit.
        NumericalError: a sample or a number is not finite.
    """
    return measure_evaluation(prepare_evaluation(run, request, reporter), reporter)


def measure_evaluation(prepared: PreparedEvaluation, reporter: Reporter = SILENT) -> EvaluationResult:
    """Draw and compare.

    Raises:
        InputError: features that there are not for these images, or metrics that need others.
        NumericalError: a sample or a number is not finite.
    """
    request, real, n = prepared.request, prepared.real, prepared.settings["n"]
    seed, file = request.sampling.seed, request.statistics
    features = request.features.fit(*real.fitted, request.sampling.compute.on(), reporter)
    classes = class_names(features, real.fitted[0])
    requested = None if prepared.plan is None else renumbered(prepared.plan.labels(n), prepared.numbers, classes)
    metrics: Sequence[str] = prepared.metrics
    if request.metrics is None:
        metrics = usable([*metrics, *([] if requested is None else ["labels"])], features)
    samples = prepared.samples
    if samples is None:
        assert prepared.plan is not None
        samples = _draw(prepared.run, prepared.plan, request.sampling, reporter)
    own, reference, other = _views(features, samples, real, seed, classes, reporter)
    own = replace(own, requested=requested)
    reporter.note(f"comparing the samples with the real {getattr(prepared.run.space, 'kind', 'images')}")
    estimates = assess(own, reference, metrics, seed)
    others = {} if other is None else assess(other, reference, with_enough(metrics, len(other)), seed)
    estimates |= _memorised(prepared.run.space, own, real, seed, reporter)
    if file is not None and prepared.statistics is not None:
        estimates[_to_statistics(file)] = frechet(own.features, prepared.statistics, seed)
    return EvaluationResult(
        estimates=estimates,
        real=others,
        real_n=None if other is None else len(other),
        features=describe(features),
        classes=classes,
        reference=real.reference,
        seed=seed,
        notes=(*prepared.notes, *_notes(prepared.settings, estimates)),
        settings=prepared.settings,
    )


def evaluation_measurements(result: EvaluationResult) -> list[Measurement]:
    """Every number as a run keeps it."""
    settings, drawing = result.settings, result.settings["drawing"]
    how = {"evaluations" if name == "steps" else name: drawing[name] for name in DRAWING if drawing[name] is not None}
    rows = [
        measurement(row, result.seed, drawing["step"], _looked_at(row, result.features), result.reference, how)
        for row in result.rows
    ]
    if settings["statistics"]:  # the one number that is not against these images
        file = {
            "data": Path(settings["statistics"]).name,
            "digest": settings["statistics_sha256"],
            "role": "other data",
        }
        name = _to_statistics(settings["statistics"])
        rows = [replace(row, split="all", converted="", **file) if row.name == name else row for row in rows]
    return rows


def _is_text(name: str, value: object) -> None:
    instance(name, value, str)


def _draw(run: Run, plan: SamplingPlan, sampling: Sampling, reporter: Reporter) -> np.ndarray:
    streams = Rng.of(sampling.seed, sampling.n, device=sampling.compute.on())
    calls = plan.calls(sampling.n, plan.steps)
    what = f"{sampling.n:,} {getattr(run.space, 'kind', 'images')} x {plan.steps} evaluations"
    forecast(reporter, what, plan.model, run.space.model_shape, calls)
    with network_progress(reporter, "draw", calls, plan.model):
        return draw(plan.guided, plan.sampler, plan.times, streams, run.space, plan.clip).levels


def _views(
    features: Features,
    samples: np.ndarray,
    real: RealImages,
    seed: int,
    names: tuple[str, ...],
    reporter: Reporter,
) -> tuple[View, View, View | None]:
    """Samples, reference, and as many real images of the other split (or all, where it has fewer).

    Args:
        names: of the classes that the features judge.
    """
    cache = FeatureCache()

    def look(images: Images, indices: np.ndarray) -> View:
        with reporter.progress(f"features of {images.name}", len(indices), "image") as bar:
            vectors = cache.extract(features, images, images.digest(), indices, progress=bar.update)
        for line in vectors.notes:
            reporter.note(line)
        labels, called = judged(images, names)
        labels = None if labels is None else labels[indices]
        return view(features, images.take(indices), labels, vectors.features, names=called)

    with reporter.progress("features of the samples", len(samples), "image") as bar:
        own = view(features, samples, progress=bar.update, names=names)
    reference = look(real.reference.images, np.arange(len(real.reference)))
    if real.other is None:
        return own, reference, None
    chosen = increasing_subset(len(real.other), len(samples), seed, "real")
    return own, reference, look(real.other, chosen)


def _memorised(space: Space, own: View, real: RealImages, seed: int, reporter: Reporter) -> dict[str, Estimate]:
    """The memorisation ratio among the pixels, or standardised numbers, where there is a held-out split and data are
    small."""
    if real.test is None or real.train is None or own.pixels[0].size > MOST_PIXELS:
        return {}
    samples = own.pixels[subset(len(own), min(len(own), MOST_COMPARED), seed, "samples")]
    held = real.test.images.take(subset(len(real.test), min(len(real.test), MOST_COMPARED), seed, "held out"))
    train = real.train.images.take(np.arange(len(real.train)))
    sets: list[Any] = [samples, train, held]
    if space.levels is None:  # in one unit
        sets = [space.to_model(torch.from_numpy(np.array(part))) for part in sets]
    try:
        return {MEMORISED if space.levels is not None else OF_NUMBERS: memorisation(sets[0], sets[1], sets[2], seed)}
    except InputError as error:  # few images, or few values that they have, such as points on a grid
        reporter.note(f"no memorisation ratio: {error}")
        return {}


def _notes(settings: Mapping[str, Any], estimates: Mapping[str, Estimate]) -> Iterator[str]:
    distance = estimates.get("Frechet distance")
    if distance is not None and settings["n"] < MANY:
        bias, details = distance.details["bias"], distance.details
        about = details["expected_bias"] if bias is None else bias
        line = f"n = {settings['n']:,} is below {MANY:,}: the Frechet distance is about {about:.3g} too large"
        if details["extrapolated"] is not None:
            ends = f"{details['low_inf']:.4g} to {details['high_inf']:.4g}"
            line += f"; extrapolated to infinitely many samples: {details['extrapolated']:.4g} ({ends})"
        yield line
    if distance is not None:
        yield "Frechet distances and KIDs compare with others in the same features, split and n, and with nothing else"
    if settings["train_sha256"] is None:
        yield "the training images are not here: features are fitted to those compared with; no memorisation ratio"
    if settings["role"] == "train":
        yield "compared with the training images themselves: a model that repeats them looks perfect"
    for copies in (estimates[name] for name in (MEMORISED, OF_NUMBERS) if name in estimates):
        details = copies.details
        z, share = details["z"], details["share"]
        how = f"{share:.1%} of the samples are nearer to training images than to held-out ones, z = {z:.1f}"
        why = f": {details['why']}" if details["why"] else ""
        yield f"memorisation: {details['verdict']}{why} ({how})"


def _to_statistics(file: str | Path) -> str:
    return f"Frechet distance to the statistics {Path(file).name}"


def _looked_at(row: Mapping[str, Any], features: str) -> str:
    """What a number is in: pixels, standardised numbers, or the features."""
    metric = row["details"].get("metric")
    own = {MEMORISED: "pixels", OF_NUMBERS: "standardised numbers"}
    if metric is None:
        return own.get(row["title"], features)
    return "pixels" if METRICS[metric].space == "pixels" else features
