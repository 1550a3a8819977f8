"""The CIFAR-10/SVHN experiment, from a diffusers folder to tables: potentials by both methods, Glow, EBM, noise norm.

    python benchmarks/cifar_svhn.py ddpm-cifar10-32 --cifar cifar-10-batches-bin --svhn svhn --out cifar-svhn

The settings are the reported ones: method 1 for 20 epochs on all weights of a network of the teacher's shape; method 2
with BatchNorm and ReLU on the frozen body for 20 epochs of batches of 32 at 1e-4; V_0 at label 0, the noise norm of one
noise at t = 10/1000 (and of eight), 10,000 test images of either set at most. Every stage is a run that resumes: the
same command goes on. ``--steps`` shortens all trainings, to see that it works.
"""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quality import answer

from diffprob.data import open_data
from diffprob.density.noise import NoiseNorm
from diffprob.density.path import ScoreNorms
from diffprob.runs.folder import Run
from diffprob.tasks.baselines import BaselineRequest, train_baseline
from diffprob.tasks.detection import DetectionRequest, detect
from diffprob.tasks.detection_files import save_detection
from diffprob.tasks.distillation import DistillRequest, distill
from diffprob.tasks.exchange import ImportRequest, import_run

EPOCHS, BATCH, IMAGES = 20, 32, 50_000
REPORTED: dict[str, tuple[bool, dict[str, Any]]] = {  # whether the body is frozen, and fields of the recipe
    "gradient": (False, {"training.lr": 1e-4}),
    "scalar": (True, {"training.lr": 1e-4, "network.body.norm": "batch", "network.body.activation": "relu"}),
}
GLOW: Mapping[str, Any] = {"network.depth": 32, "network.scales": 3, "network.width": 512}
EBM: Mapping[str, Any] = {"objective.steps": 60, "network.widths": (128, 256, 256), "network.spectral": True}
PROXIES = (ScoreNorms(), NoiseNorm(t=0.01, noises=1), NoiseNorm(t=0.01, noises=8))


def main() -> int:
    """Import, distil, train the baselines, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("teacher", help="folder of google/ddpm-cifar10-32, or another in its format")
    parser.add_argument("--cifar", required=True, help="folder of CIFAR-10's binary files")
    parser.add_argument("--svhn", required=True, help="folder with test_32x32.mat")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="of every training, in the place of the reported ones")
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--set", action="append", default=[], dest="sets", help="for every training: FIELD=VALUE")
    arguments = parser.parse_args()
    out, steps = arguments.out, arguments.steps
    shared: dict[str, Any] = dict(text.split("=", 1) for text in arguments.sets)
    if not (out / "teacher").exists():
        import_run(ImportRequest(folder=arguments.teacher, out=str(out / "teacher"), data=open_data(arguments.cifar)))
    teacher = Run.open(out / "teacher")
    for method, (frozen, fields) in REPORTED.items():
        overrides = {"training.batch": BATCH, **fields, **shared}
        count = steps or math.ceil(EPOCHS * IMAGES / BATCH)
        made = DistillRequest(method=method, frozen=frozen, out=out / method, steps=count, overrides=overrides)
        print(distill(teacher, made), flush=True)
    for kind, fields in (("glow", GLOW), ("ebm", EBM)):
        overrides = {**fields, **shared}
        made = BaselineRequest(kind=kind, data=arguments.cifar, out=out / kind, steps=steps, overrides=overrides)
        print(train_baseline(made), flush=True)
    others = tuple(str(out / name) for name in (*REPORTED, "glow", "ebm"))
    request = DetectionRequest(outside=(arguments.svhn,), n=arguments.n, others=others, proxies=PROXIES)
    result = detect(teacher, request)
    print(result, flush=True)
    save_detection(out / "detect", result, teacher.space.levels)
    result.fits.keep(teacher)
    return 0


if __name__ == "__main__":
    raise SystemExit(answer(main))
