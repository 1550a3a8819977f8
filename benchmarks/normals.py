"""Normal numbers: ours beside the first version (tests/truth/normals.py) and torch.randn, interleaved, in one process.

python benchmarks/normals.py --reps 15 --threads 1
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from truth import normals as first_version

import diffprob as dp

SHAPES = ((1, 64), (64, 784), (128, 3072), (1024, 784), (1, 1_000_000))


def compare(n: int, count: int, reps: int, clock: Callable[[], float]) -> dict[str, float]:
    """Nanoseconds a number, medians."""
    rng = dp.Rng.of(0, n)
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "first": lambda: first_version.quantile(first_version.words(rng, (count,))).float(),
        "ours": lambda: rng.normal((count,)),
        "torch": lambda: torch.randn(n, count),
    }
    assert torch.equal(ways["first"](), ways["ours"]())
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(reps):
        for name, way in ways.items():
            began = clock()
            way()
            found[name].append(1e9 * (clock() - began) / (n * count))
    return {name: median(times) for name, times in found.items()}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--reps", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = time.thread_time if args.threads == 1 else time.perf_counter  # others cannot stretch processor time
    print("| samples | numbers each | first version, ns | ours, ns | ratio | torch.randn, ns |\n" + "|---" * 6 + "|")
    for n, count in SHAPES:
        row = compare(n, count, args.reps, clock)
        ratio = row["first"] / row["ours"]
        print(f"| {n:,} | {count:,} | {row['first']:.1f} | {row['ours']:.1f} | {ratio:.2f} | {row['torch']:.1f} |")


if __name__ == "__main__":
    main()
