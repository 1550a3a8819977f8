"""Bits per dimension of classical models and of image files, to judge a diffusion model's by.

    python benchmarks/likelihood_baselines.py mnist --data data/mnist --out baselines.json
    python benchmarks/likelihood_baselines.py digits

On the n test images that `diffprob likelihood -n` takes too (mnist: 1000, digits: all 360). Two kinds of numbers:

- code: the length of a code for the grey levels themselves. "histogram" is a categorical law for every pixel from the
  counts of the training images plus one (Laplace); "PNG" and "WebP" are the sizes of lossless files, each image its
  own (PNG optimised, WebP with its best effort), with all of the file, and beside it without the container's fixed
  frame. Digits are stored as 8-bit grey with the values 0..16; WebP has no grey mode and stores three equal channels.
- bound: a density p of dequantised images, E[-log2 p(x + u)] with u uniform on a bin, centred, the mean of five draws;
  "tight" is the bound with 16 importance samples. "gaussian" has the mean and covariance of all training images, and
  of the noise (w^2/12 on the diagonal). "mixture" has ten components, fitted by scikit-learn to ``--fit`` dequantised
  images. A part of the training images chooses what is added to the diagonals, and for the mixture the type of its
  covariances and their shrinkage to their mean.
"""

import argparse
import io
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from quality import answer, finish
from torch import Tensor

from diffprob.base.rng import Rng, derive, permutation
from diffprob.data.images import Images
from diffprob.data.sources import Digits, Idx
from diffprob.density.histogram import PixelHistogram
from diffprob.recipes import data_path
from diffprob.space.dequantise import Dequantisation, dequantised
from diffprob.space.pixels import Pixels

COMPONENTS = 10
JITTER = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # added to the diagonal, in variances of the noise in a bin
SHRINK = (0.0, 0.1, 0.3, 0.5, 0.7)
PNG_FRAME, WEBP_FRAME = 57, 20  # signature, IHDR, IEND and the frame of one IDAT; RIFF and one chunk's head


@dataclass(frozen=True, eq=False)
class Normals:
    """sum_k w_k N(m_k, C_k): weights (K,), means (K, d), covariances (K, d, d)."""

    weights: Tensor
    means: Tensor
    covs: Tensor

    def regular(self, jitter: float, shrink: float) -> "Normals":
        """Covariances moved to their mean by a share, with ``jitter`` on the diagonal."""
        pooled = torch.einsum("k,kij->ij", self.weights, self.covs)
        covs = torch.lerp(self.covs, pooled.expand_as(self.covs), shrink)
        return Normals(self.weights, self.means, covs + jitter * torch.eye(covs.shape[-1], dtype=covs.dtype))

    def density(self) -> Callable[[Tensor, Rng], Tensor]:
        """log p of points (B, C, H, W), nats; factors are computed once."""
        factors = [torch.linalg.cholesky(cov) for cov in self.covs]

        def log_prob(x: Tensor, _: Rng) -> Tensor:
            flat, logs = x.flatten(1), []
            for weight, mean, factor in zip(self.weights, self.means, factors, strict=True):
                z = torch.linalg.solve_triangular(factor, (flat - mean).T, upper=False)
                volume = factor.diagonal().log().sum() + 0.5 * len(mean) * math.log(2 * math.pi)
                logs.append(weight.log() - 0.5 * z.square().sum(0) - volume)
            return torch.logsumexp(torch.stack(logs), 0)

        return log_prob


def noisy(space: Pixels, levels: np.ndarray, seed: int) -> Tensor:
    """Dequantised images, float64 (n, d), a thousand at a time."""
    parts = []
    for first in range(0, len(levels), 1000):
        some = torch.from_numpy(np.ascontiguousarray(levels[first : first + 1000]))
        parts.append(dequantised(space, some, Rng.of(seed, len(some), first).fold("fit")).flatten(1))
    return torch.cat(parts)


def moments(space: Pixels, levels: np.ndarray) -> Normals:
    """Mean and covariance of dequantised images, the noise in expectation."""
    total, square = torch.zeros(space.dimensions, dtype=torch.float64), 0.0
    for first in range(0, len(levels), 5000):
        x = space.to_model(torch.from_numpy(levels[first : first + 5000]), torch.float64).flatten(1)
        total, square = total + x.sum(0), square + x.T @ x
    mean = total / len(levels)
    noise = space.bin_width**2 / 12 * torch.eye(space.dimensions, dtype=torch.float64)
    cov = square / len(levels) - mean[:, None] * mean + noise
    return Normals(torch.ones(1, dtype=torch.float64), mean[None], cov[None])


