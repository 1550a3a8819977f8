"""Densities of tables for scikit-learn: an estimator that trains a small diffusion model on the rows of X.

``from diffprob.interop.scikit import DiffusionDensity`` needs scikit-learn; importing this module does not.
"""

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import MOST, instance, real, whole
from diffprob.base.errors import InputError, NumericalError
from diffprob.base.limits import MOST_BLOCKS, MOST_WIDTH
from diffprob.base.rng import Rng, derive
from diffprob.denoise.denoiser import NetDenoiser, Scale
from diffprob.denoise.prediction import V
from diffprob.density.likelihood import FlowDensity
from diffprob.density.proxy import Proxy
from diffprob.likelihood.flow import Exact
from diffprob.net.mlp import MLPSpec
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import Cosine
from diffprob.sampling.adaptive import AdaptiveODE
from diffprob.sampling.simulate import draw
from diffprob.training.denoising import Denoising

__all__ = ["DiffusionDensity"]

_CHUNK = 1024  # rows scored or drawn at a time
_FLOW = FlowDensity(Exact())
_CLOCK = Scale(20.0)  # slower than the 999 of images: the flow is smoother, and takes fewer steps


class _DiffusionDensity:
    """The density of rows X (n, d) under a diffusion model trained on them; rows of low density are outliers.

    Features are standardised and a network learns to denoise them. A row's score depends on that row alone.

    Args:
        proxy: what the score is, from `diffprob.density`, of standardised rows; its noise is the same for all of them.
            None: `FlowDensity` with exact divergences, some 60 times the cost of d + 1 networks; right to 0.1 nats.
        max_iter: steps of Adam on ``batch_size`` rows each, at a ``learning_rate`` that falls to 0.
        width, depth: of the `MLP`.
        contamination: share of the rows of X that lie below ``offset_``, in (0, 0.5].
        random_state: of weights, batches, noise and samples; with an int, all of it is repeatable.

    Exact when: max_iter grows; on a mixture of normals in the plane, checked against its density.
    """

    mean_: np.ndarray  # of each feature
    scale_: np.ndarray  # standard deviations; 0 for a constant feature
    model_: NetDenoiser  # of the standardised features that vary, float64
    offset_: float  # what `decision_function` takes off
    loss_curve_: list[float]  # the loss of each step
    n_iter_: int

    def __init__(
        self,
        proxy: Proxy | None = None,
        max_iter: int = 1000,
        width: int = 64,
        depth: int = 3,
        batch_size: int = 256,
        learning_rate: float = 3e-3,
        contamination: float = 0.1,
        random_state: Any = None,
    ) -> None:
        self.proxy = proxy
        self.max_iter = max_iter
        self.width = width
        self.depth = depth
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.contamination = contamination
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on rows X (n, d); y is ignored.

        Raises:
            ValueError: X is no table of finite numbers, none of its features varies, or a setting is out of range.
            InputError: the proxy has to be fitted, and there are too few rows for it.
            NumericalError: the loss left the finite numbers.
        """
        from sklearn.utils.validation import validate_data

        self._check()
        rows = np.asarray(validate_data(self, X, dtype=np.float64, ensure_min_samples=2))
        self.mean_, self.scale_ = rows.mean(0), rows.std(0)
        # Equal numbers have a standard deviation of rounding errors.
        self.scale_[self.scale_ <= 1e-12 * np.abs(rows).max(0)] = 0.0
        if not self.scale_.any():
            raise ValueError(f"no feature of X varies over its {len(rows)} rows: there is no density to learn")
        self._seed = self._drawn_seed()
        self._train(self._standardised(rows))
        statistics = self._statistics(rows)
        self._fitted = self._proxy.fit(statistics)
        self.offset_ = float(np.percentile(self._scores(rows, statistics), 100 * self.contamination))
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """What the proxy says of each row, (n,); higher is denser. Of log-densities: nats, in the units of X.

        A feature that was constant in fit is no part of the density; a row that differs from it there by e loses
        e^2/(2 sigma^2), with the sigma of the last noisy time.
        """
        rows = self._rows(X)
        return self._scores(rows, self._statistics(rows))

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples`; y is ignored."""
        return float(self.score_samples(X).mean())

    def decision_function(self, X: Any) -> np.ndarray:
        """`score_samples` minus ``offset_``, (n,): negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """-1 for outliers and 1 for the others, (n,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def sample(self, n_samples: int = 1) -> np.ndarray:
        """New rows (n_samples, d) by the probability flow; with an int as ``random_state`` the same ones every time."""
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        whole("n_samples", n_samples := _plain(n_samples), 1)
        seed, varying = derive(self._drawn_seed(), "sample") >> 1, self.scale_ > 0
        times = torch.tensor([1.0, self.model_.process.schedule.start], dtype=torch.float64)
        parts = []
        for first in range(0, n_samples, _CHUNK):
            rng = Rng.of(seed, min(_CHUNK, n_samples - first), first)
            parts.append(draw(self.model_, AdaptiveODE(), times, rng, (int(varying.sum()),), torch.float64))
        rows = np.tile(self.mean_, (n_samples, 1))
        rows[:, varying] += torch.cat(parts).numpy() * self.scale_[varying]
        return rows

    @property
    def _proxy(self) -> Proxy:
        return _FLOW if self.proxy is None else self.proxy

    def _check(self) -> None:
        instance("proxy", self._proxy, Proxy, "one of diffprob.density, such as NoiseNorm(), or None")
        for name, most in (("max_iter", MOST), ("batch_size", 10**6), ("width", MOST_WIDTH), ("depth", MOST_BLOCKS)):
            whole(name, _plain(getattr(self, name)), 1, most)
        real("learning_rate", _plain(self.learning_rate), "(0, inf)")
        # No "auto": what scikit-learn's estimators mean by it is a threshold of scores that are not densities.
        real("contamination", _plain(self.contamination), "(0, 0.5]")

    def _drawn_seed(self) -> int:
        from sklearn.utils import check_random_state

        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _train(self, z: Tensor) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self._seed, "weights"))
            net = MLPSpec(z.shape[1], _plain(self.width), _plain(self.depth)).build().double()
        self.model_ = NetDenoiser(net, LinearProcess(Cosine()), V(), _CLOCK)
        self.loss_curve_, self.n_iter_ = [], 0
        optimiser = torch.optim.Adam(net.parameters(), self.learning_rate, fused=True)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.max_iter)
        objective, streams = Denoising(), Rng.of(derive(self._seed, "train") >> 1, self.batch_size)
        while self.n_iter_ < self.max_iter:
            rng = streams.at(self.n_iter_)
            loss = objective(self.model_, z[rng.fold("row").integers((), len(z))], rng).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            falling.step()
            self.n_iter_ += 1
            self.loss_curve_.append(float(loss.detach()))
            if not math.isfinite(self.loss_curve_[-1]):
                raise NumericalError(f"the loss is {self.loss_curve_[-1]} at step {self.n_iter_}")
        self.model_.eval().requires_grad_(False)

    def _rows(self, X: Any) -> np.ndarray:
        from sklearn.utils.validation import check_is_fitted, validate_data

        check_is_fitted(self)
        return np.asarray(validate_data(self, X, dtype=np.float64, reset=False))

    def _standardised(self, rows: np.ndarray) -> Tensor:
        varying = self.scale_ > 0
        return torch.from_numpy((rows - self.mean_)[:, varying] / self.scale_[varying])

    def _statistics(self, rows: np.ndarray) -> Tensor:
        """Of the proxy, every row with the same stream: a score must not depend on the row's place."""
        seed = derive(self._seed, "scores") >> 1
        parts = self._standardised(rows).split(_CHUNK)
        return torch.cat([self._proxy.statistics(self.model_, z, Rng(torch.full((len(z),), seed))) for z in parts])

    def _scores(self, rows: np.ndarray, statistics: Tensor) -> np.ndarray:
        scores = self._proxy.score(statistics, self._fitted).numpy()
        varying, process = self.scale_ > 0, self.model_.process
        units = np.log(self.scale_[varying]).sum() if self._proxy.nats else 0.0
        away = (rows - self.mean_)[:, ~varying] / float(process.sigma(process.schedule.start))
        return scores - units - 0.5 * (away * away).sum(1)


def _plain(value: Any) -> Any:
    """A setting as Python's own number: searches over grids hand over NumPy's."""
    return value.item() if isinstance(value, np.generic) else value


if TYPE_CHECKING:
    from sklearn.base import BaseEstimator, OutlierMixin

    class DiffusionDensity(_DiffusionDensity, OutlierMixin, BaseEstimator):
        """What `__getattr__` makes."""


def __getattr__(name: str) -> Any:
    """The estimator, made when it is first asked for: its base classes are scikit-learn's."""
    if name != "DiffusionDensity":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from sklearn.base import BaseEstimator, OutlierMixin
    except ImportError as error:
        raise InputError("DiffusionDensity needs scikit-learn: pip install 'diffprob[scikit-learn]'") from error
    # Its own methods, not inherited ones: the reference lists no others.
    own = {key: value for key, value in vars(_DiffusionDensity).items() if key not in ("__dict__", "__weakref__")}
    globals()[name] = type(name, (OutlierMixin, BaseEstimator), own)
    return globals()[name]
