"""Whether this machine is usable: PyTorch and its build, processor, memory, disk, packages, data. Writes nothing."""

import argparse
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from diffprob.base.errors import InputError
from diffprob.base.text import bytes_text

EXAMPLES = ("diffprob doctor", "diffprob doctor --json")

# package: (module, what it is for)
NEEDED = {
    "numpy": ("numpy", "arrays"),
    "scipy": ("scipy", "SVHN files, metrics"),
    "safetensors": ("safetensors", "weights"),
    "accelerate": ("accelerate", "training"),
    "rich": ("rich", "progress bars"),
    "pillow": ("PIL", "pictures"),
    "matplotlib": ("matplotlib", "loss curves"),
}
OPTIONAL = {
    "diffusers": ("diffusers", "checking an export"),
    "datasets": ("datasets", "--data hf:NAME"),
    "transformers": ("transformers", "pretrained features"),
    "tensorboard": ("tensorboard", "training curves"),
    "POT": ("ot", "exact transport"),
    "scikit-learn": ("sklearn", "tests"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""
    del parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Look at everything.

    Raises:
        InputError: PyTorch is missing or cannot be imported.
    """
    del args
    from diffprob import __version__

    warnings: list[str] = []
    torch = _torch(warnings)  # first: nothing else can be said without it
    from diffprob.tasks.cost import machine_memory

    result = {
        "diffprob": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "torch": torch,
        "memory_bytes": machine_memory(),
        "disk_free_bytes": shutil.disk_usage(".").free,
        "packages": {name: _version(name, module) for name, (module, _) in (NEEDED | OPTIONAL).items()},
        "digits": _digits(warnings),
        "packaged_runs": _packaged(warnings),
        "warnings": warnings,
    }
    missing = [name for name in NEEDED if result["packages"][name] is None]
    if missing:
        warnings.append(
            f"missing: {', '.join(f'{name} ({NEEDED[name][1]})' for name in missing)}: pip install {' '.join(missing)}"
        )
    if find_spec("torchvision"):
        warnings.append(
            "torchvision is installed, which diffprob never uses: of another build than PyTorch it breaks diffusers"
        )
    if result["disk_free_bytes"] < 1 << 30:
        warnings.append("less than 1 GiB of free disk here: checkpoints may not fit")
    return result


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    from diffprob.cli.text import table

    torch, packages = result["torch"], result["packages"]
    gpus = [f"{gpu['name']}, {bytes_text(gpu['memory_bytes'])}" for gpu in torch["gpus"]]
    rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in torch["matmul_gflops"].items())
    yield from table(
        [
            ("diffprob", result["diffprob"]),
            ("python", result["python"]),
            ("system", result["system"]),
            ("pytorch", f"{torch['version']}, {torch['build']} build"),
            ("processor", f"{torch['processor']}, {torch['cores']} cores, {torch['threads']} threads"),
            ("gpu", "; ".join(gpus) or "none that PyTorch can use"),
            ("matrix product", f"{rates} GFLOP/s ({torch['device']}, now)"),
            ("precision", f"auto means {torch['auto_precision']}: {torch['bf16']}"),
            (
                "memory",
                ", ".join(f"{bytes_text(n)} {name}" for name, n in result["memory_bytes"].items()) or "not known",
            ),
            ("disk", f"{bytes_text(result['disk_free_bytes'])} free here"),
            ("packages", ", ".join(f"{name} {packages[name]}" for name in NEEDED if packages[name])),
            ("optional", ", ".join(f"{name} {packages[name] or 'absent'}" for name in OPTIONAL)),
            ("data", result["digits"]),
            ("packaged runs", ", ".join(result["packaged_runs"]) or "none"),
        ]
    )
    yield from (f"warning: {text}" for text in result["warnings"])
    yield "this machine is usable" + (f", with {len(result['warnings'])} warning(s)" if result["warnings"] else "")


def _torch(warnings: list[str]) -> dict[str, Any]:
    try:
        import torch
    except (ImportError, OSError) as error:
        reason = "it is not installed" if find_spec("torch") is None else " ".join(str(error).split())
        raise InputError(f"PyTorch cannot be imported: {reason}; pip install torch, see docs/install.md") from error
    from diffprob.tasks.compute import choose_device
    from diffprob.training.optimise import choose_precision

    cuda, device = torch.cuda.is_available(), choose_device("auto")
    build = (
        f"CUDA {torch.version.cuda}"
        if torch.version.cuda
        else f"ROCm {torch.version.hip}"
        if torch.version.hip
        else "CPU"
    )
    if build == "CPU" and shutil.which("nvidia-smi"):
        warnings.append(
            "there seems to be an NVIDIA GPU, but PyTorch is a CPU build: docs/install.md says how to get the other"
        )
    if build.startswith("CUDA") and not cuda:
        warnings.append(
            "PyTorch is a CUDA build, but finds no usable GPU: is there one, and is its driver recent enough?"
        )
    if torch.backends.mps.is_available():
        warnings.append("Apple's GPU is not used: it has no float64, which times and noise are computed in")
    precision = choose_precision("auto", device)
    rates = {name: round(_rate(device, name) / 1e9, 1) for name in ("fp32", "bf16")}
    return {
        "version": torch.__version__,
        "build": build,
        "device": str(device),
        "gpus": [
            {"name": torch.cuda.get_device_name(k), "memory_bytes": torch.cuda.get_device_properties(k).total_memory}
            for k in range(torch.cuda.device_count() if cuda else 0)
        ],
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "auto_precision": precision,
        "bf16": "bf16 is fast here" if precision == "bf16" else "bf16 is not known to be fast here",
        "matmul_gflops": rates,
    }


def _rate(device: Any, precision: str) -> float:
    """Operations a second of a matrix product, measured for a few tenths of a second at most."""
    import torch

    n = 512 if device.type == "cpu" else 4096
    a = torch.ones((n, n), dtype=torch.bfloat16 if precision == "bf16" else torch.float32, device=device)
    best, began = 0.0, time.perf_counter()
    while time.perf_counter() - began < 0.2:
        start = time.perf_counter()
        product = a @ a
        float(product[0, 0])  # waits for the device
        best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str, module: str) -> str | None:
    """The version of an installed package, found without importing it."""
    if find_spec(module) is None:
        return None
    try:
        return version(package)
    except PackageNotFoundError:
        return "(version not known)"


def _digits(warnings: list[str]) -> str:
    from diffprob.data import Digits

    try:
        images = Digits("all").load()
    except (OSError, ValueError, InputError) as error:
        warnings.append(f"the embedded digits cannot be read: {error}")
        return "digits: damaged"
    return f"digits: {len(images):,} images of 8x8, sha256 {images.digest()[:12]}..."


def _packaged(warnings: list[str]) -> list[str]:
    from diffprob.runs.folder import Run, packaged

    for name in packaged():
        try:
            Run.open(name)
        except InputError as error:
            warnings.append(f"the packaged run {name} is damaged: {error}")
    return packaged()
