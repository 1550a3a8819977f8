"""Captions as a condition: words to numbers and back, refusals, and a network conditioned on them."""

from types import SimpleNamespace

import pytest
import torch

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.conditions.captions import Captions
from diffprob.conditions.condition import with_dropout
from diffprob.denoise.denoiser import Evaluation, NetDenoiser
from diffprob.guidance.classifier_free import ClassifierFree
from diffprob.net.captioned import CaptionedUNetSpec
from diffprob.net.text import TextEncoderSpec
from diffprob.net.unet import UNetSpec
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import VPSDE

WORDS = ("a", "two", "seven", "sevens", "small")
CAPTIONS = Captions(WORDS, 4)


def data(*captions: str) -> SimpleNamespace:
    return SimpleNamespace(captions=captions, name="scenes")


def test_tokens_start_at_one_and_are_padded_with_zeros() -> None:
    assert CAPTIONS.tokens("Two small  SEVENS").tolist() == [[2, 5, 4, 0]]
    rows = CAPTIONS.from_dataset(data("a seven", "two small sevens", "a seven"))
    assert rows.dtype == "int64" and rows.tolist() == [[1, 3, 0, 0], [2, 5, 4, 0], [1, 3, 0, 0]]
    assert CAPTIONS.text(torch.from_numpy(rows)) == ["a seven", "two small sevens", "a seven"]
    assert CAPTIONS.null().tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        ("two smal sevens", r"'smal' in 'two smal sevens' is none of the 5 words.*did you mean 'small'\?"),
        ("a a a a a", "'a a a a a' has 5 words, at most 4"),
        (" ", "must have words"),
    ],
)
def test_invalid_caption_is_an_error(caption: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        CAPTIONS.tokens(caption)
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match=f"scenes, image 1: .*{message}"):
        CAPTIONS.from_dataset(data("a", caption))


def test_data_without_captions_is_an_error() -> None:
    for images in (SimpleNamespace(captions=None, name="mnist"), SimpleNamespace(name="mnist")):
        with pytest.raises(InputError, match="mnist has no captions"):
            CAPTIONS.from_dataset(images)
    with pytest.raises(TypeError):
        CAPTIONS.from_images(torch.zeros(1, 1, 2, 2))
    assert CAPTIONS.from_dataset(data()).shape == (0, 4)


def test_examples_are_used_in_turn() -> None:
    examples = Captions(WORDS, 4, examples=("a seven", "two sevens")).example_rows(3)
    assert examples.tolist() == [[1, 3, 0, 0], [2, 4, 0, 0], [1, 3, 0, 0]]
    assert CAPTIONS.example_rows(2).tolist() == [[0] * 4] * 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.zeros(2, 3, dtype=torch.int64), r"must be int64 \(B, 4\)"),
        (torch.zeros(2, 4), "must be int64"),
        (torch.tensor([[1, 6, 0, 0]]), "6 is no word's number: they are 1 to 5"),
        (torch.tensor([[-1, 0, 0, 0]]), "-1 is no word's"),
        (torch.tensor([[1, 0, 2, 0]]), "padding must come after"),
    ],
)
def test_invalid_tokens_are_errors(rows: torch.Tensor, message: str) -> None:
    CAPTIONS.check(torch.tensor([[1, 2, 3, 4], [0, 0, 0, 0], [5, 0, 0, 0]]))
    with pytest.raises(InputError, match=message):
        CAPTIONS.check(rows)


def test_empty_caption_without_drop_is_an_error() -> None:
    always = Captions(WORDS, 4, 0.0, ("a seven",))
    assert always.example_rows(2).tolist() == [[1, 3, 0, 0]] * 2
    for refused in (always.null, lambda: always.check(torch.zeros(1, 4, dtype=torch.int64))):
        with pytest.raises(InputError, match="trained with drop above 0"):
            refused()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"words": ()}, "words must have 1"),
        ({"words": ("a", "a")}, "words must be different"),
        ({"words": ("A",)}, "lower case, got 'A'"),
        ({"words": ("a b",)}, "single words"),
        ({"words": ["a"]}, "words must be a tuple"),
        ({"length": 0}, "length must be"),
        ({"drop": 1.0}, "drop must lie"),
        ({"drop": 0.0}, "examples must be given"),
        ({"examples": ("a eight",)}, "examples must be captions: 'eight' in"),
    ],
)
def test_invalid_fields_are_errors(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Captions(**{"words": WORDS, **fields})


def test_training_drops_whole_captions_at_the_set_rate() -> None:
    """Each with probability 0.3, by its own stream: 4 standard errors of a share among 4000 are 0.029."""
    condition, rows = Captions(WORDS, 4, 0.3), torch.tensor([[2, 5, 4, 0]]).repeat(4000, 1)
    kept = with_dropout(condition, rows, torch.zeros(4000, 1), Rng.of(0, 4000))
    gone = (kept == 0).all(1)
    assert torch.equal(kept[~gone], rows[~gone])
    assert abs(gone.double().mean() - 0.3) < 4 * (0.21 / 4000) ** 0.5
    assert torch.equal(with_dropout(condition, rows[:1], torch.zeros(1, 1), Rng.of(0, 1, first=7)), kept[7:8])


def network(chunk: int | None) -> NetDenoiser:
    torch.manual_seed(0)
    body = UNetSpec(1, 1, (8, 8), 1, (False, True), groups=4)
    net = CaptionedUNetSpec(body, TextEncoderSpec(5, 4, 8, 1, 2), heads=2).build().double()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model = NetDenoiser(net.eval(), LinearProcess(VPSDE()), evaluation=Evaluation(chunk), condition=CAPTIONS)
    return model.requires_grad_(False)


def test_network_takes_captions_and_guidance() -> None:
    """Every sample its own, one for all, none; and (1 + w) E[x0|c] - w E[x0|none] of separate evaluations."""
    x, t, w = Rng.of(0, 3).normal((1, 4, 4), torch.float64), torch.tensor(0.4).double(), 1.5
    rows = torch.cat([CAPTIONS.tokens(c) for c in ("a seven", "two small sevens", "a small seven")])
    model = network(None)
    own, one, none = model.condition_on(rows)(x, t).mean, model.condition_on(rows[1:2])(x, t).mean, model(x, t).mean
    torch.testing.assert_close(own[1], one[1], rtol=1e-11, atol=1e-11)
    assert (own - one)[0].abs().max() > 1e-3 and (own - none).abs().amax((1, 2, 3)).min() > 1e-3
    guided = ClassifierFree(model, rows, w)(x, t).mean
    torch.testing.assert_close(guided, (1 + w) * own - w * none, rtol=1e-10, atol=1e-10)


def test_sample_bits_do_not_depend_on_other_captions() -> None:
    x, t = Rng.of(0, 3).normal((1, 4, 4), torch.float64), torch.tensor(0.4).double()
    rows = torch.tensor([[1, 3, 0, 0], [2, 5, 4, 0], [0, 0, 0, 0]])
    model = network(2)
    whole = model.condition_on(rows)(x, t).mean
    assert torch.equal(whole[2:], model.condition_on(rows[2:])(x[2:], t).mean)
    other = model.condition_on(rows.flip(0))(x, t).mean
    assert torch.equal(whole[1], other[1]) and not torch.equal(whole[0], other[0])
