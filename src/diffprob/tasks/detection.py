"""Telling images that belong from images that do not, by what a run says of their density: every proxy, side by side.

Higher is denser, always, and no direction is chosen after looking: an AUROC below 0.5 says that a proxy finds the
outside images denser. Images alone are ranked among images that belong.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffprob.base.checks import MOST, flag, instance, real, several, text, whole
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.density.defaults import QUICK, STANDARD, chosen_for
from diffprob.density.integrability import Integrability, integrability
from diffprob.density.proxy import LEAST, Proxy
from diffprob.runs.folder import Run
from diffprob.runs.images import OwnImages
from diffprob.tasks.compute import Compute
from diffprob.tasks.display import html_table
from diffprob.tasks.images import ImageSource, held_out_of, measured_on, own_images
from diffprob.tasks.options import option
from diffprob.tasks.reporter import SILENT, Reporter
from diffprob.tasks.scoring import ImageSet, ProxyFits, Scores, Subject, label, score_sets, subjects, take
from diffprob.tasks.separation import ENDS, LOW, Correlation, Ranking, Separation, correlate, rank, separate

TIMES = (0.01, 0.1, 0.5)  # at which the noise prediction is looked at
LOOKED_AT = 16  # images for that
SLOWER = "four"  # all of `STANDARD` beside `QUICK`


@dataclass(frozen=True, kw_only=True, eq=False)
class DetectionRequest:
    """Which images are compared or ranked, and by what.

    Args:
        judged: images to rank, or one; or ``outside``, one of both.
        outside: sets of images that do not belong, to be told from those that do.
        inside: images that belong; None: the run's own held-out ones.
        proxies: None: of ``judged`` the default one, else the quick ones (`diffprob.density.defaults`).
        others: runs with a density of their own to compare with: potentials, baselines.
        map: with ``judged``: where the least typical images are odd, such as ``AnomalyMap()``.
        n: at most so many images of each set; of ``judged`` all are taken.
        seed: which images, and their noise.
        false_alarms: images of a conformal p-value of at most this are flagged, which so many of all that belong have.
        fit_images: training images that proxies are fitted to.
        place: where the run's own images lie, if not where its recipe says.
        resize: convert images of another shape or number of grey levels.
        compute: where and how precisely; precision "auto" is fp32 for proxies that are named.

    Raises:
        ValueError: both of ``judged`` and ``outside`` or none, or a number outside its domain.
    """

    judged: ImageSource | None = None
    outside: tuple[ImageSource, ...] = ()
    inside: ImageSource | None = None
    proxies: tuple[Proxy, ...] | None = None
    others: tuple[str, ...] = ()
    map: Any = None
    n: int = 500
    seed: int = 0
    false_alarms: float = LOW
    fit_images: int = 500
    place: str | None = None
    resize: bool = False
    compute: Compute = Compute()

    def __post_init__(self) -> None:
        instance("outside", self.outside, (tuple, list), 'a tuple such as ("digits",)')
        if (self.judged is None) == (not self.outside):
            raise ValueError("give judged, to rank, or outside, to compare with: one of the two")
        if self.map is not None and self.judged is None:
            raise ValueError("map belongs to judged, whose least typical images it shows, not to outside")
        if self.proxies is not None:
            several("proxies", self.proxies, _is_proxy, most=MOST, like="(NoiseNorm(),)")
        whole("n", self.n, 1)
        whole("seed", self.seed, 0, 2**62)
        real("false_alarms", self.false_alarms, "(0, 1]")
        whole("fit_images", self.fit_images, LEAST)
        flag("resize", self.resize)
        several("others", self.others, text, 0, MOST, '("runs/other",)')

    def measured(self, run: Run) -> tuple[Proxy, ...]:
        """The proxies of the run, each once."""
        chosen = chosen_for(run.recipe.process, self.judged is not None) if self.proxies is None else self.proxies
        return tuple(dict.fromkeys(chosen))


@dataclass(frozen=True, eq=False)
class PreparedDetection:
    """A comparison that is about to be made.

    Args:
        run: by whose density.
        request: what was asked for.
        subjects: the proxies, under their models.
        inside, outside: the images; one set ``outside`` where images are ranked.
        fitting: training images, where a proxy needs them.
        settings: everything that decides the numbers, JSON literals by name.
    """

    run: Run
    request: DetectionRequest
    subjects: list[Subject]
    inside: ImageSet
    outside: tuple[ImageSet, ...]
    fitting: ImageSet | None
    settings: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Maps:
    """Where the least typical images are odd.

    Args:
        map: how that was measured.
        places: of the images in the judged set, the least typical first, int64 (k,).
        values: larger is less usual, float32 (k, C, H, W).
        means: of each, float32 (k,).
    """

    map: Any
    places: np.ndarray
    values: np.ndarray
    means: np.ndarray


@dataclass(frozen=True, eq=False)
class DetectionResult:
    """What scores say: how sets separate and how proxies go together, or how images rank.

    Args:
        scores: of every image, float64 (n,), by proxy and by the name of the set.
        inside, outside: the images.
        separations: of every proxy and set; none where images are ranked.
        correlations: of every pair of proxies; pairs with a constant one are left out.
        rankings: of every proxy; none where sets are compared.
        integrability: how far the run's own noise prediction is from a gradient field, at a few times.
        maps: where they were asked for.
        fits: what proxies were fitted to: ``fits.keep(run)`` spares the next call that.
        settings: everything that decides the numbers, JSON literals by name.
    """

    scores: Scores
    inside: ImageSet
    outside: tuple[ImageSet, ...]
    separations: tuple[Separation, ...]
    correlations: tuple[Correlation, ...]
    rankings: tuple[Ranking, ...]
    integrability: tuple[Integrability, ...]
    maps: Maps | None
    fits: ProxyFits
    settings: dict[str, Any]

    @property
    def sets(self) -> tuple[ImageSet, ...]:
        """All of them, the images inside first."""
        return (self.inside, *self.outside)

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        numbers: dict[str, Any] = {"integrability": [asdict(time) for time in self.integrability]}
        if self.maps is not None:
            numbers |= {"map": repr(self.maps.map), "map_means": self.maps.means.tolist()}
        if self.separations:
            separations = [separation.to_json() for separation in self.separations]
            correlations = [correlation.to_json() for correlation in self.correlations]
            return {**self.settings, "separation": separations, "correlations": correlations, **numbers}
        judged = self.outside[0]
        images = {"images": judged.index.tolist(), "image_files": list(judged.files)}
        alarms = {"false_alarms": self.rankings[0].false_alarms}
        return {
            **self.settings,
            **images,
            **alarms,
            "ranks": [ranking.to_json() for ranking in self.rankings],
            **numbers,
        }

    def to_csv(self) -> str:
        """A row for each image: its set, its place there, its file where it has one, scores; of levels complexity."""
        text, named = io.StringIO(), any(part.files for part in self.sets)
        coded = all(part.complexity is not None for part in self.sets)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            ["set", "image", *(["file"] if named else []), *self.scores, *(["complexity"] if coded else [])]
        )
        for part in self.sets:
            columns = [scores[part.name] for scores in self.scores.values()]
            for k, place in enumerate(part.index):
                file = [part.files[k] if part.files else ""] if named else []
                numbers = (repr(float(column[k])) for column in columns)
                bits = [] if part.complexity is None else [float(part.complexity[k])]
                writer.writerow([part.name, int(place), *file, *numbers, *bits])
        return text.getvalue()

    def __repr__(self) -> str:
        if self.separations:
            results = [f"{pair.proxy} AUROC {pair.auroc.value:.3f} ({pair.outside})" for pair in self.separations]
        else:
            results = [
                f"{ranking.proxy} flags {len(ranking.flagged)} of {len(ranking.order)}" for ranking in self.rankings
            ]
        return f"{', '.join(results)}; {len(self.inside.levels):,} images of {self.inside.name} inside"

    def _repr_html_(self) -> str:
        if self.separations:
            rows = [(pair.proxy, pair.outside, f"{pair.auroc.value:.3f}") for pair in self.separations]
            return html_table("higher scores are denser", rows, ("score", "told from", "AUROC"))
        rows = [(ranking.proxy, f"{len(ranking.flagged)} of {len(ranking.order)} flagged") for ranking in self.rankings]
        return html_table(f"among {len(self.inside.levels):,} images of {self.inside.name}", rows)


def prepare_detection(run: Run, request: DetectionRequest, reporter: Reporter = SILENT) -> PreparedDetection:
    """Check everything, read the images and load the networks, without measuring.

    Raises:
        InputError: a run without a model, images that it does not take, or too few.
    """
    # What bf16 leaves as it is was measured of the default proxies alone (docs/results/precision.md).
    if request.map is not None and run.space.levels is None:
        run.space.require_pixels("an anomaly map")
    compute = request.compute.for_images(run) if request.proxies is None else request.compute
    request = replace(request, compute=compute.in_bulk(run))
    compute, device = request.compute, request.compute.on()
    if request.proxies is None and request.judged is None and run.recipe.process.is_linear:
        left = ", ".join(label(proxy) for proxy in STANDARD if proxy not in QUICK)
        reporter.note(f"not measured, they take {SLOWER} times as long: {left}; {option('proxy', 'standard')} does")
    measured = subjects(run, request.measured(run), request.others, compute, reporter)
    own = None if request.place is None and run.recipe.data is None else OwnImages(run, request.place)
    inside, outside = _sets(run, request, own, reporter)
    for line in () if own is None else own.notes:
        reporter.note(line)
    fitting = None
    if any(subject.proxy.needs_fit for subject in measured):
        fitting = _fitting(request, own or own_images(run), reporter)
    settings = {
        "run": run.place,
        **run.weights_provenance(compute.best),
        "proxies": [subject.label for subject in measured],
        "inside": {"name": inside.name, **inside.about},
        "outside": [{"name": part.name, **part.about} for part in outside],
        "fitted_to": None if fitting is None else fitting.about,
        "seed": request.seed,
        "precision": compute.exact,
        "device": str(device),
    }
    return PreparedDetection(run, request, measured, inside, outside, fitting, settings)


def detect(run: Run, request: DetectionRequest, reporter: Reporter = SILENT) -> DetectionResult:
    """Score images, fit where needed, and compare or rank.

    Raises:
        InputError: a run without a model, images that it does not take, or a proxy that is not for it.
        NumericalError: a score is not finite.
    """
    return measure_detection(prepare_detection(run, request, reporter), reporter)


def measure_detection(prepared: PreparedDetection, reporter: Reporter = SILENT) -> DetectionResult:
    """Make the measurement.

    Raises:
        InputError: a proxy that is not for its model.
        NumericalError: a score is not finite.
    """
    run, request, inside, outside = prepared.run, prepared.request, prepared.inside, prepared.outside
    sets = (inside, *outside)
    scores, fits = score_sets(run, prepared.subjects, sets, prepared.fitting, request.seed, request.compute, reporter)
    judged = request.judged is not None
    rankings = rank(scores, inside, outside[0], request.false_alarms) if judged else ()
    separations = () if judged else separate(scores, inside, outside)
    correlations = () if judged else correlate(scores, inside)
    gradients = _integrability(run, request, inside, reporter)
    maps = _maps(prepared, rankings[0], reporter) if rankings and request.map is not None else None
    return DetectionResult(
        scores, inside, outside, separations, correlations, rankings, gradients, maps, fits, prepared.settings
    )


def _is_proxy(name: str, value: object) -> None:
    instance(name, value, Proxy)


def _sets(
    run: Run, request: DetectionRequest, own: OwnImages | None, reporter: Reporter
) -> tuple[ImageSet, tuple[ImageSet, ...]]:
    """The images inside and the others, equally many of each unless they are ranked."""
    compared = request.judged is None
    if request.inside is None:
        held = None if own is None else own.test
        if held is None:
            raise InputError(f"{run.name}: its data has no held-out images; {option('inside', 'DATA')} would be right")
    else:
        held = held_out_of(run, request.inside, reporter, request.place, request.resize, "inside")
    sources: list[ImageSource] = [*request.outside] if request.judged is None else [request.judged]
    role = "outside" if compared else "judged"
    if request.inside is None:
        name, names = f"{run.name} test", _names(sources, [role] * len(sources))
    else:
        name, *names = _names([request.inside, *sources], ["inside", *[role] * len(sources)])
    selections = [measured_on(run, source, reporter, resize=request.resize) for source in sources]
    n = min([request.n, len(held), *(len(selection) for selection in selections if compared)])
    for selection, called in [(held, name), *(zip(selections, names, strict=True) if compared else ())]:
        if len(selection) < LEAST:
            raise InputError(f"{called}: {len(selection)} images; a comparison needs at least {LEAST}")
    if n < LEAST:
        raise InputError(f"{option('n', n)}: at least {LEAST} images of each set would be right")
    for selection, called in zip(selections, names, strict=True):
        if selection.digest == held.digest:
            raise InputError(f"{called} and {name}: the same data twice, its images are the very ones inside")
    if not compared and request.false_alarms * (n + 1) < 1:
        argument = option("false_alarms", f"{request.false_alarms:g}")
        raise InputError(f"{argument}: {n} images inside can flag at a rate of at least {1 / (n + 1):.2g}")
    return take(held, n, request.seed, name, reporter), tuple(
        take(selection, n if compared else len(selection), request.seed, called, reporter)
        for selection, called in zip(selections, names, strict=True)
    )


def _names(sources: Sequence[ImageSource], roles: Sequence[str]) -> list[str]:
    """A name for each source: of a place its last part, or all of it where last parts repeat; else its role.

    Raises:
        InputError: the same place twice.
    """
    texts = [source if isinstance(source, str) else role for source, role in zip(sources, roles, strict=True)]
    short = [Path(text).name or text for text in texts]
    names = short if len(set(short)) == len(short) else texts
    places = [source for source in sources if isinstance(source, str)]
    if len(set(places)) < len(places):
        raise InputError(f"{' '.join(texts)}: the same data twice")
    return [f"{name} {names[: k + 1].count(name)}" if names.count(name) > 1 else name for k, name in enumerate(names)]


def _fitting(request: DetectionRequest, own: OwnImages, reporter: Reporter) -> ImageSet:
    selection = own.train
    if len(selection) < LEAST:
        raise InputError(f"{selection.images.name}: {len(selection)} images; proxies are fitted to at least {LEAST}")
    return take(selection, request.fit_images, request.seed, "training images", reporter)


def _integrability(
    run: Run, request: DetectionRequest, inside: ImageSet, reporter: Reporter
) -> tuple[Integrability, ...]:
    """How far the run's own noise prediction is from a gradient field, by the full precision of the network."""
    if not run.recipe.process.is_linear:
        return ()
    device, levels = request.compute.on(), inside.levels[:LOOKED_AT]
    model = run.load(device, LOOKED_AT, best=request.compute.best)
    x0 = run.space.to_model(torch.from_numpy(levels).to(device))
    rng, rows = Rng.of_images(request.seed, levels, device), []
    with reporter.progress("integrability", len(TIMES), "time") as bar:
        for k, t in enumerate(TIMES):
            rows += integrability(model, x0, [t], rng.fold(f"{t}"))
            bar.update(k + 1)
    return tuple(rows)


def _maps(prepared: PreparedDetection, ranking: Ranking, reporter: Reporter) -> Maps:
    request, run, judged = prepared.request, prepared.run, prepared.outside[0]
    places, device = ranking.order[:ENDS], request.compute.on()
    levels = judged.levels[places]
    x0 = run.space.to_model(torch.from_numpy(levels).to(device))
    reporter.note(f"anomaly maps of {len(places)} images: {request.map!r}")
    values = request.map(prepared.subjects[0].model, x0, Rng.of_images(request.seed, levels, device))
    return Maps(request.map, places, values.cpu().numpy(), values.flatten(1).mean(1).cpu().numpy())
