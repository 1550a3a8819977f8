"""Processes of discrete data: laws add up, bridges keep the marginal and are those of one chain; survival falls from 1
to 0 and inverts; a stationary law stays."""

from typing import Any

import torch
from torch import Tensor

from diffprob.base.checks import shown
from diffprob.base.distributions import Categorical
from diffprob.base.rng import Rng
from diffprob.conform.expectations import expect, refuses

EVENT = 5  # elements of an event; a staircase has as many as steps, up to this many


def times_of(survival: Any, n: int = 41) -> Tensor:
    """Rising noisy times, float64, all its own where it has steps."""
    return survival.snap(torch.linspace(survival.start, 1.0, n, dtype=torch.float64)).unique()


def share(survival: Any) -> None:
    """The masked share rises from 0 at the data to 1, is what the log odds say, and has its inverse."""
    who, t = shown(survival), times_of(survival)
    zero = torch.zeros((), dtype=torch.float64)
    masked, logsnr = survival.masked(t), survival.logsnr(t)
    expect(masked.dtype == logsnr.dtype == torch.float64, f"{who}: masked and logsnr are not float64")
    expect((masked.diff() > 0).all() and masked[0] > 0, f"{who}: the masked share does not rise with t")
    expect(float(survival.masked(zero)) == 0, f"{who}: something is masked at t = 0")
    expect(abs(float(masked[-1]) - 1) < 1e-12, f"{who}: something survives at t = 1")
    odds = torch.sigmoid(-logsnr)
    expect(((odds - masked).abs() <= 1e-12).all(), f"{who}: the masked share is not that of its log odds")
    again = survival.masked(survival.time(logsnr))
    expect(((again - masked).abs() <= 1e-9).all(), f"{who}: time(logsnr(t)) is another time than t")


def bound(process: Any) -> tuple[Any, Tensor]:
    """The process with orders, where they matter, and data for it, float64 (4, d)."""
    masks = hasattr(process, "mask")
    d = process.survival.steps if masks else None
    x0 = Rng.of(1, 4).integers((d or EVENT,), process.levels).double()
    return process.bind(Rng.of(2, 4), x0) if masks else process, x0


def laws_add_up(process: Any) -> None:
    """Prior, marginal, bridge and reverse are laws of all states; x_0 is the data, x_1 all masks where there are."""
    who, (process, x0) = shown(process), bound(process)
    times = times_of(process.schedule, 5)
    for t in times:
        laws = {"q(x_t|x_0)": process.marginal(x0, t), "the prior": process.prior(x0)}
        xt = laws["q(x_t|x_0)"].sample(Rng.of(3, len(x0)))
        laws["the bridge"] = process.bridge(x0, xt, 0.5 * t, t)
        laws["the reverse"] = process.reverse(laws_of_data(process, x0), xt, 0.5 * t, t)
        for name, law in laws.items():
            whole = law.logits.shape == (*x0.shape, process.states)
            expect(whole, f"{who}: {name} has logits {tuple(law.logits.shape)}, not of {process.states} states")
            total = torch.logsumexp(law.logits, -1).abs().max()
            expect(total < 1e-10, f"{who}: {name} at t = {float(t):g} adds up to exp({float(total):.3g})")
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    if process.logsnr(zero) == torch.inf:
        start = process.marginal(x0, zero).sample(Rng.of(4, len(x0)))
        expect(torch.equal(start, x0), f"{who}: x_t at t = 0 is not the data")
    if not hasattr(process, "mask"):
        return
    end = process.marginal(x0, one).sample(Rng.of(4, len(x0)))
    expect(bool((end == process.mask).all()), f"{who}: an element survives t = 1")


def laws_of_data(process: Any, x0: Tensor) -> Categorical:
    """A posterior over the levels that prefers x_0."""
    index = torch.arange(process.levels, dtype=x0.dtype)
    return Categorical(-(x0[..., None] - index).abs())


def bridge_keeps_marginal(process: Any) -> None:
    """sum over x_t of q(x_t|x_0) q(x_s|x_t, x_0) = q(x_s|x_0), for every pair of times."""
    who, (process, x0) = shown(process), bound(process)
    for s, t in torch.combinations(times_of(process.schedule, 4)):
        total = joint(process, x0, s, t).sum(-1)
        expected = process.marginal(x0, s).logits.exp()
        same = (total - expected).abs().max() < 1e-12
        expect(same, f"{who}: bridges from t = {float(t):g} do not give q(x_s|x_0) at s = {float(s):g}")


