"""Models of levels, from a recipe to a number: bounds by enumeration, orders that sum to one, resumed to the bit."""

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.config import registry
from diffprob.denoise.categorical import JointLaw
from diffprob.likelihood.bound import Decoder, continuous_bound, variational_bound
from diffprob.likelihood.orders import order_log_prob
from diffprob.net.levels import CategoricalUNetSpec
from diffprob.net.unet import UNetSpec
from diffprob.process.absorbing import AbsorbingProcess
from diffprob.process.grids import Native
from diffprob.process.survival import LinearSurvival, Staircase
from diffprob.runs import states
from diffprob.sampling.ancestral import Ancestral
from diffprob.sampling.restore import draw_given
from diffprob.sampling.simulate import simulate, start
from diffprob.tasks.likelihood_methods import FixedOrder
from diffprob.tasks.model import Model
from diffprob.tasks.reporter import SILENT
from diffprob.tasks.training_run import Halted
from diffprob.training import masked
from diffprob.training.masked import OrderAgnostic

BODY = UNetSpec(in_channels=1, out_channels=1, widths=(8,), layers=1, attention=(False,), groups=4)
ALL = torch.tensor(list(itertools.product((0, 1), repeat=4)), dtype=torch.uint8).reshape(16, 1, 2, 2)
IMAGES = dp.Images(ALL.numpy(), levels=2, name="all of them")
ORDERS = [torch.tensor(ranks).reshape(1, 1, 2, 2) for ranks in itertools.permutations(range(4))]
STAIRS = AbsorbingProcess(2, Staircase(4))


@dataclass(frozen=True)
class Patterns:
    """Ten images of 2x2 pixels, black or white, of four kinds."""

    def load(self) -> dp.Images:
        """The same each time."""
        rows = [[0, 0, 0, 0]] * 4 + [[1, 1, 0, 0]] * 3 + [[0, 1, 1, 0]] * 2 + [[1, 1, 1, 1]]
        return dp.Images(np.array(rows, dtype=np.uint8).reshape(-1, 1, 2, 2), levels=2, name="patterns")


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    """For this module alone: `show` lists what there is."""
    dp.register(Patterns, family="source")
    yield
    del registry.ALL["Patterns"], registry.SOURCES["Patterns"]
    registry._REGISTERED.discard("Patterns")


def recipe(steps: int = 25) -> dp.Recipe:
    training = dp.Training(steps=steps, batch=20, lr=1e-2, warmup=1, ema=0.9, sample_every=0, checkpoint_every=4)
    parts = {"process": STAIRS, "prediction": dp.level_laws.Softmax(), "clock": dp.clocks.Index(4), "variance": None}
    space, network = dp.Tokens((1, 2, 2), 2), CategoricalUNetSpec(BODY, 2)
    parts |= {"objective": OrderAgnostic(), "training": replace(training, samples=2)}
    return dp.Recipe(name="patterns", data=Patterns(), space=space, network=network, **parts)


def train(out: Path, **options) -> Model:
    return dp.train(recipe(options.pop("steps", 25)), out=out, reporter=SILENT, device="cpu", **options)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    return train(tmp_path_factory.mktemp("levels") / "patterns")


@pytest.fixture(scope="module")
def by_order(model: Model) -> torch.Tensor:
    """log p of every image (columns) by the chain of every order (rows), float64 (24, 16)."""
    denoiser, x0 = model.denoiser(), model.space.to_model(ALL, torch.float64)
    return torch.stack([order_log_prob(denoiser, x0, order) for order in ORDERS])


def test_every_order_sums_to_one_over_all_images(by_order: torch.Tensor) -> None:
    assert torch.allclose(by_order.exp().sum(1), torch.ones(24, dtype=torch.float64), atol=1e-6)
    assert float(by_order.std(0).max()) > 1e-3  # a trained network has no law that all orders agree about


