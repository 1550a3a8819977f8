"""Results as lines of text."""

from collections.abc import Iterator, Sequence
from typing import Any

from diffprob.base.text import bytes_text
from diffprob.tasks.progress import duration


def table(rows: Sequence[Sequence[Any]], head: Sequence[str] = ()) -> Iterator[str]:
    """Lines of a table with aligned columns."""
    cells = [[str(cell) for cell in row] for row in ([head, *rows] if head else rows)]
    if not cells:
        return
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def images_measured(result: dict[str, Any]) -> str:
    """Which images, under which run, in words."""
    how = f", {result['converted']}" if result["converted"] else ""
    many = f"{result['n']:,} image{'s' if result['n'] > 1 else ''}"
    return f"{many} of {result['data']} ({result['role']}{how}) under {result['run']}"


def how(result: dict[str, Any]) -> Iterator[str]:
    """What decided the images, and where it was computed."""
    clip = {True: "clipped", False: "not clipped"}.get(result["clip"], f"clipped ({result['clip']})")
    steps = "steps by tolerance" if result["steps"] is None else f"{result['steps']} steps"
    if result["told"] is not None:
        guided = "" if result["guidance"] is None else f", guided by {result['guidance']}"
        yield f"told: {result['told']}{guided}"
    decided = (result["sampler"], f"{steps} on {result['grid']}", result["variance"], clip)
    yield ", ".join(part for part in decided if part != "None")
    where = f"{result['device']} in {result['precision']}, chunks of {result['chunk']}"
    if result["network_calls"] is None:
        yield f"on {where}: as many network calls as the tolerances need"
    else:
        counted = result["steps"] is None and isinstance(result["evaluations"], float)
        mean = f" ({result['evaluations']:g} evaluations an image)" if counted else ""
        yield f"on {where}: {result['network_calls']:,} network calls{mean}"


def format_training(result: dict[str, Any]) -> Iterator[str]:
    """What every verb that trains says of the result, or, in a dry run, of what it would take."""
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
    yield from result.get("first_report", {}).get("lines", ())
    if result["denoises"]:
        yield f"to draw from it: diffprob sample {result['run']}"
    elif "reconstruction" in result:
        yield result["reconstruction"]["line"]
    elif result["recognises"]:
        yield f"to translate with it: diffprob translate RUN IMAGES --classifier {result['run']} --out FOLDER"
    else:
        yield f"to compare with it: diffprob detect RUN --outside IMAGES --with {result['run']}"


def _advice(result: dict[str, Any]) -> str:
    """What would help where memory is short: parts of a batch save activations, and nothing else."""
    total, available = result["memory_bytes_total"], result["device_memory_bytes"]
    if not available or total <= available:
        return ""
    more = f"more than the {bytes_text(available)} there are"
    activations, images = result["memory_bytes"].get("activations", 0), result["images_per_network_call"]
    if total - activations > available:
        return f"; weights and optimiser alone are {more}: only a smaller network helps"
    if images > 1 and total - activations + activations / images <= available:
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
