"""Does the memorisation ratio catch a model that repeats its training images, and let an honest one pass?

    python benchmarks/quality_memorisation.py --out memorisation.json

The digits recipe is trained twice for the same number of steps: on 50 digits, until it repeats them, and on 1,437.
Samples of both are compared with their training images and with 360 held-out ones. The criterion: the verdict is
"memorises" for the first model and not for the second.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from quality import answer, finish

from diffprob.base.rng import Rng, permutation
from diffprob.data.sources import Array, Digits
from diffprob.evaluation.memorisation import memorisation
from diffprob.process.grids import Uniform
from diffprob.recipes.digits import digits
from diffprob.reporting.figures import save_grid
from diffprob.runs.folder import Run
from diffprob.sampling.ancestral import DDIM
from diffprob.space.pixels import Pixels
from diffprob.tasks.drawing import draw, make_times
from diffprob.tasks.training import TrainRequest, train


def main() -> int:
    """Train both, draw, compare, and say whether the criterion is met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--few", type=int, default=50)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("-n", type=int, default=500, help="samples")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=Path, help="keep the runs in this folder")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--picture", type=Path, help="samples of the memorising model beside its training images")
    arguments = parser.parse_args()
    folder = arguments.runs or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    everyone, held = Digits("train").load(), Digits("test").load()
    rows, verdicts = [], {}
    for count in (arguments.few, len(everyone)):
        chosen = np.sort(permutation(0, 0, len(everyone))[:count])
        images = everyone.take(chosen) * 15  # 17 levels as 256: what an .npz has
        np.savez(folder / f"{count}.npz", x_train=images)
        recipe = digits()
        training = replace(recipe.training, steps=arguments.steps, sample_every=0, checkpoint_every=500)
        source = Array(str(folder / f"{count}.npz"))
        recipe = replace(recipe, name=f"of-{count}", data=source, space=Pixels((1, 8, 8)), training=training)
        train(TrainRequest(recipe=recipe, out=folder / f"of-{count}", device=arguments.device))
        run = Run.open(folder / f"of-{count}")
        model = run.load(arguments.device)
        times = make_times(Uniform(), model.process, 50)
        samples = draw(model, DDIM(), times, Rng.of(0, arguments.n), run.space).levels
        found = memorisation(samples, images, held.take(np.arange(len(held))) * 15)
        verdicts[count] = found.details["verdict"]
        rows.append(
            {"training images": count, "steps": arguments.steps, "n": arguments.n, "ratio": found.value}
            | {"low": found.low, "high": found.high}
            | {name: found.details[name] for name in ("share", "z", "copied", "verdict")}
        )
        if arguments.picture and count == arguments.few:
            save_grid(np.concatenate([samples[:50], images[:50]]), arguments.picture, columns=10)
    passed = verdicts[arguments.few] == "memorises" and verdicts[len(everyone)] != "memorises"
    return finish(rows, passed, {"n": arguments.n}, arguments.out)


if __name__ == "__main__":
    raise SystemExit(answer(main))