def joint(process: Any, x0: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """q(x_s, x_t | x_0) = q(x_t|x_0) q(x_s|x_t, x_0), (*x0.shape, x_s, x_t)."""
    weights = process.marginal(x0, t).logits.exp()
    states = [torch.full_like(x0, float(value)) for value in range(process.states)]
    bridges = [process.bridge(x0, xt, s, t).logits.exp() for xt in states]
    return torch.stack([weights[..., value, None] * bridge for value, bridge in enumerate(bridges)], -1)


def bridge_is_that_of_one_chain(process: Any) -> None:
    """q(x_t | x_s) = q(x_s, x_t | x_0)/q(x_s | x_0) does not depend on x_0: the process has no memory."""
    who = shown(process)
    x0 = torch.arange(process.levels, dtype=torch.float64)[:, None]
    for s, t in torch.combinations(times_of(process.schedule, 4)):
        both = joint(process, x0, s, t)
        steps = both / both.sum(-1, keepdim=True)
        same = (steps - steps[:1]).abs().max() < 1e-9
        expect(same, f"{who}: q(x_t|x_s) depends on x_0 at s = {float(s):g}, t = {float(t):g}: not Bayes' rule")


def law_is_stationary(process: Any) -> None:
    """x_0 ~ prior gives x_t ~ prior."""
    who, x0 = shown(process), torch.arange(process.levels, dtype=torch.float64)[:, None]
    prior = process.prior(x0).log_probabilities.exp()
    for t in times_of(process.schedule, 4):
        later = (prior[0, 0, :, None] * process.marginal(x0, t).logits.exp()[:, 0]).sum(0)
        same = (later - prior[0, 0]).abs().max() < 1e-12
        expect(same, f"{who}: the prior does not stay what it is, at t = {float(t):g}")


def check_categorical(model: Any, event: tuple[int, ...], data: Tensor | None, exact: bool, dtype: torch.dtype) -> None:
    """Whether a model is a denoiser of discrete data: a categorical law of every element, certain where it is shown.

    Args:
        model: an instance.
        event: shape of an event.
        data: points 0..K-1, (n, *event); None: random ones.
        exact: whether the model is the law of ``data`` and offers ``log_prob`` of states: then the cross-entropy of
            every masked element is that of the law by the chain rule.
        dtype: of the states.

    Raises:
        ConformanceError: the first thing that it does not do.
    """
    who, process = shown(model), model.process
    x0 = Rng.of(5, 6).integers(event, process.levels) if data is None else data
    x0 = x0.to(dtype)
    ranks = process.bind(Rng.of(6, len(x0)), x0).order
    count = int(ranks.flatten(1).shape[1])
    for k in range(1, count + 1):
        t = torch.full((), k / count, dtype=torch.float64)
        xt = torch.where(ranks >= count - k, float(process.mask), x0)
        posterior = model(xt, t)
        logs = posterior.log_probabilities
        expect(logs.shape == (*x0.shape, process.levels), f"{who}: logits {tuple(logs.shape)} are not of the levels")
        expect(not logs.isnan().any(), f"{who}: a logit is no number")
        shown_now = xt != process.mask
        own = logs.gather(-1, x0.long()[..., None])[..., 0]
        certain = bool((own[shown_now] == 0).all())
        expect(certain, f"{who}: the law of an element that is not masked is not certain")
        expect(torch.equal(model(xt, t).logits, posterior.logits), f"{who}: other bits for the same arguments")
        alone = model(xt[:1], t.expand(1)).log_probabilities[0]
        finite = logs[0] > -torch.inf
        agree = ((alone - logs[0])[finite].abs() < 1e-4).all()
        expect(agree, f"{who}: a state alone, with its own time, has another law than among others")
        if exact:
            last = torch.where(ranks == count - k, x0, xt)
            chain = model.log_prob(last) - model.log_prob(xt)
            ours = torch.where(ranks == count - k, own, 0.0).flatten(1).sum(1)
            same = ((ours - chain).abs() < 1e-4).all()
            expect(same, f"{who}: the cross-entropy of an element is not that of the law by the chain rule")
    refuses(model, lambda: model(x0, torch.tensor(1.5, dtype=torch.float64)), "t = 1.5 for a time")
