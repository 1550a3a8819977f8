"""The whole library on the embedded digits: train, draw, measure, detect, and a report of it, in minutes."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffprob.base.rng import Rng, derive, permutation
from diffprob.config.recipe import Recipe, build_model
from diffprob.data import Digits
from diffprob.data.images import Images
from diffprob.denoise.denoiser import NetworkModel
from diffprob.density.defaults import DEFAULT
from diffprob.density.histogram import PixelHistogram
from diffprob.density.noise import NoiseNorm
from diffprob.evaluation.detection import auroc
from diffprob.evaluation.transport import sliced_wasserstein2
from diffprob.process.grids import Uniform
from diffprob.recipes.digits import digits
from diffprob.reporting import artifacts
from diffprob.reporting.figures import grid_image, side_by_side
from diffprob.runs.folder import Run
from diffprob.runs.measurements import Measurement
from diffprob.sampling.ancestral import DDIM, Ancestral
from diffprob.storage.files import expanded, remove
from diffprob.storage.folders import is_run
from diffprob.tasks.bounds import ChainBound
from diffprob.tasks.compute import Compute
from diffprob.tasks.decoding import decode
from diffprob.tasks.drawing import Drawn, calls, draw, make_times, network_progress, seeds_text
from diffprob.tasks.encoding import EncodeRequest, encode
from diffprob.tasks.fitting import AnalyticFit, FitRequest, HeadFit, fit
from diffprob.tasks.images import ImageSelection
from diffprob.tasks.likelihood import LikelihoodRequest, likelihood, likelihood_measurement
from diffprob.tasks.plan import Sampling
from diffprob.tasks.recording import recorded
from diffprob.tasks.report_time import HEAD_BATCH
from diffprob.tasks.reporter import SILENT, Reporter
from diffprob.tasks.reporting import INSIDE, ReportRequest, report
from diffprob.tasks.scoring import ImageSet, Subject, label, score_sets
from diffprob.tasks.training_plan import PreparedTraining, TrainResult, planned
from diffprob.tasks.training_run import Halt, never, run_training

CHUNK = 120  # images per network call: 360 are three calls
REAL_DRAWS = 5  # random sets of training digits that the reference is the mean of
DIRECTIONS = 500
CODED = 4  # digits that become a file
ARRIVING = "as-bytes-arrive.png"


@dataclass(frozen=True)
class DemoPlan:
    """How long to train, and what to spend on samples and measurements.

    Args:
        steps: of the training.
        seconds: after which the training stops, with a checkpoint.
        ddim, ancestral, untrained: steps of the samples by DDIM, by Ancestral, and by DDIM of an untrained network.
        measured: held-out digits whose likelihood is taken.
        terms: steps of the chain that is bounded.
        fit_images, fit_times: what the analytic variance is fitted to.
        head_steps: of the fit of a variance for every pixel, of 32 digits each.
    """

    steps: int
    seconds: float
    ddim: int
    ancestral: int
    untrained: int = 10
    measured: int = 360
    terms: int = 50
    fit_images: int = 16  # seconds; the fitted path then ends where grey levels are told apart
    fit_times: int = 100
    head_steps: int = 500


FULL = DemoPlan(steps=2500, seconds=170.0, ddim=50, ancestral=250)
SHORT = DemoPlan(steps=400, seconds=20.0, ddim=20, ancestral=50, measured=120, terms=20, head_steps=100)


@dataclass(frozen=True, kw_only=True)
class DemoRequest:
    """A demonstration.

    Args:
        out: the run's folder; one that an earlier demonstration trained is gone on with, or taken.
        plan: how much is computed, `FULL` or `SHORT`.
        fresh: delete the run of an earlier demonstration and begin anew.
        seed: of the training; also that of the first image drawn.
        device: "auto" (a CUDA GPU if there is one), "cpu", "cuda" or "cuda:1".
    """

    out: Path
    plan: DemoPlan = FULL
    fresh: bool = False
    seed: int = 0
    device: str = "auto"

    def compute(self) -> Compute:
        """Where the network is evaluated, and on how many images at a time."""
        return Compute(device=self.device, batch=CHUNK)


@dataclass(frozen=True)
class DemoResult:
    """What was trained and measured.

    Args:
        training: of the run.
        n: samples of each kind, as many as digits are held out.
        distances: for each kind of images: "what" they are, the sliced Wasserstein-2 "distance" to the held-out digits
            in grey levels, its "ratio" to that of training digits, and the "seeds".
        bits_per_dim: of held-out digits: "what" gives them, "value", standard "error", and "n", how many digits.
        coded: some held-out digits as one file: "n" of them, its "bytes", "bits_per_dim", and "seconds" both ways.
        detection: how well each "proxy" tells upright digits from others: "auroc", "low" and "high" of its interval.
        pictures: paths by what they show.
        report: path of the page.
        seconds: that all of it took.
    """

    training: TrainResult
    n: int
    distances: list[dict[str, Any]]
    bits_per_dim: list[dict[str, Any]]
    coded: dict[str, Any]
    detection: list[dict[str, Any]]
    pictures: dict[str, str]
    report: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        return {
            **self.training.to_json(),
            "n": self.n,
            "directions": DIRECTIONS,
            "real_draws": REAL_DRAWS,
            "table": self.distances,
            "pictures": self.pictures,
            "bits_per_dim": self.bits_per_dim,
            "coded": self.coded,
            "detection": self.detection,
            "report": self.report,
            "seconds": self.seconds,
        }


def plan_demo(request: DemoRequest) -> dict[str, Any]:
    """What `demo` would do, as JSON literals.

    Raises:
        InputError: it would be refused.
    """
    out, plan = expanded(request.out), request.plan
    anew = request.fresh and is_run(out)
    state = f"{out} (new, the old run deleted)" if anew else planned(demo_recipe(plan, request.seed), out)
    return {"run": state, "steps": plan.steps, "seconds_at_most": plan.seconds}


def demo(request: DemoRequest, reporter: Reporter = SILENT, halt: Halt = never) -> DemoResult | None:
    """Train, go on with, or take the run; draw, measure, detect, and write the report.

    Under torchrun all processes but the first get None.

    Raises:
        Halted: ``halt`` stopped the training.
        InputError, NumericalError: what was saved before is intact.
    """
    began, plan, out = time.monotonic(), request.plan, expanded(request.out)
    if request.fresh and is_run(out):
        remove(out)
    recipe = demo_recipe(plan, request.seed)
    training = run_training(
        PreparedTraining(recipe=recipe, out=out, device=request.device, seconds=plan.seconds), reporter, halt
    )
    if training is None:
        return None
    run = Run.open(out)
    train, test = Digits("train").load(), Digits("test").load()
    distances, pictures = compare_samples(run, request, train, test, reporter)
    bits = compare_bits(run, request, train, test, reporter)
    coded, arriving = code_digits(run, request, reporter)
    return DemoResult(
        training=training,
        n=len(test),
        distances=distances,
        bits_per_dim=bits,
        coded=coded,
        detection=detect_turned(run, request, train, test, reporter),
        pictures={**pictures, "digits as bytes arrive": arriving},
        report=write_report(run, request, reporter),
        seconds=round(time.monotonic() - began, 1),
    )


def demo_recipe(plan: DemoPlan, seed: int) -> Recipe:
    """The recipe of the digits with the plan's steps, saved five times."""
    recipe, every = digits(), max(1, plan.steps // 5)
    training = replace(recipe.training, steps=plan.steps, seed=seed, sample_every=plan.steps, checkpoint_every=every)
    return replace(recipe, training=training)


def compare_samples(
    run: Run, request: DemoRequest, train: Images, test: Images, reporter: Reporter
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Draw with two samplers and without training, compare with held-out digits, record and draw pictures.

    Returns:
        The ``distances`` and ``pictures`` of a `DemoResult`.
    """
    plan, seed, n = request.plan, request.seed, len(test)
    device, real = request.compute().on(), test.take(range(n))
    reference = reference_distance(train, real, seed)
    model = request.compute().load(run)
    ddim = _draw(model, DDIM(), plan.ddim, n, request, run, reporter, rows=8)
    ancestral = _draw(model, Ancestral(), plan.ancestral, n, request, run, reporter)
    torch.manual_seed(derive(seed, "weights"))
    untrained = build_model(run.recipe, model.evaluation).to(device).eval()
    noise = _draw(untrained, DDIM(), plan.untrained, n, request, run, reporter)
    seeds = seeds_text(seed, n)

    def row(what: str, distance: float, seeds: str = seeds) -> dict[str, Any]:
        return {"what": what, "distance": distance, "ratio": distance / reference, "seeds": seeds}

    def distance(samples: Drawn) -> float:
        return sliced_wasserstein2(samples.levels, real, DIRECTIONS)

    rows = [
        row(f"DDIM(), {plan.ddim} steps", distance(ddim)),
        row(f"Ancestral(), {plan.ancestral} steps", distance(ancestral)),
        {**row("real training digits", reference, "-"), "ratio": 1.0},
        row(f"untrained network, DDIM(), {plan.untrained} steps", distance(noise)),
    ]
    for trained in rows[:2]:
        name = f"sliced W2 to held-out digits over that of training digits, {trained['what']}"
        details = {
            "distance": round(trained["distance"], 4),
            "of training digits": round(reference, 4),
            "directions": DIRECTIONS,
        }
        run.record(Measurement(name, trained["ratio"], n, seed, details={**details, "clip": True, "chunk": CHUNK}))
    return rows, _pictures(run, ddim, ancestral.levels, real[:64], seeds, reporter)


def reference_distance(train: Images, real: np.ndarray, seed: int) -> float:
    """Mean distance from random sets of training digits, as many as are held out, to these."""
    n, total = len(real), 0.0
    for k in range(REAL_DRAWS):
        index = permutation(seed, k, len(train))[:n]
        total += sliced_wasserstein2(train.take(index), real, DIRECTIONS)
    return total / REAL_DRAWS


def compare_bits(
    run: Run, request: DemoRequest, train: Images, test: Images, reporter: Reporter
) -> list[dict[str, Any]]:
    """Bits/dim of held-out digits: by the bound with fitted variances and steps, and by a histogram of every pixel."""
    plan, seed = request.plan, request.seed
    analytic = AnalyticFit(n=plan.fit_images, times=plan.fit_times)
    here = Compute(device=request.device)
    heads = HeadFit(steps=plan.head_steps, batch=HEAD_BATCH)
    fit(run, FitRequest(analytic=analytic, heads=heads, seed=seed, compute=here), reporter)
    bound = likelihood(
        run,
        LikelihoodRequest(
            images=ImageSelection(n=plan.measured, seed=seed),
            method=ChainBound(steps=plan.terms, terms=None),
            compute=request.compute(),
        ),
        reporter,
    )
    run.record(likelihood_measurement(bound))
    histogram = PixelHistogram.fit(train.take(range(len(train))), train.levels)
    bits = histogram.bits_per_dim(test.take(bound.index))
    mean, error, n = float(bits.mean()), float(bits.std(ddof=1) / np.sqrt(len(bits))), len(bound.index)
    name = "bits/dim of a histogram of every pixel, to compare with"
    run.record(
        Measurement(name, mean, n, request.seed, low=mean - 1.96 * error, high=mean + 1.96 * error, split="test")
    )
    return [
        {"what": f"this model, {plan.terms} steps", "value": bound.mean, "error": bound.standard_error, "n": n},
        {"what": "histogram of every pixel", "value": mean, "error": error, "n": n},
    ]


def code_digits(run: Run, request: DemoRequest, reporter: Reporter) -> tuple[dict[str, Any], str]:
    """Some held-out digits as a file, decoded again to the last bit, and a picture of them as its bytes arrive.

    Returns:
        What `DemoResult.coded` has, and the path of the picture.
    """
    compute, images = request.compute(), ImageSelection(n=CODED, seed=request.seed)
    encoded = encode(run, EncodeRequest(images=images, compute=compute), reporter)
    decoded = decode(run, encoded.data, None, compute, reporter, progressive=CODED)
    run.add(ARRIVING, decoded.progression_png())
    seconds = sum(encoded.seconds.values())
    numbers = {"bytes": len(encoded.data), "bits_per_dim": encoded.bits_per_dim, "seconds": seconds}
    return {"n": encoded.n, **numbers}, str(Path(run.place) / ARRIVING)


def detect_turned(
    run: Run, request: DemoRequest, train: Images, test: Images, reporter: Reporter
) -> list[dict[str, Any]]:
    """How well density proxies tell held-out digits from the same ones turned by 180 degrees."""
    compute, index = request.compute(), np.arange(len(test))
    model, upright = compute.load(run), test.take(index)
    fitting = ImageSet("training digits", train.take(index), index, {"data": "digits"})
    turned = ImageSet("upside down", upright[:, :, ::-1, ::-1].copy(), index, {})
    sha256, proxies = run.sha256(), (DEFAULT, NoiseNorm())
    subjects = [Subject(label(proxy), proxy.bind(run.space), model, sha256) for proxy in proxies]
    sets = [ImageSet("upright", upright, index, {}), turned]
    by_proxy, fits = score_sets(run, subjects, sets, fitting, request.seed, compute, reporter)
    if fits.new:
        recorded(run, lambda: fits.keep(run), reporter)
    areas = {name: auroc(scores["upright"], scores["upside down"]) for name, scores in by_proxy.items()}
    return [{"proxy": name, "auroc": area.value, "low": area.low, "high": area.high} for name, area in areas.items()]


def write_report(run: Run, request: DemoRequest, reporter: Reporter) -> str:
    """The run's page, as `diffprob.tasks.reporting.report` makes it, kept with the run; its path."""
    drawing = Sampling(steps=request.plan.ddim, seed=request.seed, compute=request.compute())
    run.add(INSIDE, report(run, ReportRequest(sampling=drawing), reporter).page)
    return str(Path(run.place) / INSIDE)


def _draw(
    model: NetworkModel,
    sampler: Any,
    steps: int,
    n: int,
    request: DemoRequest,
    run: Run,
    reporter: Reporter,
    rows: int = 0,
) -> Drawn:
    times = make_times(Uniform(), model.process, steps)
    streams = Rng.of(request.seed, n, device=request.compute().on())
    with network_progress(reporter, f"draw with {sampler!r}", calls(model, n, steps), model):
        return draw(model, sampler, times, streams, run.space, rows=rows)


def _pictures(
    run: Run, ddim: Drawn, ancestral: np.ndarray, real: np.ndarray, seeds: str, reporter: Reporter
) -> dict[str, str]:
    """Samples beside real digits, and the progression, into the run; the paths by name."""
    most = run.space.levels
    provenance = {"run": run.name, "step": run.meta["step"], "seeds": seeds, "chunk": CHUNK}
    images = {"DDIM": ddim.levels[:64], "Ancestral": ancestral[:64], "real, held out": real}
    sheet = side_by_side({what: grid_image(levels, 8, 3, levels=most) for what, levels in images.items()})
    files = {
        "samples beside real digits": ("samples.png", artifacts.png(sheet, provenance)),
        "from noise to digits": ("progression.png", artifacts.progression_png(ddim.frames, most, ddim.times)),
    }
    for name, contents in files.values():
        run.add(name, contents)
    paths = {what: str(Path(run.place) / name) for what, (name, _) in files.items()}
    curve = Path(run.place) / "loss.png"
    if curve.exists():
        paths["loss curve"] = str(curve)
    else:
        reporter.note("no loss curve: nothing was logged yet, or matplotlib is not installed")
    return paths
