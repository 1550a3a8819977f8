"""The estimator for scikit-learn: its conventions by its own checks, its densities by closed forms and quadrature."""

import pickle
import sys

import numpy as np
import pytest
import torch
from scipy import stats
from truth.models import mixture_data, tensor
from truth.statistics import assert_moments

from diffprob.base.errors import InputError, NumericalError
from diffprob.density.likelihood import BoundDensity
from diffprob.density.noise import NoiseNorm
from diffprob.density.typicality import Typical
from diffprob.interop import scikit

pytest.importorskip("sklearn")
from sklearn.base import clone, is_outlier_detector
from sklearn.utils.estimator_checks import parametrize_with_checks

from diffprob.interop.scikit import DiffusionDensity

QUICK = {"max_iter": 5, "width": 8, "depth": 1, "batch_size": 8, "random_state": 0}
UNITS, ORIGIN = np.array([30.0, 0.01]), np.array([-500.0, 2.0])


@parametrize_with_checks([DiffusionDensity(NoiseNorm(noises=1), **{**QUICK, "random_state": None})])
def test_estimator_passes_scikit_learn_checks(estimator, check):
    check(estimator)


def mixture(n, seed):
    """Rows of `mixture_data` in other units, and their log-density."""
    rng, model = np.random.default_rng(seed), mixture_data()
    parts = [stats.multivariate_normal(c.mean.numpy(), c.cov.numpy()) for c in model.components]
    picks = rng.choice(3, n, p=model.weights.numpy())
    rows = np.stack([parts[k].rvs(random_state=rng) for k in picks])
    density = sum(w * part.pdf(rows) for w, part in zip(model.weights.numpy(), parts, strict=True))
    return ORIGIN + UNITS * rows, np.log(density) - np.log(UNITS).sum()


@pytest.fixture(scope="module")
def trained():
    rows, _ = mixture(1000, 0)
    return DiffusionDensity(max_iter=300, width=32, depth=2, batch_size=256, learning_rate=1e-2, random_state=0).fit(
        rows
    )


def test_trained_model_learns_the_density_of_a_mixture(trained):
    rows, exact = mixture(200, 1)
    log_p = trained.score_samples(rows)
    assert stats.spearmanr(log_p, exact).statistic > 0.95
    # The mean gap is the divergence KL(data || model): not below 0 by more than its error, and small.
    gap = exact - log_p
    assert -4 * gap.std() / 200**0.5 < gap.mean() < 0.15
    assert len(trained.loss_curve_) == trained.n_iter_ == 300


