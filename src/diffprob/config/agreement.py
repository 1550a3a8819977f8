"""Fields of a recipe that have to agree: what follows from one that was set is set with it.

A rule looks at the values as they were set, before any component is made of them, and says which others go with them.
What was set by hand stays as it is.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING
from typing import Any

from diffprob.base.level_tree import LevelTree
from diffprob.conditions.captions import Captions
from diffprob.conditions.condition import Labels
from diffprob.conditions.low_resolution import LowResolution
from diffprob.denoise.learned import LearnedDiagonal, LearnedRange
from diffprob.net.unet import attended_levels

Get = Callable[[str], Any]  # the value at a path, or `dataclasses.MISSING`
Change = tuple[str, Any, Sequence[str]]  # path, value, and the fields that it follows from
SPACE = ("space.shape", "space.latent")  # what the shape that a network sees follows from
BODIES = ("network", "network.body", "network.body.body")  # a network, or what it wraps


def _images(get: Get) -> Iterator[Change]:
    """The shape of the images is that to which pictures are scaled and cropped."""
    for data in ("data", "data.source"):
        shape, channels, size = get("space.shape"), get(f"{data}.channels"), get(f"{data}.size")
        if _is_shape(shape) and isinstance(channels, int):
            yield "space.shape", (channels, *shape[1:]), [f"{data}.channels"]
        shape = get("space.shape")
        if _is_shape(shape) and isinstance(size, int):
            yield "space.shape", (shape[0], size, size), [f"{data}.size"]


def _shapes(get: Get) -> Iterator[Change]:
    """Whatever is made for one shape is made for that of the images."""
    shape, learned = _model_shape(get), isinstance(get("variance"), LearnedRange | LearnedDiagonal)
    if not _is_shape(shape):
        return
    for path in (f"{body}.{name}" for body in BODIES for name in ("shape", "in_channels", "out_channels", "size")):
        if get(path) is MISSING:
            continue
        if path.endswith(".size"):
            if len(shape) == 3 and shape[1] == shape[2]:
                yield path, shape[1], SPACE
        elif path.endswith(".shape"):
            yield path, shape, SPACE
        elif path.endswith("in_channels"):
            yield path, shape[0], SPACE
        elif get(path) is not None:
            yield path, shape[0] * (1 + learned), [*SPACE, "variance"]
    if get("condition.shape") is not MISSING:
        yield "condition.shape", shape, SPACE


def _levels_of(get: Get) -> Iterator[Change]:
    """A model of levels has as many everywhere, and an order as many steps as elements."""
    levels, shape, law, length = (get(name) for name in ("space.levels", "space.shape", "prediction", "data.length"))
    if isinstance(length, int) and isinstance(shape, tuple):
        shape = (*shape[:-1], length)
        yield "space.shape", shape, ["data.length"]
    if get("network.length") is not MISSING and isinstance(shape, tuple):
        yield "network.length", math.prod(shape), ["space.shape"]
    for path in ("process.levels", "network.levels"):
        if get(path) is not MISSING:
            yield path, levels, ["space.levels"]
    if get("process.survival.steps") not in (MISSING, None) and isinstance(shape, tuple):
        steps = math.prod(shape)
        yield "process.survival.steps", steps, ["space.shape", "process.survival"]
        branching, stages = get("process.branching"), 1
        if branching is not MISSING:
            stages = LevelTree(levels, branching).stages
        if get("clock.steps") is not MISSING:
            yield "clock.steps", stages * steps, ["space.shape", "process.survival", "process.branching"]
    if get("process.branching") is not MISSING and get("network.branching") is not MISSING:
        yield "network.branching", get("process.branching"), ["process.branching"]
    if get("network.outputs") is not MISSING and hasattr(law, "outputs"):
        each = law.outputs(levels)
        yield "network.outputs", None if each == levels else each, ["prediction", "space.levels"]


def _condition(get: Get) -> Iterator[Change]:
    """The network takes as many classes as there are, and channels for an image where it is told one."""
    condition, shape = get("condition"), _model_shape(get)
    if condition is MISSING or not _is_shape(shape):
        return
    labelled = [body for body in BODIES if get(f"{body}.classes") is not MISSING][:1]  # not what a classifier wraps
    for body in labelled:
        yield f"{body}.classes", condition.rows if isinstance(condition, Labels) else 0, ["condition"]
    for body in BODIES:  # networks of words, or of images beside x_t, are of nothing else
        if get(f"{body}.extra_channels") is not MISSING and isinstance(condition, LowResolution):
            yield f"{body}.extra_channels", shape[0], ["condition", *SPACE]
        if get(f"{body}.text.words") is not MISSING and isinstance(condition, Captions):
            yield f"{body}.text.words", len(condition.words), ["condition"]
            yield f"{body}.text.length", condition.length, ["condition"]


def _clock(get: Get) -> Iterator[Change]:
    """The clock counts the times of the schedule, and a network that has something for each label as many."""
    times = get("process.schedule.steps")
    if type(times) is int and times > 0 and get("clock.steps") is not MISSING:
        yield "clock.steps", times, ["process.schedule"]
    labels = get("clock.steps")
    for body in BODIES if type(labels) is int and labels > 0 else ():
        if get(f"{body}.steps") is not MISSING:
            yield f"{body}.steps", labels, ["clock", "process.schedule", "process.survival", "space.shape"]


def _widths(get: Get) -> Iterator[Change]:
    """A network has attention at as many levels as widths, and whole groups of channels at each."""
    shape = _model_shape(get)
    for body in BODIES:
        widths, because = get(f"{body}.widths"), [f"{body}.widths"]
        if not (isinstance(widths, tuple) and widths and all(type(width) is int and width > 0 for width in widths)):
            continue
        attention, patch = get(f"{body}.attention"), get(f"{body}.patch_size")
        if isinstance(attention, tuple) and len(attention) != len(widths) and _is_shape(shape):
            patch = patch if type(patch) is int and patch > 0 else 1
            attention = attended_levels(shape[1:], patch, len(widths))
            yield f"{body}.attention", attention, because
        groups = get(f"{body}.groups")
        if type(groups) is int and groups > 0 and any(width % groups for width in widths):
            yield f"{body}.groups", _divisor(math.gcd(*widths), groups), because
        head, middle = get(f"{body}.head_dim"), get(f"{body}.mid_attention")
        if type(head) is int and head > 0 and isinstance(attention, tuple) and len(attention) == len(widths):
            attended = [width for width, attends in zip(widths, attention, strict=True) if attends]
            attended += [widths[-1]] if middle is True else []
            if any(width % head for width in attended):
                yield f"{body}.head_dim", _divisor(math.gcd(*attended), head), [*because, f"{body}.attention"]


def _batch(get: Get) -> Iterator[Change]:
    """A batch is cut into equal parts."""
    batch, parts = get("training.batch"), get("training.accumulate")
    if type(batch) is int and type(parts) is int and batch > 0 and parts > 0 and batch % parts:
        yield "training.accumulate", _divisor(batch, parts), ["training.batch"]


def _levels(get: Get) -> Iterator[Change]:
    """A network halves the images as often as they can be halved."""
    shape = _model_shape(get)
    for body in BODIES:
        widths, patch = get(f"{body}.widths"), get(f"{body}.patch_size")
        if not (_is_shape(shape) and isinstance(widths, tuple)):
            continue
        parts = patch if type(patch) is int and patch > 0 else 1
        levels = len(widths)
        while levels > 1 and any(side % (parts * 2 ** (levels - 1)) for side in shape[1:]):
            levels -= 1
        yield f"{body}.widths", widths[:levels], SPACE


# Each may follow from what one before has set.
RULES = (_images, _shapes, _levels_of, _condition, _clock, _levels, _widths, _batch)


def agreeing(get: Get, put: Callable[[str, Any], None], changed: Sequence[str], all_fields: bool = False) -> list[str]:
    """Set what goes with the fields that were set; returns the paths of what was.

    Args:
        get: the value at a path.
        put: sets it.
        changed: paths of the fields that were set, which stay as they are.
        all_fields: set these too where they do not agree, to see what would be right.
    """
    sources, done = list(changed), []
    for rule in RULES:
        for path, value, because in rule(get):
            follows = all_fields or any(_touch(source, field) for source in sources for field in because)
            fixed = not all_fields and any(_touch(field, path) for field in changed)
            if follows and not fixed and get(path) != value:
                put(path, value)
                sources.append(path)
                done.append(path)
    return list(dict.fromkeys(done))


def _touch(one: str, other: str) -> bool:
    """Whether two paths are the same, or one leads into what is at the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _model_shape(get: Get) -> Any:
    """Of what the network sees: of the latents where the space has some."""
    latent = get("space.latent")
    return get("space.shape") if latent is MISSING else latent


def _divisor(number: int, most: int) -> int:
    """The largest divisor of ``number`` that is at most ``most``."""
    return next(divisor for divisor in range(min(number, most), 0, -1) if number % divisor == 0)


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, tuple) and 2 <= len(shape) <= 4 and all(type(side) is int and side > 0 for side in shape)