def test_bound_is_the_mean_over_orders(model: Model, by_order: torch.Tensor) -> None:
    expected = -by_order.mean(0)
    n = 160
    for k in (0, 5, 12):
        x0 = model.space.to_model(ALL[k : k + 1], torch.float64).expand(n, 1, 2, 2)
        for terms in (None, 2):
            times = Native()(STAIRS, 4)
            nats = variational_bound(model.denoiser(), x0, times, Rng.of(0, n), Decoder(None), terms).total
            assert abs(float(nats.mean() - expected[k])) < 4 * float(nats.std()) / math.sqrt(n) + 1e-6
    result = model.bits_per_dim(IMAGES, method=dp.ChainBound(terms=None))
    assert result.settings["order"] == "a bound over all orders"
    bits = expected.numpy() / (4 * math.log(2))
    assert np.corrcoef(result.per_image, bits)[0, 1] > 0.9 and abs(result.mean - bits.mean()) < 0.15


def test_exact_order_is_that_of_the_library(model: Model, by_order: torch.Tensor) -> None:
    result = model.bits_per_dim(IMAGES, method=FixedOrder())
    assert np.allclose(result.log_prob, by_order[0].numpy(), atol=1e-5) and result.settings["order"] == "raster"
    other = model.bits_per_dim(IMAGES, method=FixedOrder(order="random", seed=3))
    assert other.settings["order"] == "random, seed 3" and np.exp(other.log_prob).sum() == pytest.approx(1, abs=1e-5)
    smooth = replace(recipe(1), process=AbsorbingProcess(2, LinearSurvival()))
    assert smooth.process.averaged == smooth.process


def loss_at_all(model: Model, n: int = 4000) -> torch.Tensor:
    x0 = model.space.to_model(ALL[5:6]).expand(n, 1, 2, 2)
    with torch.no_grad():
        return OrderAgnostic()(model.denoiser(), x0, Rng.of(4, n).at(2)).double()


def test_loss_is_the_bound_and_a_wrong_weight_is_not(model: Model, by_order: torch.Tensor, monkeypatch) -> None:
    """METHOD 11: the weight is T/(T - t'), t' elements drawn; with T - t' + 1 the loss is another number."""
    expected, n = float(-by_order.mean(0)[5]) / 4, 4000
    right = loss_at_all(model, n)
    assert abs(float(right.mean()) - expected) < 4 * float(right.std()) / math.sqrt(n)
    honest = masked.open_nats

    def planted(model, x0, xt, hidden, t):
        left = hidden.flatten(1).sum(1)
        return honest(model, x0, xt, hidden, t) * left / (left + 1)

    monkeypatch.setattr(masked, "open_nats", planted)
    wrong = loss_at_all(model, n)
    assert abs(float(wrong.mean()) - expected) > 10 * float(wrong.std()) / math.sqrt(n)


def test_halted_training_resumes_with_the_same_bits(tmp_path) -> None:
    train(tmp_path / "whole", steps=10)
    asked = iter(range(100))

    @contextmanager
    def halt() -> Iterator:
        yield lambda: next(asked) >= 5

    with pytest.raises(Halted):
        train(tmp_path / "cut", steps=10, halt=halt)
    model = train(tmp_path / "cut", steps=10)
    ends = [states.newest(tmp_path / name / "state") for name in ("whole", "cut")]
    (whole, *_), (cut, *_) = (end for end in ends if end is not None)
    assert whole.step == cut.step == 10
    for part in ("raw", "ema", "optimiser"):
        for name, tensor in getattr(whole, part).items():
            assert torch.equal(tensor, getattr(cut, part)[name]), name
    again = dp.load(tmp_path / "cut", device="cpu", reporter=SILENT)
    assert np.array_equal(model.sample(3, steps=2).images, again.sample(3, steps=2).images)


def test_chains_of_one_element_have_the_law_of_the_orders(model: Model, by_order: torch.Tensor) -> None:
    n = 800
    images = model.sample(n, steps=4).images.reshape(n, 4)
    counts = np.bincount(images @ np.array([8, 4, 2, 1]), minlength=16)
    expected = by_order.exp().mean(0).numpy() * n
    assert (((counts - expected) ** 2 / expected).sum() - 15) / math.sqrt(30) < 4


