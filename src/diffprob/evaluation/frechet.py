"""Frechet distance between two sets of features, never negative beyond rounding, with its bias and its interval."""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import whole
from diffprob.base.errors import InputError, Missing, NumericalError
from diffprob.base.finite import check_tensors
from diffprob.base.rng import subset
from diffprob.evaluation.estimate import Estimate, Points, features, labels_of, student_95
from diffprob.storage.files import followed, open_file, saying, write_file
from diffprob.storage.foreign import parsing

_ROWS = 4096  # rows converted to float64 and factored at a time, at least; never fewer than twice the dimension
_BLOCKS = 20  # of the jackknife: Student's t with 19 degrees of freedom
_FEWEST = 8  # samples below which no interval is given
_NEGATIVE = 1e-6  # a rounding error below zero, as a share of the traces
_FLAW = 1e-5  # asymmetry and negative eigenvalues of a loaded covariance in float32, as shares of its largest
MOMENTS_LIMIT = 4 << 30  # bytes of a file of moments


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean and covariance of n features, the covariance as a factor: what the Frechet distance needs of a set.

    Args:
        n: number of features behind it, None where a file does not say.
        mean: (d,) float64.
        factor: (k, d) float64 with factor^T factor = covariance (divisor n - 1); k <= d.

    Raises:
        ValueError: shapes or a dtype that do not fit.
        NumericalError: a number that is not finite.
    """

    n: int | None
    mean: Tensor
    factor: Tensor

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.factor.ndim != 2 or self.factor.shape[1] != len(self.mean):
            raise ValueError(f"mean (d,) and factor (k, d), got {tuple(self.mean.shape)}, {tuple(self.factor.shape)}")
        if self.mean.dtype != torch.float64 or self.factor.dtype != torch.float64:
            raise ValueError(f"statistics are float64, got {self.mean.dtype} and {self.factor.dtype}")
        whole("n", self.n, 2, 2**63 - 1, none=True)
        check_tensors({"mean": self.mean, "factor": self.factor}, "the statistics are")

    @property
    def dimension(self) -> int:
        """Features an image."""
        return len(self.mean)

    @property
    def covariance(self) -> Tensor:
        """(d, d), divisor n - 1."""
        return self.factor.T @ self.factor

    @property
    def trace(self) -> float:
        """Sum of the variances."""
        return float(self.factor.square().sum())

    @classmethod
    def of(cls, points: Points) -> "Statistics":
        """Statistics of features (n, d), n >= 2: R of a QR of the centred features; those themselves for n <= d."""
        rows = features(points, "the features")
        n, d = rows.shape
        blocks = rows.split(max(_ROWS, 2 * d))
        mean = sum((block.double().sum(0) for block in blocks), torch.zeros(d, dtype=torch.float64)) / n
        factor = torch.zeros(0, d, dtype=torch.float64)
        for block in blocks:
            factor = torch.cat([factor, block.double() - mean])
            if len(factor) > d:
                factor = torch.linalg.qr(factor, mode="r").R
        return cls(n, mean, factor / math.sqrt(n - 1))

    @classmethod
    def from_moments(cls, mean: Points, covariance: Points, n: int | None = None) -> "Statistics":
        """Statistics from mean (d,) and covariance (d, d), factored by an eigendecomposition clipped at zero.

        Raises:
            InputError: shapes that do not fit, values that are not finite, n below 2, or a covariance that is not
                symmetric or not positive, beyond the rounding of float32.
        """
        m, s = torch.as_tensor(mean).detach().cpu().double(), torch.as_tensor(covariance).detach().cpu().double()
        if m.ndim != 1 or s.shape != (len(m), len(m)) or len(m) == 0:
            raise InputError(f"moments are mu (d,) and sigma (d, d), got {tuple(m.shape)} and {tuple(s.shape)}")
        if not (torch.isfinite(m).all() and torch.isfinite(s).all()):
            raise InputError("the moments hold values that are not finite")
        if n is not None and n < 2:
            raise InputError(f"statistics of at least 2 features are needed, got n = {n}")
        scale = float(s.abs().max())
        if float((s - s.T).abs().max()) > _FLAW * scale:
            raise InputError(f"sigma is not symmetric: entries differ by {float((s - s.T).abs().max()):.3g}")
        values, vectors = torch.linalg.eigh((s + s.T) / 2)
        if float(values[0]) < -_FLAW * max(scale, float(values[-1])):
            raise InputError(f"sigma is not a covariance: it has the eigenvalue {float(values[0]):.3g}")
        return cls(n, m, values.clamp_min(0).sqrt()[:, None] * vectors.T)

    @classmethod
    def load(cls, path: str | Path) -> "Statistics":
        """Read an .npz with ``mu`` (d,) and ``sigma`` (d, d), as pytorch-fid, clean-fid and guided-diffusion write it.

        A scalar ``n`` beside them is read; without it the number of features is not known.

        Raises:
            InputError: no such file, not an .npz, missing entries, or entries that are not moments.
        """
        try:
            stored = open_file(followed(path), MOMENTS_LIMIT)
        except Missing as error:
            raise InputError(f"there are no statistics at {path}") from error
        arrays: dict[str, np.ndarray] = {}
        with (
            stored,
            parsing(str(path), ".npz file", "one with 'mu' and 'sigma' would be right"),
            np.load(stored, allow_pickle=False) as file,
        ):
            if isinstance(file, np.lib.npyio.NpzFile):
                arrays = {name: file[name] for name in ("mu", "sigma", "n") if name in file.files}
        if not {"mu", "sigma"} <= arrays.keys():
            raise InputError(f"{path} holds no statistics: an .npz with 'mu' and 'sigma' is needed")
        if wrong := next((array.dtype for array in arrays.values() if array.dtype.kind not in "iuf"), None):
            raise InputError(f"{path}: its arrays hold {wrong}, and must hold numbers")
        n = arrays.get("n", np.zeros(()))
        if n.shape or not 0 <= n < 2**63:
            raise InputError(f"{path}: n must be one number of features, at least 0")
        return cls.from_moments(arrays["mu"], arrays["sigma"], int(n) or None)

    def save(self, path: str | Path) -> None:
        """Write ``mu``, ``sigma`` and ``n`` (0: not known) to an .npz that other tools read; whole or not at all."""
        path = Path(path)
        mu, sigma = self.mean.numpy(), self.covariance.numpy()
        buffer = io.BytesIO()
        np.savez(buffer, mu=mu, sigma=sigma, n=np.array(self.n or 0))
        with saying(f"write {path}"):
            write_file(path, [buffer.getvalue()])


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Frechet distance between two normal laws: |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), in squared units.

    With factors A^T A = S_a and B^T B = S_b, tr (S_a S_b)^(1/2) is the sum of the singular values of A B^T. A singular
    covariance (n <= d) then costs nothing, where the square root of the product loses the root of the machine epsilon
    in every null direction: in float32 more than the values that it is asked to measure. In float64 always.

    Raises:
        InputError: unequal dimensions.
        NumericalError: a result that is not finite, or below -1e-6 of the traces: it can not be in exact arithmetic.

    Exact when: always. It is W_2^2 of the two normal laws.

    Reference: Dowson & Landau, "The Frechet distance between multivariate normal distributions" (1982), eq. 4.
    """
    if a.dimension != b.dimension:
        raise InputError(f"the statistics have {a.dimension} and {b.dimension} dimensions: other features")
    overlap = float(torch.linalg.svdvals(a.factor @ b.factor.T).sum())
    value = float((a.mean - b.mean).square().sum()) + a.trace + b.trace - 2 * overlap
    if not value >= -_NEGATIVE * (a.trace + b.trace) or math.isinf(value):
        raise NumericalError(f"the Frechet distance came out as {value}: the features are out of the range of float64")
    return max(value, 0.0)


