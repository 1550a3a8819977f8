"""Texts that become components: recipes, specifications, ``--set``, options of the command line, headers of weights."""

import argparse
import contextlib
import functools
import hashlib
import io
import json
import random
import shutil
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from conform.components import example
from conform.uses import USES
from fuzz.driver import MOST_MESSAGE, Fault, Target, mutated, mutated_json, odd

from diffprob.base.errors import DiffprobError
from diffprob.cli.main import VERBS, main
from diffprob.config.overrides import assign_all, leaves
from diffprob.config.recipe import Recipe, build, build_model, parameter_count
from diffprob.config.registry import ALL, FAMILIES
from diffprob.config.spec import parse, render
from diffprob.net.unet import UNetSpec
from diffprob.recipes import EMBEDDED, RECIPES, named
from diffprob.runs.files import MODEL
from diffprob.runs.folder import PRETRAINED, Run, open_run, packaged
from diffprob.runs.publish import write_run
from diffprob.space.pixels import Pixels
from diffprob.storage.manifest import Manifest
from diffprob.tasks import cost
from diffprob.training.settings import Training

cost.PATIENCE = 1e-9  # a dry run measures one step and not three: its seconds are asked for, not the input's fault
NAMES = tuple(ALL)
NETWORK = UNetSpec(1, 1, (8, 8), layers=1, attention=(False, True), groups=4)


def recipe(name: str) -> Any:
    """A recipe with a name, for data that need not be there."""
    return named(name, None if name in EMBEDDED else "data")


@functools.cache
def texts() -> tuple[str, ...]:
    """Recipes as text: those with a name, and those of the packaged runs."""
    made = [render(recipe(name)) for name in RECIPES]
    return (*made, *((PRETRAINED / name / "recipe.txt").read_text("utf-8") for name in packaged()))


def text(rng: random.Random, folder: Path) -> None:
    """A recipe in which something is changed; what still is one can be counted and compared."""
    made = parse(mutated(rng.choice(texts()), rng, NAMES), ALL)
    if type(made).__name__ in FAMILIES["recipe"]:
        parameter_count(made)
        assert parse(render(made), ALL) == made


def component(rng: random.Random, folder: Path) -> None:
    """A component with one or two odd arguments, used as its family is."""
    family = rng.choice(list(FAMILIES))
    name = rng.choice(list(FAMILIES[family]))
    spec = mutated(repr(example(ALL[name])), rng, NAMES)
    if rng.random() < 0.3:
        spec = f"{name}({', '.join(odd(rng, NAMES) for _ in range(rng.randrange(4)))})"
    made = parse(spec, FAMILIES[family], ALL)
    if type(made).__name__ in FAMILIES[family]:
        with contextlib.suppress(ValueError):  # where one does not go with another
            USES[family](made)
        assert parse(repr(made), ALL) == made


def settings(rng: random.Random, folder: Path) -> None:
    """One to three ``--set``, of fields that are there or nearly."""
    base = recipe(rng.choice(list(RECIPES)))
    paths = leaves(base)
    chosen = [rng.choice(paths) for _ in range(rng.choice((1, 1, 2, 3)))]
    made = assign_all(base, [(mutated(p, rng) if rng.random() < 0.1 else p, odd(rng, NAMES)) for p in chosen])
    parameter_count(made)
    assert parse(render(made), ALL) == made


@functools.cache
def parsers() -> dict[str, argparse.ArgumentParser]:
    by_verb: dict[str, argparse.ArgumentParser] = {}
    for verb, (module, _) in VERBS.items():
        by_verb[verb] = argparse.ArgumentParser()
        import_module(f"diffprob.cli.{module}").add_arguments(by_verb[verb])
    return by_verb


def command(rng: random.Random, folder: Path) -> None:
    """A verb with one to three odd options, in a dry run where there is one."""
    verb = rng.choice(list(parsers()))
    actions = [action for action in parsers()[verb]._actions if action.option_strings and action.dest != "help"]
    dry = any(action.dest == "dry_run" for action in actions)
    if verb in {"doctor", "demo"} or not (dry or verb in {"show", "data-check"}):
        return
    command_line = [verb, *(["--dry-run"] if dry else []), *_places(verb, rng, folder)]
    for action in rng.sample(actions, min(len(actions), rng.choice((1, 1, 2, 3)))):
        command_line.append(rng.choice(action.option_strings))
        if action.nargs != 0:
            command_line.append(_value(action, rng))
    run_command(command_line)


