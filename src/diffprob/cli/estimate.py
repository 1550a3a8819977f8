"""What a training will cost, without doing it: parameters, memory, operations, time."""

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffprob.cli.progress import duration

if TYPE_CHECKING:
    import torch

    from diffprob.config.recipe import Kind

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


def measure_cost(recipe: "Kind", device: "torch.device", precision: str) -> Cost:
    """Run the network on tensors without memory and count; works for networks of any size."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    kept: dict[Any, tuple[int, Any]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept.setdefault(storage._cdata, (storage.nbytes(), storage))
        return tensor

    with FakeTensorMode(), torch.device(device):
        net = recipe.network.build()
        weights = {parameter.untyped_storage()._cdata for parameter in net.parameters()}
        sizes, counter = [], FlopCounterMode(display=False)
        for batch in (2, 1):
            kept.clear()
            x = torch.empty((batch, *recipe.space.shape)).to(memory_format=torch.channels_last)
            with (
                counter if batch == 1 else nullcontext(),
                torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
                torch.autocast(device.type, dtype=dtype, enabled=dtype is not None),
            ):
                _pass(recipe, net, x)
            sizes.append(sum(size for key, (size, _) in kept.items() if key not in weights))
        count = sum(parameter.numel() for parameter in net.parameters())
    return Cost(count, counter.get_total_flops(), sizes[0] - sizes[1], max(0, 2 * sizes[1] - sizes[0]))


def _told(recipe: "Kind", batch: int) -> "tuple[torch.Tensor, ...]":
    """What the network is told beside x_t and t."""
    condition = getattr(recipe, "condition", None)
    return () if condition is None else (condition.some(batch),)


def _pass(recipe: "Kind", net: Any, x: "torch.Tensor") -> None:
    """One call of the network as training makes it."""
    import torch

    from diffprob.config.recipe import Baseline

    if isinstance(recipe, Baseline):
        net.eval()  # in training Glow looks at the numbers of its first batch, and here there are none
        (net.log_prob if hasattr(net, "log_prob") else net)(x)
    else:
        net(x, torch.empty(len(x)), *_told(recipe, len(x)))


def matmul_rate(device: "torch.device", precision: str) -> float:
    """Operations a second of a large matrix product on this machine, now."""
    import torch

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


def step_seconds(recipe: "Kind", cost: Cost, device: "torch.device", precision: str, micro: int) -> tuple[float, str]:
    """(seconds for each image in training, how that is known); a large network is never built."""
    kind = "cpu" if device.type == "cpu" else "cuda"
    if cost.train_flop > SMALL[kind] or cost.parameters > MOST_BUILT:
        rate = matmul_rate(device, precision)
        return (
            cost.train_flop / rate,
            f"estimated at {rate / 1e9:,.0f} GFLOP/s, a matrix product's rate here in {precision}",
        )
    batch = max(1, min(micro, int(PROBE[kind] / cost.train_flop)))
    return _probe(recipe, device, precision, batch), f"measured here on steps of {batch} images in {precision}"


def _probe(recipe: "Kind", device: "torch.device", precision: str, batch: int) -> float:
    """Seconds for each image of a step of ``batch``: the recipe's own loss, its gradients, and the update."""
    import torch

    from diffprob.base.rng import Rng
    from diffprob.config.recipe import build
    from diffprob.denoise.denoiser import Evaluation

    model: Any = build(recipe, Evaluation(precision=precision)).to(device).train()
    model.net.to(memory_format=torch.channels_last)
    for rows in _told(recipe, batch):
        model = model.given(rows)
    bind = getattr(recipe.objective, "bind", None)
    objective = recipe.objective if bind is None else bind(model, recipe.space)
    adam = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
    x0 = torch.zeros((batch, *recipe.space.shape), device=device)
    rng = Rng.of(0, batch, device=device)
    seconds: list[float] = []
    while len(seconds) < 3 and sum(seconds) < PATIENCE:
        began = time.perf_counter()
        objective(model, x0, rng).mean().backward()
        adam.step()
        adam.zero_grad(set_to_none=True)
        float(next(model.parameters()).detach().sum())  # waits for the device
        seconds.append(time.perf_counter() - began)
    return min(seconds) / batch


