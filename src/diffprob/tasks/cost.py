"""What a training will cost, without doing it: parameters, memory, operations, time."""

import os
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.utils.flop_counter import FlopCounterMode

from diffprob.base.rng import Rng
from diffprob.config.recipe import AnyRecipe, AutoencoderRecipe, Baseline, Recipe, build, parameter_count
from diffprob.denoise.denoiser import Evaluation
from diffprob.net.unet import UNetSpec
from diffprob.training.optimise import choose_precision

SMALL = {"cpu": 100e9, "cuda": 20e12}  # operations of one training image up to which time is measured, not estimated
PROBE = {"cpu": 60e9, "cuda": 10e12}  # operations of one measured step
MOST_BUILT = 50_000_000  # parameters up to which a network is built to measure it: 1 GB with all of `COPIES`
PATIENCE = 5.0  # seconds after which no further step is measured
COPIES = {"weights": 4, "gradients": 4, "AdamW": 8, "EMA": 4}  # bytes for each parameter


@dataclass(frozen=True)
class Cost:
    """What one image costs.

    Args:
        parameters: of the network.
        flop: operations of one forward pass of one image (a multiplication and an addition are two).
        saved: bytes that the forward pass keeps for the backward pass, for each image.
        fixed: the same for each network call, whatever its batch: weights in the network's precision.
    """

    parameters: int
    flop: float
    saved: float
    fixed: float

    @property
    def train_flop(self) -> float:
        """Operations of one image in training: the backward pass costs twice the forward pass."""
        return 3 * self.flop


def measure_cost(recipe: AnyRecipe, device: torch.device, precision: str) -> Cost:
    """Run the network on tensors without memory and count; works for networks of any size."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    kept: dict[Any, tuple[int, Any]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept.setdefault(storage._cdata, (storage.nbytes(), storage))
        return tensor

    with FakeTensorMode(allow_non_fake_inputs=True), torch.device(device):
        net = recipe.network.build()
        weights = {parameter.untyped_storage()._cdata for parameter in net.parameters()}
        sizes, counter = [], FlopCounterMode(display=False)
        for batch in (2, 1):
            kept.clear()
            x = torch.empty((batch, *recipe.space.model_shape))
            x = x.to(memory_format=torch.channels_last) if x.ndim == 4 else x
            with (
                counter if batch == 1 else nullcontext(),
                torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
                torch.autocast(device.type, dtype=dtype, enabled=dtype is not None),
            ):
                _pass(recipe, net, x)
            sizes.append(sum(size for key, (size, _) in kept.items() if key not in weights))
        count = sum(parameter.numel() for parameter in net.parameters())
    return Cost(count, counter.get_total_flops(), sizes[0] - sizes[1], max(0, 2 * sizes[1] - sizes[0]))


def _condition(recipe: AnyRecipe, batch: int) -> tuple[Tensor, ...]:
    """The network's condition beside x_t and t."""
    condition = getattr(recipe, "condition", None)
    return () if condition is None else (condition.example_rows(batch),)


def _pass(recipe: AnyRecipe, net: Any, x: Tensor) -> None:
    """One call of the network as training makes it."""
    if isinstance(recipe, AutoencoderRecipe):
        net(x, torch.empty((len(x), *recipe.network.latent_shape(recipe.space.model_shape))))
    elif isinstance(recipe, Baseline):
        net.eval()  # in training Glow looks at the numbers of its first batch, and here there are none
        (net.log_prob if hasattr(net, "log_prob") else net)(x)
    else:
        net(x, torch.empty(len(x)), *_condition(recipe, len(x)))


