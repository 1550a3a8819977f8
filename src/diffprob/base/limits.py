"""How large a network may be: what its settings are held against before anything of it is built."""

from collections.abc import Iterable

from diffprob.base.checks import MOST_CHANNELS, several, whole

MOST_WIDTH = 16384  # channels inside
MOST_LEVELS = 12  # resolutions: 4096 pixels halved to 2
MOST_BLOCKS = 64  # at each resolution
MOST_CLASSES = 10**6
MOST_WEIGHTS = 10**10  # 40 GB in float32, some forty times the largest U-Net of Dhariwal & Nichol (2021)


def check_channels(*named: tuple[str, object]) -> None:
    """Refuse numbers of channels of images beyond 1 to `MOST_CHANNELS`: (field, value).

    Raises:
        ValueError: the field and its value.
    """
    for name, value in named:
        whole(name, value, 1, MOST_CHANNELS)


def check_widths(name: str, value: object, most: int = MOST_LEVELS) -> None:
    """Refuse what is no tuple of widths, each from 1 to `MOST_WIDTH`, one for each of at most ``most`` levels.

    Raises:
        ValueError: the field and its value.
    """
    several(name, value, lambda entry, width: whole(entry, width, 1, MOST_WIDTH), 1, most, "(32, 64), one per level")


def check_weights(kind: str, parts: Iterable[tuple[int, int, int]]) -> None:
    """Refuse a network of more than `MOST_WEIGHTS` weights, of about those of its layers: (in, out, how many).

    Args:
        kind: the name of the component.
        parts: a 3x3 convolution from ``in`` to ``out`` channels, so many times; a linear layer is a ninth.

    Raises:
        ValueError: about how many there would be, and how many there may be.
    """
    count = sum(9 * in_channels * out_channels * times for in_channels, out_channels, times in parts)
    if count > MOST_WEIGHTS:
        have = f"{kind} would have about {count:.0e} weights, and may have {MOST_WEIGHTS:.0e}"
        raise ValueError(f"{have}: take fewer or narrower layers")
