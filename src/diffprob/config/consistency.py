"""Parts of a recipe that are of their kind, and fit together: the field is named, with what it must be."""

from typing import Any

from diffprob.base.checks import able, instance, shown, text
from diffprob.base.errors import FieldError
from diffprob.conditions.captions import Captions
from diffprob.conditions.condition import Labels
from diffprob.conditions.low_resolution import LowResolution
from diffprob.denoise.learned import LearnedDiagonal, LearnedRange
from diffprob.denoise.variance import Fitted
from diffprob.storage.files import clean_component
from diffprob.training.settings import Training

# What each component must be able to do: says "wrong kind of component" before something obscure does.
_ABILITIES = {
    "data": "load",
    "space": "log_det",
    "network": "build",
    "process": "marginal",
    "prediction": "check",
    "clock": "label",
    "variance": "posterior",
    "objective": "__call__",
    "condition": "null",
    "start": "weights",
}
_OPTIONAL = ("condition", "start", "variance", "prediction")  # a recipe that needs one says so itself
_CLASSES = {"training": Training}


def check_parts(recipe: Any) -> None:
    """Refuse components of the wrong kind.

    Raises:
        ValueError: the field and what it lacks.
    """
    text("name", recipe.name, most=200)
    clean_component(recipe.name)  # folders are called after it
    for field, kind in _CLASSES.items():
        if hasattr(recipe, field):
            instance(field, getattr(recipe, field), kind)
    for field, ability in _ABILITIES.items():
        value = getattr(recipe, field, None)
        if value is not None or (hasattr(recipe, field) and field not in _OPTIONAL):
            able(field, value, ability)


def check_together(recipe: Any) -> None:
    """Refuse components that do not fit together: what they are is checked by `check_parts`, before.

    Raises:
        ValueError: a network of images of another shape, outputs that the variance does not take, a prediction that
            divides by a signal of 0, or a network that does not take the condition, or takes more. The field
            is named, with what it must be.
    """
    check_size(recipe)
    if hasattr(recipe, "variance"):
        (_check_outputs if recipe.process.is_linear else _check_levels)(recipe)
    _check_conditioned(recipe)


def check_size(recipe: Any) -> None:
    """Refuse a network of images of another shape, or augmentations where the network sees none."""
    channels, *sides = recipe.space.model_shape
    if recipe.training.augment:
        if recipe.space.levels is not None:
            recipe.space.require_pixels("training.augment")
        elif len(sides) != 2:
            raise FieldError("training.augment", f"must be () for {recipe.space.kind}: augmentations are of images")
        if recipe.space.is_discrete:
            raise FieldError("training.augment", "must be (): levels are no numbers that could be moved")
    axes = getattr(recipe.network, "dims", len(getattr(recipe.network, "shape", (1, 1, 1))) - 1)
    if axes != len(sides):
        kind = {0: "vectors", 1: "signals", 2: "images", 3: "volumes"}
        if hasattr(recipe.network, "dims") and sides:
            raise FieldError("network.dims", f"must be {len(sides)} for {kind[len(sides)]}, got {axes}")
        right = "MLPSpec(features)" if not sides else f"UNetSpec(dims={len(sides)})"
        raise FieldError("network", f"is for {kind[axes]}, and space has {kind[len(sides)]}: {right} would be right")
    if recipe.network.in_channels != channels:
        raise FieldError("network.in_channels", f"must be {channels} as in space, got {recipe.network.in_channels}")
    shape = getattr(recipe.network, "shape", recipe.space.model_shape)
    if shape != recipe.space.model_shape:
        raise FieldError("network.shape", f"must be {recipe.space.model_shape} as in space, got {shape}")
    levels = len(recipe.network.widths)
    divisor = getattr(recipe.network, "divisor", 2 ** (levels - 1))
    if any(side % divisor for side in sides):
        need = f"a network of {levels} levels needs sizes divisible by {divisor}"
        size = "x".join(map(str, sides))
        raise FieldError("network.widths", f"are too many: {need}, got {size}: use fewer levels")


