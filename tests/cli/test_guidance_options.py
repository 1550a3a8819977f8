"""Labels and guidance: `train --labels`, and `--label` and `--guidance` of the verbs that draw."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cli.commands import TINY

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.cli.main import main
from diffprob.conditions.condition import Labels
from diffprob.interop.diffusers import open_pipeline
from diffprob.process.grids import Uniform
from diffprob.sampling.ancestral import DDIM
from diffprob.sampling.simulate import draw
from diffprob.tasks.conditioning import _rows_of

UNDROPPED = ("--set", "condition=Labels(10, drop=0.0)", "--set", "network.classes=10")
DRAWN = ("-n", "4", "--sampler", "DDIM()", "--steps", "3", "--device", "cpu")


@pytest.fixture(scope="module")
def conditional_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few coarse steps, so that the labels matter; not to be changed."""
    out = tmp_path_factory.mktemp("told") / "told"
    coarse = ("--set", "training.lr=0.05", "--set", "training.warmup=0", "--set", "training.ema=0.0")
    assert main(["train", "digits", "--labels", "--steps", "8", "--out", str(out), *TINY, *coarse]) == 0
    return out


def images(diffprob: Callable, run: Path, *options: str) -> np.ndarray:
    assert diffprob("sample", run, *DRAWN, *options, "--out", "x.npz").code == 0
    with np.load("x.npz") as stored:
        return stored["images"]


def test_training_uses_the_labels(conditional_run: Path) -> None:
    run = dp.Run.open(conditional_run)
    assert run.recipe.condition == dp.Labels(10, names=tuple("0123456789"))
    assert run.recipe.network.classes == 11
    embedding = run.weights()["net.class_embedding.weight"]
    assert embedding.shape[0] == 11
    assert bool((embedding[:10].abs().sum(1) > 0).any())


def test_dry_run_estimates_include_the_labels(diffprob: Callable) -> None:
    planned = diffprob("train", "digits", "--labels", *TINY, "--dry-run", "--json").json
    plain = diffprob("train", "digits", *TINY, "--dry-run", "--json").json
    assert planned["parameters"] - plain["parameters"] == 11 * 4 * 8


