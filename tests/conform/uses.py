"""What a component of each family has to be good for: the least that can be done with it, and cheaply."""

from collections.abc import Callable
from typing import Any

import torch
from truth.models import IsotropicData

from diffprob.base.distributions import LocationScale
from diffprob.base.limits import MOST_WEIGHTS
from diffprob.base.rng import Rng
from diffprob.codec.bits_back import BitsBack, BitsBackCode
from diffprob.codec.entropy import Writer
from diffprob.config.recipe import parameter_count
from diffprob.denoise.ideal import TwoPoint
from diffprob.denoise.prediction import Epsilon
from diffprob.likelihood.bound import Decoder
from diffprob.process.absorbing import AbsorbingProcess
from diffprob.process.grids import Uniform
from diffprob.process.linear import LinearProcess
from diffprob.sampling.simulate import plan, simulate

T, PROCESS = torch.tensor(0.5, dtype=torch.float64), LinearProcess()
IMAGES = torch.zeros(2, 1, 4, 4)


def finite(*values: Any) -> None:
    assert all(bool(torch.isfinite(torch.as_tensor(value)).all()) for value in values)


def use_schedule(schedule: Any) -> None:
    process = LinearProcess(schedule)
    finite(schedule.logsnr(T), *process.coefficients(T))
    if getattr(schedule, "table", True) is not None:  # one that is learned has no inverse before it is trained
        finite(schedule.time(schedule.logsnr(T)), Uniform()(process, 2))


def use_process(process: Any) -> None:
    elements = getattr(process, "survival", process.schedule).steps if hasattr(process, "levels") else None
    x = torch.zeros(1, elements or 4)
    bound = process.bind(Rng.of(0, 1), x) if hasattr(process, "bind") else process
    finite(bound.marginal(x, T).mean)


def use_grid(grid: Any) -> None:
    times = grid(PROCESS, 5)
    assert times.shape == (5,) and bool((times.diff() < 0).all()) and float(times[-1]) > 0 and float(times[0]) <= 1


def use_sampler(sampler: Any) -> None:
    model = TwoPoint(PROCESS)
    chosen, n = plan(sampler, 4)
    times = Uniform()(PROCESS, max(2, min(n, 5)))
    *_, last = simulate(model, chosen, torch.ones(1, 1), times, Rng.of(0, 1))
    finite(last.x)


def use_coder(coder: Any) -> None:
    if isinstance(coder, BitsBack):
        model = IsotropicData(torch.zeros(3).double(), 0.1, LinearProcess())
        code = BitsBackCode(model, Uniform()(model.process, 3), Decoder(17), coder)
        stack, x0 = code.writer(), torch.zeros(2, 3).double()
        list(code.encode(x0, stack))
        finite(next(code.decode(x0, code.reader(stack.data()))).x)
        return
    p = LocationScale(torch.zeros(1, 3), torch.ones(3))
    writer = Writer()
    finite(
        coder.encode(LocationScale(torch.ones(1, 3), torch.full((3,), 0.5)), p, Rng.of(0, 1), writer, coder.memory(1))
    )
    finite(writer.bits, coder.cost(torch.ones(2), 3))


def use_network(spec: Any) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in spec.build().parameters()) <= 4 * MOST_WEIGHTS


def use_recipe(recipe: Any) -> None:
    assert 0 < parameter_count(recipe) <= 4 * MOST_WEIGHTS


def use_variance(variance: Any) -> None:
    finite(variance.posterior(PROCESS, T, IMAGES, IMAGES + 0.5).mean)


def use_proxy(proxy: Any) -> None:
    if not hasattr(proxy, "divergence"):  # those follow paths
        finite(proxy.statistics(TwoPoint(PROCESS), torch.zeros(1, 1), Rng.of(0, 1)))
    assert proxy.columns


USES: dict[str, Callable[[Any], Any]] = {
    "schedule": use_schedule,
    "scaling": lambda scaling: finite(*scaling.coefficients(T)),
    "law": lambda law: finite(law.sample(Rng.of(0, 2), (3,), torch.float32)),
    "process": use_process,
    "survival": lambda survival: finite(survival.masked(T), AbsorbingProcess(2, survival).mask),
    "grid": use_grid,
    "prediction": lambda prediction: finite(*prediction.coefficients(PROCESS, T)),
    "level law": lambda law: finite(law.logits(torch.zeros(2, law.outputs(5)), 5)),
    "clock": lambda clock: finite(clock.label(PROCESS, T)),
    "variance": use_variance,
    "condition": lambda condition: finite(condition.null()),
    "sampler": use_sampler,
    "coder": use_coder,
    "divergence": lambda divergence: finite(divergence.directions(Rng.of(0, 2), IMAGES[:, :, :1, :1])),
    "proxy": use_proxy,
    "map": lambda anomaly_map: (anomaly_map.sampler.step, anomaly_map.noise),
    "pixel noise": lambda noise: finite(noise(Rng.of(0, 2), IMAGES)),
    "network": use_network,
    "text": use_network,
    "space": lambda space: space.dimensions,
    "source": lambda source: source.load,
    "augmentation": lambda augmentation: finite(augmentation(IMAGES, Rng.of(0, 2))),
    "times": lambda times: finite(times(PROCESS, Rng.of(0, 2)), times.cdf(PROCESS, T)),
    "loss weight": lambda weight: finite(weight.factor(PROCESS, Epsilon(), T)),
    "objective": lambda objective: objective.__call__,
    "training": lambda training: training.steps,
    "monitor": lambda monitor: monitor.steps,
    "part": lambda part: part.start,
    "trained": lambda trained: trained.load,
    "recipe": use_recipe,
}
