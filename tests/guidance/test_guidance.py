"""Guidance against the closed form on Gaussian classes, and the identities that hold to the bit."""

import pytest
import torch
from torch import Tensor
from truth.models import tensor

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.conditions.condition import Labels, with_dropout
from diffprob.denoise.categorical import CategoricalDenoiser, JointLaw
from diffprob.denoise.denoiser import Evaluation, NetDenoiser
from diffprob.denoise.ideal import GaussianData, MixtureData, tweedie_score
from diffprob.guidance.classifier_free import AutoGuidance, ClassifierFree
from diffprob.net.levels import CategoricalUNetSpec
from diffprob.net.unet import UNet, UNetSpec
from diffprob.process.absorbing import AbsorbingProcess
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import VPSDE
from diffprob.process.survival import LinearSurvival, Staircase
from diffprob.sampling.ancestral import DDIM, Ancestral
from diffprob.sampling.exponential import DPMpp, UniPC
from diffprob.sampling.simulate import draw

T = tensor(0.4)
PROCESS = LinearProcess(VPSDE())


def gaussian(mean: float, variance: float) -> GaussianData:
    return GaussianData(torch.full((2,), mean, dtype=torch.float64), variance * torch.eye(2).double(), PROCESS)


def network(chunk: int | None = None, drop: float = 0.1) -> NetDenoiser:
    """Random weights everywhere, three classes."""
    labels = Labels(3, drop)
    torch.manual_seed(0)
    net = UNet(UNetSpec(1, 1, (8, 8), 1, (False, True), groups=4, classes=labels.rows))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model = NetDenoiser(net.eval(), PROCESS, evaluation=Evaluation(chunk), condition=labels)
    return model.requires_grad_(False)


X = Rng.of(0, 5).normal((1, 4, 4))
LABELS = torch.tensor([0, 1, 2, 1, 0])


@pytest.mark.parametrize("w", [-0.5, 0.5, 2.0, 4.0])
def test_guided_score_of_two_gaussians_matches_the_closed_form(w: float) -> None:
    """score = (1 + w) score_c - w score_u, linear with precision (1 + w)/vc - w/vu at the noised variances."""
    inside, everything = gaussian(0.7, 0.2), gaussian(0.0, 0.9)
    x = Rng.of(1, 7).normal((2,), torch.float64)
    guided = AutoGuidance(inside, everything, w)
    score = tweedie_score(PROCESS, guided(x, T).mean, x, T)
    alpha, sigma = PROCESS.coefficients(T)
    vc, vu = alpha**2 * 0.2 + sigma**2, alpha**2 * 0.9 + sigma**2
    slope = (1 + w) / vc - w / vu
    torch.testing.assert_close(score, -slope * x + (1 + w) / vc * alpha * 0.7, rtol=1e-12, atol=1e-12)
    assert torch.equal(guided(x, T).cov, inside(x, T).cov)


def test_weight_zero_gives_the_conditional_model_with_no_other_call() -> None:
    model = network()
    calls = []
    handle = model.net.register_forward_hook(lambda *_: calls.append(len(_[1][0])))
    guided = ClassifierFree(model, LABELS, 0.0)(X, T).mean
    handle.remove()
    assert calls == [5]
    assert torch.equal(guided, model.condition_on(LABELS)(X, T).mean)


def test_weight_minus_one_gives_the_unconditional_model() -> None:
    model = network()
    guided = ClassifierFree(model, LABELS, -1.0)(X, T).mean
    assert torch.equal(guided, model(X, T).mean)
    assert not torch.equal(guided, model.condition_on(LABELS)(X, T).mean)


def test_conditional_and_unconditional_are_one_network_call() -> None:
    """Of ten samples for five, with the answers of two separate ones."""
    model, w = network(), 1.5
    calls = []
    handle = model.net.register_forward_hook(lambda *_: calls.append(len(_[1][0])))
    guided = ClassifierFree(model, LABELS, w)(X, T).mean
    handle.remove()
    assert calls == [10]
    one, two = model.condition_on(LABELS)(X, T).mean, model(X, T).mean
    torch.testing.assert_close(guided, (1 + w) * one - w * two, rtol=1e-5, atol=1e-5)


