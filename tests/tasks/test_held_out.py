"""What a user says of images to hold out: shares, places, and what is wrong with them."""

from pathlib import Path

import numpy as np
import pytest

from diffprob.base.errors import InputError
from diffprob.data import open_data
from diffprob.tasks.own_recipe import images_text, with_held_out
from diffprob.tasks.training import TrainRequest


@pytest.mark.parametrize("share", ["0", "1", "-0.1", "nan", 0.0, 1])
def test_shares_out_of_range_say_what_can_be_held_out(share: str | float) -> None:
    with pytest.raises(ValueError, match="a share above 0 and below 1, none, or a place of images would be right"):
        TrainRequest(data="x", held_out=share)


def test_held_out_images_are_others_that_are_there(tmp_path: Path) -> None:
    """The option is named; images that are trained on are not held out; one picture is not many."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    np.save(tmp_path / "one.npy", pixels[:1])
    many, one = (open_data(str(tmp_path / name)) for name in ("x.npy", "one.npy"))
    for place, why in (
        ("nowhere", "^held_out=.*nowhere.*: .*no such file.*a share such as 0.1, none, or a place of images would be"),
        ("x.npy", "^held_out=.*: the images that are trained on; others would be right"),
    ):
        with pytest.raises(InputError, match=why):
            with_held_out(many, many.load(), str(tmp_path / place))
    _, images, (text,) = with_held_out(one, one.load(), None)
    assert "no image can be held out: there is only one; numbers" in text
    assert images_text(images) == "1 grey image of 8x8"
