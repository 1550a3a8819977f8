"""A classifier of noised images, trained on two normal classes, against Bayes' rule."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from truth.densities import MemoryStore
from truth.models import net_denoiser, tensor
from truth.statistics import assert_mean

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.conditions.condition import Labels
from diffprob.data.images import Images
from diffprob.denoise.denoiser import Evaluation, Index, LogNoise
from diffprob.denoise.prediction import EDM
from diffprob.guidance.energy import EnergyGuided, LabelEnergy
from diffprob.guidance.noisy_classifier import NoisyClassifier
from diffprob.net.noisy import NoisyClassifierSpec
from diffprob.net.unet import UNetSpec
from diffprob.process.linear import LinearProcess, VarianceExploding
from diffprob.process.schedule import Cosine, LogLinear
from diffprob.sampling.between import add_noise
from diffprob.space.pixels import Pixels
from diffprob.training.loop import Trainer
from diffprob.training.noisy_classifier import NoisyClassifierLoss
from diffprob.training.settings import Training

PROCESS, SHAPE = LinearProcess(Cosine()), (1, 4, 4)
MEAN = 0.3
SPEC = NoisyClassifierSpec(UNetSpec(1, 1, (8,), 1, (False,), False, groups=4), 2)
SETTINGS = Training(
    steps=120, batch=128, lr=1e-2, warmup=5, cooldown=80, precision="fp32", ema=0.95, checkpoint_every=120,
    sample_every=0,
)  # fmt: skip


class Wide:
    """256 levels on [-5, 5]: room for normal data of variance 1."""

    def to_model(self, levels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        return levels.to(dtype) * (10 / 255) - 5

    def to_data(self, x: Tensor) -> Tensor:
        return ((x + 5) * 25.5).round().clamp(0, 255).to(torch.uint8)


def drawn(seed: int, n: int) -> tuple[Tensor, Tensor]:
    """x_0 ~ N(+-MEAN, I), half of each sign, and the class: 1 for plus."""
    rng = Rng.of(seed, n)
    labels = torch.arange(n) % 2
    return (2 * labels - 1).reshape(-1, 1, 1, 1) * MEAN + rng.normal(SHAPE), labels


class Odds(torch.nn.Module):
    """Logits (0, g(t) w x + b) with a cubic g of the label: Bayes' rule for two normals is nearly within its reach."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Linear(16, 1)
        self.gain = torch.nn.Parameter(torch.tensor([1.0, 0.0, 0.0, 0.0]))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        gain = sum(g * (t / 1000) ** k for k, g in enumerate(self.gain))
        odds = gain[:, None] * self.weight(x.flatten(1))
        return torch.cat([torch.zeros_like(odds), odds], 1)


def classifier(spec: object = SPEC, chunk: int | None = None) -> NoisyClassifier:
    torch.manual_seed(0)
    return NoisyClassifier(
        Odds() if spec is Odds else spec.build(), PROCESS, Index(1000), Labels(2, 0.0), Evaluation(chunk)
    )


def train(settings: Training, store: MemoryStore, spec: object = SPEC) -> Trainer:
    x0, labels = drawn(100_000, 20_000)
    images = Images(Wide().to_data(x0).numpy(), labels.numpy().astype(np.int64))
    trainer = Trainer(classifier(spec), NoisyClassifierLoss(), images, Wide(), settings, store, device="cpu")
    trainer.run()
    return trainer


@pytest.fixture(scope="module")
def trained() -> NoisyClassifier:
    return train(SETTINGS, MemoryStore()).average


@pytest.fixture(scope="module")
def linear() -> NoisyClassifier:
    return train(replace(SETTINGS, steps=200, cooldown=100, lr=3e-2), MemoryStore(), Odds).average


def bayes(xt: Tensor, t: float) -> Tensor:
    """log p(1|x_t) - log p(0|x_t) = 2 alpha m sum(x), since alpha^2 + sigma^2 = 1."""
    return 2 * PROCESS.alpha(t) * MEAN * xt.double().flatten(1).sum(1)