def test_resumed_chain_keeps_its_order(model: Model) -> None:
    rng, denoiser = Rng.of(2, 5), model.denoiser()
    times = Native()(STAIRS, 4)
    chain = list(simulate(denoiser, Ancestral(), start(denoiser, rng, (1, 2, 2)), times, rng))
    for state in chain[:-1]:
        assert len(set((state.x == 2).flatten(1).sum(1).tolist())) == 1  # one element a step
        again = list(simulate(denoiser, Ancestral(), state, times, rng))
        assert torch.equal(again[-1].x, chain[-1].x)


def test_missing_elements_are_drawn_given_the_others() -> None:
    points = torch.tensor(list(itertools.product((0, 1), repeat=3)))
    weights = torch.tensor([0.3, 0.02, 0.05, 0.2, 0.08, 0.1, 0.05, 0.2])
    n, shown = 3000, torch.tensor([True, False, False])
    x0 = torch.tensor([[1.0, 0.0, 0.0]]).expand(n, 3)
    for survival, steps in ((Staircase(3), 3), (LinearSurvival(), 100)):
        process = AbsorbingProcess(2, survival)
        times = dp.Uniform()(process, steps)
        drawn = draw_given(JointLaw(points, weights, process), Ancestral(), shown, x0, times, Rng.of(1, n))
        assert bool((drawn[:, 0] == 1).all())
        counts = torch.bincount((drawn[:, 1:] @ torch.tensor([2.0, 1.0])).long(), minlength=4).double()
        expected = n * weights[4:].double() / weights[4:].sum()
        assert (float(((counts - expected) ** 2 / expected).sum()) - 3) / math.sqrt(6) < 4
    with pytest.raises(ValueError, match="as many elements"):
        process.given(torch.tensor([[True, True, False], [True, False, False]]), x0[:2])


def test_bound_of_infinitely_many_steps_is_that_of_the_law() -> None:
    points = torch.tensor(list(itertools.product((0, 1), repeat=3)))
    weights = torch.tensor([0.3, 0.02, 0.05, 0.2, 0.08, 0.1, 0.05, 0.2], dtype=torch.float64)
    law, n = JointLaw(points, weights, AbsorbingProcess(2)), 4000
    x0 = points.double().repeat_interleave((n * weights).round().long(), 0)
    nats = continuous_bound(law, x0, Rng.of(0, len(x0)), 8, Decoder(None)).total
    entropy = -float((weights * weights.log()).sum())
    assert abs(float(nats.mean()) - entropy) < 4 * float(nats.std()) / math.sqrt(len(x0))
    with pytest.raises(ValueError, match="no rate"):
        continuous_bound(law.with_process(STAIRS), x0[:2], Rng.of(0, 2), 2, Decoder(None))


def test_parts_that_speak_of_other_data_are_refused() -> None:
    good = recipe()
    for change, message in (
        ({"space": dp.Pixels((1, 2, 2), 2)}, "space must be Tokens"),
        ({"variance": dp.variances.Zero()}, "variance must be None"),
        ({"prediction": dp.predictions.V()}, "prediction cannot be"),
        ({"prediction": dp.level_laws.LogisticMixture(2)}, "network.outputs must be 6"),
        ({"process": AbsorbingProcess(3, Staircase(4))}, "process.levels must be 2"),
        ({"process": AbsorbingProcess(2, Staircase(5))}, "process.survival.steps must be 4"),
        ({"network": CategoricalUNetSpec(BODY, 3)}, "network.levels must be 2"),
        ({"process": dp.LinearProcess()}, "space must be Pixels"),
        ({"training": replace(good.training, augment=(dp.augmentations.HorizontalFlip(),))}, "training.augment must"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(good, **change)
    with pytest.raises(InputError, match=r"Denoising\(\) needs a signal with noise"):
        dp.train(replace(good, objective=dp.Denoising()), out="nowhere", reporter=SILENT)
    with pytest.raises(InputError, match="AbsorbingProcess"):
        dp.train(replace(dp.named("digits"), objective=OrderAgnostic()), out="nowhere", reporter=SILENT)