def expected_bias(reference: Statistics, n: int) -> float:
    """What n normal features of exactly the reference's law add to the Frechet distance, on average: to order 1/n.

    With eigenvalues l_i of the reference's covariance: sum_i l_i / n + (1 / 2n) (sum_ij l_i l_j / (l_i + l_j) + sum_i
    l_i / 2), the mean's part and the covariance's. A perfect model does not score below it. For l_i = 1 it is
    (d + d (d + 1) / 4) / n; two sets of size n of one law have twice that: (2 d + d (d + 1) / 2) / n.
    """
    whole("n", n, 1)
    wide = reference.factor.shape[0] < reference.dimension
    gram = reference.factor @ reference.factor.T if wide else reference.covariance
    values = torch.linalg.eigvalsh(gram).clamp_min(0)
    pairs = values[:, None] * values / (values[:, None] + values).clamp_min(torch.finfo(torch.float64).tiny)
    return float(values.sum() + pairs.sum() / 2 + values.sum() / 4) / n


def frechet(x: Points, y: Points | Statistics, seed: int = 0) -> Estimate:
    """Frechet distance of the features x (n, d) from the reference y (m, d), with its bias at this n and two intervals.

    The value is the plain distance, which n samples make too large by about C / n. The set is split at random (seed)
    into 20 blocks, and the distance is computed without each of them. The line in 1/n' through the whole set and these
    20 subsets, extended to 1/n' = 0, gives ``extrapolated``: the jackknife's bias correction. It adds less noise than
    lines through smaller random subsets, because every sample is missing equally often. The spread of the 20 distances
    gives both intervals (Student's t):

    - ``low``, ``high``: for the plain distance that sets of n samples of this model have on average, bias included;
    - ``low_inf``, ``high_inf``: for the distance of infinitely many samples from this same reference.

    The reference is held fixed in all of this: what is removed is the bias of the n generated samples. The part of the
    finite reference stays, as in every published number; ``expected_reference_bias`` says about how much it is. Near
    zero distance the intervals are up to 1.4 times as wide as they need be, and ``extrapolated`` may be negative. At
    n = 2d it takes away about 8% more than the bias; below it is None, because the distance is not linear in 1/n'. The
    intervals are None below 8 samples.

    Details: dimension, blocks, extrapolated, low_inf, high_inf, bias (value - extrapolated), expected_bias (of a
    perfect model with normal features, n samples), expected_reference_bias (of the m reference images).

    Raises:
        InputError: shapes that do not fit, fewer than 2 samples, values that are not finite.
        NumericalError: as `frechet_distance`.

    References: Chong & Forsyth, "Effectively unbiased FID and Inception Score and where to find them" (2020), section
    4; Busing, Meijer & van der Leeden, "Delete-m jackknife for unequal m" (1999).
    """
    rows = features(x, "x")
    own, reference = Statistics.of(rows), y if isinstance(y, Statistics) else Statistics.of(y)
    value, n = frechet_distance(own, reference), len(rows)
    details = {
        "dimension": own.dimension,
        "blocks": None,
        "extrapolated": None,
        "low_inf": None,
        "high_inf": None,
        "bias": None,
        "expected_bias": expected_bias(reference, n),
        "expected_reference_bias": None if reference.n is None else expected_bias(reference, reference.n),
    }
    if n < _FEWEST:
        return Estimate(value, n, reference.n, details=details)
    bias, error, blocks = _jackknife(rows, own, reference, seed)
    half = student_95(blocks - 1) * error
    details["blocks"] = blocks
    if n >= 2 * own.dimension:
        middle = value - bias
        details |= {"extrapolated": middle, "bias": bias, "low_inf": middle - half, "high_inf": middle + half}
    return Estimate(value, n, reference.n, max(0.0, value - half), value + half, details)


