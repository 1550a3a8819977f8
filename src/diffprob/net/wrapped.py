"""What the settings of networks share that are made of another network."""

from typing import Any


class WrappedSpec:
    """Settings of a network made of another, ``body``: what its images are like follows from that.

    `Recipe` reads these properties of every network; a wrapper says only what is its own, such as ``out_channels``.
    """

    body: Any

    @property
    def in_channels(self) -> int:
        """Channels of the data: the body's."""
        return self.body.in_channels

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at each resolution of the body, from the full one down by halves."""
        return self.body.widths

    @property
    def divisor(self) -> int:
        """What height and width must be divisible by."""
        return self.body.divisor


class ConditionedSpec(WrappedSpec):
    """Settings of a network made of another that answers as its body does, given one input more."""

    @property
    def out_channels(self) -> int:
        """Channels of the answer: the body's."""
        return self.body.out_channels
