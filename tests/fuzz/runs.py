"""Runs with one thing changed, sealed anew so that no hash gives it away: opened and used like anybody's."""

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from safetensors.torch import save

from diffprob.base.errors import InputError, NumericalError
from diffprob.cli import show
from diffprob.config.recipe import Recipe, build_model
from diffprob.data.sources import Digits
from diffprob.net.unet import UNetSpec
from diffprob.runs.card import write_model_card
from diffprob.runs.fits import (
    bind_grid,
    fit_bytes,
    fit_path,
    fitted,
    moments_tensors,
    path_tensors,
    read_moments,
    read_proxies,
)
from diffprob.runs.folder import Run, open_run
from diffprob.runs.measurements import Measurement, add_measurement, tables
from diffprob.runs.publish import publish
from diffprob.runs.writer import RunWriter
from diffprob.space.pixels import Pixels
from diffprob.storage.manifest import Manifest
from diffprob.storage.records import read_log
from diffprob.storage.tensors import read_all
from diffprob.tasks.catalogue import describe_run
from diffprob.training.settings import Training
from diffprob.training.store import Snapshot

LONGEST = 300
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, 1e-320, "", "a", "\x1b[2J", "\ud800"),
    *("nan", "1e999", "../../x", "a" * 20_000, "# h\n<b>", "[/b]", [], {}, [[]], [1, "a"], {"a": {}}, {"": []}),
    *({"sha256": "0" * 64, "bytes": 1}, {"sha256": 1, "bytes": "1"}, [[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]),
)


def targets() -> dict[str, Callable[[random.Random, Path], None]]:
    """By name what makes one changed run in an empty folder and uses it; it raises unless a line at most came of it."""
    names = ("manifest.json", "measured.json", "log.jsonl", "recipe.txt", "model.safetensors", "header")
    fits = ("fit-analytic.safetensors", "fit-steps.safetensors", "fit-proxies.safetensors", "state.json")
    return {f"run {name}": _target(name) for name in (*names, *fits)}


def _target(name: str) -> Callable[[random.Random, Path], None]:
    def one(rng: random.Random, folder: Path) -> None:
        run, outside = folder / "run", folder / "outside"
        shutil.copytree(_made(), run)
        outside.mkdir()
        (outside / "mine").write_bytes(b"mine")
        _change(name, rng, run)
        _use(run)
        assert [path.name for path in outside.rglob("*")] == ["mine"], "something outside the run was touched"
        assert (outside / "mine").read_bytes() == b"mine", "something outside the run was changed"
        assert {path.name for path in folder.iterdir()} <= {"run", "outside", "published"}, "written beside the run"

    return one


@cache
def _made() -> Path:
    """A tiny run with a state, a log, measurements, pictures and fits."""
    folder = Path(mkdtemp(prefix="fuzz-")) / "run"
    network = UNetSpec(in_channels=1, out_channels=1, widths=(8,), layers=1, attention=(False,), groups=4)
    training = Training(steps=100, batch=4)
    recipe = Recipe(name="tiny", data=Digits(), space=Pixels((1, 8, 8), 17), network=network, training=training)
    weights = build_model(recipe).state_dict()
    writer = RunWriter.open(folder, recipe, "ab" * 32)
    writer.append({"step": 1, "loss": 0.5, "seconds": 1.0, "epoch": 0.1})
    writer.sample_path(1).write_bytes(b"picture")
    writer.save(Snapshot(1, weights, weights, {"x": torch.zeros(3)}, {"precision": "fp32"}))
    writer.record(Measurement("x", 1.0, 10, details={"sampler": "DDIM()", "evaluations": 5}, features="pixels"))
    run, times = Run.open(folder), torch.linspace(0.1, 1.0, 4, dtype=torch.float64)
    from diffprob.denoise.moments import NoiseMoments

    paths = [torch.arange(n) for n in (1, 2, 3)]
    kept = {
        "analytic": (moments_tensors(NoiseMoments(times, *[times.flip(0)] * 4, 8)), {"n": 8}),
        "steps": (path_tensors(times, paths, paths), {"longest": 3}),
        "proxies": ({"NoiseNorm() a/mean": times}, {"NoiseNorm() a": {"n": 8}}),
    }
    writer.add({fit_path(run, kind).name: fit_bytes(run, kind, *contents) for kind, contents in kept.items()})
    writer.close()
    return folder


