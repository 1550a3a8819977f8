"""Fit heads that predict Var[x_0 | x_t] on a frozen network: any of the three kinds together, in one pass."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from diffprob.base.errors import FieldError, NumericalError
from diffprob.base.rng import Rng, derive
from diffprob.base.shapes import flat_sum
from diffprob.base.single import single
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.net.concatenated import ConcatenatedUNet
from diffprob.net.head import HeadedUNet, HeadSpec
from diffprob.net.unet import UNet
from diffprob.process.linear import LinearProcess
from diffprob.training.covariance import KINDS, Source, draw, likelihood_loss, targets


@dataclass(frozen=True)
class CovarianceFit:
    """How heads are fitted: by Adam, the rate rising over ``warmup`` and falling linearly to 0.

    "npr", "sn" and "ocm" have a weighted squared error, "nll" the likelihood (`likelihood_loss`).

    The squared error at t is divided by the mean square of that kind's targets near t, measured on a pilot: least
    squares is most accurate with weights inverse to the variance of the targets, and unweighted the loss would be that
    of the few times where the targets scatter most (SN: by 1/alpha near the noise). The minimiser at each t does not
    depend on the weight. A loss of 1 is that of a head that answers 0.

    Args:
        kinds: any of "npr", "sn", "ocm", "nll"; all share the network's one pass.
        steps: optimiser steps, one batch each.
        lr: largest learning rate. Gradients are not clipped: it would bias the mean of skewed targets downwards.
        warmup: steps of linear rise.
        pilot: batches, before the first step, on which the mean squares are measured.
        bins: equal parts of [0, 1] that have a mean square each; those that no pilot time fell into take their
            neighbours'.
        seed: of times, noise and signs, and of the weights of heads that start with random ones.
        clip: whether the mean that "nll" speaks of is clamped to [-1, 1], as the run's will be.
    """

    kinds: tuple[str, ...] = KINDS
    steps: int = 5000
    lr: float = 1e-3
    warmup: int = 100
    pilot: int = 16
    bins: int = 32
    seed: int = 0
    clip: bool = False

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if not isinstance(self.kinds, tuple) or not self.kinds or unknown or len(set(self.kinds)) < len(self.kinds):
            raise FieldError("kinds", f"must be a tuple of different ones of {', '.join(KINDS)}, got {self.kinds!r}")
        for name, least in (("steps", 1), ("warmup", 0), ("pilot", 1), ("bins", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise FieldError(name, f"must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.lr < math.inf:
            raise FieldError("lr", f"must be positive and finite, got {self.lr}")

    def rate(self, step: int) -> float:
        """Learning rate of step ``step``, counted from 1."""
        return self.lr * min(1.0, step / max(1, self.warmup)) * (self.steps - step + 1) / self.steps


class HeadState(NamedTuple):
    """Where a fit stands after ``step`` steps: all that going on needs.

    Args:
        step: optimiser steps done; the fit has taken ``pilot + step`` batches.
        heads: state dict of the head of each kind.
        optimiser: ``KIND.NAME.exp_avg``, ``KIND.NAME.exp_avg_sq`` and ``KIND.NAME.step`` for each parameter.
        squares: mean square of the targets of each kind in each bin of t, float64 (bins,).
    """

    step: int
    heads: dict[str, dict[str, Tensor]]
    optimiser: dict[str, Tensor]
    squares: dict[str, Tensor]


# Below this mean square of a bin's targets (o near 0.0001) a smaller one gives no more weight.
_LEAST_SQUARE = 1e-8

Tell = Callable[[int, dict[str, float]], None]


def train_heads(
    process: LinearProcess,
    source: Source,
    heads: Mapping[str, nn.Module],
    batches: Iterable[Tensor],
    fit: CovarianceFit,
    tell: Tell = lambda step, losses: None,
    state: HeadState | None = None,
    until: int | None = None,
) -> HeadState:
    """Fit ``heads`` in place; the same arguments give the same bits, also when stopped and resumed between two steps.

    Args:
        process: the noising process.
        source: the frozen model.
        heads: for each kind a module from the source's features to o (B, *event).
        batches: images x_0 (B, *event) in model space, shuffled; ``pilot + steps`` of them, on resuming those after the
            first ``pilot + state.step``. Batch n of the fit sees the noise and times of (seed, n).
        fit: the settings.
        tell: called after every step with its number and the weighted loss of each kind.
        state: where to go on.
        until: stop after this step, counted like ``fit.steps``.

    Raises:
        NumericalError: a target or loss is not finite; the message names the step.
        ValueError: the batches ran out, or ``heads`` are not those of ``fit.kinds``.
    """
    if set(heads) != set(fit.kinds):
        raise ValueError(f"expected heads for {fit.kinds}, got {tuple(heads)}")
    cases = _cases(process, source, iter(batches), fit, 0 if state is None else fit.pilot + state.step)
    named = {f"{kind}.{name}": p for kind in fit.kinds for name, p in heads[kind].named_parameters()}
    adam = torch.optim.Adam(list(named.values()), lr=fit.lr)
    if state is None:
        squares = _mean_squares(fit, islice(cases, fit.pilot))
    else:
        squares = state.squares
        _restore(heads, named, adam, state)
    first = 0 if state is None else state.step
    last = fit.steps if until is None else min(until, fit.steps)
    for step in range(first + 1, last + 1):
        by_kind, features, t = next(cases)
        losses = {}
        for kind, target in by_kind.items():
            answer = heads[kind](features)
            if kind == "nll":
                losses[kind] = likelihood_loss(process, answer, target, t).mean()
                continue
            weight = (1 / squares[kind].clamp_min(_LEAST_SQUARE))[_bins(fit, t)].to(target)
            losses[kind] = (weight * flat_sum((answer - target) ** 2)).mean() / target[0].numel()
        _finite(losses, f"the loss at step {step} of the fit")
        adam.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        for group in adam.param_groups:
            group["lr"] = fit.rate(step)
        adam.step()
        tell(step, {kind: float(loss.detach()) for kind, loss in losses.items()})
    return _state(max(first, last), heads, named, adam, squares)


def fit_heads(
    model: NetDenoiser,
    batches: Iterable[Tensor],
    fit: CovarianceFit,
    blocks: int | None = None,
    tell: Tell = lambda step, losses: None,
    state: HeadState | None = None,
    until: int | None = None,
) -> HeadState:
    """Fit a `VarianceHead` of each kind on the features of a trained `UNet`, whose weights and modes stay as they are.

    The network is evaluated whole batch at once, without dropout; see `train_heads` for the other arguments.

    Args:
        model: its ``net`` is a `UNet`, or a `HeadedUNet` whose head is not looked at.
        blocks: residual blocks in each head (`HeadSpec`); None: 1 for "nll", 0 for the others.

    Returns:
        The last state; ``state.heads[kind]`` is what a head built from `head_spec` loads.

    Raises:
        ValueError: the network is another one.
    """
    device = next(model.parameters()).device
    heads: dict[str, nn.Module] = {}
    for kind in fit.kinds:
        with single(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(fit.seed, f"head {kind}"))
            heads[kind] = head_spec(model, kind, blocks).build().to(device)
    with _evaluating(model):
        return train_heads(model.process, feature_source(model), heads, batches, fit, tell, state, until)


def head_spec(model: NetDenoiser, kind: str, blocks: int | None = None) -> HeadSpec:
    """The settings of the head of a kind that `fit_heads` fits to ``model``."""
    likely = kind == "nll"
    return HeadSpec.reading(_unet(model).spec, int(likely) if blocks is None else blocks, likely)


def feature_source(model: NetDenoiser) -> Source:
    """The unclipped mean and the features of the U-Net of ``model``, from one evaluation."""
    probe = NetDenoiser(
        HeadedUNet(_unet(model), nn.Identity()),
        model.process,
        model.prediction,
        model.clock,
        evaluation=model.evaluation,
    )

    def source(xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        output = probe.raw(xt, t)
        return model.prediction.to_x0(model.process, xt, t, output.main), output.extra

    return source


def _unet(model: NetDenoiser) -> UNet:
    net = model.net.net if isinstance(model.net, HeadedUNet) else model.net
    if not isinstance(net, UNet) or isinstance(net, ConcatenatedUNet):
        raise ValueError(f"heads are fitted to a UNet, got a {type(net).__name__}")
    return net


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every module's own mode again afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _cases(
    process: LinearProcess, source: Source, batches: Iterator[Tensor], fit: CovarianceFit, first: int
) -> Iterator[tuple[dict[str, Tensor], Tensor, Tensor]]:
    """Targets, features and times of the fit's batches number ``first``, first + 1, ..."""
    key = derive(fit.seed, "covariance") >> 1
    for number in count(first):
        x0 = next(batches, None)
        if x0 is None:
            raise ValueError(f"the batches ended after {number}, the fit needs {fit.pilot + fit.steps}")
        drawn = draw(process, x0, Rng.of(key, len(x0)).at(number).to(x0.device))
        by_kind, features = targets(process, source, drawn, fit.kinds, fit.clip)
        yield by_kind, features, drawn.t