def matmul_rate(device: torch.device, precision: str) -> float:
    """Operations a second of a large matrix product on this machine, now."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    n = 1024 if device.type == "cpu" else 8192
    a = torch.ones((n, n), dtype=dtype, device=device)
    best = 0.0
    for _ in range(4):
        began = time.perf_counter()
        product = a @ a
        float(product[0, 0])  # waits for the device
        best = max(best, 2 * n**3 / (time.perf_counter() - began))
    return best


def step_seconds(recipe: AnyRecipe, cost: Cost, device: torch.device, precision: str, micro: int) -> tuple[float, str]:
    """(seconds for each image in training, how that is known); a large network is never built."""
    kind = "cpu" if device.type == "cpu" else "cuda"
    if cost.train_flop > SMALL[kind] or cost.parameters > MOST_BUILT:
        rate = matmul_rate(device, precision)
        return (
            cost.train_flop / rate,
            f"estimated at {rate / 1e9:,.0f} GFLOP/s, a matrix product's rate here in {precision}",
        )
    batch = max(1, min(micro, int(PROBE[kind] / cost.train_flop)))
    return measured_seconds(
        recipe, device, precision, batch
    ), f"measured here on steps of {batch} images in {precision}"


def measured_seconds(
    recipe: AnyRecipe, device: torch.device, precision: str, batch: int, patience: float = PATIENCE
) -> float:
    """Seconds for each image of a step of ``batch``: the recipe's own loss, its gradients, and the update.

    Of three steps the fastest counts; of fewer where they have taken ``patience`` seconds.
    """
    model: Any = build(recipe, Evaluation(precision=precision)).to(device).train()
    convert_conv2d_weight_memory_format(model.net, torch.channels_last)  # volumes have no such layout
    for rows in _condition(recipe, batch):
        model = model.condition_on(rows)
    bind = getattr(recipe.objective, "bind", None)
    objective = recipe.objective if bind is None else bind(model, recipe.space)
    adam = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
    x0 = torch.zeros((batch, *recipe.space.model_shape), device=device)
    rng = Rng.of(0, batch, device=device)
    seconds: list[float] = []
    while len(seconds) < 3 and sum(seconds) < patience:
        began = time.perf_counter()
        objective(model, x0, rng).mean().backward()
        adam.step()
        adam.zero_grad(set_to_none=True)
        float(next(model.parameters()).detach().sum())  # waits for the device
        seconds.append(time.perf_counter() - began)
    return min(seconds) / batch


@dataclass(frozen=True)
class TrainingCost:
    """What a training will take; memory and time are of each process.

    Args:
        parameters: of the network.
        device: where it would compute.
        precision: of the network there: "fp32", "bf16" or "fp16".
        images: in a network call.
        memory: bytes by what they are for.
        device_memory: bytes that the device has; None where nobody knows.
        flop: operations of an image, forward and in training; None where they are not counted.
        step: seconds of one.
        seconds: of all steps.
        how: in words, how the time is known.
    """

    parameters: int
    device: str
    precision: str
    images: int
    memory: dict[str, int]
    device_memory: int | None
    flop: tuple[float, float] | None
    step: float
    seconds: float
    how: str

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        names = ("flop_per_image_forward", "flop_per_image_training")
        return {
            "parameters": self.parameters,
            "device": self.device,
            "precision": self.precision,
            "images_per_network_call": self.images,
            "memory_bytes": self.memory,
            "memory_bytes_total": sum(self.memory.values()),
            "device_memory_bytes": self.device_memory,
            **({} if self.flop is None else dict(zip(names, self.flop, strict=True))),
            "seconds_per_step": self.step,
            "seconds": self.seconds,
            "time_is": self.how,
        }


def estimate_cost(recipe: AnyRecipe, device: torch.device, processes: int = 1) -> TrainingCost:
    """What a training of ``recipe`` will take on ``device``.

    Activations and operations are counted for a U-Net, and for what is too large to be built and measured: other losses
    are more than one pass forth and back, so that for them a count is a lower bound.
    """
    settings = recipe.training
    precision = choose_precision(settings.precision, device)
    micro = max(1, settings.batch // settings.accumulate // processes)
    parameters, flop = parameter_count(recipe), None
    memory = {name: size * parameters for name, size in COPIES.items()}
    plain = isinstance(recipe, Recipe) and isinstance(recipe.network, UNetSpec)
    if plain or parameters > MOST_BUILT:
        cost = measure_cost(recipe, device, precision)
        memory["activations"] = round(cost.fixed + micro * cost.saved)
        flop = (cost.flop, cost.train_flop)
        per_image, how = step_seconds(recipe, cost, device, precision, micro)
        how = how if plain else f"at least; {how}"
    else:
        per_image, how = measured_seconds(recipe, device, precision, min(micro, 8)), f"measured here in {precision}"
    step = per_image * settings.batch / processes
    available = device_memory(device)
    seconds = step * settings.steps
    return TrainingCost(parameters, str(device), precision, micro, memory, available, flop, step, seconds, how)


def device_memory(device: torch.device) -> int | None:
    """Bytes of memory of the device, where that can be known."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return machine_memory().get("in all")


def machine_memory() -> dict[str, int]:
    """Bytes of memory of this machine: "in all", and "available" for the taking where the system says so."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        memory = {"in all": page * os.sysconf("SC_PHYS_PAGES")}
        with open("/proc/meminfo", encoding="ascii") as file:
            free = next((line for line in file if line.startswith("MemAvailable:")), None)
    except (OSError, ValueError, AttributeError):
        return {}
    return memory if free is None else {**memory, "available": 1024 * int(free.split()[1])}
