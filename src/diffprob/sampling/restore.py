"""Images with noise of a known size, or with a part that is missing: what the model makes of them."""

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprob.base.checks import shown, whole
from diffprob.base.distributions import Distribution
from diffprob.base.errors import InputError
from diffprob.base.finite import check_tensors
from diffprob.base.rng import Rng, normal_like, one_for_each
from diffprob.base.shapes import check_points, per_sample
from diffprob.denoise.denoiser import Denoiser
from diffprob.guidance.energy import check_known
from diffprob.process.calculus import increments
from diffprob.process.linear import LinearProcess
from diffprob.sampling.between import sample_from
from diffprob.sampling.simulate import Finishing, Sampler, State, simulate

_QUARTILE = 0.6744897501960817  # of |z|, z standard normal: its median


def known_noise(process: LinearProcess) -> tuple[float, float]:
    """sigma/alpha at the schedule's last noisy time and at t = 1: the least and the most noise that a model knows."""
    low, high = (torch.exp(-0.5 * process.logsnr(t)) for t in (process.schedule.start, 1.0))
    return float(low), float(high)


def level_time(process: LinearProcess, std: Tensor | float) -> Tensor:
    """The t with sigma/alpha = std, float64, shaped like std: alpha (x_0 + std z) is then an x_t.

    Raises:
        InputError: a standard deviation below that of the schedule's last noisy time, or above that of t = 1.
    """
    std = torch.as_tensor(std, dtype=torch.float64)
    low, high = known_noise(process)
    # Written so that a NaN fails; 1e-9 for what was computed from the ends themselves.
    if not bool(((std >= low * (1 - 1e-9)) & (std <= high * (1 + 1e-9))).all()):
        stds = ", ".join(f"{float(value):g}" for value in std.flatten()[:3])
        raise InputError(f"noise of std {stds}: the model knows stds from {low:.3g} to {high:.3g}")
    return process.schedule.time(-2 * std.log())


def denoised(model: Denoiser, noisy: Tensor, std: Tensor | float) -> Distribution:
    """p(x_0 | y) for y = x_0 + std z: the model's posterior at x_t = alpha y, sigma/alpha = std.

    Its mean is the image with the least expected squared error. On a discrete schedule t may lie between two of its
    times.

    Args:
        noisy: y, (B, *event), in model space.
        std: of the noise in model space, () or (B,).

    Raises:
        InputError: noise of a size that the model never saw, see `level_time`.
        NumericalError: a value of an image that is not finite.

    Exact when: the model is: on normal data the Wiener filter, m + C (C + std^2 I)^-1 (y - m).
    """
    check_points(noisy, "an image")
    t = level_time(model.process, std)
    return model(per_sample(model.process.alpha(t), noisy) * noisy, t)


def draw_denoised(model: Denoiser, sampler: Sampler, noisy: Tensor, std: float, times: Tensor, rng: Rng) -> Tensor:
    """A draw from p(x_0 | y), y = x_0 + std z, in the place of the mean, (B, *event): sharp where the mean is smooth.

    The chain begins at the first time of the schedule whose noise is at least that of y; what is missing is added.

    Args:
        noisy, std: as for `denoised`, one std for all; it may be less than the model's least, also 0.
        sampler: a stochastic one gives different draws for different streams.
        times: a whole grid, decreasing, float64 (n,).
        rng: one stream per row; the same y in every row gives independent draws.

    Raises:
        InputError: more noise than at t = 1, or a std below 0.
        NumericalError: a value of an image that is not finite.

    Exact when: the chain is.
    """
    check_points(noisy, "an image")
    process = model.process
    t = level_time(process, max(std, known_noise(process)[0]) if std >= 0 else std)
    snapped = process.schedule.snap(t)
    if float(process.logsnr(snapped)) > float(process.logsnr(t)) + 1e-9:  # less noise there: one step further up
        snapped = process.schedule.snap(snapped + 1 / (process.schedule.steps or 1))
    alpha, sigma = process.coefficients(snapped)
    missing = (sigma**2 - (alpha * std) ** 2).clamp_min(0).sqrt()
    xt = per_sample(alpha, noisy) * noisy
    if float(missing) > 1e-6 * float(sigma):
        xt = xt + per_sample(missing, noisy) * normal_like(rng.fold("missing"), noisy)
    for state in sample_from(model, sampler, xt, snapped, times, rng):
        xt = state.x
    return xt