def per_class_frechet(x: Points, x_labels: Points, y: Points, y_labels: Points, seed: int = 0) -> dict[int, Estimate]:
    """`frechet` within every class: features x (n, d) labelled (n,) against y (m, d) labelled (m,).

    A class with fewer than two images on either side has no covariance and is left out. The bias grows as the sets get
    smaller: compare extrapolated values, or the same class among real images.

    Raises:
        InputError: labels that are not integers of shape (n,), (m,), or as `frechet`.
    """
    rows, others = features(x, "x"), features(y, "y")
    labels = [labels_of(x_labels, "x", len(rows)), labels_of(y_labels, "y", len(others))]
    counts = [dict(zip(*(v.tolist() for v in side.unique(return_counts=True)), strict=True)) for side in labels]
    shared = [label for label in counts[1] if min(counts[1][label], counts[0].get(label, 0)) >= 2]
    return {int(c): frechet(rows[labels[0] == c], others[labels[1] == c], seed) for c in sorted(shared)}


def _jackknife(rows: Tensor, own: Statistics, reference: Statistics, seed: int) -> tuple[float, float, int]:
    """Bias and standard error of the plain distance by leaving out one block of rows (n, d) at a time; and the blocks.

    tr (S_a S_b)^(1/2) is the sum of the roots of the eigenvalues of B S_a B^T, which without a block is a difference of
    sums over the rows: the rows are read twice, whatever the number of blocks.
    """
    n = len(rows)
    blocks = np.array_split(subset(n, n, seed, "frechet blocks"), min(_BLOCKS, n))

    whole = _Sums(
        0, torch.zeros_like(own.mean), 0.0, torch.zeros(len(reference.factor), len(reference.factor)).double()
    )
    for block in blocks:
        whole = whole.plus(_Sums.of(rows[torch.from_numpy(block)], own.mean, reference))
    value = whole.distance(own.mean, reference)
    without = np.empty(len(blocks))
    for i, block in enumerate(blocks):  # read again: to keep d x d sums of all blocks takes 640 MB for d = 2048
        part = _Sums.of(rows[torch.from_numpy(block)], own.mean, reference)
        without[i] = whole.plus(part, -1).distance(own.mean, reference)
    share = np.array([len(block) / n for block in blocks])
    # For blocks of one size: B value - (B - 1) mean(without), and the spread of its B terms.
    corrected = len(blocks) * value - float(((1 - share) * without).sum())
    pseudo = value / share - (1 / share - 1) * without
    error = math.sqrt(float(np.mean((pseudo - corrected) ** 2 / (1 / share - 1))))
    return value - corrected, error, len(blocks)


