"""Images under density proxies: which sets, which proxies, under which models, and the number of each image."""

from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprob.base.errors import InputError, NumericalError
from diffprob.base.rng import Rng, increasing_subset
from diffprob.data.for_run import Selection
from diffprob.density.complexity import code_length
from diffprob.density.proxy import Proxy
from diffprob.runs.densities import density_of
from diffprob.runs.fits import ProxyTensors, keep_proxies, read_proxies
from diffprob.runs.folder import Run, open_run
from diffprob.tasks.bounds import bound_variance
from diffprob.tasks.compute import Compute
from diffprob.tasks.drawing import blame
from diffprob.tasks.options import option
from diffprob.tasks.reporter import SILENT, Reporter

Scores = dict[str, dict[str, np.ndarray]]  # by label and by set
CHUNKS = 8  # network calls' images that a proxy is handed at a time


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one name.

    Args:
        name: for tables and figures.
        levels: uint8 (n, C, H, W), or real numbers, float32 (n, C, ...).
        index: where each stands in its data, int64 (n,).
        about: where they come from, JSON literals.
        files: of each, relative to the folder of the data; empty where they have none.
    """

    name: str
    levels: np.ndarray
    index: np.ndarray
    about: dict[str, Any]
    files: tuple[str, ...] = ()

    @cached_property
    def complexity(self) -> np.ndarray | None:
        """Bits of each image under a lossless compressor, (n,); None of real numbers, which have no such code."""
        if self.levels.dtype.kind == "f":
            return None
        return code_length(torch.from_numpy(self.levels)).numpy()

    def called(self, place: int) -> str:
        """The file of the image at a place of this set, or its number in its data."""
        return self.files[place] if self.files else str(int(self.index[place]))


@dataclass(frozen=True, eq=False)
class Subject:
    """A proxy under a model.

    Args:
        label: for tables and figures.
        proxy: bound to the pixel space.
        model: what it measures.
        sha256: of the model's weights.
    """

    label: str
    proxy: Proxy
    model: Any
    sha256: str


@dataclass(frozen=True, eq=False)
class ProxyFits:
    """What proxies were fitted to, as a run keeps it.

    Args:
        fits: of each proxy, by its key.
        provenance: what to, by the same keys.
        best: whether under the best weights.
        new: whether some of it is not in the run yet.
    """

    fits: ProxyTensors
    provenance: dict[str, Any]
    best: bool
    new: bool

    def keep(self, run: Run) -> None:
        """Put it into the run.

        Raises:
            InputError: the folder cannot be written, or a training is using it.
        """
        keep_proxies(run, self.fits, self.provenance, self.best)


def take(selection: Selection, n: int, seed: int, name: str, reporter: Reporter = SILENT) -> ImageSet:
    """At most n of the images, chosen by the seed.

    Raises:
        InputError: nothing but constant images.
    """
    images = selection.images
    chosen = increasing_subset(len(images), n, seed, "images")
    levels, about = images.take(chosen), {**selection.provenance, "n": len(chosen)}
    rows = levels.reshape(len(levels), -1)
    constant = chosen[rows.min(1) == rows.max(1)] if images.levels is not None else chosen[:0]
    if len(constant) == len(chosen):
        raise InputError(f"{name}: every image is constant: nothing can be told of them")
    if len(constant):
        first = f"the first is number {constant[0]}"
        reporter.note(f"{name}: {len(constant)} of {len(chosen)} images are constant, {first}")
    files = tuple(images.files[place] for place in chosen) if images.files else ()
    return ImageSet(name, levels, chosen.astype(np.int64), about, files)


def measure_statistics(
    subject: Subject, images: ImageSet, run: Run, seed: int, device: torch.device, reporter: Reporter = SILENT
) -> Tensor:
    """The statistics of every image, float64 (n, k) on the CPU.

    The noise of an image belongs to its pixels and the seed: neither its place nor its companions matter.

    Raises:
        InputError: the proxy is not for this model; see `Proxy`.
        NumericalError: one of its statistics is not finite.
    """
    size = CHUNKS * (subject.model.evaluation.chunk or len(images.levels))
    parts, n = [], len(images.levels)
    with reporter.progress(f"{label(subject.proxy)}, {images.name}", n, "image") as bar, torch.no_grad():
        for first in range(0, n, size):
            levels = torch.from_numpy(images.levels[first : first + size]).to(device)
            rng = Rng.of_images(seed, images.levels[first : first + size], device)
            try:
                part = subject.proxy.statistics(subject.model, run.space.to_model(levels), rng)
            except ValueError as error:
                raise InputError(f"{option('proxy', repr(subject.proxy))}: {error}") from error
            parts.append(part.double().cpu())
            bar.update(first + len(levels))
    statistics = torch.cat(parts)
    wrong = (~torch.isfinite(statistics).all(1)).nonzero()
    if len(wrong):
        place = images.index[int(wrong[0])]
        raise NumericalError(f"{subject.label} of image {place} of {images.name} is not finite: {blame(subject.model)}")
    return statistics


def score_sets(
    run: Run,
    measured: Sequence[Subject],
    sets: Sequence[ImageSet],
    fitting: ImageSet | None,
    seed: int,
    compute: Compute = Compute(),
    reporter: Reporter = SILENT,
) -> tuple[Scores, ProxyFits]:
    """(n,) numbers of every subject for every set, by label and name; and the fits, those of the run where they serve.

    What several proxies measure alike is measured once.

    Raises:
        InputError: a proxy is not for its model, or a fit in the run is damaged.
        NumericalError: a statistic is not finite.
    """
    device, known = compute.on(), dict[tuple[str, str, str], Tensor]()

    def statistics(subject: Subject, images: ImageSet) -> Tensor:
        key = (subject.sha256, repr(subject.proxy.measured), images.name)
        if key not in known:
            bare = replace(subject, proxy=subject.proxy.measured)
            known[key] = measure_statistics(bare, images, run, seed, device, reporter)
        return subject.proxy.complete(known[key], run.space.to_model(torch.from_numpy(images.levels)))

    fits, provenance = read_proxies(run, compute.best)
    scores, changed = {}, False
    for subject in measured:
        fitted = None
        if subject.proxy.needs_fit and fitting is not None:
            key = f"{subject.proxy!r} {subject.sha256[:16]}"
            about = {**fitting.about, "seed": seed, "precision": compute.exact, "noise": "by content"}
            if provenance.get(key) != about:
                fits[key], provenance[key], changed = subject.proxy.fit(statistics(subject, fitting)), about, True
            fitted = fits[key]
        scores[subject.label] = {
            part.name: subject.proxy.score(statistics(subject, part), fitted).numpy() for part in sets
        }
    return scores, ProxyFits(fits, provenance, compute.best, changed)


def subjects(
    run: Run,
    proxies: Iterable[Proxy],
    others: Sequence[str] = (),
    compute: Compute = Compute(),
    reporter: Reporter = SILENT,
) -> list[Subject]:
    """The proxies under the run, then what each of the other runs has to say: V_0, log p or an energy.

    Raises:
        InputError: an other run of images of another shape, or without any density.
    """
    proxies = tuple(proxies)
    for proxy in proxies:
        if not proxy.of_levels:
            run.recipe.process.require_linear(label(proxy))
    model, sha256 = compute.load(run, bound_variance(run, compute.best)), run.sha256(compute.best)
    measured = [Subject(label(proxy), proxy.bind(run.space), model, sha256) for proxy in proxies]
    for name in others:
        other = open_run(name)
        if other.space != run.space:
            raise InputError(f"{option('others', name)}: images of {other.space}, {run.name} has {run.space}")
        digests = other.meta.get("data"), run.meta.get("data")
        if digests[0] != digests[1]:
            what = "images that are not known" if None in digests else "other images"
            reporter.note(f"{name} was trained on {what}, not on those of {run.name}: its density is of these")
        # In full precision: a potential is a sum over all pixels, of which differences matter.
        theirs = other.load(compute.on(), compute.batch or "auto")
        proxy = density_of(other)
        measured.append(Subject(f"{label(proxy)} of {other.name}", proxy.bind(run.space), theirs, other.sha256()))
    return measured


def label(proxy: Proxy) -> str:
    """The repr of a proxy without the fields that have their defaults; what it is a proxy of always stands there."""
    parts = []
    for field in fields(proxy):  # pyright: ignore[reportArgumentType]
        value = getattr(proxy, field.name)
        if isinstance(value, Proxy):
            parts.append(label(value))
        elif field.repr and (field.default is MISSING or value != field.default):
            parts.append(f"{field.name}={value!r}")
    return f"{type(proxy).__name__}({', '.join(parts)})" if parts else type(proxy).__name__
