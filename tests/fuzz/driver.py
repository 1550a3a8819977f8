"""Broken and hostile input, made by chance from what is good: what must hold whatever comes in.

A module of this folder defines ``targets()``: functions by name that each make one case in an empty folder and put it
into the library. Case i of a target is a function of (seed, target, i). Of every case is demanded

- that nothing else than a `DiffprobError` or argparse's SystemExit leaves it, with a message of at most 300 characters;
- at most 2 seconds of processor time and 1 GiB more memory than before;
- that nothing outside its folder is touched.
"""

import contextlib
import copy
import hashlib
import importlib
import json
import os
import random
import resource
import shutil
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from diffprob.base.errors import DiffprobError

Target = Callable[[random.Random, Path], None]

MOST_SECONDS, MOST_BYTES, MOST_MESSAGE = 2.0, 2**30, 300
ADDRESSES = 6 * 2**30  # of address space beyond what the process has: an absurd allocation fails before it succeeds
PATIENCE = 60.0  # seconds that one case may stand still before the process is given up


class Case(NamedTuple):
    """What decides a case."""

    seed: int
    target: str
    index: int

    def __str__(self) -> str:
        return f"--seed {self.seed} --target {self.target} --case {self.index}"


class Fault(Exception):
    """A case that broke a demand; the message says how to repeat it."""


def all_targets() -> dict[str, Target]:
    """Those of every module of this folder that has ``targets``."""
    targets: dict[str, Target] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.name.startswith(("test_", "__")) or path.stem == "driver":
            continue
        module = importlib.import_module(f"fuzz.{path.stem}")
        for name, target in getattr(module, "targets", dict)().items():
            targets[f"{path.stem}.{name}"] = target
    return targets


def fuzz(
    home: Path,
    seconds: float = float("inf"),
    seed: int = 0,
    names: tuple[str, ...] = (),
    cases: int | None = None,
    first: int = 0,
) -> Counter[str]:
    """Run the targets in turns for so many seconds (or cases each); how many cases each had and how they ended.

    Raises:
        Fault: the first case that broke a demand. Its folder stays.
    """
    targets = {name: target for name, target in all_targets().items() if not names or name in names}
    if unknown := sorted(set(names) - set(targets)):
        raise SystemExit(f"no target {unknown[0]} (there are {', '.join(all_targets())})")
    counts: Counter[str] = Counter()
    end, index = time.monotonic() + seconds, first
    with _bounded(), _watched(home) as watch:
        while cases is None or index < first + cases:
            for name, target in targets.items():
                if time.monotonic() > end:
                    return counts
                counts[f"{name}: {_one(target, Case(seed, name, index), home, watch)}"] += 1
            index += 1
    return counts


def _one(target: Target, case: Case, home: Path, watch: "_Watch") -> str:
    """How the case ended: "taken" or "refused"."""
    ended, seconds = _attempt(target, case, home, watch)
    if seconds > MOST_SECONDS:  # whatever is imported or made for the first time is not the case's fault
        ended, seconds = _attempt(target, case, home, watch)
        if seconds > MOST_SECONDS:
            raise Fault(f"{case}: {seconds:.1f} s of processor time; its input is in {home / 'case'}")
    shutil.rmtree(home / "case", ignore_errors=True)
    return ended


def _attempt(target: Target, case: Case, home: Path, watch: "_Watch") -> tuple[str, float]:
    folder, here = home / "case", Path.cwd()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    watch.began(case)
    _reset_peak()
    memory, began, ended = _memory("VmRSS"), time.process_time(), "taken"
    try:
        os.chdir(folder)
        target(random.Random(str(case)), folder)
    except DiffprobError as error:
        ended = "refused"
        if not 0 < len(str(error)) <= MOST_MESSAGE or not str(error).isprintable():
            raise Fault(f"{case}: a message of {len(str(error))} characters: {str(error)[:1000]!r}") from error
    except SystemExit as error:
        ended = "refused"
        if error.code not in (0, 2):
            raise Fault(f"{case}: exit code {error.code!r}") from error
    except Fault as fault:
        raise Fault(f"{case}: {fault}; its input is in {folder}") from fault
    except BaseException as error:
        trace = "".join(traceback.format_exception(error)[-3:])
        raise Fault(f"{case}: {type(error).__name__}; its input is in {folder}\n{trace}") from error
    finally:
        os.chdir(here)
    seconds, grown = time.process_time() - began, _memory("VmHWM") - memory
    if grown > MOST_BYTES:
        raise Fault(f"{case}: {grown / 2**30:.1f} GiB of memory; its input is in {folder}")
    if (changed := watch.changed()) is not None:
        raise Fault(f"{case}: {changed} was touched, which is outside its folder {folder}")
    return ended, seconds