def _bins(fit: CovarianceFit, t: Tensor) -> Tensor:
    return (t.cpu() * fit.bins).long().clamp(0, fit.bins - 1)


def _mean_squares(fit: CovarianceFit, cases: Iterable[tuple[dict[str, Tensor], Tensor, Tensor]]) -> dict[str, Tensor]:
    """Mean square of the targets of each kind in each bin, float64 (bins,); empty bins take their neighbours', in
    logarithms linear between two."""
    sums = {kind: torch.zeros(fit.bins, dtype=torch.float64) for kind in fit.kinds}
    counts = torch.zeros(fit.bins, dtype=torch.float64)
    for by_kind, _, t in cases:
        where = _bins(fit, t)
        counts.index_add_(0, where, torch.ones(len(t), dtype=torch.float64))
        for kind, target in by_kind.items():
            sums[kind].index_add_(0, where, flat_sum(target.double() ** 2).cpu() / target[0].numel())
    _finite(sums, "a target in the pilot of the fit")
    filled = counts > 0
    squares = {}
    for kind, total in sums.items():
        logs = (total[filled] / counts[filled]).clamp_min(1e-300).log()
        every = np.interp(np.arange(fit.bins), filled.nonzero()[:, 0].numpy(), logs.numpy())
        squares[kind] = torch.from_numpy(every).exp()
    return squares