class _Sums(NamedTuple):
    """Sums over rows z (size, d), measured from one centre: enough for their distance from the reference."""

    size: int
    total: Tensor  # (d,), sum of z
    square: float  # sum of |z|^2
    gram: Tensor  # (k, k), sum of (B z)(B z)^T with the reference's factor B (k, d)

    @classmethod
    def of(cls, rows: Tensor, centre: Tensor, reference: Statistics) -> "_Sums":
        z = rows.double() - centre
        seen = z @ reference.factor.T
        return cls(len(z), z.sum(0), float(z.square().sum()), seen.T @ seen)

    def plus(self, other: "_Sums", sign: int = 1) -> "_Sums":
        return _Sums(
            self.size + sign * other.size,
            self.total + sign * other.total,
            self.square + sign * other.square,
            self.gram + sign * other.gram,
        )

    def distance(self, centre: Tensor, reference: Statistics) -> float:
        """The Frechet distance, unclipped: differences of such values are what the jackknife needs."""
        seen = reference.factor @ self.total
        inner = (self.gram - torch.outer(seen, seen) / self.size) / (self.size - 1)
        overlap = float(torch.linalg.eigvalsh(inner).clamp_min(0).sqrt().sum())
        trace = (self.square - float(self.total.square().sum()) / self.size) / (self.size - 1)
        shift = centre + self.total / self.size - reference.mean
        return float(shift.square().sum()) + trace + reference.trace - 2 * overlap
