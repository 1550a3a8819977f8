"""What is no place of an image, no picture and no source is refused where it comes in."""

import math

import numpy as np
import pytest
import torch

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.data.augment import Elastic, augment
from diffprob.data.check import check
from diffprob.data.combined import concatenate
from diffprob.data.images import Images
from diffprob.data.kinds import open_data
from diffprob.data.resize import requantised, resized

PIXELS = np.zeros((3, 1, 4, 4), dtype=np.uint8)
IMAGES = Images(PIXELS)


@pytest.mark.parametrize("indices", [[1.5], [-1], [3], [True, False, True], [[0, 1]], 2, [math.nan], ["1"]], ids=repr)
def test_invalid_indices_are_errors(indices: object) -> None:
    """1.5 was 1, a mask took the images 0 and 1, and -1 the last one."""
    for chosen in (IMAGES.take, IMAGES.some):
        with pytest.raises(ValueError, match="indices must"):
            chosen(indices)


def test_indices_of_any_integer_type_are_accepted() -> None:
    for indices in ([2, 0], (2, 0), range(0, 3, 2), np.array([0, 1], dtype=np.uint8), torch.tensor([1, 1])):
        assert len(IMAGES.take(indices)) == len(IMAGES.some(indices)) == 2
    assert len(IMAGES.take([])) == 0


REFUSED = {
    "fractional levels": lambda: Images(PIXELS, levels=17.5),
    "NaN rounding": lambda: Images(PIXELS, rounded=math.nan),
    "no sources to concatenate": lambda: concatenate([]),
    "float images": lambda: resized(PIXELS / 2, (1, 8, 8)),
    "NaN images": lambda: resized(np.full(PIXELS.shape, math.nan), (1, 8, 8)),
    "height zero": lambda: resized(PIXELS, (1, 0, 8)),
    "fractional height": lambda: resized(PIXELS, (1, 8.5, 8)),
    "zero levels": lambda: requantised(PIXELS, 17, 0),
    "one level": lambda: requantised(PIXELS, 1, 17),
    "more than 65536 levels": lambda: requantised(PIXELS, 17, 65537),
    "level out of range": lambda: requantised(PIXELS + 20, 17, 256),
    "fractional level": lambda: requantised(PIXELS + 0.5, 17, 256),
    "augmenting grey levels": lambda: augment(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), Rng.of(0, 3), [Elastic()]),
    "data None": lambda: open_data(None),
    "data as a number": lambda: open_data(5),
    "source as a string": lambda: check("digits"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_invalid_arguments_are_errors(what: str) -> None:
    with pytest.raises((ValueError, InputError)) as caught:
        REFUSED[what]()
    assert len(str(caught.value)) < 300
