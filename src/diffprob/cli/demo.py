"""Train on the embedded handwritten digits, draw, measure, detect, leave pictures: minutes on two cores, no network."""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.cli.parser import add_device, add_dry_run, add_seed
from diffprob.cli.progress import TERMINAL, Progress, duration, say
from diffprob.storage.files import remove
from diffprob.storage.folders import is_run
from diffprob.tasks.signals import stopping

if TYPE_CHECKING:
    import numpy as np

    from diffprob.config.recipe import Recipe
    from diffprob.runs.folder import Run

EXAMPLES = (
    "diffprob demo",
    "diffprob demo --short        # about 40 s, with a worse model",
    "diffprob demo --fresh        # once more from the start",
    "diffprob sample runs/demo --progressive",
)

CHUNK = 120  # images per network call: 360 are three calls
REAL_DRAWS = 5  # random sets of training digits that the reference is the mean of
DIRECTIONS = 500
UNTRAINED_STEPS = 10


@dataclass(frozen=True)
class Plan:
    """How long to train, in how many steps to draw, and on how many digits and steps to take the likelihood."""

    steps: int
    seconds: float
    ddim: int
    ancestral: int
    measured: int = 360
    terms: int = 50


FULL = Plan(steps=2500, seconds=170.0, ddim=50, ancestral=250)
SHORT = Plan(steps=400, seconds=20.0, ddim=20, ancestral=50, measured=120, terms=20)
# Of the variances, in seconds; the path then ends where the levels are told apart.
FIT_IMAGES, FIT_TIMES = 16, 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How long, where the run goes, and its seed."""
    parser.add_argument("--short", action="store_true", help="about 40 s in all, with a worse model")
    parser.add_argument("--fresh", action="store_true", help="delete the run of an earlier demo and start anew")
    parser.add_argument("--out", metavar="RUN", help="the run's folder (runs/demo, or runs/demo-short)")
    add_seed(parser, "decides the training and, as the first image's seed, the samples (0)")
    add_device(parser)
    add_dry_run(parser, "say what would be done, and do nothing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train (or go on with, or take) the run; draw; measure; make pictures."""
    began = time.monotonic()
    plan = SHORT if args.short else FULL
    out = Path(args.out or ("runs/demo-short" if args.short else "runs/demo"))
    recipe = _recipe(plan, args.seed)
    from diffprob.tasks.training_plan import PreparedTraining, planned
    from diffprob.tasks.training_run import run_training

    if args.dry_run:
        state = f"{out} (new, the old run deleted)" if args.fresh and is_run(out) else planned(recipe, out)
        return {"dry_run": True, "run": state, "steps": plan.steps, "seconds_at_most": plan.seconds}
    if args.fresh and is_run(out):
        remove(out)
    prepared = PreparedTraining(recipe=recipe, out=out, device=args.device, seconds=plan.seconds)
    with stopping() as halt:
        trained = run_training(prepared, TERMINAL, halt)
    if trained is None:  # torchrun started more than one process
        return {}
    from diffprob.runs.folder import Run

    found = Run.open(out)
    result = {**trained.to_json(), **_measure(found, plan, args), "bits_per_dim": _bits(found, plan, args)}
    result |= {"detection": _detect(found, args), "dry_run": False, "report": _report(found, plan, args)}
    return {**result, "seconds": round(time.monotonic() - began, 1)}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    from diffprob.cli.text import table

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


