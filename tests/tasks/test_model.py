"""The face for Python: what it answers is what the command line answers, and what closed forms say."""

import inspect
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import diffprob as dp
from diffprob.cli.main import main
from diffprob.tasks.bounds import ChainBound
from diffprob.tasks.face import DEFAULTS
from diffprob.tasks.likelihood import ContinuousTimeBound, ProbabilityFlow
from diffprob.tasks.model import Model, load, train

MEAN, COV = torch.tensor([0.5, -1.0]), torch.tensor([[0.5, 0.2], [0.2, 0.3]])


@pytest.fixture(scope="module")
def digits() -> Model:
    return load("digits", device="cpu")


def verb(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    import json

    assert main([*arguments, "--json", "--device", "cpu"]) == 0
    return json.loads(capsys.readouterr().out)


METHODS = [
    ((), ChainBound()),
    (("--steps", "20", "--terms", "all"), ChainBound(steps=20, terms=None)),
    (("--method", "continuous", "--terms", "3"), ContinuousTimeBound(terms=3)),
    (("--method", "flow", "--tolerance", "1e-2"), ProbabilityFlow(tolerance=1e-2)),
]


@pytest.mark.parametrize(("options", "method"), METHODS, ids=["default", "steps", "continuous", "flow"])
def test_bits_per_dim_match_the_verb(
    digits: Model, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], method: Any
) -> None:
    answer = verb(capsys, "likelihood", "digits", "-n", "3", "--seed", "5", *options)
    result = digits.bits_per_dim(n=3, seed=5, method=method)
    assert result.to_json() == {name: answer[name] for name in result.to_json()}
    assert result.mean == answer["bits_per_dim"] and result.standard_error == answer["standard_error"]
    assert result.log_prob == pytest.approx(-result.per_image * 64 * math.log(2), abs=0, rel=1e-15)


