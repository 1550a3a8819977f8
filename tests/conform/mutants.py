"""Proof that the tests can fail: sign and index errors are planted one at a time, and the tests that guard the spot
must turn red.

    python tests/conform/mutants.py            # a table: what was planted, how many tests failed, the first of them
    python tests/conform/mutants.py --json

Everything runs in this one process, so that nothing but the planted error differs; the first run plants nothing and
must be green.
"""

import contextlib
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

TESTS = Path(__file__).resolve().parents[1]
for folder in (TESTS, TESTS.parent / "src"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from diffprob.base import blocks, distributions, divergence, gamma_law, mixture_law, rng  # noqa: E402
from diffprob.config import registry as tables  # noqa: E402
from diffprob.denoise import denoiser, prediction, variance  # noqa: E402
from diffprob.density import noise, potential, typicality  # noqa: E402
from diffprob.likelihood import bound, flow  # noqa: E402
from diffprob.net import glow  # noqa: E402
from diffprob.process import calculus, geometric, grids, linear, schedule  # noqa: E402
from diffprob.sampling import langevin, sde  # noqa: E402
from diffprob.sampling.ancestral import DDIM  # noqa: E402
from diffprob.training import averages, times, weights  # noqa: E402

BRIDGE = [
    "process/test_linear.py::test_bridge_of_any_step_matches_the_formula",
    "process/test_linear.py::test_bridge_satisfies_bayes_rule",
]
EXACT = ["sampling/test_exactness.py::test_full_covariance_is_exact_for_any_number_of_steps[5-1.0]"]
ORDER = ["conform/test_samplers.py::test_declared_order_on_gaussian_data"]
original_bridge = linear.LinearProcess.bridge_coefficients
original_keys = blocks.keys_of
original_chunked = denoiser.NetDenoiser._chunked
original_kl = divergence.kl
original_noise = glow.Glow.noise
original_marginal = linear.LinearProcess.sample_marginal
original_slope = flow._slope
original_power = averages.power_of
original_euler = sde.EulerMaruyama.kernel
original_balanced = langevin.balanced_size
DENSITY = ["likelihood/test_flow.py::test_flow_density_is_exact_on_normal_data"]
ENTROPY = ["likelihood/test_bound.py::test_bound_of_the_exact_posterior_is_the_entropy"]


@dataclass(frozen=True)
class Mutant:
    """A patch of ``target.attribute`` (a new entry where the target is a table) and the tests that must notice it."""

    target: Any
    attribute: str
    value: Any
    tests: list[str]

    @property
    def keyword(self) -> str:
        """What narrows the tests down: a new entry's own parameters."""
        return self.attribute if isinstance(self.target, dict) else ""


def flipped_trace(z: torch.Tensor, lam: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """The flow with the trace of the Jacobian subtracted."""
    return original_slope(z, lam, torch.cat([image[:, :-1], -image[:, -1:]], 1))


def without_logarithm(q: Any, p: Any) -> torch.Tensor:
    """KL of normals that has lost log(s_p/s_q), where both are diagonal (the prior's)."""
    divergence = original_kl(q, p)
    if isinstance(p, distributions.LocationScale):
        divergence = divergence + 0.5 * torch.log(q.variance / p.variance).expand(q.mean.shape).sum(1)
    return divergence


def bridge(change: Callable[..., linear.BridgeCoefficients]) -> Callable[..., linear.BridgeCoefficients]:
    """`bridge_coefficients` with a changed result."""
    return lambda self, s, t, eta=1.0: change(original_bridge(self, s, t, eta), self, s, t, eta)


def swapped_sigma(c: linear.BridgeCoefficients, process: Any, s: Any, t: Any, eta: float) -> linear.BridgeCoefficients:
    """btil with sigma_t where sigma_s belongs."""
    return replace(c, ell=c.ell * process.sigma(t) / process.sigma(s))


def shifted_table(self: Any) -> torch.Tensor:
    """abar_{i-1} at i."""
    betas = self.betas()
    return torch.cat([betas.new_zeros(2), 0.5 * torch.log1p(-betas[:-1]).cumsum(0)])


def reversed_chunks(self: Any, xt: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Chunks come back in the wrong order."""
    if self.evaluation.chunk is None:
        return original_chunked(self, xt, t)
    return original_chunked(self, xt.flip(0), t.flip(0) if t.ndim else t)


@dataclass(frozen=True)
class Boastful(DDIM):
    """A first-order sampler that declares order 2."""

    order = 2


@dataclass(frozen=True)
class Crooked(schedule.VPSDE):
    """A schedule whose inverse is off by a thousandth."""

    def time(self, logsnr: torch.Tensor) -> torch.Tensor:
        return super().time(logsnr) + 1e-3


@dataclass(frozen=True)
class Unpaired(prediction.V):
    """A prediction whose inverse has another sign."""

    def from_x0(self, process: Any, xt: Any, t: Any, x0: Any) -> Any:
        return -super().from_x0(process, xt, t, x0)


@dataclass(frozen=True)
class Repeating(grids.Uniform):
    """A grid that visits its first time twice."""

    def __call__(self, process: Any, n: int) -> torch.Tensor:
        times = super().__call__(process, n)
        return torch.cat([times[:1], times[:-1]]) if n > 1 else times


@dataclass(frozen=True)
class Forgetful(DDIM):
    """A stochastic sampler with the same noise at every step."""

    eta: float = 1.0

    def step(self, model: Any, state: Any, s: Any, rng: Any) -> Any:
        return replace(super().step(model, replace(state, index=0), s, rng), index=state.index + 1)


@dataclass(frozen=True)
class Leaning(mixture_law.MixtureOfGaussians):
    """A mixture whose means do not add up to 0 but at t = 0."""

    def _components(self, t: Any) -> Any:
        law = super()._components(t)
        return replace(law, means=law.means + 0.2 * torch.as_tensor(t, dtype=torch.float64)[..., None])


@dataclass(frozen=True)
class Hasty(times.LogNormal):
    """Times of another law than the distribution function says."""

    def __call__(self, process: Any, rng: Any) -> torch.Tensor:
        return super().__call__(process, rng) * 0.98


@dataclass(frozen=True)
class Unbounded(weights.MinSNR):
    """A weight that is infinite without noise."""

    def factor(self, process: Any, prediction: Any, t: Any) -> torch.Tensor:
        return super().factor(process, prediction, t) / (process.schedule.logsnr(t) > 2).double()


def halved_score(self: Any, process: Any, posterior: Any, x: Any, s: Any, t: Any) -> Any:
    """The reverse equation with the flow's score: a factor of 1 for the 2 of an Ornstein-Uhlenbeck process."""
    law = original_euler(self, process, posterior, x, s, t)
    drift = log_alpha_step(process, s, t)
    straight = distributions.LocationScale((1 - drift) * x, law.std)
    return replace(law, mean=(law.mean + straight.mean) / 2)


def log_alpha_step(process: Any, s: Any, t: Any) -> torch.Tensor:
    """f (t - s) of a continuous process."""
    return calculus.drift_and_diffusion(process, t)[0] * (t - s)


MUTANTS: dict[str, Mutant] = {
    "a profile of the neighbouring power": Mutant(
        averages,
        "profile",
        lambda width, step, edges: np.diff(np.minimum(edges / step, 1) ** averages.power_of(width)),
        ["training/test_averages.py::test_any_length_is_exact_with_a_snapshot_of_every_step[0.05-200]"],
    ),
    "an average that forgets too slowly": Mutant(
        averages,
        "power_of",
        lambda width: original_power(width) - 1,
        ["training/test_averages.py::test_kept_averages_are_those_computed_directly"],
    ),
    "one draw for a chain of mixtures": Mutant(
        mixture_law.MixtureOfGaussians,
        "_chain",
        lambda self, levels, s, t: self._components(t),
        ["base/test_noise_laws.py::test_kurtosis_tells_the_readings_apart[2-0.504]"],
    ),
    "a mixture off its mean": Mutant(
        tables.LAWS,
        "Leaning",
        Leaning,
        ["conform/test_processes.py::test_noise_of_every_time_has_mean_0_and_variance_1"],
    ),
    "gamma noise that forgets the step before": Mutant(
        gamma_law.Gamma,
        "between",
        lambda self, levels, s, t: self.at(levels, t),
        ["base/test_noise_laws.py::test_gamma_noise_adds_up_to_gamma_noise_of_the_same_scale_alone"],
    ),
    "a bound of noise that has none": Mutant(
        mixture_law.MixtureOfGaussians,
        "stable",
        True,
        ["base/test_noise_laws.py::test_what_needs_the_law_of_a_step_is_refused_in_one_line"],
    ),
    "half of the score in the reverse equation": Mutant(
        sde.EulerMaruyama,
        "kernel",
        halved_score,
        ["sampling/test_sde.py::test_ornstein_uhlenbeck_reverse_equation_has_twice_the_flows_score"],
    ),
    "a Langevin step of another size": Mutant(
        langevin,
        "balanced_size",
        lambda ratio, steps: 0.5 * original_balanced(ratio, steps),
        ["sampling/test_sde.py::test_step_size_rule_matches_the_published_sizes"],
    ),
    "levels that begin at the largest": Mutant(
        geometric.Geometric,
        "logsnr",
        lambda self, t: -2 * (math.log(self.sigma_max) - (t * self.steps - 1) * math.log(self.ratio)),
        ["process/test_geometric.py::test_levels_match_the_papers"],
    ),
    "sign of ct in the bridge": Mutant(
        linear.LinearProcess, "bridge_coefficients", bridge(lambda c, *_: replace(c, ct=-c.ct)), BRIDGE + EXACT
    ),
    "sigma_t for sigma_s in btil": Mutant(
        linear.LinearProcess, "bridge_coefficients", bridge(swapped_sigma), BRIDGE + EXACT
    ),
    "clock off by one": Mutant(
        denoiser.Index,
        "__call__",
        lambda self, t: torch.as_tensor(t, dtype=torch.float64) * self.steps,
        ["denoise/test_net_denoiser.py::test_clock_is_exact_for_every_index"],
    ),
    "table of abar off by one": Mutant(
        schedule, "_log_alphas", shifted_table, ["process/test_schedules.py::test_ddpm_alphas_match_published"]
    ),
    "sign of the score": Mutant(
        prediction.Score,
        "coefficients",
        lambda self, p, t: (1 / p.alpha(t), -(p.sigma(t) ** 2) / p.alpha(t)),
        [
            "denoise/test_prediction.py::test_target_matches_the_papers",
            "denoise/test_ideal.py::test_tweedie_score_matches_the_formula",
        ],
    ),
    "an input of another scale": Mutant(
        prediction.EDM,
        "input_scale",
        lambda self, p, t: 1 / torch.hypot(p.alpha(t), p.sigma(t)),
        ["denoise/test_prediction.py::test_edm_input_and_target_have_unit_variance_at_every_noise"],
    ),
    "a scale that nobody applies": Mutant(
        prediction.EDM,
        "input_scale",
        lambda self, p, t: None,
        ["denoise/test_prediction.py::test_network_is_shown_the_scaled_state_and_the_log_of_the_noise"],
    ),
    "a clock of the noise without its factor": Mutant(
        denoiser.LogNoise,
        "label",
        lambda self, p, t: -self.factor * p.logsnr(t),
        ["denoise/test_prediction.py::test_network_is_shown_the_scaled_state_and_the_log_of_the_noise"],
    ),
    "unit data without the square": Mutant(
        variance.UnitData,
        "__call__",
        lambda self, p, t: p.sigma(t),
        ["denoise/test_prediction.py::test_fixed_variances_match_the_ddpm_code"],
    ),
    "one noise for all steps": Mutant(
        rng.Rng,
        "at",
        lambda self, step: self,
        ["sampling/test_simulate.py::test_noise_is_independent_between_steps_and_samples"],
    ),
    "high and low word exchanged": Mutant(
        blocks,
        "keys_of",
        lambda seeds: original_keys(seeds)[:, ::-1],
        ["base/test_rng.py::test_bits_match_the_reference_implementation"],
    ),
    "bins half as wide": Mutant(
        distributions.Discretised,
        "log_prob",
        lambda self, x: distributions.Discretised(self.base, 2 * self.levels).log_prob(x),
        ["base/test_discretised.py::test_probabilities_sum_to_one"],
    ),
    "divergence the wrong way round": Mutant(
        divergence,
        "kl",
        lambda q, p: original_kl(p, q),
        ["base/test_divergence.py::test_kl_of_normals_matches_integration"],
    ),
    "half of a step's divergence": Mutant(bound, "kl", lambda q, p: 0.5 * original_kl(p=p, q=q), ENTROPY),
    "a divergence without its logarithm": Mutant(
        bound,
        "kl",
        without_logarithm,
        ["likelihood/test_bound.py::test_gaps_of_fixed_variances_match_published[50-beta-0.836-0.0005]"],
    ),
    "less noise than the time says": Mutant(
        linear.LinearProcess,
        "sample_marginal",
        lambda process, x0, t, rng: original_marginal(process, x0, t / 2, rng),
        ENTROPY,
    ),
    "a flipped divergence of the flow": Mutant(flow, "_slope", flipped_trace, DENSITY),
    "a flow without the determinant of its scaling": Mutant(
        flow, "magnitude", lambda process, t: torch.ones_like(t), DENSITY
    ),
    "chunks in reverse": Mutant(
        denoiser.NetDenoiser,
        "_chunked",
        reversed_chunks,
        ["denoise/test_net_denoiser.py::test_chunked_results_equal_whole_results_up_to_rounding"],
    ),
    "a sampler that claims order 2": Mutant(tables.SAMPLERS, "Boastful", Boastful, ORDER),
    "a sampler that repeats its noise": Mutant(
        tables.SAMPLERS,
        "Forgetful",
        Forgetful,
        ["conform/test_samplers.py::test_only_stochastic_samplers_use_noise"],
    ),
    "a schedule with a crooked inverse": Mutant(
        tables.SCHEDULES, "Crooked", Crooked, ["conform/test_processes.py::test_schedule_inverts"]
    ),
    "a prediction with a wrong inverse": Mutant(
        tables.PREDICTIONS,
        "Unpaired",
        Unpaired,
        ["conform/test_models.py::test_every_prediction_gives_the_same_posterior"],
    ),
    "a grid that repeats a time": Mutant(
        tables.GRIDS, "Repeating", Repeating, ["conform/test_processes.py::test_grid_descends_within_the_schedule"]
    ),
    "times of another law": Mutant(
        tables.TIMES, "Hasty", Hasty, ["conform/test_training.py::test_times_have_the_law_that_they_say"]
    ),
    "a weight without an end": Mutant(
        tables.LOSS_WEIGHTS,
        "Unbounded",
        Unbounded,
        ["conform/test_training.py::test_weight_is_finite_for_every_prediction"],
    ),
    "a noise level for its square": Mutant(
        times.LogNormal,
        "time",
        lambda self, process, place: process.schedule.time(-place),
        ["training/test_times.py::test_edm_draws_its_noise_from_the_published_law"],
    ),
    "noise norm turned round": Mutant(
        noise.NoiseNorm,
        "score",
        lambda _self, statistics, _fitted=None: -statistics[:, 0],
        ["density/test_noise.py::test_noise_norm_grows_with_density_on_data"],
    ),
    "V_0 with the sign of log p": Mutant(
        potential.V0,
        "score",
        lambda _self, statistics, _fitted=None: -statistics[:, 1],
        ["density/test_potential.py::test_v0_matches_the_closed_form"],
    ),
    "typicality on one side": Mutant(
        typicality.Typical,
        "score",
        lambda self, statistics, _fitted=None: self.of.score(statistics),
        ["density/test_typicality.py::test_mode_of_a_normal_law_is_atypical"],
    ),
    "Glow without its volume": Mutant(
        glow.Glow,
        "noise",
        lambda self, x: (original_noise(self, x)[0], torch.zeros(len(x), dtype=torch.float64)),
        ["net/test_glow.py::test_inverse_and_determinant_match_the_jacobian"],
    ),
}


@dataclass(eq=False)  # pytest keeps plugins in sets
class Tally:
    """A pytest plugin that counts."""

    ran: int = 0
    failed: list[str] = field(default_factory=list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called by pytest after every phase of every test."""
        self.ran += report.when == "call"
        if report.failed:
            self.failed.append(report.nodeid)


def forget_tests() -> None:
    """Parametrisation happens on import: what the tables hold now must be seen."""
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path and path.startswith(str(TESTS)) and name != __name__ and "mutants" not in name:
            del sys.modules[name]


def run(tests: list[str], keyword: str = "", most: int = 3) -> Tally:
    """Run some tests here and now, silently, until ``most`` have failed."""
    forget_tests()
    schedule._log_alphas.cache_clear() if hasattr(schedule._log_alphas, "cache_clear") else None
    for kept in (times._ends, linear._at, linear._bridge, prediction._at):
        kept.cache_clear()
    tally = Tally()
    options = ["-q", "-p", "pytest_timeout", "-p", "no:cacheprovider", f"--maxfail={most}", "-k", keyword]
    options += [f"--rootdir={TESTS.parent}", "--tb=no", "--assert=plain"]
    # Loading every installed plugin anew would take longer than the tests.
    with (
        mock.patch.dict(os.environ, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"),
        contextlib.redirect_stdout(io.StringIO()) as output,
        contextlib.redirect_stderr(output),
    ):
        status = pytest.main([*options, *(str(TESTS / test) for test in tests)], plugins=[tally])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED) or not tally.ran:
        raise RuntimeError(f"the tests could not be run:\n{output.getvalue()}")
    return tally


@contextlib.contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The error in place for the length of a block."""
    if isinstance(mutant.target, dict):
        with mock.patch.dict(mutant.target, {mutant.attribute: mutant.value}):
            yield
    else:
        with mock.patch.object(mutant.target, mutant.attribute, mutant.value):
            yield


def report() -> dict[str, list[str]]:
    """{what was planted: failed tests}; the entry '' is the run with nothing planted."""
    everything = sorted({test for mutant in MUTANTS.values() for test in mutant.tests if not mutant.keyword})
    failures = {"": run(everything).failed}
    for name, mutant in MUTANTS.items():
        with planted(mutant):
            failures[name] = run(mutant.tests, mutant.keyword).failed
    return failures


def main() -> int:
    """Print the table; 0 if the clean run is green and every other red."""
    torch.set_num_threads(1)
    failures = report()
    if "--json" in sys.argv[1:]:
        print(json.dumps(failures))
    else:
        for name, failed in failures.items():
            first = failed[0].removeprefix("tests/") if failed else "-"
            print(f"{name or 'nothing planted':36} {'red' if failed else 'green':6} {first}")
    return int(bool(failures[""]) or not all(failed for name, failed in failures.items() if name))


if __name__ == "__main__":
    sys.exit(main())
