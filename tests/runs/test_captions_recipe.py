"""The recipe of captioned digits: its components fit, and training conditions every image on its caption."""

from dataclasses import replace

import torch

from diffprob.config.recipe import build_model, parameter_count, space
from diffprob.data.captioned import WORDS, CaptionedDigits
from diffprob.recipes.captions import captioned_digits
from diffprob.training.batches import Batches


def test_recipe_components_fit() -> None:
    recipe = captioned_digits()
    text = recipe.network.text  # pyright: ignore[reportAttributeAccessIssue]
    condition = recipe.condition
    assert condition is not None
    assert (text.words, text.length) == (len(WORDS), condition.length)  # pyright: ignore[reportAttributeAccessIssue]
    assert parameter_count(recipe) <= 600_000
    assert len({tuple(row) for row in condition.example_rows(8).tolist()}) == 8
    assert len(set(WORDS)) == len(WORDS)


def test_batch_has_the_captions_of_its_images() -> None:
    """A tenth of 320 has the empty caption: 4 standard errors are 22."""
    recipe = captioned_digits()
    images = CaptionedDigits(count=50).load()
    settings = replace(recipe.training, batch=320)
    (part,) = Batches(images, space(recipe, images), settings, condition=recipe.condition)(
        3, torch.device("cpu"), torch.float32
    )
    assert part.rows is not None and images.captions is not None
    levels = space(recipe, images).to_model(torch.from_numpy(images.pixels))
    captions = recipe.condition.text(part.rows)  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
    known = {image.numpy().tobytes(): caption for image, caption in zip(levels, images.captions, strict=True)}
    pairs = [(known[image.numpy().tobytes()], caption) for image, caption in zip(part.x0, captions, strict=True)]
    assert all(caption in (wanted, "") for wanted, caption in pairs)
    assert abs(sum(not caption for caption in captions) - 32) < 22


def test_example_captions_are_used_for_any_batch_size() -> None:
    model = build_model(captioned_digits()).eval().requires_grad_(False)
    assert model.condition is not None
    x, t = torch.randn(3, 1, 16, 16), torch.tensor(0.5)
    assert model.condition_on(model.condition.example_rows(3))(x, t).mean.shape == x.shape
    assert model(x, t).mean.isfinite().all()
