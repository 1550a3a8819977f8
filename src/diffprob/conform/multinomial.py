"""Denoisers of multinomial diffusion: a law of every element for every state, and of exact ones its calibration."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from diffprob.base.checks import shown
from diffprob.base.rng import Rng
from diffprob.conform.expectations import check_mean, expect, refuses, said_of
from diffprob.process.multinomial import StepLaw

TIMES = (0.2, 0.6, 1.0)


def check_multinomial(model: Any, event: tuple[int, ...], data: Tensor | None, exact: bool, dtype: torch.dtype) -> None:
    """Whether a model is a denoiser of multinomial diffusion: a categorical law of every element, whatever the state.

    Args:
        model: an instance.
        event: shape of an event.
        data: levels, (n, *event); None: random ones.
        exact: whether the model is the posterior of ``data``, independent draws: then the probability of every value of
            every element is the share with which it occurs.
        dtype: of the states.

    Raises:
        ConformanceError: the first thing that it does not do.
    """
    who, process = shown(model), model.process
    x0 = (Rng.of(5, 6).integers(event, process.levels) if data is None else data).to(dtype)
    n = len(x0)
    for k, at in enumerate(TIMES):
        t = process.schedule.snap(torch.tensor(at, dtype=torch.float64))
        xt = process.marginal(x0, t).sample(Rng.of(6, n).at(k))
        posterior = model(xt, t)
        logs = posterior.log_probabilities
        expect(logs.shape == (*x0.shape, process.levels), f"{who}: logits {tuple(logs.shape)} are not of the levels")
        expect(not logs.isnan().any(), f"{who}: a logit is no number")
        expect(torch.equal(model(xt, t).logits, posterior.logits), f"{who}: other bits for the same arguments")
        alone = model(xt[:1], t.expand(1)).log_probabilities[0]
        finite = logs[0] > -torch.inf
        agree = ((alone - logs[0])[finite].abs() < 1e-4).all()
        expect(agree, f"{who}: a state alone, with its own time, has another law than among others")
        if exact and not isinstance(posterior, StepLaw):
            error = (one_hot(x0.long(), process.levels) - logs.exp()).double()
            # The product with x_t too: a law that looks at nothing passes the first alone.
            both = torch.cat([error, error * xt[..., None].double()], -1).reshape(n, -1)
            certain = both.std(0) < 1e-9
            expect(
                (both[:, certain].abs() < 1e-6).all(), f"{who} at t = {at:g}: a probability that is certain is wrong"
            )
            if not bool(certain.all()):
                with said_of(model, f"the probabilities of values at t = {at:g} against the shares that occur"):
                    check_mean(both[:, ~certain], 0.0, 5.0)
    refuses(model, lambda: model(x0, torch.tensor(1.5, dtype=torch.float64)), "t = 1.5 for a time")