def _change(name: str, rng: random.Random, run: Path) -> None:
    manifest = Manifest.read(run)
    if name == "manifest.json":
        value = json.loads((run / name).read_bytes())
        parts = {key: value[key] for key in ("meta", "files", "pending")}
        _mutate(parts, rng)
        seal = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        (run / name).write_text(json.dumps({**parts, "seal": seal}))
        return
    if name == "state.json":
        place = next((run / "state").iterdir())
        value = json.loads((place / name).read_bytes())
        _mutate(value, rng)
        _seal(Manifest.read(place), name, json.dumps(value).encode())
        return
    path = run / ("model.safetensors" if name == "header" else name)
    if name.endswith("json"):
        value = json.loads(path.read_bytes())
        _mutate(value, rng)
        contents = json.dumps(value).encode()
    elif name == "log.jsonl":
        value = [json.loads(line) for line in path.read_bytes().splitlines()]
        _mutate(value, rng)
        contents = "".join(json.dumps(line) + "\n" for line in value).encode()
        contents = contents if rng.random() < 0.8 else contents[: rng.randrange(len(contents) + 1)]
    elif name.endswith(".safetensors"):
        contents = _tensors(path, rng)
    else:
        contents = _bytes(path.read_bytes(), rng)
    _seal(manifest, path.name, contents)


def _seal(manifest: Manifest, name: str, contents: bytes) -> None:
    (manifest.folder / name).write_bytes(contents)
    manifest.files[name] = {"sha256": hashlib.sha256(contents).hexdigest(), "bytes": len(contents)}
    manifest.write()


def _mutate(value: Any, rng: random.Random) -> None:
    """Replace, drop or add one item somewhere in a JSON value."""
    places = [value]
    for node in places:
        inner = node.values() if isinstance(node, dict) else node
        places += [item for item in inner if isinstance(item, dict | list)]
    place = rng.choice(places)
    keys = list(place) if isinstance(place, dict) else list(range(len(place)))
    new = rng.choice(VALUES)
    if not keys or rng.random() < 0.15:
        if isinstance(place, dict):
            place[rng.choice(("x", "", "step", "data", "seed", "a/b"))] = new
        else:
            place.append(new)
    elif rng.random() < 0.15:
        del place[rng.choice(keys)]
    else:
        place[rng.choice(keys)] = new


def _bytes(contents: bytes, rng: random.Random) -> bytes:
    """A few bytes flipped, cut out or put in."""
    changed = bytearray(contents)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(changed))
        match rng.randrange(3):
            case 0:
                changed[at] = rng.randrange(256)
            case 1:
                del changed[at : at + rng.randrange(1, 9)]
            case _:
                changed[at:at] = rng.choice((b"(", b")", b"-", b"9", b"0.5", b"None, ", b"'", b"\x00", b"\xff"))
    return bytes(changed)


def _tensors(path: Path, rng: random.Random) -> bytes:
    """One tensor of another dtype, shape, name or content; or one thing said otherwise of the file."""
    tensors, metadata = read_all(path)
    name, dtypes = rng.choice(sorted(tensors)), (torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool)
    match rng.randrange(6):
        case 0:
            tensors[name] = tensors[name].to(rng.choice(dtypes))
        case 1:
            tensors[name] = rng.choice(
                (tensors[name].reshape(-1), tensors[name][None], torch.zeros(()), torch.zeros(0, 3))
            )
        case 2:
            tensors[rng.choice(("x", "", "a/b", "\x1b", "count"))] = tensors.pop(name)
        case 3:
            fill = rng.choice((float("nan"), float("inf"), -1.0, 1e30))
            tensors[name] = torch.full_like(tensors[name].double(), fill).to(tensors[name].dtype)
        case 4:
            metadata[rng.choice(sorted(metadata))] = (
                str(rng.choice(VALUES)).encode("utf-8", "replace").decode()[:100_000]
            )
        case _:
            metadata["about"] = json.dumps(rng.choice(VALUES))
    # Not by the library's own writer, which refuses numbers that are not finite.
    return save({name: value.contiguous() for name, value in tensors.items()}, metadata)


def _use(folder: Path) -> None:
    """Everything that opens a run, each by itself."""
    _only_lines(lambda: list(show.format_result({"kind": "run", **describe_run(folder).to_json()})))
    try:
        run = open_run(folder)
    except (InputError, NumericalError) as error:
        _check(error)
        return
    assert isinstance(run, Run)
    from diffprob.process.path import LeastCost

    def card() -> None:
        measurements = add_measurement(run.measurements, Measurement("y", 1.0, 1))
        tables(measurements)
        text = write_model_card(run.recipe, run.meta, measurements)
        assert "\x1b" not in text, "the card obeys a terminal"
        assert "<b>" not in text, "the card holds markup"

    def writing() -> None:
        writer = RunWriter(folder)
        try:
            writer.load()
        finally:
            writer.close()

    for action in (
        run.load,
        lambda: fitted(run),
        lambda: read_moments(run),
        lambda: bind_grid(run, LeastCost()),
        lambda: bind_grid(run, LeastCost(whole=True)),
        lambda: read_proxies(run),
        lambda: read_log(folder),
        card,
        writing,
        lambda: publish(run, folder.parent / "published"),
    ):
        _only_lines(action)


def _only_lines(action: Callable[[], object]) -> None:
    try:
        action()
    except (InputError, NumericalError) as error:
        _check(error)


def _check(error: Exception) -> None:
    assert len(str(error)) <= LONGEST, "a message is too long"
    assert str(error).isprintable(), "a message holds what a terminal obeys"
