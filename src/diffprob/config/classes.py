"""The classes of a run: its recipe keeps their names, and images are brought into its numbering by them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError
from diffprob.base.limits import MOST_CLASSES
from diffprob.base.text import one_line
from diffprob.conditions.condition import Labels
from diffprob.data.classes import absent, joint
from diffprob.data.images import Images

if TYPE_CHECKING:
    from diffprob.config.recipe import AnyRecipe

LONGEST = 50_000  # characters of all names together: they stand in the recipe


def nameless(recipe: Any) -> Labels | None:
    """The condition of a recipe (or None) that has classes without names, as all had once; else None."""
    condition = getattr(recipe, "condition", None)
    return condition if isinstance(condition, Labels) and not condition.names else None


def labels_of(images: Images, drop: float = 0.1) -> Labels:
    """The condition that the classes of ``images`` are: those that occur, by name.

    Raises:
        InputError: no labels, or so many that they cannot be classes.
    """
    names = images.occurring
    if not names:
        raise InputError(f"{images.name} has no labels; folders of pictures have those of their subfolders")
    if len(names) > MOST_CLASSES or sum(len(repr(name)) + 2 for name in names) > LONGEST:
        raise InputError(
            f"{images.name}: {len(names):,} different labels in {len(images):,} images are too many classes to tell a "
            f"network; at most {MOST_CLASSES:,}, with names of {LONGEST:,} characters in all, would be right"
        )
    return Labels(len(names), drop, names)


def resolve_classes(recipe: Any, images: Images, old: "AnyRecipe | None" = None) -> Any:
    """The recipe with the classes of the run that it goes on with, or else with names where it has only their number.

    Args:
        recipe: of any kind.
        images: what it is trained on.
        old: the recipe of the run that is there.

    Returns:
        The recipe, of the same kind. A run that was begun without names stays so: it numbers classes as files do. Names
        of classes that no image has are left out of a new one, so that they are never drawn.
    """
    condition, previous = getattr(recipe, "condition", None), getattr(old, "condition", None)
    if not isinstance(condition, Labels):
        return recipe
    if isinstance(previous, Labels):
        same = replace(condition, names=()) == replace(previous, names=()) and _alike(condition.names, previous.names)
        return replace(recipe, condition=previous) if same else recipe
    if images.labels is None:
        return recipe
    if condition.names:
        return replace(recipe, condition=_occurring(condition, images))
    names = images.former_names(condition.classes)
    known = set(names)
    # What does not fit is refused where the labels are read, by the numbers that the recipe speaks of.
    if not all(name in known for name in images.occurring):
        return recipe
    return replace(recipe, condition=replace(condition, names=names))


def _alike(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether no class has two names; one may have none."""
    pairs = zip(names, others, strict=True) if names and others else ()
    return all(one == other or not (one and other) for one, other in pairs)


def _occurring(condition: Labels, images: Images) -> Labels:
    """The condition without the names of classes that the images have none of; as it is where they have others."""
    occurring = set(images.occurring)
    if not occurring or not occurring <= set(condition.names):  # which is refused where the labels are read
        return condition
    return replace(condition, names=tuple(name if name in occurring else "" for name in condition.names))


def classes_text(recipe: Any, most: int = 300) -> str:
    """The names of the classes that a run is conditioned on, on one printable line; "" where on none."""
    condition = getattr(recipe, "condition", None)
    if not isinstance(condition, Labels):
        return ""
    if not condition.names:
        return f"{condition.classes:,}, without names: 0 to {condition.classes - 1}"
    named = [name for name in condition.names if name]
    return f"{len(named):,}: " + one_line(", ".join(named), most)


def numbering(recipe: Any, train: Images) -> tuple[str, ...]:
    """Name of each class in the order of the run: that of its condition, or else that of its training images.

    A condition without names numbers the classes of the training images as files do.
    """
    condition = getattr(recipe, "condition", None)
    if not isinstance(condition, Labels):
        return train.class_names
    return condition.names or train.former_names(condition.classes)


def agreed(recipe: Any, train: Images, *others: Images | None) -> tuple[Any, ...]:
    """Training and other images of a run with one numbering of their classes: the run's first, then what others have.

    Returns:
        As many as were given; None stays None.
    """
    names = joint((train, *others), numbering(recipe, train))
    return tuple(None if images is None else images.aligned(names) for images in (train, *others))


def class_counts(recipe: Any, names: Sequence[str], *images: Images | None) -> tuple[int, ...]:
    """How many images each class of the run has, in the first of ``images`` that has any of them.

    Empty for a run without labels, and where no images have any of its classes.

    Args:
        recipe: of the run.
        names: of its classes, as `numbering` has them.
    """
    condition = getattr(recipe, "condition", None)
    if isinstance(condition, Labels):
        for part in images:
            own = {} if part is None else dict(zip(part.class_names, part.class_counts, strict=False))
            counts = tuple(own.get(name, 0) if name else 0 for name in names[: condition.classes])
            if any(counts):
                return counts
    return ()


def strangers(run: str, names: Sequence[str], *images: Images) -> list[str]:
    """A sentence for each set of images with classes that are none of the run's."""
    unknown = {part.name: absent(part, names) for part in images}
    return [
        f"{name} has classes that {run} was not trained on: {one_line(', '.join(strange), 120)}"
        for name, strange in unknown.items()
        if strange
    ]
