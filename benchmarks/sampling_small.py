"""What one image costs beside 64, and what the size of a network call costs: evaluations of a run, interleaved.

python benchmarks/sampling_small.py mnist --reps 7
"""

import argparse
import time
from statistics import median

import torch

import diffprob as dp

N = 64


def seconds(model: dp.NetDenoiser, x: torch.Tensor, gradient: bool, threads: int) -> float:
    """One evaluation of the whole batch; processor time on one thread."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    x, began = x.clone().requires_grad_(gradient), clock()
    with torch.set_grad_enabled(gradient):
        mean = model(x, torch.tensor(0.5, dtype=torch.float64)).mean
        if gradient:
            torch.autograd.grad(mean.sum(), x)
    return clock() - began


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--reps", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--chunks", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print("| run | | chunk | 1 image, ms | 64 images, ms | 1 / 64 | 64 images beside chunk 64 |\n" + "|---" * 7 + "|")
    for name in args.runs:
        run = dp.Run.open(name)
        models = {chunk: run.load(chunk=chunk, precision=args.precision) for chunk in args.chunks}
        x = dp.Rng.of(0, N).normal(run.space.shape)
        for gradient in (False, True):
            found: dict[tuple[int, int], list[float]] = {(c, n): [] for c in args.chunks for n in (1, N)}
            for k in range(args.reps + 1):
                for (chunk, n), times in found.items():
                    took = seconds(models[chunk], x[:n], gradient, args.threads)
                    if k:
                        times.append(1000 * took)
            for chunk in args.chunks:
                one, many = median(found[chunk, 1]), median(found[chunk, N])
                beside = many / median(found[max(args.chunks), N])
                what = "with gradient" if gradient else "forward"
                print(f"| {name} | {what} | {chunk} | {one:.1f} | {many:.0f} | {one / many:.3f} | {beside:.2f} |")


if __name__ == "__main__":
    main()
