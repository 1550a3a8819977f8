"""What a detection leaves in a folder: every number, a row for each image, and figures."""

from pathlib import Path
from typing import Any

import numpy as np

from diffprob.reporting import artifacts
from diffprob.reporting.detection import comparison_figures, map_sheet
from diffprob.tasks.detection import DetectionResult
from diffprob.tasks.display import json_bytes, write_file
from diffprob.tasks.separation import ENDS

JSON, CSV, MAPS, EXTREMES = "detect.json", "scores.csv", "maps.png", "extremes.png"


def save_detection(folder: Path, detection: DetectionResult, levels: int | None, **more: Any) -> dict[str, Any]:
    """Write detect.json, scores.csv and figures into a folder, which is made.

    Args:
        folder: where.
        detection: the result.
        levels: grey levels of the run's images; None: real numbers.
        more: further fields of detect.json.

    Returns:
        What detect.json holds; "files" are the names of all.

    Raises:
        InputError: the disk refuses.
    """
    write_file(folder / CSV, detection.to_csv().encode())  # which makes the folder
    if detection.separations:
        inside, *outside = (images.name for images in detection.sets)
        pictures = comparison_figures(folder, detection.scores, inside, outside)
    else:
        write_file(folder / EXTREMES, extremes_png(detection, levels))
        pictures = [EXTREMES]
    if detection.maps is not None and levels is not None:
        write_file(folder / MAPS, maps_png(detection, levels))
        pictures.append(MAPS)
    result = {**detection.to_json(), **more, "files": [JSON, CSV, *pictures]}
    write_file(folder / JSON, json_bytes(result))
    return result


def extremes_png(detection: DetectionResult, levels: int | None) -> bytes:
    """The least typical images over the most typical ones, by the first proxy."""
    ranking, judged = detection.rankings[0], detection.outside[0]
    shown = min(ENDS, len(ranking.order))
    places = np.r_[ranking.order[:shown], ranking.order[::-1][:shown]]
    names = [judged.called(int(place)) for place in places]
    settings = {"proxy": ranking.proxy, "above": "least typical", "below": "most typical"}
    return artifacts.named_png(judged.levels[places], levels, names, settings, shown)


def maps_png(detection: DetectionResult, levels: int) -> bytes:
    """The least typical images beside their anomaly maps.

    Raises:
        ValueError: none were made.
    """
    judged, maps = detection.outside[0], detection.maps
    if maps is None:
        raise ValueError("no anomaly maps were asked for")
    names = [judged.called(int(place)) for place in maps.places]
    picture, white = map_sheet(judged.levels[maps.places], maps.values, levels, names)
    return artifacts.png(picture, {"map": repr(maps.map), "white": white})
