"""Seconds until a folder of pictures is an array: first and second start, one and two processes, beside two peers.

The pictures are CIFAR-10's training images, enlarged and saved as JPEG. Peers: a loop over the files with pillow, and
`datasets`' imagefolder (where it is installed), with the same scaling in its `map`.

python benchmarks/reading.py --cifar data/cifar-10-batches-bin --n 20000
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

import diffprob as dp

SIDE, SIZE = 128, 32  # pixels of the files, and of the images that are read
OURS = "import sys; from diffprob.data.sources import Folder; print(Folder(sys.argv[1], size=32).load().pixels.sum())"
LOOP = """
import sys; from pathlib import Path; import numpy as np; from PIL import Image
files = sorted(Path(sys.argv[1]).rglob("*.jpg"))
def read(file): return np.asarray(Image.open(file).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC))
print(np.stack([read(file) for file in files]).sum())
"""
DATASETS = """
import sys; import numpy as np; from PIL import Image; import datasets
rows = datasets.load_dataset("imagefolder", data_dir=sys.argv[1], split="train")
def scaled(row): return {"image": row["image"].convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)}
rows = rows.map(scaled, num_proc=len(__import__("os").sched_getaffinity(0))).with_format("numpy")
print(sum(int(part["image"].sum()) for part in rows.iter(1000)))
"""


def write(images: dp.Images, folder: Path) -> int:
    """Save enlarged pictures by class; their bytes."""
    names = images.class_names or ("a",)
    labels = np.zeros(len(images), int) if images.labels is None else images.labels
    for k, (pixels, label) in enumerate(zip(images.pixels, labels, strict=True)):
        place = folder / names[label] / f"{k:06}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(pixels.transpose(1, 2, 0)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        picture.save(place, quality=90)
    return sum(file.stat().st_size for file in folder.rglob("*.jpg"))


def seconds(script: str, folder: Path, processes: int, environment: dict[str, str]) -> tuple[float, float]:
    """Until all of several processes that begin at once have read the folder, and seconds of the processor of all."""
    before, began, null = os.times(), time.perf_counter(), subprocess.DEVNULL
    command, env = [sys.executable, "-c", script, str(folder)], {**os.environ, **environment}
    started = [subprocess.Popen(command, env=env, stdout=null, stderr=null) for _ in range(processes)]
    codes = [process.wait() for process in started]
    if any(codes):
        raise SystemExit(f"a process failed: {script}")
    return time.perf_counter() - began, sum(os.times()[2:4]) - sum(before[2:4])


def text(wall: float, processor: float) -> str:
    return f"{wall:.1f} s ({processor:.1f} s)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cifar", required=True)
    parser.add_argument("--n", type=int, default=20000)
    arguments = parser.parse_args()
    images = dp.Subset(dp.Cifar10(arguments.cifar), arguments.n).load()
    ways = {"diffprob": OURS, "pillow, a loop": LOOP}
    if importlib.util.find_spec("datasets"):
        ways["datasets, imagefolder"] = DATASETS
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "pictures"
        sizes = f"{write(images, folder) / 2**20:.0f} MiB, to {SIZE}x{SIZE}; {os.cpu_count()} cores"
        print(f"{len(images):,} JPEG of {SIDE}x{SIDE}, {sizes}, load {os.getloadavg()[0]:.1f}")
        print(f"imports of diffprob alone: {text(*seconds('import diffprob.data.sources', folder, 1, {}))}")
        print("| | processes | first start (of the processors) | second start |\n|---|---|---|---|")
        for name, script in ways.items():
            for processes in (1, 2):
                place = str(Path(temporary) / f"cache-{name.partition(',')[0]}-{processes}")
                environment = {"DIFFPROB_CACHE": place, "HF_DATASETS_CACHE": place, "HF_HOME": place}
                first, second = (text(*seconds(script, folder, processes, environment)) for _ in range(2))
                print(f"| {name} | {processes} | {first} | {second} |", flush=True)


if __name__ == "__main__":
    main()