def test_conditional_training_resumes_with_the_same_bits(diffprob: Callable) -> None:
    options = ("--labels", *TINY)
    assert diffprob("train", "digits", *options, "--steps", "4", "--out", "whole").code == 0
    assert diffprob("train", "digits", *options, "--steps", "2", "--out", "parts").code == 0
    assert diffprob("train", "digits", *options, "--steps", "4", "--out", "parts").code == 0
    one, two = (dp.Run.open(name).weights() for name in ("whole", "parts"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_image_depends_only_on_its_label_and_seed(diffprob: Callable, conditional_run: Path) -> None:
    """Drawn in turn, alone, or by the library: the same bits."""
    in_turn = images(diffprob, conditional_run, "--label", "3", "8")
    assert np.array_equal(in_turn[::2], images(diffprob, conditional_run, "--label", "3")[::2])
    assert not np.array_equal(in_turn, images(diffprob, conditional_run, "--label", "none"))
    assert np.array_equal(
        images(diffprob, conditional_run), images(diffprob, conditional_run, "--label", "0", "1", "2", "3")
    )
    run = dp.Run.open(conditional_run)
    model = dp.Clip(run.load().condition_on(torch.tensor([3, 8, 3, 8])))
    x = draw(model, DDIM(), Uniform()(model.process, 3), Rng.of(0, 4), run.space.shape)
    assert np.array_equal(run.space.to_data(x).numpy(), in_turn)


def test_guidance_matches_the_library(diffprob: Callable, conditional_run: Path) -> None:
    run = dp.Run.open(conditional_run)
    pixels = images(diffprob, conditional_run, "--label", "5", "--guidance", "2", "--guidance-interval", "0.3", "0.8")
    guided = dp.Clip(dp.ClassifierFree(run.load(), torch.tensor([5]), 2.0, 0.3, 0.8))
    x = draw(guided, DDIM(), Uniform()(guided.process, 3), Rng.of(0, 4), run.space.shape)
    assert np.array_equal(run.space.to_data(x).numpy(), pixels)
    assert np.array_equal(
        images(diffprob, conditional_run, "--label", "5", "--guidance", "0"),
        images(diffprob, conditional_run, "--label", "5"),
    )
    unconditional = images(diffprob, conditional_run, "--label", "none")
    assert np.array_equal(images(diffprob, conditional_run, "--label", "5", "--guidance", "-1"), unconditional)


def test_autoguidance_moves_away_from_the_weaker_run(diffprob: Callable, conditional_run: Path, trained: Path) -> None:
    plain = images(diffprob, conditional_run, "--label", "1")
    same = images(diffprob, conditional_run, "--label", "1", "--guidance", "3", "--guide-with", str(conditional_run))
    assert np.abs(same.astype(int) - plain.astype(int)).max() <= 1  # away from itself: roundings
    assert not np.array_equal(
        plain, images(diffprob, conditional_run, "--label", "1", "--guidance", "3", "--guide-with", str(trained))
    )


def test_predicted_network_calls_match(diffprob: Callable, conditional_run: Path) -> None:
    command = ("sample", conditional_run, *DRAWN, "--batch", "4", "--label", "2", "--json")
    for guidance, calls in (("0", 3), ("-1", 3), ("1", 6)):
        predicted = diffprob(*command, "--guidance", guidance, "--dry-run").json
        done = diffprob(*command, "--guidance", guidance).json
        assert predicted["network_calls"] == done["network_calls"] == calls
        assert (done["told"], done["guidance"]) == ("2", None if guidance == "0" else guidance)


def test_text_output_states_condition_and_guidance(diffprob: Callable, conditional_run: Path) -> None:
    out = diffprob(
        "sample", conditional_run, *DRAWN, "--label", "2", "7", "--guidance", "1", "--guidance-rescale", "0.5"
    ).out
    assert "told: 2, 7 in turn, guided by 1, rescaled by 0.5" in out


def test_other_verbs_accept_a_conditional_run(diffprob: Callable, conditional_run: Path) -> None:
    """The unconditional model of the null label, or all labels in turn."""
    assert diffprob("likelihood", conditional_run, "-n", "4", "--steps", "5", "--device", "cpu").code == 0
    assert (
        diffprob("sample", conditional_run, "-n", "2", "--steps", "3", "--from", "digits:0", "--device", "cpu").code
        == 0
    )
    result = diffprob(
        "evaluate",
        conditional_run,
        *DRAWN[2:],
        "-n",
        "20",
        "--metrics",
        "kid",
        "--features",
        "pixels",
        "--guidance",
        "1",
        "--json",
    ).json
    assert result["drawing"]["told"].startswith("the data's shares: 0 0.117, 1 0.0778, 2 0.0722, ")
    assert result["drawing"]["guidance"] == "1"


def test_report_of_a_conditional_run_shows_its_samples(diffprob: Callable, conditional_run: Path) -> None:
    options = ("-n", "4", "--steps", "3", "--device", "cpu", "--label", "4", "--guidance", "0.5", "--out", "page.html")
    assert diffprob("report", conditional_run, *options).code == 0
    assert "--label 4 --guidance 0.5" in Path("page.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--label", "10"], "--label 10: digits: no class '10' among 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        (["--label", "seven"], "--label seven: digits: no class 'seven' among 0, 1, 2, 3"),
        (["--label", "none", "--guidance", "1"], "--guidance 1 steers towards what the network is told"),
        (["--guidance-interval", "0.2", "0.8"], "--guidance-interval goes with --guidance W"),
        (["--guidance", "1", "--guidance-interval", "0.8", "0.2"], "the lower time comes first"),
        (["--label", "1", "2", "--from", "digits:0"], "one label for all images would be right here"),
    ],
)
def test_invalid_labels_are_errors(diffprob: Callable, conditional_run: Path, options: list[str], message: str) -> None:
    done = diffprob("sample", conditional_run, *DRAWN, *options)
    assert done.code == 2 and message in done.error
    assert not list(Path().iterdir())


@pytest.mark.parametrize("options", [["--label", "1"], ["--guidance", "1"]])
def test_label_for_an_unconditional_run_is_an_error(diffprob: Callable, trained: Path, options: list[str]) -> None:
    assert "was trained without any" in diffprob("sample", trained, *DRAWN, *options).error


