"""How much faster images are drawn in the latents of an autoencoder than on pixels, decoding included.

    python benchmarks/latent_speed.py                 # fashion_latent beside fashion, 50 steps of DDIM
    python benchmarks/latent_speed.py -n 64 --steps 20 --rounds 5   # n a multiple of 16: a call is filled up

Random weights: they decide no speed. Both draw in turns in one process, in seconds of the processor on a CPU, so that
what else the machine does falls on both; the ratio is that of the medians.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

import diffprob as dp
from diffprob.base.rng import Rng
from diffprob.config.recipe import build_autoencoder, build_model
from diffprob.denoise.denoiser import Evaluation
from diffprob.process.grids import Uniform
from diffprob.runs.folder import auto_chunk
from diffprob.sampling.ancestral import DDIM
from diffprob.sampling.simulate import simulate, start


@torch.no_grad()
def seconds(draw: Callable[[], torch.Tensor]) -> float:
    """Of the processor, for one call."""
    began = time.process_time()
    draw()
    return time.process_time() - began


def chain(name: str, n: int, steps: int) -> Callable[[], torch.Tensor]:
    """Draws n images of a recipe's size, with random weights: uint8 (n, C, H, W)."""
    recipe, device = dp.named(name), torch.device("cpu")
    torch.manual_seed(0)
    model = build_model(recipe, Evaluation(auto_chunk(device, recipe.space))).eval().requires_grad_(False)
    if model.condition is not None:
        model = model.condition_on(model.condition.example_rows(n))
    times, pixels = Uniform()(model.process, steps), recipe.space
    autoencoder = None
    if name.endswith("_latent"):
        inner = dp.named(name.replace("_latent", "_autoencoder"))
        chunk = auto_chunk(device, inner.space)
        autoencoder, pixels = build_autoencoder(inner, Evaluation(chunk)).eval().requires_grad_(False), inner.space

    def draw() -> torch.Tensor:
        rng = Rng.of(0, n)
        *_, last = simulate(model, DDIM(), start(model, rng, recipe.space.model_shape), times, rng)
        return pixels.to_data(last.x if autoencoder is None else autoencoder.decode(last.x))

    return draw


def main() -> None:
    """Print seconds an image of both, and their ratio in every round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", default="fashion", help="a recipe on pixels; NAME_latent is that in latents")
    parser.add_argument("-n", type=int, default=32, help="images")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    draws = {name: chain(name, args.n, args.steps) for name in (args.pixels, f"{args.pixels}_latent")}
    for draw in draws.values():
        seconds(draw)  # the first call of a network prepares it
    took = {name: [] for name in draws}
    for _ in range(args.rounds):
        for name, draw in draws.items():
            took[name].append(seconds(draw) / args.n)
    for name, values in took.items():
        print(f"{name:<20} {statistics.median(values):.4f} s an image, {1 / statistics.median(values):.1f} images/s")
    pixels, latent = took.values()
    ratios = sorted(a / b for a, b in zip(pixels, latent, strict=True))
    print(f"ratio {statistics.median(pixels) / statistics.median(latent):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})")


if __name__ == "__main__":
    main()