def test_guidance_of_noise_predictions_matches_the_paper() -> None:
    """eps = (1 + w) eps_c - w eps_0 (Ho & Salimans, eq. 6) is the same as combining E[x_0|x_t]."""
    model, w = network().double(), 2.0
    x = X.double()
    alpha, sigma = PROCESS.coefficients(T)
    label = model.clock(T).expand(5)
    one = model.net(x, label, LABELS).main
    two = model.net(x, label, torch.full((5,), 3)).main
    eps = (1 + w) * one - w * two
    guided = ClassifierFree(model, LABELS, w)(x, T).mean
    torch.testing.assert_close(guided, (x - sigma * eps) / alpha, rtol=1e-10, atol=1e-10)


def test_no_guidance_outside_the_interval() -> None:
    model = network()
    guided = ClassifierFree(model, LABELS, 2.0, low=0.3, high=0.6)
    plain, everywhere = model.condition_on(LABELS), ClassifierFree(model, LABELS, 2.0)
    for t in (0.2, 0.7):
        assert torch.equal(guided(X, tensor(t)).mean, plain(X, tensor(t)).mean)
    assert torch.equal(guided(X, T).mean, everywhere(X, T).mean)
    mixed = torch.tensor([0.2, 0.4, 0.6, 0.7, 0.5], dtype=torch.float64)
    inside = torch.tensor([False, True, True, False, True])
    mean = guided(X, mixed).mean
    torch.testing.assert_close(mean[inside], everywhere(X, mixed).mean[inside])
    torch.testing.assert_close(mean[~inside], plain(X, mixed).mean[~inside])


def test_rescaling_keeps_the_unguided_standard_deviation() -> None:
    model = network()
    plain, hot = model.condition_on(LABELS)(X, T).mean, ClassifierFree(model, LABELS, 5.0)(X, T).mean
    cooled = ClassifierFree(model, LABELS, 5.0, rescale=1.0)(X, T).mean
    torch.testing.assert_close(cooled.flatten(1).std(1), plain.flatten(1).std(1))
    half = ClassifierFree(model, LABELS, 5.0, rescale=0.5)(X, T).mean
    torch.testing.assert_close(half, (hot + cooled) / 2)


@pytest.mark.parametrize("sampler", [Ancestral(), DDIM(), DDIM(eta=0.5), DPMpp(2), UniPC(2)], ids=repr)
def test_every_sampler_works_with_a_guided_model(sampler) -> None:
    """A chain of guided Gaussians with equal covariances is that of the Gaussian with mean (1 + w) m_c - w m_u."""
    strong, weak, w = gaussian(0.6, 0.3), gaussian(0.2, 0.3), 1.5
    times = torch.linspace(1, 0.05, 8, dtype=torch.float64)
    chains = [
        draw(model, sampler, times, Rng.of(0, 6), (2,), torch.float64)
        for model in (AutoGuidance(strong, weak, w), gaussian((1 + w) * 0.6 - w * 0.2, 0.3))
    ]
    torch.testing.assert_close(*chains, rtol=1e-10, atol=1e-10)


def test_sample_does_not_depend_on_its_batch() -> None:
    model = network(chunk=4)
    whole = ClassifierFree(model, LABELS, 1.0)(X, T).mean
    alone = ClassifierFree(model, LABELS[3:4], 1.0)(X[3:4], T).mean
    assert torch.equal(whole[3:4], alone)


def test_one_condition_is_shared_by_all_samples() -> None:
    model = network()
    one = model.condition_on(torch.tensor([1]))(X, T).mean
    assert torch.equal(one, model.condition_on(torch.ones(5, dtype=torch.int64))(X, T).mean)