def estimate(recipe: "Kind", device: "torch.device", processes: int = 1) -> dict[str, Any]:
    """Everything `train --dry-run` says about cost, as JSON literals; bytes and seconds are for each process.

    Activations and operations are counted for a U-Net, and for what is too large to be built and measured: other losses
    are more than one pass forth and back, so that for them a count is a lower bound.
    """
    from diffprob.config.recipe import Recipe, parameter_count
    from diffprob.net.unet import UNetSpec
    from diffprob.training.optimise import choose_precision

    settings = recipe.training
    precision = choose_precision(settings.precision, device)
    micro = max(1, settings.batch // settings.accumulate // processes)
    memory = {name: size * parameter_count(recipe) for name, size in COPIES.items()}
    operations: dict[str, float] = {}
    plain = isinstance(recipe, Recipe) and isinstance(recipe.network, UNetSpec)
    if plain or parameter_count(recipe) > MOST_BUILT:
        cost = measure_cost(recipe, device, precision)
        memory["activations"] = round(cost.fixed + micro * cost.saved)
        operations = {"flop_per_image_forward": cost.flop, "flop_per_image_training": cost.train_flop}
        per_image, how = step_seconds(recipe, cost, device, precision, micro)
        how = how if plain else f"at least; {how}"
    else:
        per_image, how = _probe(recipe, device, precision, min(micro, 8)), f"measured here in {precision}"
    step = per_image * settings.batch / processes
    return {
        "parameters": parameter_count(recipe),
        "device": str(device),
        "precision": precision,
        "images_per_network_call": micro,
        "memory_bytes": memory,
        "memory_bytes_total": sum(memory.values()),
        "device_memory_bytes": _device_memory(device),
        **operations,
        "seconds_per_step": step,
        "seconds": step * settings.steps,
        "time_is": how,
    }


def _device_memory(device: "torch.device") -> int | None:
    """Bytes of memory of the device, where that can be known."""
    import torch

    from diffprob.cli.doctor import memory

    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return memory().get("in all")


def size(count: float) -> str:
    """Bytes for people: 1.5 GiB."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _advice(result: dict[str, Any]) -> str:
    """What would help where memory is short: parts of a batch save activations, and nothing else."""
    total, there = result["memory_bytes_total"], result["device_memory_bytes"]
    if not there or total <= there:
        return ""
    activations, images = result["memory_bytes"].get("activations", 0), result["images_per_network_call"]
    if total - activations > there:
        return f"; weights and optimiser alone are more than the {size(there)} there are: only a smaller network helps"
    if images > 1 and total - activations + activations / images <= there:
        return f"; more than the {size(there)} there are: raise training.accumulate"
    return f"; more than the {size(there)} there are for one image: only a smaller network or image helps"


def cost_rows(result: dict[str, Any], steps: int, batch: int) -> list[tuple[str, str]]:
    """`estimate`'s result as rows for a table."""
    parts = ", ".join(f"{name} {size(count)}" for name, count in result["memory_bytes"].items())
    operations = []
    if "flop_per_image_forward" in result:
        forward, training = (result[f"flop_per_image_{name}"] / 1e9 for name in ("forward", "training"))
        operations = [("for each image", f"{forward:.3g} GFLOP forward, {training:.3g} in training")]
    return [
        ("parameters", f"{result['parameters']:,}"),
        (
            "memory",
            f"about {size(result['memory_bytes_total'])} and what PyTorch itself takes ({parts}){_advice(result)}",
        ),
        *operations,
        (
            "device",
            f"{result['device']} in {result['precision']}, {result['images_per_network_call']} images per network call",
        ),
        ("a step", f"{result['seconds_per_step']:.3g} s for {batch} images ({result['time_is']})"),
        ("in all", f"about {duration(result['seconds'])} for {steps:,} steps"),
    ]
