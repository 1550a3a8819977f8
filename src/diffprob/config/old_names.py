"""Names that components and their fields had before: recipes and runs that were written with them still open.

What is saved again has today's names, and no message proposes an old one.
"""

from collections.abc import Container

OLD_NAMES: dict[str, str] = {  # today's name of a component, by each that it had
    "Degraded": "LowResolution",
    "First": "Subset",
    "Joined": "Concatenated",
    "Recogniser": "NoisyClassifierRecipe",
    "Recognition": "NoisyClassifierLoss",
    "Trained": "PretrainedRun",
    "Data": "X0",
    "Velocity": "V",
    "Mean": "Mu",
    "Part": "ParameterGroup",
}

OLD_FIELDS: dict[str, dict[str, str]] = {  # the same for the fields of a component, by its name of today
    "ConcatenatedUNetSpec": {"beside": "extra_channels"},
}


def current_name(name: str, table: Container[str]) -> str:
    """Today's name of a component of ``table``; any other name as it is."""
    new = OLD_NAMES.get(name)
    return name if new is None or new not in table else new


def current_field(component: str, field: str, fields: Container[str]) -> str:
    """Today's name of a field of ``component``, which has ``fields``; any other name as it is."""
    new = OLD_FIELDS.get(component, {}).get(field)
    return field if new is None or field in fields or new not in fields else new