def test_conditioning_does_not_change_the_original_model() -> None:
    model = network()
    before = model(X, T).mean
    other = model.condition_on(LABELS)
    assert other.net is model.net
    assert torch.equal(model(X, T).mean, before)
    with pytest.raises(ValueError, match="told about 5 samples, and asked about 2"):
        other(X[:2], T)


def test_labels_are_dropped_at_the_set_rate() -> None:
    """Binomial with p = 0.3: four standard errors of n = 4000; the others keep their label."""
    rows = torch.arange(4000) % 3
    kept = with_dropout(Labels(3, 0.3), rows, torch.zeros(4000, 1, 1, 1), Rng.of(0, 4000))
    share = float((kept == 3).double().mean())
    assert abs(share - 0.3) < 4 * (0.3 * 0.7 / 4000) ** 0.5
    assert torch.equal(kept[kept < 3], rows[kept < 3])
    assert torch.equal(with_dropout(Labels(3, 0.0), rows, torch.zeros(4000, 1, 1, 1), Rng.of(0, 4000)), rows)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: network().condition_on(torch.tensor([4])), "label 4 is not one of 0 to 2"),
        (lambda: network().condition_on(torch.tensor([-1])), "label -1 is not one of 0 to 2"),
        (lambda: network().condition_on(torch.tensor([0.5])), "labels must be int64"),
        (lambda: ClassifierFree(network(drop=0.0), LABELS, 1.0), "guidance needs a null condition: .*no null label"),
        (lambda: network(drop=0.0)(X, T), "no null label"),
        (lambda: NetDenoiser(torch.nn.Identity(), PROCESS).condition_on(LABELS), "takes no condition"),
    ],
)
def test_invalid_conditions_are_errors(act, message: str) -> None:
    with pytest.raises(InputError, match=message):
        act()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": float("inf")}, "weight must be finite"),
        ({"weight": 1.0, "low": 0.7, "high": 0.3}, "0 <= low <= high <= 1"),
        ({"weight": 1.0, "rescale": 1.5}, "rescale must lie in"),
    ],
)
def test_invalid_settings_are_errors(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AutoGuidance(gaussian(0, 1), gaussian(0, 1), **arguments)


PLACES = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1], [2, 1]])
INSIDE = torch.tensor([0.1, 0.4, 0.3, 0.2, 0.0], dtype=torch.float64)
ANY = torch.tensor([0.3, 0.1, 0.2, 0.2, 0.2], dtype=torch.float64)


def laws(survival=Staircase(2)) -> tuple[JointLaw, JointLaw]:
    process = AbsorbingProcess(3, survival)
    return JointLaw(PLACES, INSIDE, process), JointLaw(PLACES, ANY, process)


def powers(strong: Tensor, weak: Tensor, w: float) -> Tensor:
    """p^(1 + w)/q^w, normalised; 0 where p is."""
    ratio = torch.where(strong > 0, strong ** (1 + w) / weak**w, 0.0)
    return ratio / ratio.sum(-1, keepdim=True)


