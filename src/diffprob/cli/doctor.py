"""Check whether this machine is usable: PyTorch, processor, memory, disk, packages, data. Nothing is written."""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.base.text import bytes_text
from diffprob.cli.text import table

EXAMPLES = ("diffprob doctor", "diffprob doctor --json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""
    del parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Look at everything.

    Raises:
        InputError: PyTorch is missing or cannot be imported.
    """
    del args
    from diffprob.tasks.machine import examine_machine

    return examine_machine().to_json()


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    from diffprob.tasks.machine import NEEDED, OPTIONAL

    torch, packages = result["torch"], result["packages"]
    gpus = [f"{gpu['name']}, {bytes_text(gpu['memory_bytes'])}" for gpu in torch["gpus"]]
    rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in torch["matmul_gflops"].items())
    yield from table(
        [
            ("diffprob", result["diffprob"]),
            ("python", result["python"]),
            ("system", result["system"]),
            ("pytorch", f"{torch['version']}, {torch['build']} build"),
            ("processor", f"{torch['processor']}, {torch['cores']} cores, {torch['threads']} threads"),
            ("gpu", "; ".join(gpus) or "none that PyTorch can use"),
            ("matrix product", f"{rates} GFLOP/s ({torch['device']}, now)"),
            ("precision", f"auto means {torch['auto_precision']}: {torch['bf16']}"),
            (
                "memory",
                ", ".join(f"{bytes_text(n)} {name}" for name, n in result["memory_bytes"].items()) or "not known",
            ),
            ("disk", f"{bytes_text(result['disk_free_bytes'])} free here"),
            ("packages", ", ".join(f"{name} {packages[name]}" for name in NEEDED if packages[name])),
            ("optional", ", ".join(f"{name} {packages[name] or 'absent'}" for name in OPTIONAL)),
            ("data", result["digits"]),
            ("packaged runs", ", ".join(result["packaged_runs"]) or "none"),
        ]
    )
    yield from (f"warning: {text}" for text in result["warnings"])
    yield "this machine is usable" + (f", with {len(result['warnings'])} warning(s)" if result["warnings"] else "")
