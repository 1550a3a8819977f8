"""Whether this machine is usable: PyTorch and its build, processor, memory, disk, packages, data. Writes nothing."""

import os
import platform
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from diffprob.base.errors import InputError

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


@dataclass(frozen=True)
class MachineReport:
    """What is installed, and what may go wrong.

    Args:
        diffprob: its version.
        python: version and place.
        system: name, release and kind of processor.
        torch: version, build, devices, precision and speed of PyTorch.
        memory_bytes: by kind of memory.
        disk_free_bytes: in the current folder.
        packages: version by name, None where one is absent.
        digits: the embedded data, in words.
        packaged_runs: names.
        warnings: what may be wrong, a sentence each.
    """

    diffprob: str
    python: str
    system: str
    torch: dict[str, Any]
    memory_bytes: dict[str, int]
    disk_free_bytes: int
    packages: dict[str, str | None]
    digits: str
    packaged_runs: list[str]
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        return asdict(self)


def examine_machine() -> MachineReport:
    """Look at everything; takes a second or two, most of it the import of PyTorch.

    Raises:
        InputError: PyTorch is missing or cannot be imported.
    """
    from diffprob import __version__

    warnings: list[str] = []
    torch = _torch(warnings)  # first: nothing else can be said without it
    from diffprob.tasks.cost import machine_memory

    packages = {name: _version(name, module) for name, (module, _) in (NEEDED | OPTIONAL).items()}
    report = MachineReport(
        diffprob=__version__,
        python=f"{platform.python_version()} ({sys.executable})",
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        torch=torch,
        memory_bytes=machine_memory(),
        disk_free_bytes=shutil.disk_usage(".").free,
        packages=packages,
        digits=_digits(warnings),
        packaged_runs=_packaged(warnings),
        warnings=warnings,
    )
    if missing := [name for name in NEEDED if packages[name] is None]:
        uses = ", ".join(f"{name} ({NEEDED[name][1]})" for name in missing)
        warnings.append(f"missing: {uses}: pip install {' '.join(missing)}")
    if find_spec("torchvision"):
        warnings.append(
            "torchvision is installed, which diffprob never uses: of another build than PyTorch it breaks diffusers"
        )
    if report.disk_free_bytes < 1 << 30:
        warnings.append("less than 1 GiB of free disk here: checkpoints may not fit")
    return report


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
