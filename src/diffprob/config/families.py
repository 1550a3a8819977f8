"""Components by family, for Python: ``dp.samplers.DDIM``, made from the registry."""

from collections.abc import Iterator
from typing import Any

from diffprob.base.errors import did_you_mean
from diffprob.config.registry import FAMILIES


def plural(family: str) -> str:
    """The word for all components of a family."""
    if family == "times":
        return family
    if family.endswith("y"):
        return f"{family[:-1]}ies"
    return f"{family}es" if family.endswith("s") else f"{family}s"


# Conditions are left out, whose plural is a package; they stand on the face by themselves.
_PLURALS = {
    name: plural(name).replace(" ", "_")
    for name in FAMILIES
    if name not in ("condition", "training", "recipe", "trained")
}


class Family:
    """The components of one family as attributes.

    Args:
        name: of the family in the registry, such as "sampler".
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        table = FAMILIES[self._name]
        if name in table:
            return table[name]
        raise AttributeError(f"no {self._name} {name!r} (there are {', '.join(table)}){did_you_mean(name, table)}")

    def __dir__(self) -> list[str]:
        return sorted(FAMILIES[self._name])

    def __iter__(self) -> Iterator[Any]:
        return iter(FAMILIES[self._name].values())

    def __repr__(self) -> str:
        return f"{_PLURALS[self._name]}: {', '.join(FAMILIES[self._name])}"


def families() -> dict[str, Family]:
    """Every family, by its plural."""
    return {plural: Family(name) for name, plural in _PLURALS.items()}