def _check_outputs(recipe: Any) -> None:
    """Refuse a fitted variance, a network that does not give what the variance reads, a prediction without a signal."""
    variance, channels = recipe.variance, recipe.network.out_channels
    if recipe.space.is_discrete:
        raise FieldError("space", f"must be Pixels(shape, levels) with signal and noise, got {shown(recipe.space)}")
    able("prediction", recipe.prediction, "to_x0", "V()")
    able("variance", variance, "posterior", "Zero()")
    recipe.prediction.check(recipe.process)
    if isinstance(variance, Fitted):
        raise FieldError("variance", f"cannot be {shown(variance)}: it is fitted to a trained run, chosen then")
    learned = isinstance(variance, LearnedRange | LearnedDiagonal)
    wanted = recipe.space.model_shape[0] * (2 if learned else 1)
    if channels != wanted:
        raise FieldError("network.out_channels", f"must be {wanted} with variance={shown(variance)}, got {channels}")


def _check_levels(recipe: Any) -> None:
    """Refuse parts of a model of levels that speak of other data, or of real numbers."""
    space, process, network, law = recipe.space, recipe.process, recipe.network, recipe.prediction
    theirs = getattr(recipe.data, "characters", space.characters if space.is_discrete else "")
    if space.is_discrete and theirs != space.characters:
        raise FieldError("space.characters", f"must be those of data, {shown(theirs)}, got {shown(space.characters)}")
    if not space.is_discrete:
        raise FieldError("space", f"must be Tokens(shape, levels) with process={shown(process)}, got {shown(space)}")
    able("prediction", law, "outputs", "Softmax()")
    if recipe.variance is not None:
        raise FieldError(
            "variance", f"must be None with prediction={shown(law)}, which is a law, got {recipe.variance!r}"
        )
    able("network", network, "build", "CategoricalUNetSpec(...)")
    law.check(process)
    survival = getattr(process, "survival", None)
    steps = None if survival is None else survival.steps
    for field, value, wanted, why in (
        ("process.levels", process.levels, space.levels, "as in space"),
        ("process.survival.steps", steps, space.dimensions if steps else None, f"one for each of {space.shape}"),
        ("network.levels", getattr(network, "levels", None), space.levels, "as in space"),
        (
            "network.branching",
            getattr(network, "branching", None),
            getattr(process, "branching", None),
            "as in process",
        ),
        ("network.outputs", outputs_of(network), law.outputs(space.levels), f"with prediction={law!r}"),
    ):
        if value != wanted:
            raise FieldError(field, f"must be {wanted} {why}, got {value}")


def outputs_of(network: Any) -> int | None:
    """Numbers that a network says of each element: its field, which is None for as many as there are levels."""
    own = getattr(network, "outputs", None)
    return getattr(network, "levels", None) if own is None else own


def _check_conditioned(recipe: Any) -> None:
    """Refuse a network that does not take the condition, or takes more."""
    network: Any = recipe.network
    condition, text = recipe.condition, getattr(network, "text", None)
    captions = condition if isinstance(condition, Captions) else None
    channels, *sides = recipe.space.model_shape
    wanted = {
        "classes": condition.rows if isinstance(condition, Labels) else 0,
        "extra_channels": channels if isinstance(condition, LowResolution) else 0,
        "text.words": len(captions.words) if captions else 0,
        "text.length": captions.length if captions else 0,
    }
    actual = {
        "classes": getattr(network, "classes", 0),
        "extra_channels": getattr(network, "extra_channels", 0),
        "text.words": getattr(text, "words", 0),
        "text.length": getattr(text, "length", 0),
    }
    for name, value in wanted.items():
        if actual[name] != value:
            raise FieldError(
                f"network.{name}", f"must be {value} with condition={shown(condition)}, got {actual[name]}"
            )
    if isinstance(condition, LowResolution) and condition.shape != recipe.space.model_shape:
        raise FieldError("condition.shape", f"must be {recipe.space.model_shape} as in space, got {condition.shape}")
    size = getattr(network, "size", None)
    if size is not None and [size, size] != sides:
        raise FieldError("network.size", f"is {size}, but the images are {sides[0]}x{sides[1]}")
