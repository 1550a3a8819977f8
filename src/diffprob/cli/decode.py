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
    add_device(parser)
    add_dry_run(parser, "decode, and write nothing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Decode, write."""
    from diffprob.runs.folder import Run
    from diffprob.tasks.compute import Compute
    from diffprob.tasks.decoding import decode, read_coded

    output.no_folder(args.out)
    data = read_coded(args.file)
    decoded = decode(Run.open(args.run), data, args.bytes, Compute(device=args.device), TERMINAL)
    result = {**decoded.to_json(), "out": args.out, "dry_run": args.dry_run}
    return {**result, **({} if args.dry_run else output.written(lambda: decoded.save(args.out)))}


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    n, complete = result["n"], result["complete"]
    if complete == n:
        yield f"{n:,} images from {result['bytes']:,} bytes, every bit of them as it was encoded"
    else:
        known = f"{complete:,} complete, the others as far as t = {result['t']:g}"
        yield f"{n:,} images from {result['bytes']:,} bytes: {known}"
    if not result["dry_run"] and "not_written" not in result:
        yield f"wrote {result['out']}"
