"""Names that components and their fields had before: recipes written with them still open, and are written anew."""

OLD_NAMES: dict[str, str] = {
    "Degraded": "LowResolution",
}
"""Old name of a component: its name now."""

OLD_FIELDS: dict[str, dict[str, str]] = {}
"""Name of a component now: old names of its fields, each with its name now."""