def run_command(command_line: list[str]) -> None:
    """The command in this process: its exit code and what it says are looked at."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(command_line)
    errors = [line for line in err.getvalue().splitlines() if "error:" in line]
    if code not in (0, 2, 3) or len(errors) != (code != 0):
        raise Fault(f"{command_line} ended with {code} and {errors}")
    if errors and len(errors[0]) > MOST_MESSAGE + len("diffprob: error: "):
        raise Fault(f"{command_line}: an error of {len(errors[0])} characters")
    if not (out.getvalue() + err.getvalue()).replace("\n", "").replace("\t", "").isprintable():
        raise Fault(f"{command_line} printed a control character")
    if code:
        raise DiffprobError("refused")


def _places(verb: str, rng: random.Random, folder: Path) -> list[str]:
    """The positional arguments: a run, a recipe or data, mostly one that is there."""
    run = str(tiny()) if rng.random() < 0.9 else odd(rng)
    match verb:
        case "train":
            return [rng.choice(("digits", "mnist", "fashion", run, odd(rng)))]
        case "data-check":
            return [rng.choice(("digits", str(folder), odd(rng)))]
        case "show":
            return [rng.choice(("samplers", "recipes", run, "Karras", odd(rng)))]
        case "import" | "translate" | "restore" | "interpolate":
            return [run, "0", "1"][: 1 if verb == "import" else 3]
        case "export":
            return [run]
        case _:
            return [run]


def _value(action: argparse.Action, rng: random.Random) -> str:
    if action.dest == "set":
        path = rng.choice(leaves(named("digits", None)))
        return f"{path}={odd(rng, NAMES)}"
    if action.choices and rng.random() < 0.5:
        return str(rng.choice(list(action.choices)))
    family = FAMILIES.get(action.dest)
    if family and rng.random() < 0.8:
        return mutated(repr(example(rng.choice(list(family.values())))), rng, NAMES)
    return odd(rng, NAMES)


@functools.cache
def tiny() -> Path:
    """A run of a tiny network; not to be changed."""
    path = Path(tempfile.mkdtemp(prefix="fuzz-run-")) / "tiny"
    data = parse("Digits()", ALL)
    made = Recipe(name="tiny", data=data, space=Pixels((1, 8, 8), 17), network=NETWORK, training=Training(steps=4))
    torch.manual_seed(0)
    write_run(path, made, build_model(made).state_dict(), step=4)
    return path


def _seal(run: Path, name: str, contents: bytes) -> None:
    """Let the inventory of the run agree with a file."""
    manifest = Manifest.read(run)
    manifest.files[name] = {"sha256": hashlib.sha256(contents).hexdigest(), "bytes": len(contents)}
    manifest.write()


def sealed(rng: random.Random, folder: Path) -> None:
    """A run whose weights have another header, and whose inventory agrees with it."""
    run = folder / "run"
    shutil.copytree(tiny(), run)
    data = (run / MODEL).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    new: Any = mutated_json(header, rng)
    if rng.random() < 0.3 and isinstance(new, dict):
        names = [name for name in new if isinstance(new[name], dict) and "dtype" in new[name]]
        for name in rng.sample(names, min(len(names), 3)):
            new[name]["dtype"] = rng.choice(("F64", "F16", "BF16", "I32", "U8", "BOOL", "F8_E4M3", "C64", "X"))
    head = json.dumps(new).encode()
    data = len(head).to_bytes(8, "little") + head + data[8 + length :]
    (run / MODEL).write_bytes(data)
    _seal(run, MODEL, data)
    opened = open_run(run)
    assert isinstance(opened, Run)
    model = opened.load()
    with torch.no_grad():
        model(torch.zeros(1, 1, 8, 8), torch.tensor(0.5, dtype=torch.float64))


def described(rng: random.Random, folder: Path) -> None:
    """A run with another recipe, sealed: it is opened, its weights are loaded."""
    run = folder / "run"
    shutil.copytree(tiny(), run)
    text = mutated((run / "recipe.txt").read_text("utf-8"), rng, NAMES).encode("utf-8", "surrogatepass")
    (run / "recipe.txt").write_bytes(text)
    _seal(run, "recipe.txt", text)
    opened = open_run(run)
    with torch.device("meta"):
        build(opened.recipe)
    opened.load()


def targets() -> dict[str, Target]:
    """What the driver runs."""
    made: tuple[Callable[[random.Random, Path], None], ...] = (text, component, settings, command, sealed, described)
    return {target.__name__: target for target in made}
