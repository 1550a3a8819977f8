"""What every verb that trains says of it."""

from collections.abc import Iterator
from typing import Any

from diffprob.base.text import bytes_text
from diffprob.cli.text import table
from diffprob.tasks.progress import duration


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    if result.get("dry_run"):
        yield from table([*result["about"].items(), *cost_rows(result, result["steps"], result["batch"])])
        return
    state = "was finished already" if result["finished_before"] else "finished"
    loss = "" if result["loss"] is None else f", loss {result['loss']:.4g}"
    yield f"{result['run']}: {state} at step {result['step']:,}{loss}"
    yield from table(
        [(name, result[key]) for name, key in (("samples", "samples"), ("loss curve", "loss_curve")) if result[key]]
    )
    if result["finished_before"]:
        yield f"to go on: the same command with --steps above {result['step']:,}"
    if result["denoises"]:
        yield f"to draw from it: diffprob sample {result['run']}"
    elif result["recognises"]:
        yield f"to translate with it: diffprob translate RUN IMAGES --recogniser {result['run']} --out FOLDER"
    else:
        yield f"to compare with it: diffprob detect RUN --outside IMAGES --with {result['run']}"


def _advice(result: dict[str, Any]) -> str:
    """What would help where memory is short: parts of a batch save activations, and nothing else."""
    total, there = result["memory_bytes_total"], result["device_memory_bytes"]
    if not there or total <= there:
        return ""
    more = f"more than the {bytes_text(there)} there are"
    activations, images = result["memory_bytes"].get("activations", 0), result["images_per_network_call"]
    if total - activations > there:
        return f"; weights and optimiser alone are {more}: only a smaller network helps"
    if images > 1 and total - activations + activations / images <= there:
        return f"; {more}: raise training.accumulate"
    return f"; {more} for one image: only a smaller network or image helps"


def cost_rows(result: dict[str, Any], steps: int, batch: int) -> list[tuple[str, str]]:
    """What `diffprob.tasks.cost.TrainingCost.to_json` says, as rows for a table."""
    whole = bytes_text(result["memory_bytes_total"])
    parts = ", ".join(f"{name} {bytes_text(count)}" for name, count in result["memory_bytes"].items())
    operations = []
    if "flop_per_image_forward" in result:
        forward, training = (result[f"flop_per_image_{name}"] / 1e9 for name in ("forward", "training"))
        operations = [("for each image", f"{forward:.3g} GFLOP forward, {training:.3g} in training")]
    return [
        ("parameters", f"{result['parameters']:,}"),
        (
            "memory",
            f"about {whole} and what PyTorch itself takes ({parts}){_advice(result)}",
        ),
        *operations,
        (
            "device",
            f"{result['device']} in {result['precision']}, {result['images_per_network_call']} images per network call",
        ),
        ("a step", f"{result['seconds_per_step']:.3g} s for {batch} images ({result['time_is']})"),
        ("in all", f"about {duration(result['seconds'])} for {steps:,} steps"),
    ]
