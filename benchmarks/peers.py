"""The schedulers of diffusers in their reasonable settings, driven by an exact noise prediction through their loops.

Every row is a class with a configuration; what a network would be asked is answered exactly, and nothing is clipped.
"""

import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from mixtures import Mean
from torch import Tensor

VP = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
SPACINGS = ("leading", "linspace", "trailing")
SIGMAS = ("karras", "exponential", "beta")


@dataclass(frozen=True)
class Peer:
    """A scheduler and how it is set.

    Args:
        kind: the class's name without "Scheduler".
        settings: constructor arguments beyond those of the process.
        step: further arguments of ``step``.
        ask: how the scheduler's time names a noise level: "label" (0..999), "angle" or "edm".
    """

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    step: Mapping[str, Any] = field(default_factory=dict)
    spelling: str = "label"

    @property
    def name(self) -> str:
        """Such as ``UniPCMultistep(solver_order=3, use_karras_sigmas)``."""
        parts = [
            key if value is True else f"{key}={getattr(value, '__name__', value)}"
            for key, value in {**self.settings, **self.step}.items()
        ]
        return f"{self.kind}({', '.join(parts)})"

    def build(self) -> Any:
        """A fresh scheduler."""
        process = VP if self.spelling == "label" else {}
        return getattr(diffusers, f"{self.kind}Scheduler")(**process, **self.settings)

    def fit(self, evaluations: int) -> Any | None:
        """A scheduler set to the most steps that take at most this many evaluations, None if it has none."""
        for steps in range(evaluations, 0, -1):
            scheduler = self.build()
            try:
                scheduler.set_timesteps(steps)
            except (ValueError, IndexError, AssertionError, RuntimeError, ZeroDivisionError):
                continue
            if len(scheduler.timesteps) <= evaluations:
                return scheduler
        return None

    def sample(self, model: Mean, z: Tensor, evaluations: int, seed: int) -> Tensor | None:
        """Samples from the noise z (n, d) with at most so many evaluations; None where it has no such setting."""
        scheduler = self.fit(evaluations)
        if scheduler is None:
            return None
        known = inspect.signature(scheduler.step).parameters
        more = dict(self.step)
        if "generator" in known:
            more["generator"] = torch.Generator().manual_seed(seed)
        x = z * float(scheduler.init_noise_sigma)
        try:
            for t in scheduler.timesteps:
                output = ASK[self.spelling](model, scheduler.scale_model_input(x, t), float(t))
                x = scheduler.step(output, t, x, **more).prev_sample.to(z.dtype)
        except (IndexError, ValueError, NotImplementedError, torch.linalg.LinAlgError):
            return None
        return x


def _label(model: Mean, x: Tensor, t: float) -> Tensor:
    return model.noise(x, t)


def _angle(model: Mean, x: Tensor, t: float) -> Tensor:
    """IPNDM's own process: alpha = cos, sigma = sin of t pi/2."""
    model.calls += 1
    return model.blend.noise(x, math.cos(t * math.pi / 2), math.sin(t * math.pi / 2))


def _edm(model: Mean, x: Tensor, t: float) -> Tensor:
    """The network inside EDM's preconditioning, for the exact denoiser, sigma_data 1/2."""
    model.calls += 1
    sigma, data = math.exp(4 * t), 0.5
    total = math.hypot(sigma, data)
    y, alpha = x * total, 1 / math.hypot(1, sigma)
    clean = y - sigma * model.blend.noise(alpha * y, alpha, alpha * sigma)
    return (clean - (data / total) ** 2 * y) * total / (sigma * data)


ASK: dict[str, Callable[[Mean, Tensor, float], Tensor]] = {"label": _label, "angle": _angle, "edm": _edm}


def no_noise(_: float) -> float:
    """tau of SA-Solver for the probability flow."""
    return 0.0


def spaced(kind: str, *settings: Mapping[str, Any], sigmas: tuple[str, ...] = SIGMAS, **step: Any) -> Iterator[Peer]:
    """Each setting with the three spacings, and with the schedules of sigma that the class knows."""
    for setting in settings or ({},):
        for spacing in SPACINGS:
            yield Peer(kind, {**setting, "timestep_spacing": spacing}, step)
        for name in sigmas:
            yield Peer(kind, {**setting, f"use_{name}_sigmas": True}, step)