def test_guidance_without_condition_dropout_is_an_error(diffprob: Callable) -> None:
    whole = ("--set", "condition=Labels(10, drop=0.0)", "--set", "network.classes=10")
    assert diffprob("train", "digits", "--labels", *whole, "--steps", "2", "--out", "run", *TINY).code == 0
    assert "guidance needs a null condition" in diffprob("sample", "run", *DRAWN, "--guidance", "1").error
    assert (
        "was always told a label, so that it has no p(x) of all images; --label own"
        in diffprob("likelihood", "run", "-n", "4", "--steps", "5").error
    )
    assert diffprob("sample", "run", *DRAWN).code == 0


def test_training_without_labels_is_an_error(diffprob: Callable, tmp_path: Path) -> None:
    np.save(tmp_path / "plain.npy", np.zeros((8, 1, 8, 8), np.uint8))
    assert "has no labels" in diffprob("train", "--data", "plain.npy", "--labels").error
    wrong = diffprob(
        "train", "digits", "--set", "condition=Labels(10)", "--set", "network.classes=3", *TINY, "--steps", "2"
    )
    assert "network.classes must be 11 with condition=Labels(classes=10, drop=0.1), got 3" in wrong.error
    few = diffprob(
        "train", "digits", "--set", "condition=Labels(5)", "--set", "network.classes=6", *TINY, "--steps", "2"
    )
    assert "labels run from 0 to 9, Labels(classes=5, drop=0.1) takes 0 to 4" in few.error


def test_conditional_run_survives_export_and_import(diffprob: Callable, conditional_run: Path) -> None:
    """With the names of its classes, its null label, which was drawn as one of them, and its grey levels."""
    assert diffprob("export", conditional_run, "--out", "folder").code == 0
    assert diffprob("import", "folder", "--out", "back").code == 0
    old, new = dp.Run.open(conditional_run), dp.Run.open("back")
    assert (new.recipe.condition, new.space) == (old.recipe.condition, old.space)
    assert np.array_equal(
        images(diffprob, Path("back"), "--label", "6"), images(diffprob, conditional_run, "--label", "6")
    )
    model = open_pipeline("folder")
    assert isinstance(model, dp.Clip) and model.model.condition == old.recipe.condition
    wrong = diffprob("import", "folder", "--out", "other", "--levels", "256")
    assert "--levels 256: folder says that its images have 17" in wrong.error


def test_import_without_class_names_has_none(diffprob: Callable, conditional_run: Path) -> None:
    assert diffprob("export", conditional_run, "--out", "folder").code == 0
    own = Path("folder/diffprob.json")
    for text, message in (
        ('{"labels": {"classes": 9, "drop": 0, "names": []}}', "9 labels, config.json has num_class_embeds 11"),
        ('{"labels": {"classes": 11, "drop": 0, "names": 5}}', "names must be"),
        ('{"labels": [11]}', "labels must be classes, drop and names"),
        ('{"levels": 1}', "levels must be"),
    ):
        own.write_text(text)
        assert message in diffprob("import", "folder", "--out", "back").error
    own.write_text('{"labels": {"classes": 11, "drop": 0, "names": []}}')
    assert "each of its 11 labels is a class" in diffprob("import", "folder", "--out", "x", "--null-label").error
    own.unlink()
    done = diffprob("import", "folder", "--out", "back")
    assert done.code == 0 and "if the last stands for no label: --null-label" in done.err
    assert diffprob("import", "folder", "--out", "with", "--null-label", "--levels", "17").code == 0
    assert dp.Run.open("with").recipe.condition == Labels(10)


def test_monitor_measures_label_accuracy(diffprob: Callable) -> None:
    """Also where there is no null label to fall back on."""
    watched = ("--set", 'training.monitor=Monitor(metrics=("labels",), epochs=0.01, n=20, steps=2)')
    whole = ("--set", "condition=Labels(10, drop=0.0)", "--set", "network.classes=10")
    done = diffprob("train", "digits", "--labels", *whole, *watched, *TINY, "--steps", "2", "--out", "run")
    assert done.code == 0 and "label accuracy" in done.err


