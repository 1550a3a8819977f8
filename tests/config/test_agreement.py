"""Fields that have to agree are set together; where somebody set both, the error says what would be right."""

import re

import pytest

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.config.overrides import assign_all
from diffprob.config.recipe import AnyRecipe
from diffprob.recipes import RECIPES
from diffprob.tasks.training import set_fields


class Notes:
    """A reporter that keeps what is noted."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        """Keep a line."""
        self.lines.append(text)


# Recipe, what is set, and what goes with it.
TOGETHER = [
    ("digits", {"network.widths": (16, 32, 32)}, {"network.attention": (False, True, False)}),
    ("digits", {"network.widths": (16,)}, {"network.attention": (False,)}),
    ("digits", {"network.widths": (10, 20)}, {"network.groups": 5}),
    ("digits", {"network.widths.1": 12}, {"network.groups": 4}),
    ("digits", {"network.widths": (20, 20), "network.head_dim": None}, {"network.groups": 5}),
    ("digits", {"space.shape": (3, 8, 8)}, {"network.in_channels": 3, "network.out_channels": 3}),
    ("digits", {"variance": "LearnedRange()"}, {"network.out_channels": 2}),
    ("digits", {"condition": "Labels(10)"}, {"network.classes": 11}),
    ("mnist_labels", {"condition": "None"}, {"network.classes": 0}),
    ("mnist_labels", {"start": "None"}, {}),
    ("digits", {"process.schedule.steps": 200}, {"clock.steps": 200}),
    ("digits", {"process.schedule": "LinearBetas(300)"}, {"clock.steps": 300}),
    ("digits_edm", {"process.schedule": "Cosine(100)"}, {}),
    (
        "captioned_digits",
        {"condition": "Captions(('one', 'two'), 5)"},
        {"network.text.words": 2, "network.text.length": 5},
    ),
    ("mnist", {"space.shape": (1, 30, 30)}, {"network.widths": (32, 32), "network.attention": (False, True)}),
    ("lsun256", {"data.size": 64}, {"space.shape": (3, 64, 64)}),
    ("digits_superresolution", {"space.shape": (1, 16, 16)}, {"condition.shape": (1, 16, 16)}),
    ("digits", {"training.accumulate": 4, "training.batch": 64}, {}),
    ("digits", {"network.widths": (16, 32)}, {}),
    ("digits", {"network.widths": (16, 16, 16), "network.attention": (True, False, False)}, {}),
]


def value_at(recipe: AnyRecipe, path: str) -> object:
    value: object = recipe
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(("name", "settings", "also"), TOGETHER)
def test_what_has_to_agree_is_set_too_and_said(name: str, settings: dict, also: dict) -> None:
    notes, base = Notes(), dp.named(name)
    recipe = set_fields(base, settings, notes)  # pyright: ignore[reportArgumentType]
    assert {path: value_at(recipe, path) for path in also} == also
    said = ", ".join(f"{path}={value!r}" for path, value in also.items())
    assert notes.lines == ([f"set with it: {said}"] if also else [])
    by_hand = {**also, **settings} if "network.widths.1" not in settings else {**settings, **also}
    assert set_fields(base, by_hand) == recipe, "who sets both by hand has the same"


def test_parts_of_a_batch_follow_it() -> None:
    recipe = set_fields(dp.named("digits"), {"training.accumulate": 8, "training.batch": 64})
    notes = Notes()
    assert set_fields(recipe, {"training.batch": 36}, notes).training.accumulate == 6  # pyright: ignore[reportArgumentType]
    assert notes.lines == ["set with it: training.accumulate=6"]


@pytest.mark.parametrize(
    "settings",
    [
        {"network.widths": "16,32,32", "network.attention": "True"},
        {"network.widths": "10,20", "network.groups": "4"},
        {"network.widths": "8,8,8,8,8"},
        {"network.widths": "8,8,8,8,8", "network.attention": "True"},
        {"network.in_channels": "3"},
        {"network.classes": "10"},
        {"training.batch": "30", "training.accumulate": "4"},
        {"variance": "LearnedRange()", "network.out_channels": "1"},
        {"condition": "Labels(3)", "network.classes": "7"},
    ],
)
def test_error_names_the_settings_that_work(settings: dict[str, str]) -> None:
    base = dp.named("digits")
    with pytest.raises(InputError) as caught:
        assign_all(base, list(settings.items()))
    hint = re.search(r"overrides=\{(.+)\} would be right$", str(caught.value))
    assert hint is not None, caught.value
    right = dict(re.findall(r"'([\w.]+)': '([^']*)'", hint[1]))
    assert right
    assign_all(base, list({**settings, **right}.items()))


def test_what_is_replaced_as_a_whole_stays_as_it_is() -> None:
    whole = "UNetSpec(1, 1, (8, 8), attention=(False, False), groups=4)"
    with pytest.raises(InputError, match=r"network.in_channels must be 3 .* would be right"):
        set_fields(dp.named("digits"), {"network": whole, "space.shape": "3,8,8"})


@pytest.mark.parametrize("name", [name for name in RECIPES if "cifar" in name or "digits" in name])
def test_recipes_agree_already(name: str) -> None:
    notes, base = Notes(), dp.named(name)
    steps = {"training.steps": base.training.steps, "training.batch": base.training.batch}
    assert set_fields(base, steps, notes) == base and not notes.lines  # pyright: ignore[reportArgumentType]


def test_every_recipe_agrees_with_the_rules() -> None:
    """Setting what the rules look at, as it is, changes nothing."""
    for name in RECIPES:
        recipe, notes = dp.named(name), list[str]()
        paths = [
            path
            for path in ("condition", "process", "clock", "training.batch")
            if hasattr(recipe, path.partition(".")[0])
        ]
        settings = [(path, repr(value_at(recipe, path))) for path in paths]
        assert assign_all(recipe, settings, notes=notes) == recipe and not notes, name


def test_a_network_with_something_for_each_label_has_as_many_as_the_clock() -> None:
    recipe, notes = assign_all(dp.named("digits"), [("network", "DenseSpec((1, 8, 8), 1)")]), list[str]()
    fewer = assign_all(recipe, [("process.schedule.steps", "50")], notes=notes)
    assert (fewer.clock.steps, fewer.network.steps) == (50, 50)
    assert notes == ["set with it: clock.steps=50, network.steps=50"]
    assert assign_all(recipe, [("clock.steps", "100")]).network.steps == 100


def test_what_cannot_be_left_out_says_so() -> None:
    for name, path in (("digits", "process"), ("digits", "network")):
        with pytest.raises(InputError, match=rf"^{path} takes one of .*, got None"):
            assign_all(dp.named(name), [(path, "None")])
    with pytest.raises(InputError, match="extra_channels must be 0 with condition=None"):
        assign_all(dp.named("digits_superresolution"), [("condition", "None")])
    with pytest.raises(InputError, match=r"condition takes one of .* or None, got 'x'"):
        assign_all(dp.named("mnist_labels"), [("condition", "'x'")])