def estimate_noise(x: Tensor) -> Tensor:
    """The standard deviation of white noise in images (B, C, H, W), float64 (B,), in their units.

    median |r|/0.6745 with r the response of the mask ((1, -2, 1), (-2, 4, -2), (1, -2, 1))/6, which has norm 1 and
    gives 0 wherever the image is straight along one axis. The median leaves out the few responses at corners, lines
    and texture; where half of the pixels are such, or are flat at the end of the grey scale, it is no estimate.

    Raises:
        ValueError: less than 3 pixels along an axis.
        NumericalError: a value that is not finite; the median would not show it.

    Exact when: the image without noise is straight along one axis and large; the standard error is 1.8 std/sqrt(n)
    for n pixels.

    Reference: the mask of Immerkaer, "Fast noise variance estimation" (1996); the median of Donoho & Johnstone, "Ideal
    spatial adaptation by wavelet shrinkage" (1994), section 4.
    """
    if x.ndim != 4 or min(x.shape[2:]) < 3:
        raise ValueError(f"expected images (B, C, H, W) of at least 3x3 pixels, got {tuple(x.shape)}")
    check_tensors({"an image": x}, "the points are")
    line = torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64, device=x.device)
    mask = torch.outer(line, line) / 6
    response = F.conv2d(x.double().flatten(0, 1)[:, None], mask[None, None])
    count = x.shape[1] * response.shape[2] * response.shape[3]
    ordered = response.reshape(len(x), count).abs().sort(1).values
    return (ordered[:, (count - 1) // 2] + ordered[:, count // 2]) / (2 * _QUARTILE)


def beyond(noisy: Tensor, mean: Tensor, std: Tensor | float, rng: Rng, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Noisy images before they were cut off at low and high: there draws of N(mean, std^2) beyond them, elsewhere y.

    Args:
        noisy: y, (B, *event); at or below ``low``, or at or above ``high``, where it was cut.
        mean: of each value without noise, (B, *event).
        std: of the noise, () or (B,).
        rng: one stream per row.

    Raises:
        ValueError: a std that is not at least 0, no room between the limits, or another number of streams than of rows.

    Exact when: the limit is within 12 standard deviations of the mean; further away it is the limit itself.
    """
    one_for_each(rng, noisy)
    if not low < high or not bool((torch.as_tensor(std) >= 0).all()):
        raise ValueError(f"expected low < high and a std of at least 0, got {low}, {high} and {shown(std)}")
    std = per_sample(torch.as_tensor(std, dtype=torch.float64), mean.double()).clamp_min(1e-12)
    share = rng.uniform(noisy.shape[1:], torch.float64).clamp(1e-12, 1 - 1e-12)
    centre = mean.double()

    def below(limit: Tensor) -> Tensor:
        """Standard normal draws below the limit; torch's ndtr has no digits at -8, its ndtri is infinite at 1e-38."""
        chance = share * torch.special.erfc(-limit * 0.5**0.5) / 2
        return torch.minimum(torch.special.ndtri(chance.clamp_min(1e-37)), limit)

    under, over = centre + std * below((low - centre) / std), centre - std * below((centre - high) / std)
    drawn = torch.where(noisy <= low, under.clamp_max(low), over.clamp_min(high))
    return torch.where((noisy <= low) | (noisy >= high), drawn.to(noisy), noisy)


@torch.no_grad()
def unclip(
    model: Denoiser,
    noisy: Tensor,
    std: Tensor | float | None,
    rng: Rng,
    low: float = -1.0,
    high: float = 1.0,
    rounds: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Noisy images as they were before a file cut them off at black and white, and the size of their noise.

    In turns: the model's mean for the values as they stand, and for the values that were cut a draw `beyond` the limit
    from noise around that mean. `denoised` and `draw_denoised` then see the noise that they expect. An unknown std is
    estimated anew in every turn: cut noise looks too small, and with each turn less so.

    Args:
        noisy, std: as for `denoised`; None: `estimate_noise`, for each image.
        rng: one stream per row.
        low, high: values at or beyond these were cut.
        rounds: turns; None: 2, or 5 with an unknown std. None are made where nothing is cut.

    Returns:
        y (B, *event) and std (B,), float64.

    Raises:
        ValueError: a std below 0 or that is no number, rounds below 0.
        NumericalError: a value of an image that is not finite, or of what the model makes of it.

    Exact when: nothing is cut; or the model is certain of x_0: a draw of p(y|cut y), and of x_0 after it. Elsewhere it
    is stochastic EM (Celeux & Diebolt 1985) with x_0's mean in the place of a draw.
    """
    known = None if std is None else torch.as_tensor(std, dtype=torch.float64, device=noisy.device).expand(len(noisy))
    whole("rounds", rounds, none=True)
    check_points(noisy, "an image")
    if known is not None and not bool((known >= 0).all()):
        raise ValueError(f"std must be at least 0, got {shown(std)}")
    size, y = estimate_noise(noisy) if known is None else known, noisy
    turns = (5 if known is None else 2) if rounds is None else rounds
    if not bool(((noisy <= low) | (noisy >= high)).any()):
        turns = 0
    for turn in range(turns):
        mean = denoised(model, y, size.clamp_min(known_noise(model.process)[0])).mean
        check_tensors({"a predicted image": mean}, "the model's answers are")  # or the images would be blamed
        y = beyond(noisy, mean, size, rng.fold("cut").at(turn), low, high)
        size = estimate_noise(y) if known is None else known
    return y, size


def draw_given(model: Any, sampler: Sampler, shown: Tensor, x0: Tensor, times: Tensor, rng: Rng) -> Tensor:
    """Draws of the elements that are not shown, given those that are: of a model of levels, whose chains keep what is
    shown, (B, *event).

    Args:
        model: a denoiser of an absorbing process.
        sampler: of its chains.
        shown: bool, broadcastable to x_0; as many elements of each sample.
        x0: levels (B, *event); anything where it is not shown.
        times: a whole grid, decreasing, float64 (n,); the chain begins where so many elements are masked.
        rng: one stream per sample.

    Exact when: the sampler draws exactly, as `Ancestral` does one element at a time; compared with Bayes' rule.

    Raises:
        ValueError: another number of missing elements in another sample, or none.
    """
    x, t = model.process.given(shown, x0)
    for state in simulate(model, sampler, x, times_given(t, times), rng):
        x = state.x
    return x


def times_given(t: Tensor, times: Tensor) -> Tensor:
    """The chain of `draw_given` from t on: t, then the times of the grid below it, float64 (m,)."""
    return torch.cat([t.reshape(1), times[times < t - 1e-9]])


@dataclass(frozen=True, eq=False)
class RePaint:
    """A sampler with some known pixels: after every step they are those of q(x_s|x_0), the others the sampler's.

    By itself that never lets the new pixels see how the known ones look at s. With ``jumps`` every step is taken back
    by q(x_t|x_s) and made again so many times, which brings the two into harmony. Costs 1 + jumps steps each.

    Args:
        sampler: for the others; what it remembers of earlier steps is kept for every repetition.
        mask: 1 where a pixel is known, 0 elsewhere; broadcastable to (B, *event).
        image: the known pixels in model space, broadcastable; elsewhere anything finite.
        jumps: repetitions of each step.

    Exact when: nothing is known: the sampler itself, to the bit. On normal data the mean approaches E[x_0|known] as
    jumps grow and the grid becomes fine.

    Reference: Lugmayr et al., "RePaint: inpainting using denoising diffusion probabilistic models" (2022), algorithm 1
    (jump length 1).
    """

    sampler: Sampler
    mask: Tensor
    image: Tensor
    jumps: int = 0

    order = None

    def __post_init__(self) -> None:
        whole("jumps", self.jumps)
        check_known(self.mask, self.image)

    @property
    def evaluations(self) -> int | None:
        """Of the model in one step, repetitions included."""
        inner = self.sampler.evaluations
        return None if inner is None else inner * (1 + self.jumps)

    def step(self, model: Denoiser, state: State, s: Tensor, rng: Rng) -> State:
        """One step from state.t to s."""
        reached = self._down(model, state, s, rng)
        for k in range(1, 1 + self.jumps):
            streams = rng.fold(f"jump {k}")
            x = _noisier(model.process, reached.x, s, state.t, streams.fold("up").at(state.index))
            reached = self._down(model, replace(state, x=x), s, streams)
        return reached

    def _down(self, model: Denoiser, state: State, s: Tensor, rng: Rng) -> State:
        reached = self.sampler.step(model, state, s, rng)
        known = model.process.marginal(self.image.to(reached.x).expand(reached.x.shape), s)
        return replace(reached, x=self._filled(known.sample(rng.fold("known").at(state.index)), reached.x))

    def finish(self, model: Denoiser, state: State, rng: Rng) -> State:
        """The state at t = 0: the image where it is known, the sampler's own end or E[x_0|x_t] elsewhere."""
        if isinstance(self.sampler, Finishing):
            last = self.sampler.finish(model, state, rng)
        else:
            posterior = model(state.x, state.t)
            last = State(posterior.mean, torch.zeros_like(state.t), state.index + 1, posterior)
        return replace(last, x=self._filled(self.image.to(last.x), last.x))

    def _filled(self, known: Tensor, made: Tensor) -> Tensor:
        return torch.where(self.mask.to(made.device) > 0, known, made)


def _noisier(process: LinearProcess, x: Tensor, s: Tensor, t: Tensor, rng: Rng) -> Tensor:
    """x_t ~ q(x_t | x_s) from x_s, (B, *event): (alpha_t/alpha_s) x_s and the noise that is missing."""
    ratio, missing = process.alpha(t) / process.alpha(s), increments(process, s, t)[1].sqrt()
    z = process.law.sample(rng, x.shape[1:], x.dtype).to(x.device)
    return per_sample(ratio, x) * x + per_sample(missing, x) * z
