"""Other toolkits' defaults on one's own pictures, for the same work as a row of ``own_pictures.py``, by the same ruler.

    python benchmarks/own_pictures_peers.py --minutes 10 -n 200 --out rows.jsonl photos=pictures/photos
    python benchmarks/own_pictures.py       --minutes 10 -n 200 --out rows.jsonl --variants before today photos=...

diffusers: ``examples/unconditional_image_generation`` (UNet2DModel of six levels, eps, linear schedule, AdamW at 1e-4
after 500 steps of warm-up, batch 16, flips, averages). lucidrains: ``denoising_diffusion_pytorch`` 2.3 (Unet(64), v,
sigmoid schedule, Adam, rate 1e-4, batch 16, flips, averages of 0.995 every 10 steps), where it can be imported; what
its training loop does is done here, since the loop itself wants torchvision and eight workers. Both train in float32,
as they do by default. Pictures of 28x28, which their networks do not take, are put in the middle of 32x32. Samples are
DDIM's.
"""

import argparse
import json
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from own_pictures import TWO_CORES, judged, known, open_set
from torch import Tensor

BATCH = 16
Draw = Callable[[int], Tensor]
Step = Callable[[Tensor], None]


def diffusers_default(channels: int, size: int, evaluations: int) -> tuple[Step, Draw]:
    """Its training script with every default."""
    import diffusers
    from diffusers.optimization import get_cosine_schedule_with_warmup
    from diffusers.training_utils import EMAModel

    down = ["DownBlock2D"] * 4 + ["AttnDownBlock2D", "DownBlock2D"]
    net = diffusers.UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=2,
        block_out_channels=(128, 128, 256, 256, 512, 512),
        down_block_types=tuple(down),
        up_block_types=tuple(name.replace("Down", "Up") for name in down[::-1]),
    )
    noise = diffusers.DDPMScheduler(1000, beta_schedule="linear", prediction_type="epsilon")
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    rate = get_cosine_schedule_with_warmup(optimiser, 500, 100_000)
    average = EMAModel(net.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)

    def step(x: Tensor) -> None:
        eps, t = torch.randn_like(x), torch.randint(0, 1000, (len(x),))
        loss = F.mse_loss(net(noise.add_noise(x, eps, t), t).sample, eps)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        rate.step()
        optimiser.zero_grad()
        average.step(net.parameters())

    def draw(n: int) -> Tensor:
        average.copy_to(net.parameters())
        pipeline = diffusers.DDIMPipeline(net.eval(), diffusers.DDIMScheduler.from_config(noise.config))
        pipeline.set_progress_bar_config(disable=True)
        drawn = pipeline(batch_size=n, num_inference_steps=evaluations, output_type="np").images
        return torch.from_numpy(drawn).permute(0, 3, 1, 2)

    return step, draw


def lucidrains_default(channels: int, size: int, evaluations: int) -> tuple[Step, Draw]:
    """The network of its README, and its trainer's defaults."""
    vision = types.ModuleType("torchvision")  # only its data set and its trainer use it
    vision.transforms = vision.utils = types.SimpleNamespace()  # pyright: ignore[reportAttributeAccessIssue]
    sys.modules.setdefault("torchvision", vision)
    import denoising_diffusion_pytorch.denoising_diffusion_pytorch as lucid

    model = lucid.GaussianDiffusion(
        lucid.Unet(64, dim_mults=(1, 2, 4, 8), channels=channels), image_size=size, sampling_timesteps=evaluations
    )
    optimiser = lucid.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.99))
    average = lucid.EMA(model, beta=0.995, update_every=10)

    def step(x: Tensor) -> None:
        model((x + 1) / 2).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        average.update()

    def draw(n: int) -> Tensor:
        lucid.tqdm = lambda items, **_: items
        return average.ema_model.eval().sample(batch_size=n)

    return step, draw


PEERS = {"diffusers": diffusers_default, "lucidrains": lucidrains_default}


def measure(name: str, text: str, peer: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train a peer for so much work, draw, and compare."""
    _, images, held_out = open_set(text)
    channels, height, width = images.event_shape
    size = -(-max(height, width) // 32) * 32
    above, left = (size - height) // 2, (size - width) // 2
    torch.manual_seed(options.seed)
    step, draw = PEERS[peer](channels, size, options.evaluations)
    choose = np.random.default_rng(options.seed)

    def batch() -> Tensor:
        x = torch.from_numpy(images.take(choose.integers(0, len(images), BATCH))) / (images.levels - 1) * 2 - 1
        x = F.pad(x, (left, size - width - left, above, size - height - above), value=-1.0)
        return torch.where(torch.rand(BATCH, 1, 1, 1) < 0.5, x.flip(3), x)

    began, steps = time.process_time(), 0
    while time.process_time() - began < 60 * TWO_CORES * options.minutes:
        step(batch())
        steps += 1
    seconds = time.process_time() - began
    with torch.no_grad():
        drawn = torch.cat([draw(min(20, options.n - first)) for first in range(0, options.n, 20)])
    drawn = drawn[:, :, above : above + height, left : left + width].clamp(0, 1) * (images.levels - 1)
    row = {"set": name, "variant": peer, "minutes": options.minutes, "seed": options.seed, "steps": steps}
    return row | {"core_seconds": round(seconds)} | judged(row, drawn.round().byte().numpy(), images, held_out, options)


def main() -> int:
    """Measure what is not measured yet, one row a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="NAME=DATA")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--minutes", type=float, default=10.0, help="of two cores")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-n", type=int, default=200, help="samples")
    parser.add_argument("--evaluations", type=int, default=20, help="of the network, for each sample")
    parser.add_argument("--out", default="own-pictures.jsonl")
    options = parser.parse_args()
    torch.set_num_threads(1)
    out = Path(options.out)
    for peer in options.peers:
        for name, _, text in (item.partition("=") for item in options.sets):
            if (name, peer, options.minutes, options.seed) in set(known(out)):
                continue
            row = measure(name, text, peer, options)
            with out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