def test_rates_match_the_verb(digits: Model, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    answer = verb(capsys, "rate", "digits", "-n", "3", "--steps", "9", "--out", str(tmp_path / "rate.json"))
    result = digits.rate_distortion(n=3, chain=ChainBound(steps=9, terms=None)).to_json()
    assert result == {name: answer[name] for name in result}


def test_images_are_accepted_from_files_arrays_and_sources(digits: Model, tmp_path: Path) -> None:
    batch = digits.data(n=4, seed=2)
    assert batch.images.shape == (4, 1, 8, 8) and batch.images.dtype == np.uint8 and batch.labels is not None
    assert repr(batch) == "4 of 360 test images of digits/test, 1x8x8"
    exact = ChainBound(steps=5, terms=None)
    own = digits.bits_per_dim(n=4, seed=2, method=exact)
    assert np.array_equal(digits.bits_per_dim(batch, seed=2, method=exact).per_image, own.per_image)
    levels = dp.Images(batch.images, levels=17)
    first = digits.bits_per_dim(levels, method=exact).per_image
    assert first == pytest.approx(own.per_image, abs=1.0)  # other noise, the same images
    grey = (batch.images * np.float64(255 / 16)).round().astype(np.uint8)
    assert np.array_equal(digits.bits_per_dim(torch.from_numpy(grey), method=exact).per_image, first)
    np.save(tmp_path / "grey.npy", grey)
    with pytest.warns(UserWarning, match="read as"):  # what is assumed of a file is said
        assert np.array_equal(digits.bits_per_dim(tmp_path / "grey.npy", method=exact).per_image, first)


def test_defaults_give_the_right_bits_per_dim(digits: Model) -> None:
    """Ten times too large is what a decoder of 256 levels says of the 17 levels of the digits."""
    assert 1.5 < digits.bits_per_dim(n=8).mean < 2.1
    log_prob = digits.log_prob(n=8)
    assert -log_prob.mean() / 64 / math.log(2) == pytest.approx(digits.bits_per_dim(n=8).mean)


def test_exact_model_gives_density_score_and_denoiser() -> None:
    model = Model(dp.GaussianData(MEAN, COV, dp.LinearProcess(dp.Cosine())), shape=(2,))
    x = torch.tensor([[0.1, 0.2], [-1.0, 0.4], [2.0, -2.0]])
    truth = torch.distributions.MultivariateNormal(MEAN.double(), COV.double())
    exact = model.log_prob(x, method=ProbabilityFlow(divergence=dp.divergences.Exact(), tolerance=1e-6))
    # The flow ends at the last noisy time, where p_t has the covariance of p_0 and sigma^2 = 4e-5 of 0.18 besides: 2e-4
    # of a squared distance of 20. At t = 1, alpha = 0.
    assert exact == pytest.approx(truth.log_prob(x.double()).numpy(), abs=5e-3)
    t = 0.4
    alpha, sigma = model.process.coefficients(t)
    noised = torch.distributions.MultivariateNormal(
        alpha * MEAN.double(), alpha**2 * COV.double() + sigma**2 * torch.eye(2, dtype=torch.float64)
    )
    point = x.double().requires_grad_()
    (gradient,) = torch.autograd.grad(noised.log_prob(point).sum(), point)
    assert model.score(x.double(), t).numpy() == pytest.approx(gradient.numpy(), rel=1e-9)
    assert model.denoise(x, t).mean.shape == (3, 2)


class Net(nn.Module):
    """A network of somebody else's: it answers with a tensor, an object or an `Output`."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.layer = kind, nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> Any:
        from types import SimpleNamespace

        from diffprob.net.layers import Output

        answer = self.layer(x) + t.view(-1, 1, 1, 1) / 1000
        return {"tensor": answer, "object": SimpleNamespace(sample=answer), "output": Output(answer, None)}[self.kind]


def test_any_network_makes_a_model_and_is_unchanged() -> None:
    bits = []
    for kind in ("tensor", "object", "output"):
        torch.manual_seed(0)
        net = Net(kind)
        model = Model(net, shape=(1, 8, 8), levels=17, process=dp.LinearProcess(), prediction=dp.predictions.V())
        levels = dp.Digits("test").load().take(range(3))
        bits.append(model.bits_per_dim(dp.Images(levels, levels=17), method=ChainBound(steps=4, terms=None)).per_image)
        assert net.training and all(weight.requires_grad for weight in net.parameters())
    assert np.array_equal(bits[0], bits[1]) and np.array_equal(bits[0], bits[2])
    with pytest.raises(ValueError, match="answered with a str"):
        Model(_Wrong(), shape=(1, 8, 8), levels=17, process=dp.LinearProcess()).denoise(torch.zeros(1, 1, 8, 8), 0.5)


class _Wrong(nn.Module):
    def forward(self, _x: torch.Tensor, _t: torch.Tensor) -> str:
        return "nothing"


def test_diffusers_network_makes_a_model(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    net = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    scheduler = diffusers.DDPMScheduler(prediction_type="v_prediction")
    model = Model(net, shape=(1, 8, 8), levels=256, scheduler=scheduler)
    x = torch.randn(2, 1, 8, 8)
    diffusers.DDPMPipeline(net, scheduler).save_pretrained(tmp_path / "pipeline")
    again = load(tmp_path / "pipeline", device="cpu")
    assert again.shape == (1, 8, 8)
    # Two implementations of one network in float32.
    assert torch.allclose(model.denoise(x, 0.3).mean, again.denoise(x, 0.3).mean, atol=1e-4)


WRONG = [
    (lambda: load("nothing"), "no run at nothing"),
    (lambda: load(3), "load takes a name or a folder, got int"),  # pyright: ignore[reportArgumentType]
    (lambda: load("digits", device="tpu"), 'device="tpu": no such device'),
    (lambda: Model(Net("tensor"), shape=(1, 8, 8)), "does not say which noise"),
    (lambda: Model(lambda x, t: x, shape=(2,)), "is no model"),
    (lambda: Model(dp.GaussianData(MEAN, COV), shape=(2,), process=dp.LinearProcess()), "has its own process"),
    (lambda: Model(dp.GaussianData(MEAN, COV), shape=(2,)).bits_per_dim(), "for images of grey levels"),
    (lambda: Model(dp.GaussianData(MEAN, COV), shape=(2,)).log_prob(torch.zeros(3, 5)), "points"),
    (lambda: load("digits").bits_per_dim(np.zeros((2, 1, 9, 9), np.uint8)), "resize=True would convert"),
    (lambda: load("digits").bits_per_dim(split="other"), "split"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_invalid_calls_are_python_errors(call: Any, message: str) -> None:
    with pytest.raises((dp.InputError, ValueError), match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_samples_match_the_verb(digits: Model, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    answer = verb(
        capsys, "sample", "digits", "-n", "3", "--seed", "4", "--steps", "5", "--out", str(tmp_path / "a.npz")
    )
    samples = digits.sample(3, seed=4, steps=5)
    assert samples.to_json() == {name: answer[name] for name in samples.to_json()}
    samples.save(tmp_path / "b.npz")
    assert (tmp_path / "b.npz").read_bytes() == (tmp_path / "a.npz").read_bytes()
    verb(capsys, "sample", "digits", "-n", "3", "--seed", "4", "--steps", "5", "--out", str(tmp_path / "a.png"))
    samples.save(tmp_path / "b.png")
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "a.png").read_bytes()
    *_, last = digits.chain(3, seed=4, steps=5)
    assert np.array_equal(digits.run.space.to_data(last.x).numpy(), samples.images)
    with pytest.raises(dp.InputError, match=r"x\.png or x\.npy or x\.npz would be right"):
        samples.save(tmp_path / "c.gif")


def test_samples_with_labels_and_guidance_match_the_verb(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    common = ("sample", "mnist_labels", "-n", "2", "--steps", "2", "--out", str(tmp_path / "a.npz"))
    answer = verb(capsys, *common, "--label", "7", "--guidance", "0.5")
    samples = load("mnist_labels", device="cpu").sample(2, steps=2, labels=7, guidance=0.5)
    assert samples.to_json() == {name: answer[name] for name in samples.to_json()}
    assert np.array_equal(np.load(tmp_path / "a.npz")["images"], samples.images)


def test_results_are_sequences_of_their_images(digits: Model) -> None:
    results = [
        digits.sample(3, steps=1),
        digits.data(n=3, seed=1),
        digits.sample_from("digits:0", 2, at=(0.9,), steps=4),
    ]
    for result in results:
        images = result.images
        assert len(result) == len(images) and np.array_equal(np.stack(list(result)), images)
        assert np.array_equal(result[-1], images[-1]) and np.array_equal(result[:2], images[:2])
        array = np.asarray(result)
        assert array.dtype == np.uint8 and np.array_equal(array, images)
        assert np.asarray(result, np.float32).dtype == np.float32
        with pytest.raises(IndexError):
            result[3]


def test_samples_of_an_exact_model_have_its_moments() -> None:
    model, n = Model(dp.GaussianData(MEAN, COV, dp.LinearProcess(dp.Cosine())), shape=(2,)), 4000
    points = torch.from_numpy(model.sample(n, steps=30).images).double()
    # Four standard errors of the mean, and of a covariance, (1 + rho^2)^(1/2) times the product of the spreads at most.
    assert bool(((points.mean(0) - MEAN).abs() < 4 * (COV.diagonal() / n).sqrt()).all())
    assert bool(((torch.cov(points.T) - COV).abs() < 4 * 2**0.5 * 0.5 / n**0.5).all())


STEPS = ("--steps", "3")
DOORS = {
    "sample_from": (
        ("sample", "digits", "--from", "digits:3", "--at", "0.4", "-n", "2", *STEPS, "--out", "a.npz"),
        lambda model: model.sample_from("digits:3", 2, at=(0.4,), steps=3),
    ),
    "reconstruct": (
        ("sample", "digits", "--from", "digits:3", "--reconstruct", *STEPS, "--out", "a.npz"),
        lambda model: model.reconstruct("digits:3", steps=3),
    ),
    "interpolate": (
        ("interpolate", "digits", "digits:0", "digits:1", "--points", "3", *STEPS, "--out", "a.npz"),
        lambda model: model.interpolate("digits:0", "digits:1", points=3, steps=3),
    ),
    "restore": (
        ("restore", "digits", "digits", "-n", "2", "--add-noise", "3", "--draw", *STEPS, "--out", "r"),
        lambda model: model.restore("digits", dp.degradations.Denoise(add_noise=3.0, draw=True), n=2, steps=3),
    ),
    "detect": (
        (
            "detect",
            "digits",
            "--outside",
            "odd.npy",
            "--resize",
            "-n",
            "50",
            "--proxy",
            "NoiseNorm(t=0.02)",
            "--out",
            "d",
        ),
        lambda model: model.detect(outside="odd.npy", resize=True, n=50, proxies=(dp.NoiseNorm(t=0.02),)),
    ),
    "evaluate": (
        ("evaluate", "digits", "-n", "50", *STEPS, "--metrics", "frechet"),
        lambda model: model.evaluate(n=50, steps=3, metrics=("frechet",)),
    ),
}


@pytest.mark.parametrize("name", DOORS)
@pytest.mark.filterwarnings("ignore::UserWarning")  # notes, which the verb has on stderr
def test_python_and_command_line_give_the_same_results(
    digits: Model, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("odd.npy", np.random.default_rng(0).integers(0, 256, (50, 1, 8, 8), dtype=np.uint8))
    command, call = DOORS[name]
    answer, result = verb(capsys, *command), call(digits)
    computed = result.to_json()
    assert computed == {key: answer[key] for key in computed}
    if "a.npz" in command:
        assert np.array_equal(np.load("a.npz")["images"], result.images)


def test_finite_data_makes_a_model_of_images() -> None:
    images = dp.Images(dp.Digits("test").load().take(range(20)), levels=17)
    points = dp.Pixels((1, 8, 8), 17).to_model(torch.from_numpy(np.asarray(images.pixels)))
    model = Model(dp.FiniteData(points, dp.LinearProcess(dp.Cosine())), shape=(1, 8, 8), levels=17)
    drawn = model.sample(8, steps=40).images
    assert all((images.pixels == image).all((1, 2, 3)).any() for image in drawn)  # every sample is one of the images
    with pytest.raises(dp.NoClosedForm):  # between a normal step and a mixture: the flow has the density
        model.bits_per_dim(images, method=ChainBound(terms=1))


SMALL = {
    "network.widths": (8, 8), "network.groups": 4, "training.batch": 8, "training.precision": "fp32",
    "training.sample_every": 0,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_training_and_fits_match_the_verbs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = [text for name, value in SMALL.items() for text in ("--set", f"{name}={value!r}")]
    process = "LinearProcess(Cosine(50))"  # fewer times to fit
    verb(capsys, "train", "digits", *options, "--set", f"process={process}", "--steps", "2", "--out", "a")
    small = {**SMALL, "process": process}
    model = train("digits", overrides=small, steps=1, out="b", device="cpu")
    model = train("digits", overrides=small, steps=2, out="b", device="cpu")  # goes on
    assert model.run.sha256() == dp.Run.open("a").sha256() and model.run.meta["step"] == 2
    verb(capsys, "fit", "a", "analytic", "-n", "64")
    assert "analytic" in model.fit("analytic").fits
    fits = [(Path(run) / "fit-analytic.safetensors").read_bytes() for run in ("a", "b")]
    assert fits[0] == fits[1]
    page = model.report("page.html", n=4, steps=2)
    assert Path("page.html").read_bytes() == page.page and b"<html" in page.page


def test_every_method_that_draws_shows_and_checks_the_same_keywords(digits: Model) -> None:
    for name in ("sample", "chain", "report", "sample_from", "reconstruct", "interpolate", "restore", "translate"):
        shown = inspect.signature(getattr(Model, name)).parameters
        assert {image: shown[image].default for image in DEFAULTS} == DEFAULTS
        assert not any(image.kind is image.VAR_KEYWORD for image in shown.values())
    with pytest.raises(TypeError, match="unexpected keyword argument 'stpes'; did you mean 'steps'"):
        digits.sample(1, stpes=3)  # pyright: ignore[reportArgumentType]