def multistep() -> Iterator[Peer]:
    """DPM-Solver, DPM-Solver++ and their stochastic forms."""
    kind = "DPMSolverMultistep"
    for order, solver in ((2, "midpoint"), (2, "heun"), (3, "midpoint")):
        plus = {"solver_order": order, "solver_type": solver}
        yield from spaced(kind, plus, {**plus, "lower_order_final": False}, {**plus, "euler_at_final": True})
        yield Peer(kind, {**plus, "use_lu_lambdas": True})
        yield Peer(kind, {**plus, "use_lu_lambdas": True, "euler_at_final": True})
        yield from spaced(kind, {**plus, "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"})
        yield Peer(kind, {**plus, "use_lu_lambdas": True, "final_sigmas_type": "sigma_min"})
    for solver in ("midpoint", "heun"):
        plus = {"algorithm_type": "sde-dpmsolver++", "solver_type": solver}
        yield from spaced(kind, plus)
        yield Peer(kind, {**plus, "use_lu_lambdas": True})
    yield from spaced(kind, {"algorithm_type": "sde-dpmsolver", "final_sigmas_type": "sigma_min"})


def singlestep() -> Iterator[Peer]:
    """DPM-Solver single-step; it has one spacing."""
    for order, last in itertools.product((1, 2, 3), (True, False)):
        plus = {"solver_order": order, "lower_order_final": last}
        kinds = ({}, {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"})
        for more, sigmas in itertools.product(kinds, ("", *SIGMAS)):
            yield Peer("DPMSolverSinglestep", {**plus, **more, **({f"use_{sigmas}_sigmas": True} if sigmas else {})})


def peers() -> list[Peer]:
    """Every row of diffusers."""
    small, plain = {"clip_sample": False}, {"clip_sample": False, "set_alpha_to_one": False}
    found = [
        *spaced("DDPM", small, {**small, "variance_type": "fixed_large"}, sigmas=()),
        *spaced("DDIM", small, plain, sigmas=()),
        *spaced("DDIM", small, sigmas=(), eta=1.0),
        *spaced("PNDM", {"skip_prk_steps": True}, {"skip_prk_steps": False}, sigmas=()),
        Peer("IPNDM", spelling="angle"),
        *spaced("DEISMultistep", *({"solver_order": k} for k in (1, 2, 3))),
        *spaced("DEISMultistep", *({"solver_order": k, "lower_order_final": False} for k in (2, 3))),
        *singlestep(),
        *multistep(),
    ]
    for order, solver in itertools.product((1, 2, 3), ("bh1", "bh2")):
        plus = {"solver_order": order, "solver_type": solver}
        found += [*spaced("UniPCMultistep", plus, {**plus, "final_sigmas_type": "sigma_min"})]
    found += spaced("UniPCMultistep", {"predict_x0": False, "final_sigmas_type": "sigma_min"})
    found += spaced("UniPCMultistep", {"solver_order": 3, "lower_order_final": False})
    found += spaced("EulerDiscrete", {})
    found += spaced("EulerDiscrete", {}, s_churn=2.0)
    found += spaced("EulerAncestralDiscrete", {}, sigmas=())
    for kind in ("HeunDiscrete", "KDPM2Discrete"):
        found += spaced(kind, {})
    found += spaced("KDPM2AncestralDiscrete", {}, sigmas=("karras", "exponential"))  # its beta sigmas fail
    for order in (2, 3, 4):
        found += spaced("LMSDiscrete", {}, order=order)
    for tau in ({}, {"tau_func": no_noise}):
        found += spaced("SASolver", tau, {**tau, "predictor_order": 3, "corrector_order": 3})
    for schedule, low in itertools.product(("karras", "exponential"), (0.002, 0.02)):
        plus = {"sigma_schedule": schedule, "sigma_min": low}
        found += [Peer("EDMEuler", plus, spelling="edm"), Peer("EDMDPMSolverMultistep", plus, spelling="edm")]
        found += [Peer("EDMDPMSolverMultistep", {**plus, "solver_order": 3}, spelling="edm")]
        found += [Peer("EDMDPMSolverMultistep", {**plus, "algorithm_type": "sde-dpmsolver++"}, spelling="edm")]
    return found
