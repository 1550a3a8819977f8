"""Images of one kind turned into images of a run's kind that look like them."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import flag, instance, one_of, real, whole
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.base.text import printable
from diffprob.conditions.condition import Labels
from diffprob.data.images import Images
from diffprob.denoise.denoiser import Denoiser, NetworkModel
from diffprob.guidance import egsde
from diffprob.guidance.energy import Energies, EnergyGuided
from diffprob.guidance.noisy_classifier import NoisyClassifier
from diffprob.reporting.artifacts import above_png
from diffprob.runs.folder import Run
from diffprob.sampling.between import times_from
from diffprob.sampling.simulate import cost
from diffprob.sampling.translate import ddib, sdedit
from diffprob.tasks.conditioning import open_classifier
from diffprob.tasks.display import OfImages
from diffprob.tasks.drawing import calls, check_finite, limited, network_progress, slices
from diffprob.tasks.images import ImageSource, measured_on
from diffprob.tasks.options import option
from diffprob.tasks.plan import Sampling, SamplingPlan, plan_sampling
from diffprob.tasks.reporter import SILENT, Reporter
from diffprob.tasks.rows import by_ddim

# What suits images of 28x28 (docs/results/translation.md); EGSDE has 500, 2, 32 and 0.5 at 256x256.
REALISTIC, FAITHFUL, FACTOR, START = 100.0, 2.0, 4, 0.6
MOST_SHOWN = 36  # images of a picture of them


@dataclass(frozen=True, kw_only=True)
class SDEdit:
    """Noise is added to the image, and taken out again by the run (Meng et al. 2022).

    Args:
        start: the time up to which, in (0, 1]: how much is changed.
        repeats: how often; each begins with the result of the one before.

    Raises:
        ValueError: a number outside its domain.
    """

    start: float = START
    repeats: int = 1

    name: ClassVar[str] = "sdedit"

    def __post_init__(self) -> None:
        real("start", self.start, "(0, 1]")
        whole("repeats", self.repeats, 1)


@dataclass(frozen=True, kw_only=True)
class EGSDE:
    """The same, steered away from what is particular to the source's kind and towards what is coarse of the source.

    Args:
        classifier: the run that `diffprob noisy-classifier` trained, in whose features the result leaves the source;
            None: it does not.
        realistic: how strongly that; 0 without a classifier.
        faithful: how strongly what is coarse of the source is kept.
        factor: coarse is what is left at 1/factor of the size.
        start, repeats: as in `SDEdit`.

    Raises:
        ValueError: a number outside its domain, or no classifier.
    """

    classifier: str | None
    realistic: float = REALISTIC
    faithful: float = FAITHFUL
    factor: int = FACTOR
    start: float = START
    repeats: int = 1

    name: ClassVar[str] = "egsde"

    def __post_init__(self) -> None:
        for weight in ("realistic", "faithful"):
            real(weight, getattr(self, weight), "[0, inf)")
        whole("factor", self.factor, 1)
        real("start", self.start, "(0, 1]")
        whole("repeats", self.repeats, 1)
        if self.classifier is None and self.realistic != 0:
            raise ValueError(
                "classifier is needed, which `diffprob noisy-classifier` trains; SDEdit and realistic=0 need none"
            )

    def around(self, model: Denoiser, classifier: NoisyClassifier | None, source: Tensor, rng: Rng) -> Denoiser:
        """The model, steered for these source images."""
        process, energies = model.process, []
        if classifier is not None:
            energies.append(egsde.RealismEnergy(classifier.features, source, process, rng, self.realistic))
        energies.append(egsde.FaithfulnessEnergy(egsde.LowPass(self.factor), source, process, rng, self.faithful))
        return EnergyGuided(model, Energies(tuple(energies)))


@dataclass(frozen=True, kw_only=True)
class DDIB:
    """The image is taken up to the noise by DDIM as one of its own kind, and down as one of the run's: dual diffusion
    implicit bridges (Su et al. 2023).

    Args:
        source_model: a run of the source's kind, by its place or open; None: the run itself, told other labels.
        from_label: what all the images are, for a source model with labels; None: the labels that they have.
        start: the time up to which, in (0, 1].

    Raises:
        ValueError: a number outside its domain.
    """

    source_model: str | Run | None = None
    from_label: str | None = None
    start: float = 1.0

    name: ClassVar[str] = "invert"

    def __post_init__(self) -> None:
        real("start", self.start, "(0, 1]")


TranslationMethod = EGSDE | SDEdit | DDIB


@dataclass(frozen=True, kw_only=True, eq=False)
class TranslateRequest:
    """What is to be translated.

    Args:
        images: of the source's kind.
        method: ``DDIB()``, ``EGSDE(classifier=...)`` or ``SDEdit()``.
        split: of the data: "auto" (test, or all of it), "train", "test" or "all".
        n: only the first so many; None: all.
        resize: convert images of another shape or number of grey levels.
        sampling: how; its ``n`` is that of the images, and all have one condition.

    Raises:
        ValueError: a split that there is not, or a number outside its domain.
    """

    images: ImageSource
    method: TranslationMethod
    split: str = "auto"
    n: int | None = None
    resize: bool = False
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        instance("method", self.method, (EGSDE, SDEdit, DDIB))
        one_of("split", self.split, ("auto", "train", "test", "all"))
        flag("resize", self.resize)
        whole("n", self.n, 1, none=True)
        instance("sampling", self.sampling, Sampling)


@dataclass(frozen=True, eq=False)
class PreparedTranslation:
    """A translation that is about to be made.

    Args:
        run: of the kind wanted.
        images: the source.
        method: how.
        plan: the run's network, sampler and grid.
        start: the time up to which there is noise, on the schedule.
        settings: everything that decides the images, JSON literals by name.
        seed: of the first image.
        device: of the chains.
        classifier: of `EGSDE`, or None.
        source: of `DDIB`: the network of the source's kind, not yet told any rows.
        rows: of `DDIB`: its condition for each image, (n,), or None.
    """

    run: Run
    images: Images
    method: TranslationMethod
    plan: SamplingPlan
    start: float
    settings: dict[str, Any]
    seed: int
    device: torch.device
    classifier: NoisyClassifier | None = None
    source: NetworkModel | None = None
    rows: Tensor | None = None

    @property
    def visited(self) -> Tensor:
        """The times of the chain."""
        return times_from(self.plan.model.process, self.plan.times, self.start)

    @property
    def evaluations(self) -> int | None:
        """Of the model for each image on the way down; None where a tolerance decides."""
        chain = cost(self.plan.sampler, len(self.visited))
        return None if chain is None else chain * getattr(self.method, "repeats", 1)

    @property
    def network_calls(self) -> int | None:
        """Of the run's network for all images; None where a tolerance decides."""
        n = len(self.images)
        down = self.plan.calls(n, self.evaluations)
        if self.source is None or self.source.net is not self.plan.model.net:
            return down
        up = calls(self.source, n, len(self.visited))
        return None if down is None or up is None else down + up

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name: the settings, and what will be spent."""
        return {**self.settings, "run": self.run.place, "network_calls": self.network_calls}

    def translated(self, x0: Tensor, part: slice, rng: Rng) -> Tensor:
        """Images (B, C, H, W) in model space, which are ``part`` of all of them, with one stream for each."""
        plan, model, method = self.plan, self.plan.guided, self.method
        if self.source is not None:
            source = self.source if self.rows is None else self.source.condition_on(self.rows[part])
            x = ddib(limited(source, plan.clip), limited(model, plan.clip), x0, self.visited)
        else:
            assert not isinstance(method, DDIB)
            if isinstance(method, EGSDE):
                model = method.around(model, self.classifier, x0, rng)
            x = sdedit(limited(model, plan.clip), x0, self.start, plan.sampler, plan.times, rng, method.repeats)
        check_finite(x, rng, plan.model)
        return x


@dataclass(frozen=True, eq=False)
class Translated(OfImages):
    """Images that were translated.

    Args:
        images: uint8 (n, C, H, W), grey levels 0..levels - 1.
        source: the images that they were made of, uint8 (n, C, H, W).
        seeds: of the images, int64 (n,).
        levels: how many grey levels there are.
        network_calls: of the run's network for all images.
        place: of the run.
        settings: everything that decides the images, JSON literals by name.
    """

    images: np.ndarray
    source: np.ndarray
    seeds: np.ndarray
    levels: int
    network_calls: int
    place: str
    settings: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name: the settings, and what was spent; no pixels."""
        return {**self.settings, "run": self.place, "network_calls": self.network_calls}

    def png(self) -> bytes:
        """The first images, sources above results; an incomplete row ends in white."""
        return above_png([self.source, self.images], self.levels, self.settings, MOST_SHOWN, self.levels - 1)

    _repr_png_ = png

    def __repr__(self) -> str:
        settings, many = self.settings, f"{len(self):,} image{'s' if len(self) > 1 else ''}"
        how = f"{settings['method']}, from t = {settings['start']:g}"
        return f"{many} of {settings['source']} translated by {settings['run']} ({how})"


