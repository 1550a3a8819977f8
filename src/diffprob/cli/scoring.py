"""Images under density proxies: which sets, which proxies, under which models; what `detect` measures with."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError, NumericalError
from diffprob.cli.progress import TERMINAL, Progress, say

if TYPE_CHECKING:
    import numpy as np
    import torch

    from diffprob.data.for_run import Selection
    from diffprob.density.proxy import Proxy
    from diffprob.runs.folder import Run

Scores = dict[str, dict[str, "np.ndarray"]]  # by label and by set
CHUNKS = 8  # network calls' images that a proxy is handed at a time


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one name.

    Args:
        name: for tables and figures.
        levels: uint8 (n, C, H, W).
        index: where each stands in its data, int64 (n,).
        about: where they come from, JSON literals.
        files: of each, relative to the folder of the data; empty where they have none.
    """

    name: str
    levels: "np.ndarray"
    index: "np.ndarray"
    about: dict[str, Any]
    files: tuple[str, ...] = ()

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
    proxy: "Proxy"
    model: Any
    sha256: str


def take(found: "Selection", n: int, seed: int, name: str) -> ImageSet:
    """At most n of the images, chosen by the seed.

    Raises:
        InputError: nothing but constant images.
    """
    import numpy as np

    from diffprob.base.rng import derive, permutation

    images = found.images
    chosen = np.sort(permutation(derive(seed, "images"), 0, len(images))[:n])
    levels, about = images.take(chosen), {**found.facts, "n": len(chosen)}
    constant = chosen[levels.reshape(len(levels), -1).min(1) == levels.reshape(len(levels), -1).max(1)]
    if len(constant) == len(chosen):
        raise InputError(f"{name}: every image is constant: nothing can be told of them")
    if len(constant):
        say(f"{name}: {len(constant)} of {len(chosen)} images are constant, the first is number {constant[0]}")
    files = tuple(images.files[place] for place in chosen) if images.files else ()
    return ImageSet(name, levels, chosen.astype(np.int64), about, files)


def measure(subject: Subject, images: ImageSet, run: "Run", seed: int, device: "torch.device") -> "torch.Tensor":
    """The statistics of every image, float64 (n, k) on the CPU, with progress.

    The noise of an image belongs to its pixels and the seed: neither its place nor its companions matter.

    Raises:
        InputError: the proxy is not for this model; see `Proxy`.
        NumericalError: one of its statistics is not finite.
    """
    import torch

    from diffprob.base.rng import Rng
    from diffprob.tasks.drawing import blame

    size = CHUNKS * (subject.model.evaluation.chunk or len(images.levels))
    parts, n = [], len(images.levels)
    with Progress(f"{label(subject.proxy)}, {images.name}", n, "image") as bar, torch.no_grad():
        for first in range(0, n, size):
            levels = torch.from_numpy(images.levels[first : first + size]).to(device)
            rng = Rng.of_images(seed, images.levels[first : first + size], device)
            try:
                found = subject.proxy.statistics(subject.model, run.space.to_model(levels), rng)
            except ValueError as error:
                raise InputError(f"--proxy {subject.proxy!r}: {error}") from error
            parts.append(found.double().cpu())
            bar.update(first + len(levels))
    statistics = torch.cat(parts)
    wrong = (~torch.isfinite(statistics).all(1)).nonzero()
    if len(wrong):
        place = images.index[int(wrong[0])]
        raise NumericalError(f"{subject.label} of image {place} of {images.name} is not finite: {blame(subject.model)}")
    return statistics


def score_sets(
    run: "Run",
    measured: Sequence[Subject],
    sets: Sequence[ImageSet],
    fitting: ImageSet | None,
    device: "torch.device",
    seed: int,
    precision: str = "fp32",
    best: bool = False,
) -> Scores:
    """(n,) numbers of every subject for every set, by label and name; fits are taken from the run or put into it.

    What several proxies measure alike is measured once.
    """
    import torch

    from diffprob.runs.proxies import keep_proxies, read_proxies
    from diffprob.tasks.recording import recorded

    known: dict[tuple[str, str, str], torch.Tensor] = {}

    def statistics(subject: Subject, images: ImageSet) -> torch.Tensor:
        key = (subject.sha256, repr(subject.proxy.measured), images.name)
        if key not in known:
            known[key] = measure(replace(subject, proxy=subject.proxy.measured), images, run, seed, device)
        return subject.proxy.complete(known[key], run.space.to_model(torch.from_numpy(images.levels)))

    fits, facts = read_proxies(run, best)
    scores, changed = {}, False
    for subject in measured:
        fitted = None
        if subject.proxy.needs_fit and fitting is not None:
            key = f"{subject.proxy!r} {subject.sha256[:16]}"
            about = {**fitting.about, "seed": seed, "precision": precision, "noise": "by content"}
            if facts.get(key) != about:
                fits[key], facts[key], changed = subject.proxy.fit(statistics(subject, fitting)), about, True
            fitted = fits[key]
        scores[subject.label] = {
            each.name: subject.proxy.score(statistics(subject, each), fitted).numpy() for each in sets
        }
    if changed:
        recorded(run, lambda: keep_proxies(run, fits, facts, best), TERMINAL)
    return scores


def subjects(
    run: "Run", proxies: "Iterable[Proxy]", others: Sequence[str], device: "torch.device", args: Any
) -> list[Subject]:
    """The proxies under the run, then what each of the other runs has to say: V_0, log p or an energy.

    Raises:
        InputError: an other run of images of another shape, or without any density.
    """
    from diffprob.runs.densities import density_of
    from diffprob.runs.folder import open_run
    from diffprob.tasks.bounds import bound_variance

    model = run.load(device, args.batch or "auto", args.precision, args.best, bound_variance(run, args.best))
    found = [Subject(label(proxy), proxy.bind(run.space), model, run.sha256(args.best)) for proxy in proxies]
    for name in others:
        other = open_run(name)
        if other.space != run.space:
            raise InputError(f"--with {name}: images of {other.space}, {run.name} has {run.space}")
        digests = other.meta.get("data"), run.meta.get("data")
        if digests[0] != digests[1]:
            what = "images that are not known" if None in digests else "other images"
            say(f"note: {name} was trained on {what}, not on those of {run.name}: its density is of these")
        # In full precision: a potential is a sum over all pixels, of which differences matter.
        theirs = other.load(device, args.batch or "auto")
        proxy = density_of(other)
        found.append(Subject(f"{label(proxy)} of {other.name}", proxy.bind(run.space), theirs, other.sha256()))
    return found


def label(proxy: "Proxy") -> str:
    """The repr of a proxy without the fields that have their defaults; what it is a proxy of always stands there."""
    from dataclasses import MISSING, fields

    from diffprob.density.proxy import Proxy

    parts = []
    for field in fields(proxy):  # pyright: ignore[reportArgumentType]
        value = getattr(proxy, field.name)
        if isinstance(value, Proxy):
            parts.append(label(value))
        elif field.repr and (field.default is MISSING or value != field.default):
            parts.append(f"{field.name}={value!r}")
    return f"{type(proxy).__name__}({', '.join(parts)})" if parts else type(proxy).__name__