def losses(odds: Tensor, labels: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(odds, labels.double())


@torch.no_grad()
@pytest.mark.parametrize("t", [0.02, 0.2, 0.5, 0.8])
def test_trained_log_odds_match_bayes_rule(linear: NoisyClassifier, t: float) -> None:
    """Where the network can be: within 0.1 and 10 % (rms); 17 weights from 200 batches of 128 are known to 0.05."""
    n = 2000
    x0, _ = drawn(0, n)
    xt = add_noise(PROCESS, x0, t, Rng.of(1, n))
    logits, wanted = linear(xt, tensor(t)).double(), bayes(xt, t)
    error = (logits[:, 1] - logits[:, 0] - wanted).square().mean().sqrt()
    assert float(error) < 0.1 + 0.1 * float(wanted.std())


@torch.no_grad()
@pytest.mark.parametrize("t", [0.02, 0.2, 0.5])
def test_half_unet_approaches_bayes_rule(trained: NoisyClassifier, t: float) -> None:
    """120 steps of 8 channels: less than 0.15 nats above Bayes' rule, half of the way from guessing or better."""
    n = 2000
    x0, labels = drawn(0, n)
    xt = add_noise(PROCESS, x0, t, Rng.of(1, n))
    logits, wanted = trained(xt, tensor(t)).double(), bayes(xt, t)
    odds = logits[:, 1] - logits[:, 0]
    loss, least = losses(odds, labels), losses(wanted, labels)
    assert float(loss - least) < min(0.15, 0.5 * (math.log(2) - float(least)))
    assert float(torch.corrcoef(torch.stack([odds, wanted]))[0, 1]) > 0.9


@torch.no_grad()
def test_accuracy_at_pure_noise_is_chance(trained: NoisyClassifier, linear: NoisyClassifier) -> None:
    """alpha = 0 at t = 1: an accuracy of 1/2; the least loss is log 2."""
    n = 4000
    x0, labels = drawn(0, n)
    xt, easy = (add_noise(PROCESS, x0, t, Rng.of(1, n)) for t in (1.0, 0.02))
    for model in (trained, linear):
        assert_mean((model(xt, tensor(1.0)).argmax(1) == labels).double(), 0.5)
        assert float((model(easy, tensor(0.02)).argmax(1) == labels).double().mean()) > 0.85
    assert float(F.cross_entropy(linear(xt, tensor(1.0)), labels)) < math.log(2) + 0.02


def test_guidance_by_the_classifier_moves_the_mean_as_predicted(linear: NoisyClassifier) -> None:
    """-grad E = (1 - p(y|x_t)) w, w = 2 alpha m: the mean of E[x_0|x_t] moves by sigma^2/alpha of that, within 15 %."""
    model, x, t = net_denoiser(PROCESS), Rng.of(0, 4).normal(SHAPE), tensor(0.5)
    alpha, sigma = PROCESS.coefficients(t)
    for y in (1, 0):
        shift = EnergyGuided(model, LabelEnergy(linear, torch.tensor([y])))(x, t).mean - model(x, t).mean
        doubt = torch.sigmoid((1 - 2 * y) * bayes(x, 0.5))
        expected = (2 * y - 1) * sigma**2 / alpha * doubt * 2 * alpha * MEAN
        torch.testing.assert_close(shift.mean((1, 2, 3)).double(), expected, rtol=0.15, atol=0.05)


@pytest.mark.parametrize("sigma", [0.002, 0.5, 80.0])
def test_input_of_an_edm_classifier_has_variance_one(sigma: float) -> None:
    """x_0 of the standard deviation 0.5: x_t/n has variance 1 at every noise, in training and in guidance."""
    seen: list[Tensor] = []

    class Watched(Odds):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            seen.append(x.detach())
            return super().forward(x, t)

    process, prediction = LinearProcess(LogLinear(0.002, 80.0), VarianceExploding()), EDM(0.5)
    model = NoisyClassifier(Watched(), process, LogNoise(), Labels(2, 0.0), prediction=prediction)
    n, t = 2000, process.schedule.time(tensor(-2 * math.log(sigma)))
    x0, labels = 0.5 * Rng.of(0, n).normal(SHAPE), torch.arange(n) % 2
    xt = add_noise(process, x0, t, Rng.of(1, n))
    LabelEnergy(model, labels)(x0, xt, t)
    model(xt, t.expand(n))
    NoisyClassifierLoss()(model.condition_on(labels), x0, Rng.of(2, n))
    for x in seen:
        assert abs(float(x.double().var()) - 1) < 5 * math.sqrt(2 / x.numel())


def test_initial_predictions_are_uniform() -> None:
    model = classifier().condition_on(torch.tensor([0, 1, 1]))
    loss = NoisyClassifierLoss()(model, drawn(0, 3)[0], Rng.of(0, 3))
    torch.testing.assert_close(loss, torch.full((3,), math.log(2)))


def opinionated(chunk: int | None = None) -> NoisyClassifier:
    model = classifier(NoisyClassifierSpec(UNetSpec(1, 1, (8, 8), 1, (False, True), groups=4), 3), chunk)
    model.condition = Labels(3, 0.0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.requires_grad_(False)


def test_loss_of_a_sample_does_not_depend_on_its_batch() -> None:
    x0, labels, rng = Rng.of(0, 5).normal((1, 4, 4)), torch.tensor([0, 2, 1, 1, 0]), Rng.of(4, 5).at(3)
    model = opinionated()
    loss = NoisyClassifierLoss()(model.condition_on(labels), x0, rng)
    part = slice(2, 4)
    torch.testing.assert_close(
        NoisyClassifierLoss()(model.condition_on(labels[part]), x0[part], rng.select(part)), loss[part]
    )
    assert bool((NoisyClassifierLoss()(model.condition_on(labels), x0, rng.at(4)) != loss).all())
    assert bool((NoisyClassifierLoss()(model.condition_on((labels + 1) % 3), x0, rng) != loss).all())


def test_logits_depend_on_the_time_and_not_on_the_batch() -> None:
    model, x = opinionated(), Rng.of(0, 5).normal((1, 4, 4))
    logits = model(x, tensor(0.3))
    assert logits.shape == (5, 3)
    assert model.features(x, tensor(0.3)).shape == (5, 8, 2, 2)
    torch.testing.assert_close(model.log_prob(x, tensor(0.3)).exp().sum(1), torch.ones(5))
    assert bool((model(x, tensor(0.31)) != logits).any()), "it depends on the time"
    times = tensor([0.3, 0.3, 0.6, 0.3, 0.3])
    torch.testing.assert_close(model(x, times)[[0, 1, 3, 4]], logits[[0, 1, 3, 4]])
    assert model.double()(x, tensor(0.3)).dtype == torch.float32
    chunked = opinionated(chunk=2)
    assert torch.equal(chunked(x, tensor(0.3))[3:4], chunked(x[3:4], tensor(0.3)))
    torch.testing.assert_close(chunked(x, times), opinionated()(x, times))
    assert chunked.features(x, tensor(0.3)).shape == (5, 8, 2, 2)


def test_unet_weights_load_into_the_classifier_body() -> None:
    """The weights of a U-Net load by name; only the head is new."""
    body = UNetSpec(1, 1, (8, 8), 1, (False, True), groups=4)
    torch.manual_seed(0)
    unet, own = body.build(), NoisyClassifierSpec(body, 3).build()
    missing = own.load_state_dict(unet.state_dict(), strict=False).missing_keys
    assert sorted(missing) == ["head.bias", "head.weight", "head_norm.bias", "head_norm.weight"]
    x, t = Rng.of(0, 2).normal((1, 4, 4)), torch.tensor([3.0, 500.0])
    assert torch.equal(own.features(x, t), unet.encode(x, t))


def test_training_resumes_with_the_same_bits() -> None:
    settings = replace(SETTINGS, steps=12, batch=16, checkpoint_every=5, cooldown=0, accumulate=2)
    whole, cut = MemoryStore(), MemoryStore()
    train(settings, whole)
    train(replace(settings, steps=5), cut)
    train(settings, cut)
    one, other = whole.load(), cut.load()
    for part in ("raw", "ema", "optimiser"):
        for name, value in getattr(one, part).items():
            assert torch.equal(value, getattr(other, part)[name]), name


@pytest.mark.parametrize(
    ("error", "act", "message"),
    [
        (
            InputError,
            lambda: NoisyClassifierLoss().bind(net_denoiser(), Pixels(SHAPE)),
            "trains a NoisyClassifier, got a NetDenoiser",
        ),
        (ValueError, lambda: NoisyClassifierLoss()(classifier(), drawn(0, 2)[0], Rng.of(0, 2)), "told the classes"),
        (ValueError, lambda: NoisyClassifier(SPEC.build(), PROCESS, condition=Labels(2, 0.1)), "drop must be 0"),
        (InputError, lambda: classifier().condition_on(torch.tensor([2])), "label 2 is not one of 0 to 1"),
        (ValueError, lambda: NoisyClassifierSpec(UNetSpec(classes=3)), "body.classes must be 0"),
        (ValueError, lambda: NoisyClassifierSpec(UNetSpec(), 1), "classes must be at least 2, got 1"),
        (ValueError, lambda: NoisyClassifierSpec(3), "body must be a UNetSpec"),
    ],
)
def test_invalid_use_is_an_error(error, act, message: str) -> None:
    with pytest.raises(error, match=message):
        act()
