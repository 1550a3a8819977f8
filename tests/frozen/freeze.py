"""Record what `commands` answer, or compare with what was recorded.

    python tests/frozen/freeze.py            # compare; exit code 1 and the differences where something changed
    python tests/frozen/freeze.py --record   # write tests/frozen/expected.json anew: only when a change is meant
    python tests/frozen/freeze.py sample     # only commands whose names begin so

Beside the JSON on standard output stands the SHA-256 of every file that a command wrote, but for files that hold times
of day. All commands of a call share one folder, so that later ones find the runs that earlier ones trained.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from frozen.commands import NUMBERS, WORDS, inputs

EXPECTED = Path(__file__).with_name("expected.json")
# Seconds, dates and memory of a machine are no results; files that hold such or a version of a package neither.
VOLATILE = {
    "seconds_training",
    "bytes",
    "seconds",
    "seconds_per_step",
    "device_memory_bytes",
    "time_is",
    "time",
    "date",
    "free",
    "torch",
    "took",
}
HASHED = {".npz", ".csv"}


def answer(arguments: tuple[str, ...]) -> dict[str, Any]:
    """The exit code, the JSON and the files of one command, run in the current folder."""
    from diffprob.cli.main import main

    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*arguments, "--json"])
    after = sorted(path for path in Path().rglob("*") if path.is_file() and before.get(path) != path.stat().st_mtime_ns)
    return {
        "code": code,
        "json": steady(json.loads(out.getvalue())) if out.getvalue() else err.getvalue().splitlines()[-1:],
        "files": {str(path): digest(path) for path in after if ".tmp" not in str(path)},
    }


def steady(value: Any) -> Any:
    """A result without what differs from run to run."""
    if isinstance(value, dict):
        return {name: steady(part) for name, part in value.items() if name not in VOLATILE}
    return [steady(part) for part in value] if isinstance(value, list) else value


def digest(path: Path) -> str | None:
    """SHA-256 of a file whose every byte is a result: arrays, tables, pixels, weights."""
    if path.suffix == ".png":
        from PIL import Image

        with Image.open(path) as picture:
            return hashlib.sha256(picture.tobytes()).hexdigest()[:16]
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        tensors = sorted(load_file(path).items())
        return hashlib.sha256(b"".join(name.encode() + array.tobytes() for name, array in tensors)).hexdigest()[:16]
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.suffix in HASHED else None


def answers(commands: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """What all of them answer, one after the other in one new folder."""
    import torch

    torch.set_num_threads(1)
    collected, here = {}, Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            inputs(Path(folder))
            for name, arguments in commands.items():
                print(name, file=sys.stderr, flush=True)
                collected[name] = answer(arguments)
        finally:
            os.chdir(here)
    return collected


def differences(expected: Any, actual: Any, where: str) -> list[str]:
    """One line for each leaf that is not the same."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        names = [*expected, *(name for name in actual if name not in expected)]
        return [
            line
            for name in names
            for line in differences(expected.get(name, "nothing"), actual.get(name, "nothing"), f"{where}.{name}")
        ]
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        return [
            line
            for k, pair in enumerate(zip(expected, actual, strict=True))
            for line in differences(*pair, f"{where}[{k}]")
        ]
    return [] if expected == actual else [f"{where}: {expected!r} has become {actual!r}"]


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="beginnings of names (all)")
    parser.add_argument("--record", action="store_true")
    args = parser.parse_args()
    chosen = {
        name: command
        for name, command in {**WORDS, **NUMBERS}.items()
        if not args.names or name.startswith(tuple(args.names))
    }
    current = answers(chosen)
    stored = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    if args.record:
        EXPECTED.write_text(json.dumps({**stored, **current}, indent=1, sort_keys=True) + "\n")
        return 0
    changed = [line for name in chosen for line in differences(stored.get(name, "nothing"), current[name], name)]
    print("\n".join(changed) or f"{len(chosen)} commands answer as they did")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