@pytest.mark.parametrize("w", [-1.0, -0.5, 0.0, 2.0])
def test_guided_law_of_levels_is_a_quotient_of_powers(w: float) -> None:
    """Of a masked element by enumeration; a known one stays, and what the label excludes is never drawn."""
    strong, weak = laws(LinearSurvival())
    xt = torch.tensor([[3.0, 3.0], [3.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    guided = AutoGuidance(strong, weak, w)(xt, T).log_probabilities.exp()
    for row, shown in enumerate(([], [(1, 1)], [(0, 1)])):
        agree = torch.ones(5, dtype=torch.bool)
        for place, level in shown:
            agree &= PLACES[:, place] == level
        for place in (0, 1):
            each = [
                torch.stack([(law * agree)[PLACES[:, place] == k].sum() for k in range(3)]) for law in (INSIDE, ANY)
            ]
            p, q = (value / value.sum() for value in each)
            torch.testing.assert_close(guided[row, place], q if w == -1 else powers(p, q, w), rtol=1e-9, atol=1e-12)
    outside = AutoGuidance(strong, weak, 2.0, low=0.5)
    assert torch.equal(outside(xt, T).log_probabilities, strong(xt, T).log_probabilities)
    half = outside(xt, tensor([0.4, 0.6, 0.4])).log_probabilities
    assert torch.equal(half[[0, 2]], strong(xt, T).log_probabilities[[0, 2]])


def test_guided_chain_of_levels_draws_one_guided_element_after_the_other() -> None:
    """In a random order of two elements: the mean over both orders of the products of guided conditionals."""
    strong, weak, w, n = *laws(), 1.5, 4000
    expected = torch.zeros(3, 3, dtype=torch.float64)
    joint = [torch.zeros(3, 3, dtype=torch.float64).index_put((*PLACES.T,), law) for law in (INSIDE, ANY)]
    for flip in (False, True):
        p, q = (law.T if flip else law for law in joint)
        first = powers(p.sum(1), q.sum(1), w)
        rows = [powers(p[k] / p[k].sum(), q[k] / q[k].sum(), w) if first[k] > 0 else p[k] for k in range(3)]
        product = first[:, None] * torch.stack(rows)
        expected += 0.5 * (product.T if flip else product)
    guided = AutoGuidance(strong, weak, w)
    x = draw(guided, Ancestral(), tensor([1.0, 0.5]), Rng.of(0, n), (2,))
    counts = torch.bincount((3 * x[:, 0] + x[:, 1]).long(), minlength=9).double()
    wanted = n * expected.flatten()
    assert not bool(counts[wanted == 0].any())
    some = wanted > 0
    chi = float(((counts - wanted)[some] ** 2 / wanted[some]).sum())
    assert (chi - 3) / 6**0.5 < 4


def test_levels_have_no_contrast_to_keep() -> None:
    with pytest.raises(InputError, match="rescale needs a signal"):
        AutoGuidance(*laws(), 1.0, rescale=0.5)


def test_guidance_of_a_network_of_levels_is_one_call() -> None:
    torch.manual_seed(0)
    body = UNetSpec(1, 1, (8,), 1, (False,), False, groups=4, classes=4)
    net = CategoricalUNetSpec(body, 3).build().eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model = CategoricalDenoiser(net, AbsorbingProcess(3), condition=Labels(3)).requires_grad_(False)
    x, calls = torch.tensor([0.0, 3.0, 3.0, 1.0]).expand(5, 1, 4, 4), []
    handle = net.register_forward_hook(lambda *_: calls.append(len(_[1][0])))
    guided = ClassifierFree(model, LABELS, 1.5)(x, T).log_probabilities.exp()
    handle.remove()
    p, q = (law(x, T).log_probabilities.exp() for law in (model.condition_on(LABELS), model))
    assert calls == [10]
    torch.testing.assert_close(guided, powers(p, q, 1.5), rtol=1e-4, atol=1e-6)
    assert torch.equal(ClassifierFree(model, LABELS, -1.0)(x, T).logits, model(x, T).logits)
    assert torch.equal(ClassifierFree(model, LABELS, 0.0)(x, T).logits, model.condition_on(LABELS)(x, T).logits)


def test_guiding_a_mixture_posterior_is_an_error() -> None:
    model = MixtureData.of(torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None], PROCESS)
    with pytest.raises(ValueError, match="can be guided, got Mixture"):
        AutoGuidance(model, gaussian(0, 1), 1.0)(torch.zeros(1, 2), T)


def test_guidance_with_two_processes_is_an_error() -> None:
    """Means at the same t but with another noise have nothing to do with each other."""
    other = GaussianData(torch.zeros(2), torch.eye(2), LinearProcess())
    with pytest.raises(ValueError, match="one process"):
        AutoGuidance(gaussian(0.0, 1.0), other, 1.0)
