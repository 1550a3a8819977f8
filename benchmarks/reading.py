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
OURS = "import sys, diffprob as dp; print(dp.Folder(sys.argv[1], size=32).load().pixels.sum())"
LOOP = """
import sys; from pathlib import Path; import numpy as np; from PIL import Image
files = sorted(Path(sys.argv[1]).rglob("*.jpg"))
print(np.stack([np.asarray(Image.open(f).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)) for f in files]).sum())
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


def seconds(script: str, folder: Path, processes: int, environment: dict[str, str]) -> float:
    """Until all of several processes that begin at once have read the folder."""
    began = time.perf_counter()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(folder)],
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(processes)
    ]
    if any(process.wait() for process in started):
        raise SystemExit(f"a process failed: {script}")
    return time.perf_counter() - began


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
        size = write(images, folder)
        print(
            f"{len(images):,} JPEG of {SIDE}x{SIDE}, {size / 2**20:.0f} MiB, to {SIZE}x{SIZE}; {os.cpu_count()} cores"
        )
        print(f"import of diffprob alone: {seconds('import diffprob.data', folder, 1, {}):.1f} s")
        print("| | processes | first start, s | second start, s |\n|---|---|---|---|")
        for name, script in ways.items():
            for processes in (1, 2):
                place = str(Path(temporary) / f"cache-{name.partition(',')[0]}-{processes}")
                environment = {"DIFFPROB_CACHE": place, "HF_DATASETS_CACHE": place, "HF_HOME": place}
                times = [seconds(script, folder, processes, environment) for _ in range(2)]
                print(f"| {name} | {processes} | {times[0]:.1f} | {times[1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
