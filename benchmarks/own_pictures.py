"""What the recipe for one's own pictures should be: variants trained for equal work, compared with held-out images.

    python benchmarks/own_pictures.py --minutes 2 --out rows.jsonl \
        slides=pictures/slides fashion=data/fashion-mnist \
        "cats=Subset(Cifar10('data/cifar-10-batches-bin'), label='cat')"

A set is a place as for `diffprob train --data` (pictures are read in 32x32), or a source as in a recipe. Work counts
in seconds of one core, so that it hardly matters what else the machine does: a minute of two cores is 102 of them. A
row that is in the file already is not measured again. Grids of samples lie beside the rows.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffprob.base.errors import Missing
from diffprob.base.rng import Rng
from diffprob.config.recipe import Recipe, build
from diffprob.config.registry import ALL
from diffprob.config.spec import parse
from diffprob.data import Images, open_data, split_of
from diffprob.data.augment import HorizontalFlip
from diffprob.data.check import network_levels
from diffprob.data.combined import held_out_source
from diffprob.data.kinds import Folder
from diffprob.data.train_test_split import TrainTestSplit
from diffprob.denoise.clipping import Clip
from diffprob.evaluation.features import PcaFeatures, extract
from diffprob.evaluation.frechet import Statistics, frechet_distance
from diffprob.reporting.artifacts import grid_png
from diffprob.sampling.defaults import default
from diffprob.sampling.simulate import simulate, start
from diffprob.tasks.own_recipe import recipe_for
from diffprob.tasks.training import set_fields
from diffprob.training import loop
from diffprob.training.loop import Trainer, make_accelerator

SIDE = 32  # of pictures of several sizes
TWO_CORES = 1.7  # seconds of one core that a second of two is worth
FALL = 0.3
WHOLE: dict[str, Any] = {  # all pixels at the first level, not patches of them
    "network.patch_size": 1,
    "network.widths": (32, 64, 64),
    "network.attention": (False, True, False),
}
VARIANTS: dict[str, dict[str, Any]] = {  # fields of the recipe that differ from today's, and the share of the fall
    "today": {},
    "before": {
        "process": "LinearProcess()",
        "prediction": "Epsilon()",
        "network.patch_size": 1,
        "network.widths": (32, 64, 64, 64),
        "network.attention": (False, True, False, False),
        "training.batch": 64,
        "training.lr": 5e-4,
        "training.warmup": 500,
        "training.ema": 0.9995,
    },
    "eps": {"prediction": "Epsilon()"},
    "linear": {"process": "LinearProcess()"},
    "batch 16": {"training.batch": 16},
    "batch 64": {"training.batch": 64},
    "rate x2": {"training.lr": 2e-3},
    "rate /2": {"training.lr": 5e-4},
    "batch 16 rate /2": {"training.batch": 16, "training.lr": 5e-4},
    "no patches": WHOLE,
    "no patches batch 16": WHOLE | {"training.batch": 16},
    "widths 48 64": {"network.widths": (48, 64)},
    "widths 64 128": {"network.widths": (64, 128)},
    "widths 96 128": {"network.widths": (96, 128)},
    "attention": {"network.attention": (True, True)},
    "layers 2": {"network.layers": 2},
    "betas": {"training.betas": (0.9, 0.99)},
    "fall": {"fall": 0.8},
    "flips": {"training.augment": (HorizontalFlip(),)},
}


class Memory:
    """A store that keeps nothing."""

    def save(self, snapshot: Any) -> None:
        """Nothing."""

    def load(self) -> None:
        """Nothing was kept."""

    def append(self, record: dict[str, Any]) -> None:
        """Nothing."""

    def keep_best(self, *_: Any) -> None:
        """Nothing."""

    def sample_path(self, step: int) -> Path:
        """Nowhere."""
        raise AssertionError(step)


def open_set(text: str) -> tuple[Any, Images, Images]:
    """A source, its training images and its held-out ones."""
    source: Any = parse(text, ALL) if "(" in text else open_data(text)
    if isinstance(source, Folder) and source.size is None:
        source = replace(source, size=SIDE)
    images = source.load()
    try:
        return source, images, held_out_source(source).load()
    except Missing:
        split: TrainTestSplit = split_of(source, images)
        return split, split.part(images), replace(split, split="test").part(images)


def trainer_of(recipe: Recipe, images: Images) -> Trainer:
    """A trainer without a folder."""
    torch.manual_seed(recipe.training.seed)
    model = build(recipe)
    return Trainer(model, recipe.objective, images, recipe.space, recipe.training, Memory(), make_accelerator("cpu"))


def steps_for(recipe: Recipe, images: Images, seconds: float) -> int:
    """Steps that so much work of one core makes."""
    trainer = trainer_of(recipe, images)
    trainer.advance()
    began, steps = time.process_time(), 0
    while steps < 5 or time.process_time() - began < 2:
        trainer.advance()
        steps += 1
    return max(20, int(seconds * steps / (time.process_time() - began)))


def draw(model: Any, recipe: Recipe, n: int, evaluations: int) -> np.ndarray:
    """Samples by the default sampler, uint8 (n, C, H, W)."""
    sampler, grid = default(evaluations, recipe.process, recipe.space.shape)
    parts: list[np.ndarray] = []
    for first in range(0, n, 50):
        rng = Rng.of(first, min(50, n - first))
        noise, times = start(model, rng, recipe.space.shape), grid(recipe.process, evaluations)
        *_, state = simulate(Clip(model), sampler, noise, times, rng)
        parts.append(recipe.space.to_data(state.x).numpy())
    return np.concatenate(parts)


def measure(name: str, text: str, variant: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train one variant on one set, and compare."""
    source, images, held_out = open_set(text)
    changes = {"training.seed": options.seed, **VARIANTS[variant]}
    fall = changes.pop("fall", FALL)
    if variant == "before":  # four levels where the sides are divisible by 8, as the default was
        levels = min(4, network_levels(*images.event_shape[1:]))
        changes |= {key: changes[key][:levels] for key in ("network.widths", "network.attention")}
    recipe = set_fields(recipe_for(name, source, images), changes)
    steps = steps_for(recipe, images, 60 * TWO_CORES * options.minutes)
    cooldown = 0 if variant == "before" else round(fall * steps)
    settings = replace(recipe.training, steps=steps, cooldown=cooldown, sample_every=0, checkpoint_every=steps)
    recipe = replace(recipe, training=settings)
    trainer = trainer_of(recipe, images)
    began = time.process_time()
    trainer.run()
    seconds = time.process_time() - began
    levels = draw(trainer.average.eval(), recipe, options.n, options.evaluations)
    row = {"set": name, "variant": variant, "minutes": options.minutes, "seed": options.seed, "steps": steps}
    return row | {"core_seconds": round(seconds)} | judged(row, levels, images, held_out, options)