def test_captions_are_sampled_and_invalid_ones_are_errors(diffprob: Callable) -> None:
    small = [word.replace("network.", "network.body.") for word in TINY]
    small += ["--set", "network.text.width=8", "--set", "network.heads=2", "--set", "data.count=50"]
    assert diffprob("train", "captioned_digits", *small, "--steps", "2", "--out", "run").code == 0
    done = diffprob("sample", "run", *DRAWN, "--caption", "a large three", "Two small sevens", "--guidance", "1")
    assert done.code == 0 and "told: a large three, Two small sevens in turn, guided by 1" in done.out
    assert images(diffprob, Path("run"), "--caption", "none").shape == (4, 1, 16, 16)
    for options, message in (
        (["--caption", "a lagre three"], "none of the 32 words it can be told; did you mean 'large'?"),
        (["--label", "3"], "captioned_digits is told captions: --caption would be right"),
    ):
        assert message in diffprob("sample", "run", *DRAWN, *options).error
    assert "takes no --data" in diffprob("train", "captioned_digits", "--data", "x").error
    small += ["--set", "condition.length=9", "--set", "network.text.length=8"]  # alone it would be set with it
    wrong = diffprob("train", "captioned_digits", *small, "--steps", "2", "--out", "x")
    assert "network.text.length must be 9 with condition=" in wrong.error
    with_labels = diffprob("export", "run", "--out", "folder")
    assert "only a UNet can be written for diffusers, not a CaptionedUNet" in with_labels.error


def test_caption_for_a_run_without_captions_is_an_error(diffprob: Callable, conditional_run: Path) -> None:
    assert (
        "is told labels: --label would be right"
        in diffprob("sample", conditional_run, *DRAWN, "--caption", "a three").error
    )


def test_weaker_run_gets_the_class_of_the_same_name() -> None:
    """A weaker run with other classes was silently left unconditional; so was one without that condition."""
    ours, theirs = Labels(3, 0.1, ("1", "2", "10")), Labels(4, 0.2, ("0", "10", "1", "x"))
    assert _rows_of(theirs, ours, torch.tensor([2, 0, 3])).tolist() == [1, 2, 4]
    assert _rows_of(Labels(3, 0.0), Labels(2, 0.1), torch.tensor([1, 0, 1])).tolist() == [1, 0, 1]
    assert _rows_of(Labels(3, 0.1), ours, torch.tensor([3])).tolist() == [3]  # any class
    for other, rows, message in (
        (theirs, [2, 1], "no class '2' among 0, 10, 1, x"),
        (Labels(3, 0.1), [0], "its classes have no names"),
        (Labels(4, 0.0, theirs.names), [3], "has no null label"),
        (dp.Captions(("a", "three"), 2), [0], "it is told Captions"),
    ):
        with pytest.raises(InputError, match=message):
            _rows_of(other, ours, torch.tensor(rows))


def test_output_states_the_condition_of_the_weaker_run(
    diffprob: Callable, conditional_run: Path, trained: Path
) -> None:
    command = ("sample", conditional_run, *DRAWN, "--label", "1", "--guidance", "1", "--dry-run")
    assert f"away from {trained}, which is told nothing" in diffprob(*command, "--guide-with", trained).out
    assert "told nothing" not in diffprob(*command, "--guide-with", conditional_run).out
    plain = ("sample", trained, *DRAWN, "--guidance", "1", "--dry-run", "--guide-with")
    assert diffprob(*plain, conditional_run).code == 0  # with the null label, as this one has no condition
    begun = diffprob("train", "digits", "--labels", "--steps", "1", "--out", "whole", *TINY, *UNDROPPED)
    assert begun.code == 0
    refused = diffprob(*plain, "whole")
    assert "--guide-with whole: Labels(classes=10, drop=0.0" in refused.error and "told the same" in refused.error


def test_classes_that_nobody_asked_for_are_told_by_name(diffprob: Callable, conditional_run: Path) -> None:
    """The words of who asks for all of them, whose images these are."""
    alone = diffprob("sample", conditional_run, *DRAWN, "--json").json["told"]
    assert alone == diffprob("sample", conditional_run, *DRAWN, "--label", *"0123456789", "--json").json["told"]
    assert alone == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 in turn"
