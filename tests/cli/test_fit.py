"""`fit`: what it writes, who reads it, and what it refuses."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cli.commands import TINY

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.cli.main import main
from diffprob.denoise.variance import Analytic, GaussianNLL, NoiseResidual, OptimalCovariance, SquaredNoise
from diffprob.process.grids import Uniform
from diffprob.process.path import LeastCost
from diffprob.runs.fits import best_variance, bind_grid, fit_bytes, fitted, read_fit, read_moments, step_variance
from diffprob.runs.folder import Run

CPU = ("--device", "cpu")
HEADS = ("npr", "sn", "ocm")


@pytest.fixture(scope="module")
def fit(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with everything fitted, a little."""
    folder = Path(shutil.copytree(trained, tmp_path_factory.mktemp("fit") / "tiny"))
    common = ["-n", "2", "--times", "40", "--steps", "3", "--batch", "4", *CPU]
    assert main(["fit", str(folder), "steps", *HEADS, *common]) == 0
    return folder


def levels(path: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as stored:
        return stored["images"]


def test_every_fit_is_listed_in_the_manifest(fit: Path) -> None:
    run = Run.open(fit)  # compares every file with its hash
    assert fitted(run) == ["analytic", *HEADS, "steps"]
    moments = read_moments(run)
    assert moments.times.dtype == moments.norm.dtype == moments.norm_error.dtype == torch.float64
    assert torch.equal(moments.times, Uniform()(run.recipe.process, 40).flip(0))
    assert moments.count == 2 and bool((moments.residual > 0).all() and (moments.residual_error > 0).all())
    tensors, about = read_fit(run, "npr")
    assert about["spec"]["channels"] == run.recipe.network.widths[0] and "head.conv.weight" in tensors


def test_every_default_fits_what_makes_bounds_cost_least(diffprob: Callable, tiny: Path) -> None:
    """A variance for every pixel by likelihood, and the path of the whole bound with it; the other stays."""
    assert best_variance(Run.open(tiny)) is None
    arguments = ("-n", "2", "--times", "40", "--steps", "30", "--batch", "8", *CPU)
    diffprob("fit", tiny, "analytic", "steps", *arguments)
    run = Run.open(tiny)
    assert best_variance(run) == Analytic(last=math.inf)
    process, times = run.recipe.process, Uniform()(run.recipe.process, 1000).flip(0)
    analytic, before = step_variance(run, process, times), read_fit(run, "steps")[0]
    assert analytic.shape == (1000,) and "spread" not in before
    diffprob("fit", tiny, *arguments)
    run = Run.open(tiny)
    assert fitted(run) == ["analytic", "nll", "steps"] and best_variance(run) == GaussianNLL(last=math.inf)
    spread, after = step_variance(run, process, times), read_fit(run, "steps")[0]
    assert spread.shape == (1000, 64) and bool((spread > 0).all() and (spread <= 1).all())
    assert torch.equal(before["paths"], after["paths"]) and not torch.equal(before["whole"], after["whole"])
    settings = diffprob("likelihood", tiny, "-n", "2", "--json", *CPU).json
    assert settings["variance"] == repr(GaussianNLL(last=math.inf)) and settings["grid"] == "LeastCost(whole=True)"


def test_a_damaged_spread_is_an_error(fit: Path, tmp_path: Path) -> None:
    run = Run.open(shutil.copytree(fit, tmp_path / "tiny"))
    contents, about = read_fit(run, "steps")
    for wrong in (torch.ones(3, 2), -torch.ones(3, 2).double(), torch.ones(2, 2).double()):
        bad = {**contents, "spread_times": torch.tensor([0.1, 0.2, 0.3]).double(), "spread": wrong}
        run.add("fit-steps.safetensors", fit_bytes(run, "steps", bad, about))
        with pytest.raises(InputError, match=r"fit-steps\.safetensors is damaged"):
            step_variance(run, run.recipe.process, torch.tensor([0.5]).double())


def test_best_grid_is_the_fitted_path(diffprob: Callable, fit: Path) -> None:
    run = Run.open(fit)
    grid = bind_grid(run, LeastCost())
    for n in (2, 10, 40):
        times = grid(run.recipe.process, n)
        assert len(times) == n and times[0] == 1 and times[-1] == 1e-3 and bool((times.diff() < 0).all())
    plan = diffprob("sample", fit, "--steps", "10", "--grid", "best", "--dry-run", "--json", *CPU).json
    assert (plan["grid"], plan["steps"]) == ("LeastCost(whole=False)", 10)
    assert "1 to 256 times" in diffprob("sample", fit, "--steps", "300", "--grid", "best").error


@pytest.mark.parametrize(
    "variance", [Analytic(), Analytic(moment="norm"), NoiseResidual(), SquaredNoise(), OptimalCovariance()]
)
def test_sampling_uses_the_fit(diffprob: Callable, fit: Path, variance: Analytic) -> None:
    common = (fit, "-n", "2", "--steps", "3", "--sampler", "Ancestral()", *CPU)
    settings = diffprob("sample", *common, "--variance", repr(variance), "--out", "own.npz", "--json").json
    assert settings["variance"] == repr(variance)
    diffprob("sample", *common, "--out", "zero.npz")
    assert not np.array_equal(levels("own.npz"), levels("zero.npz"))


def test_fitted_head_leaves_the_mean_unchanged(fit: Path) -> None:
    run, x, t = Run.open(fit), Rng.of(0, 3).normal((1, 8, 8)), torch.tensor(0.5)
    plain, headed = run.load(), run.load(variance=NoiseResidual())
    assert torch.equal(plain(x, t).mean, headed(x, t).mean)
    assert headed(x, t).std.shape == x.shape and plain(x, t).std.max() == 0
    one = run.load(variance=NoiseResidual(), chunk=1)(x, t).std
    torch.testing.assert_close(one, headed(x, t).std, rtol=1e-4, atol=1e-6)


def test_same_seed_gives_the_same_fit(diffprob: Callable, tiny: Path) -> None:
    weights = []
    for seed in ("0", "0", "1"):
        diffprob("fit", tiny, "npr", "--steps", "3", "--batch", "4", "--seed", seed, *CPU)
        weights.append(read_fit(Run.open(tiny), "npr")[0]["head.conv.weight"])
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_fit_to_other_weights_is_an_error(diffprob: Callable, fit: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fit, tmp_path / "tiny")
    assert main(["train", "digits", "--steps", "5", "--out", str(folder), *TINY]) == 0
    message = diffprob("sample", folder, "--variance", "Analytic()").error
    assert "was fitted to other weights" in message and "diffprob fit" in message
    assert fitted(Run.open(folder)) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sample", "RUN", "--variance", "Analytic()"), "has no analytic fit: diffprob fit"),
        (("sample", "RUN", "--variance", "SquaredNoise()"), "has no sn fit: diffprob fit"),
        (("sample", "RUN", "--grid", "best"), "has no steps fit: diffprob fit"),
        (("sample", "RUN", "--variance", "Analytic(bound=0)"), "bound must be above 0"),
        (("sample", "RUN", "--variance", "Analytik()"), "did you mean 'Analytic'?"),
        (("fit", "RUN", "analytc"), "did you mean 'analytic'?"),
        (("fit", "RUN", "analytic", "-n", "1"), "must be at least 2"),
        (("fit", "RUN", "analytic", "-n", "100000"), "fewer than the 100000 of a batch"),
        (("fit", "RUN", "npr", "--lr", "-1"), "--lr -1.0"),
        (("fit", "digits", "analytic"), "comes with the library and is only read"),
        (("fit", "nowhere", "analytic"), "no run at nowhere"),
        (("train", "digits", "--set", "variance=Analytic()", "--out", "x"), "it is fitted to a trained run"),
        (("train", "digits", "--set", "variance=LearnedRange()", "--out", "x"), "does not train the variance"),
    ],
)
def test_invalid_input_is_a_one_line_error(
    diffprob: Callable, trained: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = diffprob(*(trained if word == "RUN" else word for word in arguments))
    assert done.code == 2 and message in done.error and not Path("x").exists()


def test_dry_run_reports_and_writes_nothing(diffprob: Callable, trained: Path) -> None:
    done = diffprob("fit", trained, "npr", "steps", "--dry-run", "--json", *CPU)
    assert done.json["what"] == ["analytic", "npr", "steps"] and done.json["fits"] == {}
    assert not list(trained.glob("fit-*"))


def test_damaged_fit_is_an_error(fit: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fit, tmp_path / "tiny"))
    path = folder / "fit-npr.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(InputError, match=r"fit-npr\.safetensors"):
        Run.open(folder)