def mixtures(x: Tensor, floor: float, iterations: int) -> Iterator[tuple[str, Normals]]:
    """Mixtures by scikit-learn, one for each type of covariance."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    d = x.shape[1]
    for kind in ("diag", "tied", "full"):
        began = time.perf_counter()
        found = GaussianMixture(COMPONENTS, covariance_type=kind, reg_covar=floor, max_iter=iterations, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the held-out images judge where it stops
            found.fit(x.numpy())
        covs = torch.as_tensor(found.covariances_, dtype=torch.float64)
        if kind == "diag":
            covs = torch.diag_embed(covs)
        taken = f"{found.n_iter_} iterations, {time.perf_counter() - began:.0f} s"
        print(f"mixture, {kind} covariances: {taken}", file=sys.stderr)
        weights, means = (torch.as_tensor(part, dtype=torch.float64) for part in (found.weights_, found.means_))
        yield kind, Normals(weights, means, covs.expand(COMPONENTS, d, d))


def regularised(model: Normals, space: Pixels, held_out: np.ndarray) -> tuple[float, float, float]:
    """(bits/dim of the held-out images, jitter, shrinkage) of the best pair."""
    points, unit = noisy(space, held_out, 1), space.bin_width**2 / 12
    shrinks, rng = SHRINK if len(model.weights) > 1 else (0.0,), Rng.of(0, len(held_out))
    found = []
    for jitter, shrink in product(JITTER, shrinks):
        log_prob = model.regular(jitter * unit, shrink).density()(points, rng)
        found.append((float(space.bits_per_dim(-log_prob).mean()), jitter, shrink))
    return min(found)


def bounds(model: Normals, space: Pixels, levels: np.ndarray) -> dict[str, float]:
    """Mean and standard error over images of both bounds, bits/dim."""
    density, k, rng = model.density(), torch.from_numpy(np.ascontiguousarray(levels)), Rng.of(7, len(levels))
    plain, tight = (
        space.bits_per_dim(-how.log_prob(density, space, k, rng)) for how in (Dequantisation(5), Dequantisation(1, 16))
    )
    return {"bits/dim": float(plain.mean()), "error": error(plain), "tight": float(tight.mean())}


def error(values: Tensor) -> float:
    """The standard error of the mean over images."""
    return float(values.std() / len(values) ** 0.5)


def file_sizes(test: np.ndarray, how: str) -> Tensor:
    """Bytes of the lossless file of every image, (n,)."""
    options: dict[str, Any] = {"optimize": True} if how == "PNG" else {"lossless": True, "quality": 100, "method": 6}
    sizes = []
    for pixels in test:
        stored, picture = io.BytesIO(), Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        picture.save(stored, how, **options)
        sizes.append(stored.tell())
    return torch.tensor(sizes, dtype=torch.float64)


def load(arguments: argparse.Namespace) -> tuple[Images, Images, int]:
    """Training and test images, and how many of the latter are asked for."""
    if arguments.which == "digits":
        return Digits("train").load(), Digits("test").load(), 360
    folder = arguments.data or data_path("mnist")
    return Idx(folder, "train").load(), Idx(folder, "test").load(), 1000


def rows_of(train: np.ndarray, test: np.ndarray, space: Pixels, fit: int, iterations: int) -> list[dict[str, object]]:
    """The table."""
    d, order = space.dimensions, permutation(0, 0, len(train))
    aside = min(1000, len(train) // 5)
    held_out, rest = train[order[:aside]], train[order[aside:]]
    code = torch.from_numpy(PixelHistogram.fit(train, space.levels).bits_per_dim(test))
    rows: list[dict[str, object]] = [{"model": "histogram", "kind": "code", "bits/dim": float(code.mean())}]
    rows[0] |= {"error": error(code), "fitted to": len(train)}
    _, jitter, _ = regularised(moments(space, rest), space, held_out)
    normal, unit = moments(space, train).regular(jitter * space.bin_width**2 / 12, 0.0), space.bin_width**2 / 12
    row: dict[str, object] = {"model": "gaussian", "kind": "bound", **bounds(normal, space, test)}
    row["fitted to"] = len(train)
    rows.append(row | {"details": f"jitter {jitter:g}"})
    tried = []
    for kind, model in mixtures(noisy(space, rest[:fit], 0), 0.01 * unit, iterations):
        bits, jitter, shrink = regularised(model, space, held_out)
        tried.append((bits, f"{kind}, jitter {jitter:g}, shrinkage {shrink:g}", model.regular(jitter * unit, shrink)))
        print(f"held out: {bits:.3f} bits/dim with {tried[-1][1]}", file=sys.stderr)
    _, details, model = min(tried, key=lambda one: one[0])
    row = {"model": "mixture", "kind": "bound", **bounds(model, space, test), "fitted to": min(fit, len(rest))}
    rows.append(row | {"details": details})
    for how, frame in (("PNG", PNG_FRAME), ("WebP", WEBP_FRAME)):
        bits = 8 * file_sizes(test, how) / d
        row = {"model": how, "kind": "code", "bits/dim": float(bits.mean()), "error": error(bits)}
        rows.append(row | {"details": f"without the frame {float(bits.mean()) - 8 * frame / d:.3f}"})
    return rows


def main() -> int:
    """Fit, measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("which", nargs="?", default="digits", choices=("digits", "mnist"))
    parser.add_argument("--data", help="folder with the idx files of MNIST (default: where recipes look)")
    parser.add_argument("-n", type=int, help="test images (default: 1000 of mnist, all 360 digits)")
    parser.add_argument("--seed", type=int, default=0, help="which test images, as in `diffprob likelihood`")
    parser.add_argument("--fit", type=int, default=20000, help="training images of the mixture")
    parser.add_argument("--iterations", type=int, default=30, help="of the mixture's fit, at most")
    parser.add_argument("--out", type=Path, help="write the numbers to this JSON file")
    arguments = parser.parse_args()
    train, test, n = load(arguments)
    chosen = test.take(np.sort(permutation(derive(arguments.seed, "images"), 0, len(test))[: arguments.n or n]))
    space = Pixels(train.event_shape, train.levels)
    rows = rows_of(np.array(train.pixels), chosen, space, arguments.fit, arguments.iterations)
    details = {"data": train.name, "n": len(chosen), "levels": train.levels, "uniform": math.log2(train.levels)}
    models = [row["bits/dim"] for row in rows if row["model"] in ("histogram", "gaussian", "mixture")]
    passed = all(isinstance(bits, float) and bits < math.log2(train.levels) for bits in models)
    return finish(rows, passed, details | {"criterion": "the models spend less than log2 K"}, arguments.out)


if __name__ == "__main__":
    raise SystemExit(answer(main))