def judged(
    row: dict[str, Any], levels: np.ndarray, images: Images, held_out: Images, options: argparse.Namespace
) -> dict[str, float]:
    """Frechet distances of samples, and of as many training images, to the held-out ones; a grid beside the rows."""
    several = np.concatenate([part.take(np.arange(min(len(part), 5000))) for part in (images, held_out)])
    features = PcaFeatures.fit(several, levels=images.levels)
    reference = Statistics.of(extract(features, held_out))
    own = images.take(np.random.default_rng(0).permutation(len(images))[: options.n])
    name = "-".join(f"{row[field]}" for field in ("set", "variant", "minutes", "seed")).replace(" ", "_")
    grid = Path(options.out).with_suffix("") / f"{name}.png"
    grid.parent.mkdir(parents=True, exist_ok=True)
    grid.write_bytes(grid_png(levels[:64], images.levels, {"set": row["set"], "variant": row["variant"]}))
    drawn, own = extract(features, levels), extract(features, own)
    sizes = [size for size in (100, 200, 400, 800, 1600) if size <= min(len(drawn), len(own))]
    of_size = {
        f"{name}_of_{size}": frechet_distance(Statistics.of(several[:size]), reference)
        for size in sizes
        for name, several in (("frechet", drawn), ("training", own))
    }
    return of_size | {
        "frechet": frechet_distance(Statistics.of(drawn), reference),
        "frechet_of_training_images": frechet_distance(Statistics.of(own), reference),
    }


def known(path: Path) -> Iterator[tuple[Any, ...]]:
    """What was measured before."""
    for line in path.read_text().splitlines() if path.exists() else ():
        row = json.loads(line)
        yield tuple(row[field] for field in ("set", "variant", "minutes", "seed"))


def main() -> int:
    """Measure what is not measured yet, one row a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="NAME=DATA")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=["before", "today"])
    parser.add_argument("--minutes", type=float, default=5.0, help="of two cores")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-n", type=int, default=400, help="samples")
    parser.add_argument("--evaluations", type=int, default=20, help="of the network, for each sample")
    parser.add_argument("--out", default="own-pictures.jsonl")
    options = parser.parse_args()
    torch.set_num_threads(1)
    loop.EARLY = ()  # no pictures
    out = Path(options.out)
    for variant in options.variants:
        for name, _, text in (item.partition("=") for item in options.sets):
            if (name, variant, options.minutes, options.seed) in set(known(out)):
                continue
            row = measure(name, text, variant, options)
            with out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
