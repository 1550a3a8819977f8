"""argparse with one-line errors that suggest what was meant, and the options that mean the same in every verb."""

import argparse
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from diffprob.base.errors import InputError, did_you_mean

MOST = 10**9  # of anything that is counted: steps, images, rows
MOST_SEED = 2**62  # leaves room for seed + n in 63 bits


class Parser(argparse.ArgumentParser):
    """A parser whose every error is an `InputError` of one line; abbreviated options are not guessed."""

    def __init__(self, prog: str, description: str, examples: Sequence[str]) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise InputError(f"{message}; see {self.prog} --help")

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse; an unknown option is named together with the nearest one there is.

        Raises:
            InputError: bad usage.
        """
        args, rest = self.parse_known_args(list(arguments))
        for action in self._actions:  # as an unset variable of a shell script leaves it: not the same as nothing given
            if getattr(args, action.dest, None) == "" and action.default != "":
                self.error(f"argument {'/'.join(action.option_strings) or action.metavar}: is empty")
        if not rest:
            return args
        word = next((item for item in rest if item.startswith("-")), rest[0]).partition("=")[0]
        if not word.startswith("-"):
            raise InputError(f"{self.prog} does not take a further argument {word!r}; see {self.prog} --help")
        options = [option for action in self._actions for option in action.option_strings]
        hint = did_you_mean(word, options) or f"; see {self.prog} --help"
        raise InputError(f"{self.prog} has no option {word}{hint}")


def whole(least: int, most: int = MOST) -> Callable[[str], int]:
    """The type of an option that takes a whole number of at least ``least`` (1e5 is one)."""

    def read(text: str) -> int:
        try:
            value = int(text) if re.fullmatch(r"[+-]?\d+", text.strip()) else int(_exact(text))
        except (ValueError, OverflowError):
            raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None
        if not least <= value <= most:
            upto = f" and at most {most}" if value > most or most != MOST else ""
            raise argparse.ArgumentTypeError(f"must be at least {least}{upto}, got {value}")
        return value

    return read


def share(text: str) -> float:
    """The type of an option that takes a number in (0, 1]."""
    return number(text, "a number in (0, 1]", "lie in (0, 1]", lambda value: 0 < value <= 1)


def grey_levels(text: str) -> float:
    """The type of an option that takes a number of grey levels above 0."""
    return number(text, "a number of grey levels", "be above 0 and finite", lambda value: 0 < value < math.inf)


def at_least_0(text: str) -> float:
    """The type of an option that takes a number of at least 0."""
    return number(text, "a number", "be at least 0 and finite", lambda value: 0 <= value < math.inf)


def number(text: str, what: str, right: str, fits: Callable[[float], bool]) -> float:
    """A number that fits; a message says ``what`` it must be, and ``right`` what of it."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be {what}, got {text!r}") from None
    if not fits(value):
        raise argparse.ArgumentTypeError(f"must {right}, got {text}")
    return value


def _exact(text: str) -> float:
    value = float(text)
    if not value.is_integer():
        raise ValueError(text)
    return value


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else there")


def add_seed(parser: argparse.ArgumentParser, what: str, default: int | None = 0) -> None:
    """``--seed``, which decides all randomness of a verb."""
    parser.add_argument("--seed", type=whole(0, MOST_SEED), default=default, metavar="N", help=what)


def add_set(
    parser: argparse.ArgumentParser,
    what: str = "change a field of the recipe, such as training.lr=1e-4; may be repeated",
) -> None:
    """``--set``, whose texts `diffprob.cli.options.overrides` reads."""
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help=what)


def add_reading(parser: argparse.ArgumentParser, when: str = "") -> None:
    """``--size --channels --levels``: how images are read; ``when`` begins each help."""
    parser.add_argument("--size", type=whole(2), metavar="N", help=f"{when}scale and crop pictures to NxN")
    parser.add_argument(
        "--channels",
        type=whole(1, 16),
        metavar="C",
        help=f"{when}read pictures as grey (1) or colour (3); say which axis of an array has the channels",
    )
    parser.add_argument(
        "--levels", type=whole(2, 65536), metavar="K", help=f"{when}grey levels, where fewer than the files could hold"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device``."""
    parser.add_argument(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="where to compute: auto (a CUDA GPU if there is one), cpu, cuda or cuda:1 (default auto)",
    )


def add_dry_run(parser: argparse.ArgumentParser, what: str) -> None:
    """``--dry-run``."""
    parser.add_argument("--dry-run", action="store_true", help=what)


def component(text: str, option: str, family: str) -> Any:
    """The component of one of `diffprob.config.registry`' families that ``option`` names, such as ``DDIM(eta=0)``.

    Raises:
        InputError: unknown, misspelt or refused by its constructor.
    """
    from diffprob.config.registry import ALL, FAMILIES
    from diffprob.config.spec import parse

    table = FAMILIES[family]
    try:
        value = parse(text, table, ALL)
    except InputError as error:
        raise InputError(f"{option}: {error}") from error
    if type(value).__name__ not in table:
        raise InputError(f"{option} takes one of {', '.join(table)}, got {text!r}")
    return value
