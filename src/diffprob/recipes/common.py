"""What several recipes share."""

import os
from pathlib import Path


def data_path(name: str) -> str:
    """Where recipes look for a data set unless told: ``$DIFFPROB_DATA/name``, or ``data/name`` here."""
    return str(Path(os.environ.get("DIFFPROB_DATA") or "data") / name)
