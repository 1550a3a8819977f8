"""Folders of pictures.

Of one that `sample` writes, what an earlier call of it left there goes, and nothing else ever does; what `restore`
and `translate` write is new.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError
from diffprob.cli import output
from diffprob.cli.output import PICTURE
from diffprob.cli.progress import say
from diffprob.storage.files import is_file, kind_of, remove, saying

if TYPE_CHECKING:
    from diffprob.tasks.sample import Samples

FACTS = "facts.json"  # says which pictures are this program's, and how they were drawn
PROGRESSION = "progression.png"
_OURS = re.compile(r"seed-[0-9]{8,20}\.(png|npy)|progression\.png")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def name_of(seed: int, suffix: str = PICTURE) -> str:
    """The file of a seed: a picture, or an array of what no picture holds."""
    return f"seed-{seed:08d}{suffix}"


def check(out: str) -> None:
    """Look, before anything is drawn, whether the folder takes pictures: no others than those of `sample` lie there.

    Raises:
        InputError: pictures that no facts.json of `sample` lists; the first is named, and nothing is changed.
    """
    folder = Path(out)
    if not folder.is_dir():
        return
    known = _listed(folder)
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in _PICTURES and path.name not in known:
            raise InputError(
                f"--out {out}: {path.name} is there already, and new pictures would be mixed with it; "
                "another folder would be right"
            )


def write(out: str, pictures: Iterable[tuple[str, bytes]], names: list[str], settings: dict[str, Any]) -> None:
    """Write pictures by name and facts.json, and remove those of the call before that are not written again.

    Raises:
        InputError: as `check`, or the disk refuses.
    """
    check(out)
    folder = Path(out)
    old = _listed(folder) if folder.is_dir() else set()
    _keep(folder, sorted({*old, *names}), settings)  # whoever is stopped in between can begin again
    for name, contents in pictures:
        output.write_file(folder / name, contents)
    with saying(f"write {out}"):
        for name in sorted(old - set(names)):
            if is_file(folder / name):
                remove(folder / name)
    _keep(folder, names, settings)


def write_samples(
    kind: str, out: str, samples: "Samples", levels: int | None, progression: bytes | None = None
) -> None:
    """Write samples as a grid, as arrays or one by one; into a folder a progression goes with them."""
    from diffprob.reporting import artifacts
    from diffprob.reporting.bands import shown_text

    images, seeds, settings = samples.images, samples.seeds, samples.settings
    if kind in ("npz", "npy", "txt", "png"):
        samples.save(out)
        if kind == "png" and levels is not None and (shown := shown_text(images.shape[1], levels)):
            say(f"{out} shows {shown}; --out x.npz keeps all")
    else:
        suffix = artifacts.image_suffix(images.shape[1], levels)
        names = [name_of(seed, suffix) for seed in seeds.tolist()]

        def pictures() -> Iterator[tuple[str, bytes]]:
            for name, seed, image in zip(names, seeds.tolist(), images, strict=True):
                yield name, artifacts.image_bytes(image, levels, {**settings, "seeds": str(seed)})
            if progression is not None:
                yield PROGRESSION, progression

        more = [] if progression is None else [PROGRESSION]
        write(out, pictures(), [*names, *more], settings)
        say(f"{len(images)} pictures in {out}")


def check_new(out: str) -> None:
    """Look whether a picture for each image can be written to the folder ``out`` and, beside it, one of all together.

    Raises:
        InputError: no name of a folder, or something is there already: nothing is overwritten.
    """
    from diffprob.tasks.picture_folders import together

    path = Path(out)
    if output.kind_of(out) != "folder":
        raise InputError(f"--out {out}: a picture for each image needs a folder")
    for taken in (path if path.is_dir() and any(path.iterdir()) else None, together(out)):
        if taken is not None and taken.exists():
            raise InputError(f"--out {out}: {taken} is there already; another name would be right")


def check_empty(out: str) -> None:
    """Look whether results can be written to the folder ``out``.

    Raises:
        InputError: no name of a folder, or one that holds files: none is overwritten.
    """
    path = Path(out)
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"--out {out} is not empty; a new folder would be right")
    if output.kind_of(out) != "folder":
        raise InputError(f"--out {out}: a picture for each image needs a folder")


def _keep(folder: Path, names: list[str], settings: dict[str, Any]) -> None:
    text = json.dumps({**settings, "pictures": names}, indent=1, allow_nan=False) + "\n"
    output.write_file(folder / FACTS, text.encode())


def _listed(folder: Path) -> set[str]:
    """The pictures of an earlier call; only names that `sample` gives, whatever a file says."""
    from diffprob.storage.records import read_json

    if kind_of(folder / FACTS) is None:
        return set()
    try:
        record = read_json(folder / FACTS)
    except InputError:  # not ours, or damaged: then no picture is ours either
        return set()
    names = record.get("pictures") if isinstance(record, dict) else None
    return {name for name in names or [] if isinstance(name, str) and _OURS.fullmatch(name)}
