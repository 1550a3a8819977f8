"""The CIFAR-10/SVHN experiment, from a diffusers folder to tables: potentials by both methods, Glow, EBM, noise norm.

    python benchmarks/cifar_svhn.py ddpm-cifar10-32 --cifar cifar-10-batches-bin --svhn svhn --out cifar-svhn

The settings are the reported ones: method 1 for 20 epochs on all weights of a network of the teacher's shape; method 2
with BatchNorm and ReLU on the frozen body for 20 epochs of batches of 32 at 1e-4; V_0 at label 0, the noise norm of one
noise at t = 10/1000 (and of eight), 10,000 test images of either set at most. Every stage is a run that resumes: the
same command goes on. ``--steps`` shortens all trainings, to see that it works.
"""

import argparse
import math
from pathlib import Path

from quality import answer

from diffprob.cli.main import main as diffprob

EPOCHS, BATCH, IMAGES = 20, 32, 50_000
REPORTED = {
    "gradient": ("--set", "training.lr=1e-4"),
    "scalar": (
        *("--frozen", "--set", "training.lr=1e-4"),
        *("--set", "network.body.norm=batch", "--set", "network.body.activation=relu"),
    ),
}
GLOW = ("--set", "network.depth=32", "--set", "network.scales=3", "--set", "network.width=512")
EBM = ("--set", "objective.steps=60", "--set", "network.widths=(128,256,256)", "--set", "network.spectral=True")


class Failed(Exception):
    """A stage that ended with another code than 0."""


def stage(*arguments: str) -> None:
    """One command, as it would be typed.

    Raises:
        Failed: it did not end well.
    """
    print("diffprob", *arguments, flush=True)
    code = diffprob(arguments)
    if code:
        raise Failed(f"diffprob {arguments[0]} ended with code {code}")


def main() -> int:
    """Import, distil, train the baselines, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("teacher", help="folder of google/ddpm-cifar10-32, or another in its format")
    parser.add_argument("--cifar", required=True, help="folder of CIFAR-10's binary files")
    parser.add_argument("--svhn", required=True, help="folder with test_32x32.mat")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="of every training, in the place of the reported ones")
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--set", action="append", default=[], dest="sets", help="for every training")
    arguments = parser.parse_args()
    epochs = math.ceil(EPOCHS * IMAGES / BATCH)
    steps, sets = str(arguments.steps or epochs), [word for text in arguments.sets for word in ("--set", text)]
    runs = {name: str(arguments.out / name) for name in ("teacher", *REPORTED, "glow", "ebm")}
    if not Path(runs["teacher"]).exists():
        stage("import", arguments.teacher, "--out", runs["teacher"], "--data", arguments.cifar)
    for method, settings in REPORTED.items():
        common = ("--steps", steps, "--set", f"training.batch={BATCH}", *settings, *sets)
        stage("distill", runs["teacher"], "--method", method, "--out", runs[method], *common)
    for kind, settings in (("glow", GLOW), ("ebm", EBM)):
        count = ("--steps", steps) if arguments.steps else ()
        stage("baseline", kind, arguments.cifar, "--out", runs[kind], *count, *settings, *sets)
    proxies = ("ScoreNorms()", "NoiseNorm(t=0.01, noises=1)", "NoiseNorm(t=0.01, noises=8)")
    asked = [word for proxy in proxies for word in ("--proxy", proxy)]
    others = [runs[name] for name in ("gradient", "scalar", "glow", "ebm")]
    found = ("--outside", arguments.svhn, "-n", str(arguments.n), "--with", *others)
    stage("detect", runs["teacher"], *found, *asked, "--out", str(arguments.out / "detect"))
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(answer(main))
    except Failed as error:
        raise SystemExit(str(error)) from None
