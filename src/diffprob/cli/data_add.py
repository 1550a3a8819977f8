"""Note where a data set lies on this machine: runs that were trained on it find it there, and --data takes its name."""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.cli.text import table

EXAMPLES = (
    "diffprob data-add mnist path/to/mnist                    # then: diffprob likelihood mnist",
    "diffprob data-add slides /disk/pictures/slides           # then: diffprob train --data slides",
    "diffprob data-add                                        # what was added",
    "diffprob data-add slides --remove                        # the files stay",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Name and place."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="what to call it; without, what was added is listed")
    parser.add_argument("path", nargs="?", metavar="PATH", help="the folder or file")
    parser.add_argument("--remove", action="store_true", help="forget the place; the files stay")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Add, remove or list.

    Raises:
        InputError: nothing there, no such name, or a name without a place.
    """
    from diffprob.base.errors import InputError
    from diffprob.data.library import add_place, known_places, remove_place

    name, path = args.name, args.path
    if args.remove and (name is None or path is not None):
        raise InputError("--remove takes the NAME to forget, and nothing else")
    if name is not None and path is None and not args.remove:
        raise InputError(f"where does {name!r} lie? diffprob data-add {name} PATH would be right")
    if args.remove:
        remove_place(str(name))
    elif path is not None:
        add_place(str(name), path)
    return {"places": known_places()}


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    if not result["places"]:
        yield "no data was added: diffprob data-add NAME PATH"
    else:
        yield from table(list(result["places"].items()), ("data", "place"))
