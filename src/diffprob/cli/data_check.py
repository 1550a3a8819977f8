"""Check whether data is usable: every image is read once, and nothing is written."""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.base.text import printable
from diffprob.cli.parser import add_reading

EXAMPLES = (
    "diffprob data-check digits",
    "diffprob data-check path/to/mnist --split test",
    "diffprob data-check path/to/pictures --size 64 --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The data, which part of it, and how pictures are read."""
    parser.add_argument("data", metavar="PATH", help='a folder, a file, "digits" or "hf:NAME"')
    add_reading(parser)
    parser.add_argument(
        "--split", default="train", metavar="NAME", help="which split to check: train, test, all, ... (default train)"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Look at everything once."""
    from diffprob.data import open_data
    from diffprob.tasks.data_check import DataCheckRequest, check_data

    data = open_data(args.data, size=args.size, channels=args.channels, levels=args.levels, split=args.split)
    return check_data(DataCheckRequest(data=data)).to_json()


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    from diffprob.cli.text import table

    shape = f"{result['width']}x{result['height']}, {result['channels']} channel{'s' * (result['channels'] > 1)}"
    rows = [
        ("data", result["source"]),
        ("images", f"{result['images']:,} of {shape}"),
        (
            "grey levels",
            f"{result['used_levels']} of {result['levels']} occur, {result['lowest']}..{result['highest']}",
        ),
        ("mean, std", "; ".join(f"{m:.4f}, {s:.4f}" for m, s in zip(result["mean"], result["std"], strict=True))),
        ("classes", _classes(result["classes"])),
        ("duplicates", f"{result['duplicates']:,}{_first(result['duplicate_pairs'])}"),
        ("constant", f"{result['constant']:,}{_first(result['constant_indices'])}"),
        ("network", f"room for {result['network_levels']} levels"),
        ("sha256", result["digest"]),
    ]
    yield from table(rows)
    yield from (f"note: {text}" for text in result["notes"])
    yield from (f"warning: {text}" for text in result["warnings"])
    yield "usable" if not result["warnings"] else f"usable, with {len(result['warnings'])} warning(s)"


def _classes(counts: dict[str, int] | None) -> str:
    if counts is None:
        return "no labels"
    shown = printable(", ".join(f"{name}: {count:,}" for name, count in list(counts.items())[:12]))
    return shown + (f", ... ({len(counts)} in all)" if len(counts) > 12 else "")


def _first(items: Any) -> str:
    if not items:
        return ""
    shown = (f"{item[0]} repeats {item[1]}" if isinstance(item, list | tuple) else str(item) for item in items[:3])
    return f" ({', '.join(shown)}{', ...' if len(items) > 3 else ''})"