def prepare_translate(run: Run, request: TranslateRequest, reporter: Reporter = SILENT) -> PreparedTranslation:
    """Check everything, read the images and load the networks, without translating.

    Raises:
        InputError: parts that do not go together, a run without a model, or images of another kind.
    """
    if run.space.levels is None:
        run.space.require_pixels("a translation")
    method, compute = request.method, request.sampling.compute
    device = compute.on()
    images, settings = _read(run, request, reporter)
    sampling = replace(request.sampling, n=len(images))
    classifier = None
    if isinstance(method, EGSDE) and method.classifier is not None:
        classifier = open_classifier(method.classifier, run, "classifier")
    if isinstance(method, DDIB):
        sampling = by_ddim(sampling, option("ddib"))
    plan = plan_sampling(run, sampling, reporter, one=True)
    start = float(plan.model.process.schedule.snap(torch.tensor(method.start, dtype=torch.float64)))
    if start < (last := float(plan.times[-1])):
        low = option("start", f"{start:g}")
        reporter.note(f"{low} lies below the grid's last time, {last:g}: use more {option('steps')}")
    settings = {**plan.settings, **settings, "method": method.name, "start": start}
    source = rows = noisy = None
    if isinstance(method, DDIB):
        source, rows, settings["from"] = _source_model(run, request, method, plan, images)
    else:
        settings["repeats"] = method.repeats
    if isinstance(method, EGSDE):
        settings |= {"realistic": method.realistic, "faithful": method.faithful, "factor": method.factor}
        settings |= {"recogniser": method.classifier, "recogniser_sha256": None}
    if classifier is not None:
        settings["recogniser_sha256"] = classifier.sha256()
        noisy = classifier.load(device, compute.batch or "auto", compute.exact)
    return PreparedTranslation(run, images, method, plan, start, settings, sampling.seed, device, noisy, source, rows)


