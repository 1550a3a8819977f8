"""Seconds of encoding and decoding against bits of a block, steps and image size: docs/results/codec.md.

    python benchmarks/codec_cost.py mnist --data data/mnist --figure docs/images/codec-cost.png

Bits and steps are varied for an image of the run, the network counted; sizes for normal data of independent elements
with their exact model, at 7 times, so that there the coder alone is timed. Seconds are of the
processor, with one thread.
"""

import argparse
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import torch

import diffprob as dp
from diffprob.base.rng import Rng
from diffprob.codec.chain import ChainCode
from diffprob.codec.poisson import PoissonFunctional
from diffprob.conform.references import IsotropicData
from diffprob.likelihood.bound import Decoder
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import Cosine
from diffprob.tasks.images import ImageBatch

BITS, STEPS, SIZES = (4, 6, 8, 10, 12), (5, 10, 20, 40), (8, 16, 28, 32)
SOME = 20  # steps while bits are varied
LEVELS, STD = 33, 0.1  # of the normal data
TIMES, RANGE = 6, (2.0, 6.5)  # log-SNR, from where a step says something to where noise is half of a level


class Row(NamedTuple):
    """A setting, seconds of an image, and its bits a dimension without a header."""

    curve: str
    value: int
    encode: float
    decode: float
    bits: float


def coded(model: dp.Model, images: ImageBatch, coder: PoissonFunctional, steps: int) -> tuple[float, float, float]:
    """Seconds of encoding alone and of decoding, of an image, and bits/dim of its steps and levels."""
    began = time.process_time()
    result = model.encode(images, coder=coder, steps=steps, group=1)
    both = time.process_time() - began
    # The two parts of `encode` as they were on the clock, and all of it on the processor: the rest chooses the times.
    share = result.seconds["encode"] / (result.seconds["encode"] + result.seconds["decode"])
    began = time.process_time()
    model.decode(result.data)
    decoding = time.process_time() - began
    size = result.n * result.dimensions
    return share * both / result.n, decoding / result.n, (result.bits["steps"] + result.bits["levels"]) / size


def of_a_run(model: dp.Model, images: ImageBatch) -> Iterator[Row]:
    coded(model, images, PoissonFunctional(bits=4.0), 2)  # what is made once
    for bits in BITS:
        yield Row("bits of a block", bits, *coded(model, images, PoissonFunctional(bits=float(bits)), SOME))
    for steps in STEPS:
        yield Row("steps", steps, *coded(model, images, PoissonFunctional(), steps))


def of_normal_data(size: int, n: int) -> Row:
    d = size * size
    model = IsotropicData(0.0, STD**2, LinearProcess(Cosine(1000)))
    x0 = (STD * Rng.of(1, n).normal((d,), torch.float64)).clamp(-1, 1)
    x0 = ((x0 + 1) * (LEVELS - 1) / 2).round() * 2 / (LEVELS - 1) - 1
    native = torch.arange(1, 1001, dtype=torch.float64) / 1000
    near = (model.process.logsnr(native)[:, None] - torch.linspace(*RANGE, TIMES).double()).abs().argmin(0)
    times = torch.cat([native[-1:], native[near]])
    code = ChainCode(model, times, Decoder(LEVELS), PoissonFunctional(), Rng.of(0, n).fold("codec"))
    writer, began = code.writer(), time.process_time()
    list(code.encode(x0, writer))
    middle, data = time.process_time(), writer.data()
    *_, last = code.decode(torch.zeros_like(x0), code.reader(data))
    if not torch.equal(last.x, x0):
        raise SystemExit("what was decoded is not what was encoded")
    return Row("side of an image", size, (middle - began) / n, (time.process_time() - middle) / n, writer.bits / n / d)


def draw(rows: list[Row], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    curves = list(dict.fromkeys(row.curve for row in rows))
    for axes, curve in zip(figure.subplots(1, len(curves)), curves, strict=True):
        points = [row for row in rows if row.curve == curve]
        x = [row.value for row in points]
        axes.plot(x, [row.encode for row in points], "o-", label="encode")
        axes.plot(x, [row.decode for row in points], "s--", label="decode")
        axes.set(xlabel=curve, ylabel="seconds of the processor, an image", ylim=(0, None), xticks=x)
        axes.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--data")
    parser.add_argument("-n", type=int, default=2)
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = dp.load(args.run)
    images = model.data(args.data, split="test", n=args.n)
    rows: list[Row] = []
    print("| | | encode, s | decode, s | bits/dim |\n|---|---|---|---|---|")
    for row in chain(of_a_run(model, images), (of_normal_data(size, args.n) for size in SIZES)):
        print(f"| {row.curve} | {row.value} | {row.encode:.2f} | {row.decode:.2f} | {row.bits:.2f} |", flush=True)
        rows.append(row)
    if args.figure:
        draw(rows, args.figure)


if __name__ == "__main__":
    main()