class _Watch:
    """What lies beside the folder of the cases, and the case that is running now."""

    def __init__(self, home: Path) -> None:
        self.home, self.case, self.since = home, "none", time.monotonic()
        neighbours = home / "beside"
        (neighbours / "folder").mkdir(parents=True, exist_ok=True)
        for name in ("key", "folder/picture.png", "folder/.tmp-old"):
            (neighbours / name).write_bytes(hashlib.sha256(name.encode()).digest())
        self.before = dict(self._tree())

    def began(self, case: Case) -> None:
        self.case, self.since = str(case), time.monotonic()

    def changed(self) -> str | None:
        """The first name that is new, gone or different."""
        now = dict(self._tree())
        names = sorted(self.before.keys() | now.keys())
        return next((name for name in names if self.before.get(name) != now.get(name)), None)

    def _tree(self) -> Iterator[tuple[str, object]]:
        for path in sorted(self.home.rglob("*")):
            name = path.relative_to(self.home).as_posix()
            if name.partition("/")[0] != "case":
                about = path.lstat()
                contents = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
                yield name, (about.st_mode, about.st_size, about.st_mtime_ns, contents)


@contextlib.contextmanager
def _watched(home: Path) -> Iterator[_Watch]:
    """A watch whose process ends, with the case's name, where a case stands still."""
    watch, over = _Watch(home), threading.Event()

    def look() -> None:
        while not over.wait(1.0):
            if time.monotonic() - watch.since > PATIENCE:
                print(f"{watch.case}: stands still for {PATIENCE:.0f} s", file=sys.__stderr__, flush=True)
                os._exit(1)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """A bound on the address space, so that no case can take the machine's memory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = _memory("VmSize") + ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (most if hard < 0 else min(most, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _memory(field: str) -> int:
    """Bytes, from /proc/self/status; 0 where there is no such file."""
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    return 0


def _reset_peak() -> None:
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


# --- how good input becomes bad

NUMBERS = (
    *("0", "1", "-1", "2", "3", "7", "16", "1.5", "-0.5", "1e-9", "1e9", "1e300", "inf", "-inf", "nan"),
    *("1000000000", "99999999999999999999", "1" + "0" * 400),
)
WORDS = (
    *("None", "True", "False", "''", "'x'", "()", "(1,)", "(1, 2, 3)", "[1]", "{}", "('a', 'b')", "((1, 2), (3,))"),
    *(
        "'\\x1b[31m'",
        "'../../escaped'",
        "'/'",
        "'" + "y" * 500 + "'",
        "(8,) * 3",
        "x.y",
        "lambda: 0",
        "\u202e",
        "'\\x00'",
    ),
)


def odd(rng: random.Random, names: tuple[str, ...] = ()) -> str:
    """A literal, a name with or without brackets, or nonsense."""
    kind = rng.random()
    if kind < 0.5:
        return rng.choice(NUMBERS)
    if kind < 0.75 or not names:
        return rng.choice(WORDS)
    return rng.choice(names) + rng.choice(("", "()", "(1)", "(None)", f"({odd(rng)})"))


def mutated(text: str, rng: random.Random, tokens: tuple[str, ...] = ()) -> str:
    """The text with a few places changed: numbers replaced, spans cut, doubled or moved, characters put in."""
    import re

    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        kind, at = rng.randrange(6), rng.randrange(len(text) + 1)
        end = min(len(text), at + rng.choice((1, 2, 5, 30)))
        if kind <= 2:
            matches = list(re.finditer(r"-?\d+\.?\d*(?:e-?\d+)?|'[^']*'|\b[A-Za-z_]+\b", text))
            if matches:
                span = rng.choice(matches)
                text = text[: span.start()] + odd(rng, tokens) + text[span.end() :]
        elif kind == 3:
            text = text[:at] + text[end:]
        elif kind == 4:
            text = text[:end] + text[at:]
        else:
            text = text[:at] + rng.choice(
                ("(", ")", ",", "=", "'", "\0", "\n", "\x1b", "é", "#", "-", odd(rng, tokens))
            )
            text += text[end:]
    return text


def flipped(data: bytes, rng: random.Random) -> bytes:
    """The bytes with a few changed, cut off or put in."""
    if not data:
        return bytes([rng.randrange(256)])
    at = rng.randrange(len(data))
    match rng.randrange(4):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + rng.randbytes(rng.choice((1, 4, 100))) + data[at:]
        case _:
            changed = bytearray(data)
            for _ in range(rng.choice((1, 1, 2, 8))):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            return bytes(changed)


JSON = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**70,
    1.5,
    -0.5,
    1e300,
    "",
    "x",
    "\x1b[31m",
    "y" * 500,
    [],
    [1],
    ["a"],
    {},
    {"a": 1},
    [[1]],
)


def mutated_json(value: object, rng: random.Random) -> object:
    """A JSON document with one or two of its values replaced, dropped or renamed."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 2))):
        places: list[tuple[object, object]] = []

        def walk(node: object, places: list[tuple[object, object]] = places) -> None:
            entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
            for key, child in entries:
                places.append((node, key))
                walk(child)

        walk(value)
        if not places or rng.random() < 0.03:
            return copy.deepcopy(rng.choice(JSON))
        node, key = rng.choice(places)
        match rng.randrange(6):
            case 0:
                del node[key]  # type: ignore[attr-defined]
            case 1 if isinstance(node, dict):
                node[rng.choice(("", "x", "\x1b", "y" * 300))] = node.pop(key)
            case _:
                node[key] = copy.deepcopy(rng.choice(JSON))  # type: ignore[index] (a case must not change the next one's)
    return value
