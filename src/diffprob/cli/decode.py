"""The images of a file that `diffprob encode` wrote, to the last bit; or what its first bytes say of them."""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.cli import output
from diffprob.cli.parser import add_device, add_dry_run, whole
from diffprob.cli.progress import TERMINAL

EXAMPLES = (
    "diffprob decode digits digits.dfp --out digits.png      # all images side by side",
    "diffprob decode digits digits.dfp --out digits.npz      # as arrays",
    "diffprob decode runs/mnist picture.dfp --bytes 60 --out coarse.png   # what the first 60 bytes say",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, the file, how much of it, and where the images go."""
    parser.add_argument("run", metavar="RUN", help="the run that the images were encoded with")
    parser.add_argument("file", metavar="FILE", help="of coded images, or the beginning of one")
    parser.add_argument("--bytes", type=whole(1), metavar="N", help="read the first N bytes alone")
    parser.add_argument("--out", default="decoded.png", metavar="FILE", help="x.png or x.npz (default decoded.png)")
    parser.add_argument(
        "--progressive", action="store_true", help="also OUT-progression.png: the first 8 images as bytes arrive"
    )
    add_device(parser)
    add_dry_run(parser, "decode, and write nothing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Decode, write."""
    from diffprob.runs.folder import Run
    from diffprob.tasks.compute import Compute
    from diffprob.tasks.decoding import decode, read_coded

    output.no_folder(args.out)
    beside = output.beside(args.out) if args.progressive else None
    data, rows = read_coded(args.file), 8 if args.progressive else 0
    decoded = decode(Run.open(args.run), data, args.bytes, Compute(device=args.device), TERMINAL, rows)
    result = {**decoded.to_json(), "out": args.out, "dry_run": args.dry_run}

    def write() -> None:
        decoded.save(args.out)
        if beside is not None:
            output.write_file(beside, decoded.progression_png())

    return {**result, **({} if args.dry_run else output.written(write))}


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    n, coarse = result["n"], result["complete"] - result["exact"]
    reached = f"as far as t = {result['t']:g}"
    what = [f"{result['exact']:,} exact"] if result["exact"] else []
    what += [f"{coarse:,} as coarse as they were coded, {reached}"] if coarse else []
    what += [f"{n - result['complete']:,} incomplete, {reached}"] if result["complete"] < n else []
    exact = "every bit of them as it was encoded" if result["exact"] == n else "; ".join(what)
    yield f"{n:,} images from {result['bytes']:,} bytes: {exact}"
    if not result["dry_run"] and "not_written" not in result:
        yield f"wrote {result['out']}"
