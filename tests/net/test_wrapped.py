"""Settings of networks that are made of others: what a recipe reads of them is the body's."""

import pytest

from diffprob.net.captioned import CaptionedUNetSpec
from diffprob.net.concatenated import ConcatenatedUNetSpec
from diffprob.net.levels import CategoricalUNetSpec
from diffprob.net.noisy import NoisyClassifierSpec
from diffprob.net.potential import PotentialSpec
from diffprob.net.scalar_unet import ScalarUNetSpec
from diffprob.net.text import TextEncoderSpec
from diffprob.net.unet import UNetSpec

BODY = UNetSpec(3, 3, (8, 16), 1, (False, True), groups=4)
TEXT = TextEncoderSpec(words=5, length=3, width=8, layers=1, heads=2)


@pytest.mark.parametrize(
    ("spec", "out_channels"),
    [
        (CaptionedUNetSpec(BODY, TEXT), 3),
        (ConcatenatedUNetSpec(BODY, 2), 3),
        (PotentialSpec(BODY), 3),
        (CategoricalUNetSpec(BODY, 5), 15),
        (NoisyClassifierSpec(BODY), None),
        (ScalarUNetSpec(BODY), None),
    ],
)
def test_wrapper_takes_the_images_of_its_body(spec, out_channels: int | None) -> None:
    assert (spec.in_channels, spec.widths, spec.divisor) == (3, (8, 16), 2)
    assert getattr(spec, "out_channels", None) == out_channels
    assert repr(spec).startswith(f"{type(spec).__name__}(body=UNetSpec(")