def translate(run: Run, request: TranslateRequest, reporter: Reporter = SILENT) -> Translated:
    """Translate images.

    Raises:
        InputError: as `prepare_translate`.
        NumericalError: an image is not finite.
    """
    return make_translated(prepare_translate(run, request, reporter), reporter)


def make_translated(prepared: PreparedTranslation, reporter: Reporter = SILENT) -> Translated:
    """Translate what was prepared.

    Raises:
        NumericalError: an image is not finite.
    """
    plan, space, images = prepared.plan, prepared.run.space, prepared.images
    n, drawn = len(images), []
    chunk = plan.model.evaluation.chunk or n
    rng = Rng.of(prepared.seed, n, device=prepared.device)
    with network_progress(reporter, "translate", prepared.network_calls, plan.model) as progress:
        for part in slices(n, chunk):
            x0 = space.to_model(torch.from_numpy(images.pixels[part]).to(prepared.device))
            drawn.append(space.to_data(prepared.translated(x0, part, rng.select(part))).cpu().numpy())
    return Translated(
        images=np.concatenate(drawn),
        source=np.asarray(images.pixels),
        seeds=rng.seeds.cpu().numpy(),
        levels=images.levels,
        network_calls=progress.done,
        place=prepared.run.place,
        settings=prepared.settings,
    )


def _read(run: Run, request: TranslateRequest, reporter: Reporter) -> tuple[Images, dict[str, Any]]:
    """The first images of the source, in the run's shape and grey levels, and which they are."""
    selection = measured_on(run, request.images, reporter, split=request.split, resize=request.resize)
    n = min(request.n or len(selection), len(selection))
    images = replace(selection.images.some(range(n)), captions=None)
    text = request.images if isinstance(request.images, str) else selection.data
    settings = {"source": text, "split": selection.split, "role": selection.role}
    return images, {**settings, "converted": selection.converted or None, "n": n, "source_sha256": images.digest()}


def _source_model(
    run: Run, request: TranslateRequest, method: DDIB, plan: SamplingPlan, images: Images
) -> tuple[NetworkModel, Tensor | None, str]:
    """The network of the source's kind, its condition for each image or None, and both as text.

    Raises:
        InputError: another space or process, or labels that are missing or unknown.
    """
    source, label, compute = method.source_model, request.sampling.conditioning.label, request.sampling.compute
    other = run if source is None else Run.open(source) if isinstance(source, str) else source
    if other.space != run.space or other.process != run.process:
        raise InputError(f"{option('source_model', other.place)}: another space or process than {run.name}")
    condition = other.recipe.condition
    if other is run and (not isinstance(condition, Labels) or label is None):
        raise InputError(
            f"{option('ddib')}: {option('source_model', 'RUN')} of the source's kind, or a {run.name} that knows "
            f"labels and {option('label', 'L')} for the result, would be right"
        )
    if method.from_label is not None and not isinstance(condition, Labels):
        raise InputError(f"{option('from_label', method.from_label)}: {other.name} is told no labels")
    model = plan.model
    if other is not run:
        model = other.load(compute.on(), compute.batch or "auto", model.evaluation.precision)
    if condition is None:
        return model, None, other.name
    if not isinstance(condition, Labels):
        return model, condition.null().expand(len(images), *condition.null().shape[1:]), other.name
    rows, labels_text = _from_labels(method.from_label, condition, images, other.name)
    return model, rows, f"{other.name}, told {labels_text}"


def _from_labels(label: str | None, condition: Labels, images: Images, name: str) -> tuple[Tensor, str]:
    """The label of each source image, (n,), and how to say it."""
    if label is None:
        if images.labels is None:
            needed = option("from_label", "L")
            raise InputError(f"{images.name} has no labels: {needed}, what all the images are, would be right")
        return torch.from_numpy(condition.from_dataset(images)), "their labels"
    try:
        return torch.full((len(images),), condition.number(label)), f"label {printable(label)}"
    except InputError as error:
        raise InputError(f"{option('from_label', label)}: {name}: {error}") from error