def _recipe(plan: Plan, seed: int) -> "Recipe":
    from diffprob.recipes.digits import digits

    recipe = digits()
    every = max(1, plan.steps // 5)
    return replace(
        recipe,
        training=replace(recipe.training, steps=plan.steps, seed=seed, sample_every=plan.steps, checkpoint_every=every),
    )


def _measure(found: "Run", plan: Plan, args: argparse.Namespace) -> dict[str, Any]:
    """Draw with two samplers and without training, compare with held-out digits, record and draw pictures."""
    import torch

    from diffprob.base.rng import derive
    from diffprob.config.recipe import build_model
    from diffprob.data import Digits
    from diffprob.sampling.ancestral import DDIM, Ancestral
    from diffprob.tasks.compute import choose_device

    real, held = Digits("train").load(), Digits("test").load()
    n = len(held)
    reference = _reference(real, held, args.seed)
    model = found.load(choose_device(args.device), CHUNK)
    drawn = _draw(model, DDIM(), plan.ddim, n, args, found, rows=8)
    ancestral = _draw(model, Ancestral(), plan.ancestral, n, args, found)
    torch.manual_seed(derive(args.seed, "weights"))
    untrained = build_model(found.recipe, model.evaluation).to(choose_device(args.device)).eval()
    noise = _draw(untrained, DDIM(), UNTRAINED_STEPS, n, args, found)
    seeds = f"{args.seed}..{args.seed + n - 1}"
    rows = [
        _row(f"DDIM(), {plan.ddim} steps", drawn.levels, held, reference, seeds),
        _row(f"Ancestral(), {plan.ancestral} steps", ancestral.levels, held, reference, seeds),
        {"what": "real training digits", "distance": reference, "ratio": 1.0, "seeds": "-"},
        _row(f"untrained network, DDIM(), {UNTRAINED_STEPS} steps", noise.levels, held, reference, seeds),
    ]
    _record(found, rows[:2], n, args.seed, reference)
    return {
        "n": n,
        "directions": DIRECTIONS,
        "real_draws": REAL_DRAWS,
        "table": rows,
        "pictures": _pictures(found, drawn, ancestral.levels, held.take(range(64)), seeds),
    }


def _bits(found: "Run", plan: Plan, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Bits/dim of held-out digits: by the bound with fitted variances and steps, and by a histogram of every pixel."""
    import numpy as np

    from diffprob.data import Digits
    from diffprob.density.histogram import PixelHistogram
    from diffprob.runs.measurements import Measurement
    from diffprob.tasks.bounds import ChainBound
    from diffprob.tasks.compute import Compute
    from diffprob.tasks.fitting import AnalyticFit, FitRequest, fit
    from diffprob.tasks.images import ImageSelection
    from diffprob.tasks.likelihood import LikelihoodRequest, likelihood, likelihood_measurement

    analytic, here = AnalyticFit(n=FIT_IMAGES, times=FIT_TIMES), Compute(device=args.device)
    fits = FitRequest(what=("analytic", "steps"), analytic=analytic, seed=args.seed, compute=here)
    fit(found, fits, TERMINAL)
    request = LikelihoodRequest(
        images=ImageSelection(n=plan.measured, seed=args.seed),
        method=ChainBound(steps=plan.terms, terms=None),
        compute=Compute(device=args.device, batch=CHUNK),
    )
    bound = likelihood(found, request, TERMINAL)
    found.record(likelihood_measurement(bound))
    chosen = bound.index
    train, held = Digits("train").load(), Digits("test").load()
    counted = PixelHistogram.fit(train.take(range(len(train))), train.levels).bits_per_dim(held.take(chosen))
    mean, error = float(counted.mean()), float(counted.std(ddof=1) / np.sqrt(len(counted)))
    name = "bits/dim of a histogram of every pixel, to compare with"
    low, high = mean - 1.96 * error, mean + 1.96 * error
    found.record(Measurement(name, mean, len(chosen), args.seed, low=low, high=high, split="test"))
    rows = (
        (f"this model, {plan.terms} steps", bound.mean, bound.standard_error),
        ("histogram of every pixel", mean, error),
    )
    return [{"what": what, "value": value, "error": err, "n": len(chosen)} for what, value, err in rows]


def _detect(found: "Run", args: argparse.Namespace) -> list[dict[str, Any]]:
    """How well density proxies tell held-out digits from the same ones turned by 180 degrees."""
    import numpy as np

    from diffprob.data import Digits
    from diffprob.density.choose import DEFAULT
    from diffprob.density.noise import NoiseNorm
    from diffprob.evaluation.detection import auroc
    from diffprob.tasks.compute import Compute
    from diffprob.tasks.recording import recorded
    from diffprob.tasks.scoring import ImageSet, Subject, label, score_sets

    compute, held = Compute(device=args.device, batch=CHUNK), Digits("test").load()
    model, index = compute.load(found), np.arange(len(held))
    upright = held.take(index)
    fitting = ImageSet("training digits", Digits("train").load().take(index), index, {"data": "digits"})
    sets = [
        ImageSet("upright", upright, index, {}),
        ImageSet("upside down", upright[:, :, ::-1, ::-1].copy(), index, {}),
    ]
    sha256, proxies = found.sha256(), (DEFAULT, NoiseNorm())
    measured = [Subject(label(proxy), proxy.bind(found.space), model, sha256) for proxy in proxies]
    by_proxy, fits = score_sets(found, measured, sets, fitting, args.seed, compute, TERMINAL)
    if fits.new:
        recorded(found, lambda: fits.keep(found), TERMINAL)
    rows = []
    for name, scores in by_proxy.items():
        area = auroc(scores["upright"], scores["upside down"])
        rows.append({"proxy": name, "auroc": area.value, "low": area.low, "high": area.high})
    return rows


def _reference(real: Any, held: Any, seed: int) -> float:
    """Mean distance from random sets of training digits, as many as are held out, to these."""
    from diffprob.base.rng import permutation
    from diffprob.evaluation.transport import sliced_wasserstein2

    n, total = len(held), 0.0
    for k in range(REAL_DRAWS):
        chosen = permutation(seed, k, len(real))[:n]
        total += sliced_wasserstein2(real.take(chosen), held.take(range(n)), DIRECTIONS)
    return total / REAL_DRAWS


def _draw(model: Any, sampler: Any, steps: int, n: int, args: argparse.Namespace, found: "Run", rows: int = 0) -> Any:
    from diffprob.base.rng import Rng
    from diffprob.process.grids import Uniform
    from diffprob.tasks.compute import choose_device
    from diffprob.tasks.drawing import calls, counted, draw, make_times

    times = make_times(Uniform(), model.process, steps)
    streams = Rng.of(args.seed, n, device=choose_device(args.device))
    with Progress(f"draw with {sampler!r}", calls(model, n, steps), "network call") as bar, counted(model, bar.update):
        return draw(model, sampler, times, streams, found.space, rows=rows)


def _row(what: str, levels: "np.ndarray", held: Any, reference: float, seeds: str) -> dict[str, Any]:
    from diffprob.evaluation.transport import sliced_wasserstein2

    distance = sliced_wasserstein2(levels, held.take(range(len(held))), DIRECTIONS)
    return {"what": what, "distance": distance, "ratio": distance / reference, "seeds": seeds}


def _record(found: "Run", rows: list[dict[str, Any]], n: int, seed: int, reference: float) -> None:
    from diffprob.runs.measurements import Measurement

    for row in rows:
        name = f"sliced W2 to held-out digits over that of training digits, {row['what']}"
        details = {
            "distance": round(row["distance"], 4),
            "of training digits": round(reference, 4),
            "directions": DIRECTIONS,
        }
        found.record(Measurement(name, row["ratio"], n, seed, details={**details, "clip": True, "chunk": CHUNK}))


def _pictures(found: "Run", drawn: Any, ancestral: "np.ndarray", real: "np.ndarray", seeds: str) -> dict[str, str]:
    """Samples beside real digits, and the progression, into the run; the paths by name."""
    from diffprob.reporting import artifacts
    from diffprob.reporting.figures import grid_image

    most = found.space.levels
    facts = {"run": found.name, "step": found.meta["step"], "seeds": seeds, "chunk": CHUNK}
    sheet = _side_by_side(
        {
            "DDIM": grid_image(drawn.levels[:64], 8, 3, levels=most),
            "Ancestral": grid_image(ancestral[:64], 8, 3, levels=most),
            "real, held out": grid_image(real, 8, 3, levels=most),
        }
    )
    files = {
        "samples beside real digits": ("samples.png", artifacts.png(sheet, facts)),
        "from noise to digits": ("progression.png", artifacts.progression_png(drawn.frames, most, drawn.times)),
    }
    for name, contents in files.values():
        found.add(name, contents)
    paths = {what: str(found.path / name) for what, (name, _) in files.items()}
    curve = found.path / "loss.png"
    if curve.exists():
        paths["loss curve"] = str(curve)
    else:
        say("no loss curve: nothing was logged yet, or matplotlib is not installed")
    return paths


def _report(run: "Run", plan: Plan, args: argparse.Namespace) -> str | None:
    """The run's page, as `diffprob report` makes it."""
    from diffprob.tasks.compute import Compute
    from diffprob.tasks.plan import Sampling
    from diffprob.tasks.reporting import INSIDE, ReportRequest, report

    drawing = Sampling(steps=plan.ddim, seed=args.seed, compute=Compute(device=args.device, batch=CHUNK))
    run.add(INSIDE, report(run, ReportRequest(sampling=drawing), TERMINAL).page)
    return str(run.path / INSIDE)


def _side_by_side(pictures: dict[str, Any]) -> Any:
    """Pictures of one size in a row, each under its caption."""
    from PIL import Image, ImageDraw, ImageFont

    width, height = next(iter(pictures.values())).size
    gap, top = 12, 20
    sheet = Image.new("L", (len(pictures) * (width + gap) - gap, height + top), 255)
    font = ImageFont.load_default(13)
    for k, (caption, picture) in enumerate(pictures.items()):
        sheet.paste(picture, (k * (width + gap), top))
        ImageDraw.Draw(sheet).text((k * (width + gap) + width / 2, top / 2), caption, fill=0, font=font, anchor="mm")
    return sheet
