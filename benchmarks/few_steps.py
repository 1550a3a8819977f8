"""How many images a network must see before its samples are nearer to the data than one grey image repeated.

    python benchmarks/few_steps.py fashion=data/fashion-mnist slides=pictures/slides

For each set the recipe of `train --data` is trained for a few numbers of steps, with the learning rate falling over the
last 30% as in a training by the clock; 128 samples are drawn in 20 evaluations, and the Frechet distance in 64 PCA
features of pixels to the held-out images is divided by that of their mean repeated, which is 1.
Behind `diffprob.tasks.own_recipe.LEAST_STEPS`.
"""

import argparse
import json
import sys
import time
from dataclasses import replace

import numpy as np
import torch
from own_pictures import FALL, draw, open_set, trainer_of

from diffprob.evaluation.features import PcaFeatures, extract
from diffprob.evaluation.frechet import Statistics, frechet_distance
from diffprob.tasks.own_recipe import recipe_for
from diffprob.training import loop


def main() -> int:
    """One row a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="NAME=DATA")
    parser.add_argument("--steps", nargs="+", type=int, default=[20, 40, 80, 160])
    parser.add_argument("-n", type=int, default=128, help="samples")
    options = parser.parse_args()
    torch.set_num_threads(1)
    loop.EARLY = ()  # no pictures
    for name, _, text in (item.partition("=") for item in options.sets):
        source, images, held_out = open_set(text)
        parts = [part.take(np.arange(min(len(part), 2000))) for part in (images, held_out)]
        features = PcaFeatures.fit(np.concatenate(parts), levels=images.levels)
        reference = Statistics.of(extract(features, parts[1]))
        variance = float((reference.factor**2).sum())  # the distance of the mean image repeated
        for steps in options.steps:
            recipe = recipe_for(name, source, images)
            settings = replace(recipe.training, steps=steps, cooldown=round(FALL * steps), sample_every=0)
            recipe = replace(recipe, training=replace(settings, checkpoint_every=steps))
            trainer, began = trainer_of(recipe, images), time.process_time()
            trainer.run()
            seconds = time.process_time() - began
            levels = draw(trainer.average.eval(), recipe, options.n, 20)
            distance = frechet_distance(Statistics.of(extract(features, levels)), reference)
            row = {"set": name, "steps": steps, "images": steps * recipe.training.batch, "ratio": distance / variance}
            print(json.dumps(row | {"core_seconds": round(seconds)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