def test_density_integrates_to_one(trained):
    """On a grid of 4 standard deviations and more each way, by the rectangle rule, in the units of X."""
    low, high = ORIGIN + UNITS * [-2.0, -2.0], ORIGIN + UNITS * [2.0, 2.0]
    axes = [np.linspace(a, b, 31) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    total = np.exp(trained.score_samples(grid)).sum() * cell
    assert total == pytest.approx(1, abs=0.02)


def test_scores_do_not_depend_on_other_rows(trained):
    rows = mixture(7, 2)[0]
    whole = trained.score_samples(rows)
    np.testing.assert_allclose(trained.score_samples(rows[::-1])[::-1], whole, rtol=0, atol=1e-9)
    np.testing.assert_allclose(trained.score_samples(rows[3:4]), whole[3:4], rtol=0, atol=1e-9)
    other = clone(trained).set_params(proxy=BoundDensity(steps=10, terms=None), max_iter=2).fit(mixture(60, 0)[0])
    whole = other.score_samples(rows)
    np.testing.assert_allclose(other.score_samples(rows[::-1])[::-1], whole, rtol=0, atol=1e-9)


def normal(n=100):
    return ORIGIN + UNITS * (np.random.default_rng(3).normal(size=(n, 2)) @ [[1, 0.5], [0, 0.8]])


def untrained(proxy=None, **settings):
    """Steps of no length leave the model of N(0, I): of independent normals with the moments of the features."""
    return DiffusionDensity(proxy, learning_rate=1e-300, **{**QUICK, **settings})


def test_untrained_density_is_normal_with_the_feature_moments():
    rows = normal()
    model = untrained().fit(rows)
    exact = stats.norm.logpdf(rows, rows.mean(0), rows.std(0)).sum(1)
    # The flow ends at x_1 = x exactly; its tolerance is for a volume that does not change.
    np.testing.assert_allclose(model.score_samples(rows), exact, rtol=0, atol=1e-6)
    assert model.score(rows) == pytest.approx(exact.mean(), abs=1e-6)
    assert is_outlier_detector(model)
    drawn = model.sample(2000)
    assert_moments(torch.from_numpy((drawn - rows.mean(0)) / rows.std(0)), torch.zeros(2), torch.eye(2), limit=4.5)
    assert np.array_equal(model.sample(2000), drawn) and np.array_equal(model.sample(3), drawn[:3])


def test_predict_flags_the_set_share_and_the_farthest_row():
    rows = normal(200)
    model = untrained(contamination=0.15).fit(rows)
    assert (model.predict(rows) == -1).sum() == 30
    np.testing.assert_allclose(model.decision_function(rows), model.score_samples(rows) - model.offset_, rtol=1e-12)
    assert model.predict([ORIGIN + 20 * UNITS, rows.mean(0)]).tolist() == [-1, 1]


def test_samples_follow_the_density(trained):
    """The mean of log p over draws from p is that over the data, up to what the model has not learned."""
    drawn = trained.score_samples(trained.sample(200))
    data = trained.score_samples(mixture(200, 1)[0])
    error = (drawn.var() / 200 + data.var() / 200) ** 0.5
    assert abs(drawn.mean() - data.mean()) < 4 * error


def test_random_state_makes_results_repeatable():
    rows = normal(20)
    one, two, three = (DiffusionDensity(**{**QUICK, "random_state": s}).fit(rows) for s in (1, 1, 2))
    assert one.loss_curve_ == two.loss_curve_ != three.loss_curve_
    assert np.array_equal(one.score_samples(rows), two.score_samples(rows))
    assert not np.array_equal(one.sample(2), three.sample(2))
    again = pickle.loads(pickle.dumps(one))  # noqa: S301
    assert type(again) is scikit.DiffusionDensity and np.array_equal(again.score_samples(rows), one.score_samples(rows))
    state = torch.random.get_rng_state()
    one.fit(rows)
    assert torch.equal(torch.random.get_rng_state(), state), "fit leaves torch's generator alone"


def test_constant_features_are_ignored_but_checked():
    rows = normal(20)
    wide = np.insert(rows, 1, 0.1, axis=1)  # 0.1 has a mean and a standard deviation with rounding errors
    plain, model = (DiffusionDensity(**QUICK).fit(x) for x in (rows, wide))
    assert model.scale_[1] == 0 and model.n_features_in_ == 3
    np.testing.assert_allclose(model.score_samples(wide), plain.score_samples(rows), rtol=0, atol=1e-9)
    sigma = float(model.model_.process.sigma(tensor(0.001)))
    away = wide + np.array([0, 0.5, 0])
    lost = model.score_samples(wide) - model.score_samples(away)
    np.testing.assert_allclose(lost, 0.125 / sigma**2, rtol=1e-9)
    assert np.all(model.sample(4)[:, 1] == pytest.approx(0.1, rel=1e-12))


def test_proxies_are_computed_on_standardised_rows():
    rows = normal(60)
    model = untrained(NoiseNorm()).fit(rows)
    z = torch.from_numpy((rows - rows.mean(0)) / rows.std(0))
    norms = NoiseNorm()(model.model_, z, scikit.Rng(torch.full((60,), scikit.derive(model._seed, "scores") >> 1)))
    np.testing.assert_allclose(model.score_samples(rows), norms.numpy(), rtol=1e-9)
    typical = untrained(Typical(NoiseNorm())).fit(rows)
    assert np.isfinite(typical.score_samples(rows)).all()
    with pytest.raises(InputError, match="at least 50"):
        untrained(Typical(NoiseNorm())).fit(rows[:20])


def test_bounds_are_in_the_units_of_the_rows():
    rows = normal(20)
    bound = untrained(BoundDensity(steps=20, terms=None))
    one, two = (
        bound.fit(rows).score_samples(rows),
        bound.fit((rows - ORIGIN) / UNITS).score_samples((rows - ORIGIN) / UNITS),
    )
    np.testing.assert_allclose(two - one, np.log(UNITS).sum(), rtol=1e-6)


def test_missing_scikit_learn_is_an_error_with_advice(monkeypatch):
    monkeypatch.delitem(vars(scikit), "DiffusionDensity")
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(InputError, match=r"pip install 'diffprob\[scikit-learn\]'"):
        _ = scikit.DiffusionDensity
    with pytest.raises(AttributeError, match="has no attribute 'Density'"):
        _ = scikit.Density


def test_invalid_settings_are_errors():
    rows = normal(20)
    for settings, message in (
        ({"proxy": "flow"}, "proxy must be one of diffprob.density"),
        ({"max_iter": 0}, "max_iter must be at least 1, got 0"),
        ({"contamination": 0.6}, r"contamination must lie in \(0, 0.5\], got 0.6"),
        ({"contamination": "auto"}, r"contamination must be a number in \(0, 0.5\], got 'auto'"),
        ({"contamination": None}, r"contamination must be a number in \(0, 0.5\], got None"),
        ({"learning_rate": 0}, "learning_rate must be above 0, got 0"),
        ({"learning_rate": "x"}, "learning_rate must be a number above 0, got 'x'"),
        ({"max_iter": 1.5}, "max_iter must be a whole number of at least 1, got 1.5"),
        ({"width": 10**9}, "width must be at most 16384"),
        ({"batch_size": "many"}, "batch_size must be a whole number"),
        ({"depth": True}, "depth must be a whole number"),
        ({"random_state": "x"}, "seed"),
    ):
        with pytest.raises(ValueError, match=message):
            DiffusionDensity(**{**QUICK, **settings}).fit(rows)
    numpy_settings = {"contamination": np.float64(0.2), "max_iter": np.int64(2)}
    assert DiffusionDensity(**{**QUICK, **numpy_settings}).fit(rows).n_iter_ == 2
    with pytest.raises(ValueError, match="n_samples must be a whole number"):
        untrained().fit(rows).sample(1.5)
    with pytest.raises(ValueError, match="no feature of X varies over its 20 rows"):
        DiffusionDensity(**QUICK).fit(np.full((20, 3), 0.1))
    with pytest.raises(ValueError, match="n_samples must be at least 1, got 0"):
        untrained().fit(rows).sample(0)
    with pytest.raises(NumericalError, match="the loss is"):
        DiffusionDensity(**{**QUICK, "learning_rate": 1e200}).fit(rows)
