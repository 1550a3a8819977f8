"""A local page on which models are looked at: drawn from, measured. It answers this machine alone, with a token."""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.cli.parser import whole
from diffprob.cli.progress import say

EXAMPLES = (
    "diffprob studio                  # the runs below this folder, and the packaged ones",
    "diffprob studio runs --port 8765",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the runs are, and where the page is."""
    parser.add_argument("folder", nargs="?", default=".", metavar="FOLDER", help="below which runs are (default here)")
    parser.add_argument("--port", type=whole(0), default=0, metavar="N", help="of this machine (default a free one)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Serve until Ctrl-C."""
    from diffprob.studio.serve import serve

    serve(args.folder, args.port, lambda address: say(f"open {address}   (Ctrl-C ends it)"))
    return {"folder": args.folder}


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    yield f"the studio of {result['folder']} is closed"
