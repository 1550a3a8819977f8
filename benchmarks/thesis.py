"""The two experiments of a thesis, measured: train with the weights of every epoch kept, measure these, draw.

    python benchmarks/thesis.py mnist train --data data/mnist --out runs/thesis-mnist
    python benchmarks/thesis.py mnist measure --out runs/thesis-mnist
    python benchmarks/thesis.py mnist last --out runs/thesis-mnist
    python benchmarks/thesis.py mnist draw --out runs/thesis-mnist --figures docs/results

``cifar10`` in the place of ``mnist`` is the other experiment. ``--images``, ``--features``, ``--epochs``, ``--lr`` and
``--label`` (one class alone) make them smaller. Every step goes on where it was stopped; measurements are the lines of
``OUT/measured.jsonl``, and ``draw`` needs nothing else but ``OUT``. The settings without these options are the
thesis's; they want a GPU.
"""

import argparse
import json
from pathlib import Path

import thesis_draw
import thesis_measure
from quality import answer
from thesis_measure import RUN
from thesis_train import train

from diffprob.config.recipe import Recipe
from diffprob.recipes.thesis import thesis_cifar10, thesis_mnist
from diffprob.runs.folder import Run


def main() -> int:
    """Do one step."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("experiment", choices=("mnist", "cifar10"))
    parser.add_argument("step", choices=("train", "measure", "last", "draw"))
    parser.add_argument("--out", type=Path, required=True, help="folder of the run, the weights and the measurements")
    parser.add_argument("--data", help="where the data lies, for train")
    parser.add_argument("--images", type=int, help="train on the first N images")
    parser.add_argument("--features", type=int, help="channels of the network")
    parser.add_argument("--label", type=int, help="cifar10: train on this class alone")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, help="mnist: learning rate at first")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", help="of measuring: fp32 or bf16")
    parser.add_argument("-n", type=int, default=300, help="samples for each number")
    parser.add_argument("--evaluations", type=int, default=15, help="of the network for each sample, in measure")
    parser.add_argument("--steps", type=int, help="of the ancestral chain in last; all of the schedule's unless told")
    parser.add_argument("--every", type=int, default=1, help="measure every so many epochs, and the last")
    parser.add_argument("--figures", type=Path, default=Path(), help="folder for what draw draws")
    parser.add_argument("--name", default="thesis", help="how the names of the figures begin")
    arguments = parser.parse_args()
    if arguments.step == "train":
        train(recipe(arguments), arguments.out, arguments.device)
        return 0
    if arguments.step == "draw":
        thesis_draw.draw(arguments.out, arguments.figures, arguments.name)
        return 0
    found = Run.open(arguments.out / RUN, verify=False).recipe
    settings = thesis_measure.Settings(
        arguments.n, arguments.evaluations, arguments.steps, arguments.precision, arguments.device
    )
    if arguments.step == "measure":
        thesis_measure.epochs(found, arguments.out, settings, arguments.every)
    else:
        print(json.dumps(thesis_measure.last(found, arguments.out, settings), indent=1))
    return 0


def recipe(arguments: argparse.Namespace) -> Recipe:
    """The recipe that the options ask for."""
    given = {name: getattr(arguments, name) for name in ("features", "images") if getattr(arguments, name)}
    if arguments.experiment == "mnist":
        given |= {} if arguments.lr is None else {"lr": arguments.lr}
        return thesis_mnist(arguments.data, epochs=arguments.epochs, **given)
    return thesis_cifar10(arguments.data, label=arguments.label, epochs=arguments.epochs, **given)


if __name__ == "__main__":
    raise SystemExit(answer(main))