def _finite(values: Mapping[str, Tensor], what: str) -> None:
    for kind, value in values.items():
        if not bool(torch.isfinite(value).all()):
            raise NumericalError(f"{what} is not finite for the {kind} head")


def _state(
    step: int,
    heads: Mapping[str, nn.Module],
    named: Mapping[str, nn.Parameter],
    adam: torch.optim.Adam,
    squares: dict[str, Tensor],
) -> HeadState:
    weights = {kind: {k: v.detach().clone() for k, v in head.state_dict().items()} for kind, head in heads.items()}
    _finite({f"{kind} {k}": v for kind, held in weights.items() for k, v in held.items()}, "a weight")
    moments = {f"{name}.{k}": v.clone() for name, p in named.items() for k, v in adam.state[p].items()}
    return HeadState(step, weights, moments, squares)


def _restore(
    heads: Mapping[str, nn.Module], named: Mapping[str, nn.Parameter], adam: torch.optim.Adam, state: HeadState
) -> None:
    for kind, head in heads.items():
        head.load_state_dict(state.heads[kind])
    for name, parameter in named.items():
        held = {k: state.optimiser.get(f"{name}.{k}") for k in ("step", "exp_avg", "exp_avg_sq")}
        # A fit that was stopped before its first step has none.
        adam.state[parameter] = {k: v.clone() for k, v in held.items() if v is not None}
