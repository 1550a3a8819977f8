"""The whole face, for a run of 17 levels, one with labels and one with a learned schedule: no default is wrong.

A number asked with every default is that of the command line, its levels, labels and schedule are those of the run, and
what has no right default is a required argument.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diffprob as dp
from diffprob.base.rng import Rng
from diffprob.cli.main import main
from diffprob.process.chain import nearest
from diffprob.process.grids import Uniform
from diffprob.tasks.model import Model, load, train
from diffprob.tasks.reporter import Silent

SMALL = {
    "network.widths": (8, 8), "network.groups": 4, "training.batch": 8, "training.precision": "fp32",
    "training.sample_every": 0, "training.samples": 2,
}  # fmt: skip
LEARNED = {"process.schedule": dp.Learned(8.0, -8.0, 8), "objective": dp.ContinuousBound(), **SMALL}
N = 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("runs")
    common: Any = {"steps": 2, "device": "cpu", "reporter": Silent()}
    train("digits", out=folder / "labels", labels=True, overrides=SMALL, **common)
    train("digits", out=folder / "learned", overrides=LEARNED, **common)
    return {"digits": "digits", "labels": str(folder / "labels"), "learned": str(folder / "learned")}


@pytest.fixture(params=["digits", "labels", "learned"])
def run(request: pytest.FixtureRequest, runs: dict[str, str]) -> str:
    return runs[request.param]


def open_model(run: str) -> Model:
    return load(run, device="cpu", reporter=Silent())


def verb(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json", "--device", "cpu"]) == 0
    return json.loads(capsys.readouterr().out)


def assert_same(result: dict[str, Any], answer: dict[str, Any]) -> None:
    assert json.loads(json.dumps(result)) == {name: answer[name] for name in result}


def test_what_a_run_is_comes_from_the_run(runs: dict[str, str]) -> None:
    for run in runs.values():
        model = open_model(run)
        assert model.space.levels == 17 and model.shape == (1, 8, 8)
        assert model.process == model.run.process == model.denoiser().process
    assert open_model(runs["labels"]).class_names == tuple("0123456789")
    schedule = open_model(runs["learned"]).process.schedule
    assert isinstance(schedule, dp.Learned) and schedule.table is not None  # the trained curve, not a straight one


def test_bits_per_dim_and_log_prob(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = open_model(run)
    method = dp.ChainBound(steps=5, terms=None)
    result = model.bits_per_dim(n=N, method=method)
    assert_same(result.to_json(), verb(capsys, "likelihood", run, "-n", str(N), "--steps", "5", "--terms", "all"))
    log_prob = model.log_prob(n=N, method=method)
    assert log_prob == pytest.approx(-result.per_image * 64 * np.log(2), rel=1e-12)
    # The same number from the functions below: fitted variance without its bound, float64, the levels of the run.
    own, fitted = model.run, run == "digits"
    x0 = own.space.to_model(torch.from_numpy(model.data(n=N).images), torch.float64)
    denoiser = dp.Clip(own.load(variance=dp.GaussianNLL(last=float("inf")) if fitted else None))
    grid = dp.bind_grid(own, dp.LeastCost(whole=True)) if fitted else Uniform()
    rng = Rng(torch.from_numpy(result.index))
    bound = dp.variational_bound(denoiser, x0, grid(denoiser.process, 5), rng, dp.Decoder(17))
    assert -bound.total.numpy() == pytest.approx(log_prob, rel=1e-9)


def test_rates(run: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    result = open_model(run).rate_distortion(n=N, chain=dp.ChainBound(steps=4, terms=None))
    command = ("rate", run, "-n", str(N), "--steps", "4", "--out", str(tmp_path / "rate.json"))
    assert_same(result.to_json(), verb(capsys, *command))


def test_samples_and_chains(runs: dict[str, str], run: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model, out = open_model(run), tmp_path / "x.npz"
    samples = model.sample(N, steps=3)
    answer = verb(capsys, "sample", run, "-n", str(N), "--steps", "3", "--out", str(out))
    assert_same(samples.to_json(), answer)
    assert np.array_equal(np.load(out)["images"], samples.images) and samples.images.max() < 17
    *_, last = model.chain(N, steps=3)
    assert np.array_equal(model.space.to_data(last.x).numpy(), samples.images)
    if run == runs["labels"]:  # all in turn, as the verb
        assert samples.labels is not None and samples.labels.tolist() == [0, 1, 2]
        assert model.sample(2, steps=2, labels=7).to_json()["told"] == "7"
    else:
        assert samples.labels is None
        with pytest.raises(dp.InputError, match="trained without any"):
            model.sample(1, steps=2, labels=7)
        with pytest.raises(dp.InputError, match="trained without any"):
            model.sample(1, steps=2, guidance=1.0)


def test_going_on_from_images(run: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model, out = open_model(run), str(tmp_path / "x.npz")
    two = ("--steps", "2", "--out", out)
    made = model.sample_from("digits:1", 2, at=(0.4,), steps=2)
    assert_same(made.to_json(), verb(capsys, "sample", run, "--from", "digits:1", "--at", "0.4", "-n", "2", *two))
    made = model.reconstruct("digits:1", steps=2)
    assert_same(made.to_json(), verb(capsys, "sample", run, "--from", "digits:1", "--reconstruct", *two))
    made = model.interpolate("digits:0", "digits:1", points=2, steps=2)
    assert_same(made.to_json(), verb(capsys, "interpolate", run, "digits:0", "digits:1", "--points", "2", *two))
    restored = model.restore("digits", dp.degradations.Denoise(add_noise=3.0), n=2)
    answer = verb(capsys, "restore", run, "digits", "-n", "2", "--add-noise", "3", "--out", str(tmp_path / "r"))
    assert_same(restored.to_json(), answer)


def test_scores_are_those_of_any_label_and_of_the_trained_schedule(run: str) -> None:
    model, xt = open_model(run), torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    time, net = nearest(model.process, 0.3), model.run.load()
    if net.condition is not None:
        net = net.condition_on(net.condition.null())
    mean = model.denoise(xt, time).mean
    with torch.no_grad():
        assert torch.equal(mean, net(xt, time).mean)
    alpha, sigma = model.process.coefficients(time)
    assert torch.allclose(model.score(xt, 0.3), ((alpha * mean - xt) / sigma**2).float(), rtol=1e-5)
    assert not model.score(xt.requires_grad_(), 0.3).requires_grad
    for wrong in (xt[0], torch.zeros(2, 1, 9, 9), torch.zeros(2, 1, 8, 8, dtype=torch.uint8)):
        with pytest.raises(dp.InputError, match="points"):
            model.score(wrong, 0.3)


def test_a_run_that_never_dropped_a_label_has_no_unconditional_number(tmp_path: Path) -> None:
    overrides = {"condition": dp.Labels(10, drop=0.0), "network.classes": 10, **SMALL}
    model = train("digits", out=tmp_path / "x", overrides=overrides, steps=1, device="cpu", reporter=Silent())
    for ask in (
        lambda: model.bits_per_dim(n=2, method=dp.ChainBound(steps=3)),
        lambda: model.score(torch.zeros(1, 1, 8, 8), 0.3),
    ):
        with pytest.raises(dp.InputError, match=r"no null label|always told a label"):
            ask()
    assert model.sample(2, steps=2).labels is not None


@pytest.mark.parametrize("name", ["labels", "learned"])  # the packaged run: test_model.py
def test_evaluation(runs: dict[str, str], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = open_model(runs[name]).evaluate(n=50, steps=2, metrics=("frechet",))
    answer = verb(capsys, "evaluate", runs[name], "-n", "50", "--steps", "2", "--metrics", "frechet")
    assert_same(result.to_json(), answer)


def test_detection(runs: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    odd, run = str(tmp_path / "odd.npy"), runs["learned"]
    np.save(odd, np.random.default_rng(0).integers(0, 256, (50, 1, 8, 8), dtype=np.uint8))
    proxies = (dp.NoiseNorm(t=0.02),)
    result = open_model(run).detect(outside=odd, resize=True, n=50, fit_images=50, proxies=proxies)
    command = ("detect", run, "--outside", odd, "--resize", "-n", "50", "--fit-images", "50")
    answer = verb(capsys, *command, "--proxy", "NoiseNorm(t=0.02)", "--out", str(tmp_path / "d"))
    assert_same(result.to_json(), answer)


X = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
GRID = Uniform()(dp.LinearProcess(), 3)
MISSING = {
    "levels of a decoder": ("Decoder", ()),
    "a decoder": ("variational_bound", (None, X, GRID, Rng.of(0, 1))),
    "a decoder of terms": ("bound_terms", (None, X, GRID, Rng.of(0, 1))),
    "terms in continuous time": ("continuous_bound", (None, X, Rng.of(0, 1))),
    "times": ("variational_bound", (None, X)),
    "levels of psnr": ("psnr", (X.numpy(), X.numpy())),
    "levels of ssim": ("ssim", (X.numpy(), X.numpy())),
    "levels of costs": ("reconstruction_costs", (torch.ones(3),)),
    "the shape of a model": ("Model", (None,)),
    "the shape of samples": ("draw", (None, dp.DDIM(), GRID, Rng.of(0, 1))),
}


@pytest.mark.parametrize("what", MISSING)
def test_what_has_no_right_default_is_required(what: str) -> None:
    name, arguments = MISSING[what]
    with pytest.raises(TypeError, match="required"):
        next(getattr(dp, name)(*arguments))  # a generator begins when it is asked


def test_a_bound_with_levels_of_others_is_refused() -> None:
    model = open_model("digits")
    x0 = model.run.space.to_model(torch.from_numpy(model.data(n=2).images), torch.float64)
    with pytest.raises(ValueError, match="none of 256 levels"):
        dp.variational_bound(model.denoiser(), x0, Uniform()(model.process, 3), Rng.of(0, 2), dp.Decoder(256))


def test_a_weaker_run_with_another_learned_schedule_does_not_guide(runs: dict[str, str], tmp_path: Path) -> None:
    """Both recipes say Learned(8, -8, 8): what was learned differs."""
    train("digits", out=tmp_path / "weak", overrides=LEARNED, steps=4, device="cpu", reporter=Silent())
    model = open_model(runs["learned"])
    assert model.run.recipe.process == dp.Run.open(tmp_path / "weak").recipe.process
    with pytest.raises(dp.InputError, match="another space or process"):
        model.sample(1, steps=2, conditioning=dp.Conditioning(guidance=1.0, guide_with=str(tmp_path / "weak")))
