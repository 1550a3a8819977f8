"""Which network images without a recipe get."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

import diffprob as dp
from diffprob.data.images import Images
from diffprob.tasks import own_recipe
from diffprob.tasks.own_network import ATTENDED, CANDIDATES, Candidate, candidates, choose, spec_of

SMALL, MIDDLE, LARGE = Candidate(2, (8,)), Candidate(2, (16,), images=100), Candidate(1, (32,), images=1000)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [((0, 0), SMALL), ((99, 10_000), SMALL), ((100, 999), MIDDLE), ((100, 1000), LARGE)],
)
def test_the_largest_network_that_sees_enough_is_taken_and_none_above_one_that_does_not(seen, expected):
    counts = dict(zip((MIDDLE, LARGE), seen, strict=True))
    assert choose((SMALL, MIDDLE, LARGE), counts.__getitem__) == expected


def test_choices_rise_in_size_and_in_what_they_must_see():
    assert [size for size, _ in CANDIDATES] == sorted(size for size, _ in CANDIDATES)
    for size, several in CANDIDATES:
        shape = (3, size, size) if size < 1000 else (3, 256, 256)
        parameters = [sum(p.numel() for p in _meta(spec_of(candidate, shape)).parameters()) for candidate in several]
        assert parameters == sorted(parameters) and several[0].images == 0
        assert all(a.images < b.images for a, b in pairwise(several))


def _meta(spec):
    import torch

    with torch.device("meta"):
        return spec.build()


@pytest.mark.parametrize(
    "shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 30, 30), (1, 25, 25), (3, 48, 64), (3, 9, 33)]
)
def test_every_choice_fits_the_sides_and_attends_where_there_are_few_positions(shape):
    for candidate in candidates(shape):
        spec = spec_of(candidate, shape)
        assert shape[1] % spec.divisor == 0 and shape[2] % spec.divisor == 0
        positions = [shape[1] * shape[2] // (spec.patch_size**2 * 4**level) for level in range(len(spec.widths))]
        attended = [n for n, attends in zip(positions, spec.attention, strict=True) if attends]
        assert len(attended) <= 1 and all(n <= ATTENDED for n in attended)


def test_time_decides_by_measured_speed_and_steps_by_their_number(monkeypatch):
    images = Images(np.zeros((4, 3, 32, 32), np.uint8), None, 256)
    several = candidates(images.event_shape)
    monkeypatch.setattr(own_recipe, "measured_seconds", lambda *_: 1e-3)

    class Flop:
        def __init__(self, recipe):
            self.flop = {several[0].widths: 1, several[1].widths: 4, several[2].widths: 40}[recipe.network.widths]

    monkeypatch.setattr(own_recipe, "measure_cost", lambda recipe, *_: Flop(recipe))

    def chosen(seconds=None, steps=None):
        return own_recipe.chosen_for(dp.Digits(), images, seconds, steps, "cpu")

    enough = [candidate.images * flop * 1e-3 for candidate, flop in zip(several, (1, 4, 40), strict=True)]
    assert chosen(enough[1] * 0.99) == several[0] and chosen(enough[1] * 1.01) == several[1]
    assert chosen(enough[2] * 0.99) == several[1] and chosen(enough[2] * 1.01) == several[2]
    need = -(-several[1].images // several[1].batch)
    assert chosen(steps=need - 1) == several[0] and chosen(steps=need) == several[1]


def test_too_large_pictures_are_said_with_a_size_and_a_time_that_would_do(monkeypatch):
    """The criterion, on a machine on which an image of one pixel takes a microsecond."""
    monkeypatch.setattr(own_recipe, "measured_seconds", lambda recipe, *_: 1e-6 * recipe.space.shape[1] ** 2)
    images = Images(np.zeros((4, 3, 128, 128), np.uint8), None, 256)
    source, device = dp.Folder("x", size=128), torch.device("cpu")
    recipe = own_recipe.recipe_for("own", source, images)
    needed = own_recipe.LEAST_STEPS * recipe.training.batch * 128**2 * 1e-6

    def advice(seconds, recipe=recipe):
        return own_recipe.too_few(recipe, seconds, 128**2 * 1e-6, device)

    assert advice(needed) == []
    (text,) = advice(needed * 0.3)
    assert "of 128x128, too few to learn from: size=64 would see" in text and 'duration="1m"' in text
    assert "size=48 would see" in advice(needed * 0.2)[0] and "size=16 would see" in advice(needed * 0.02)[0]
    (text,) = advice(needed * 1e-3)
    assert "size" not in text and text.endswith('duration="1m" would be right')
    (text,) = advice(needed * 0.3, replace(recipe, data=dp.Array("x.npy")))
    assert "size=" not in text, "arrays are not scaled"
