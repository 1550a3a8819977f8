"""Frechet distance against closed forms, torchmetrics, its known bias, and simulations of its intervals."""

import math

import numpy as np
import pytest
import torch
from truth.statistics import assert_mean

from diffprob.base.errors import InputError, NumericalError
from diffprob.evaluation import frechet as module
from diffprob.evaluation.frechet import Statistics, expected_bias, frechet, frechet_distance, per_class_frechet


def spd(d, seed):
    a = torch.randn(d, 2 * d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return a @ a.T / (2 * d)


def normal(n, d, seed, scale=1.0):
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# The distance


def test_commuting_covariances_match_the_formula():
    """Diagonal covariances: |m|^2 + sum (s_i - r_i)^2."""
    m, s, r = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([2.0, 0.0, 3.0]), torch.tensor([1.0, 4.0, 0.5])
    a = Statistics.from_moments(m, torch.diag(s**2))
    b = Statistics.from_moments(torch.zeros(3), torch.diag(r**2))
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + 0.25 + 1 + 16 + 6.25, rel=1e-14)


def test_two_dimensional_covariances_match_the_closed_form():
    """In two dimensions tr sqrt(M) = sqrt(tr M + 2 sqrt(det M)) for M = S_a S_b, whose eigenvalues are not negative."""
    sa, sb = torch.tensor([[2.0, 0.8], [0.8, 1.0]]).double(), torch.tensor([[0.5, -0.3], [-0.3, 3.0]]).double()
    product = sa @ sb
    assert float((product - product.T).abs().max()) > 0.1
    root = math.sqrt(float(product.trace()) + 2 * math.sqrt(float(torch.linalg.det(product))))
    expected = 0.25 + float(sa.trace() + sb.trace()) - 2 * root
    a = Statistics.from_moments(torch.tensor([0.5, 0.0]), sa)
    assert frechet_distance(a, Statistics.from_moments(torch.zeros(2), sb)) == pytest.approx(expected, rel=1e-13)


def test_distance_is_the_cost_of_the_optimal_map():
    """A = S_a^(-1/2) (S_a^(1/2) S_b S_a^(1/2))^(1/2) S_a^(-1/2) carries one law to the other, at this cost."""
    sa, sb = spd(7, 1), spd(7, 2)

    def power(s, p):
        values, vectors = torch.linalg.eigh(s)
        return (vectors * values**p) @ vectors.T

    a = power(sa, -0.5) @ power(power(sa, 0.5) @ sb @ power(sa, 0.5), 0.5) @ power(sa, -0.5)
    assert torch.allclose(a @ sa @ a, sb, atol=1e-12)
    move = a - torch.eye(7, dtype=torch.float64)
    cost = float((move @ sa @ move).trace())
    zero = torch.zeros(7, dtype=torch.float64)
    assert frechet_distance(Statistics.from_moments(zero, sa), Statistics.from_moments(zero, sb)) == pytest.approx(
        cost, rel=1e-12
    )


def test_distance_matches_torchmetrics():
    fid = pytest.importorskip("torchmetrics.image.fid")
    x, y = normal(3000, 24, 0) @ spd(24, 3), 0.1 + normal(2500, 24, 1) @ spd(24, 4)
    theirs = fid._compute_fid(x.mean(0), x.T.cov(), y.mean(0), y.T.cov())
    ours = frechet_distance(Statistics.of(x), Statistics.of(y))
    assert ours == pytest.approx(float(theirs), rel=1e-6)
    assert frechet(x.float(), y.float().numpy()).value == pytest.approx(float(theirs), rel=1e-6)


def test_distance_from_features_and_from_moments_agree(monkeypatch):
    x, y = 3 + normal(300, 12, 0), normal(250, 12, 1, scale=2)
    direct = frechet_distance(Statistics.of(x), Statistics.of(y))
    by_moments = [Statistics.from_moments(z.mean(0), z.T.cov(), len(z)) for z in (x, y)]
    assert frechet_distance(*by_moments) == pytest.approx(direct, rel=1e-12)
    monkeypatch.setattr(module, "_ROWS", 24)
    blocked = Statistics.of(x)
    assert torch.allclose(blocked.covariance, x.T.cov(), atol=1e-13)
    assert frechet_distance(blocked, Statistics.of(y)) == pytest.approx(direct, rel=1e-12)


def test_distance_is_never_negative_for_few_points():
    """40 images of 400 pixels in float32 against themselves: 0. The roots of null directions are what goes wrong."""
    from scipy.linalg import sqrtm

    images = torch.rand(40, 400, generator=torch.Generator().manual_seed(0))
    s = images.T.cov().numpy()
    assert s.dtype == np.float32
    plain = 2 * np.trace(s) - 2 * np.trace(sqrtm(s @ s).real)
    assert plain < -1e-3
    own = Statistics.of(images)
    assert own.factor.shape == (40, 400)
    for other in (images, images[torch.randperm(40, generator=torch.Generator().manual_seed(1))], images.numpy()):
        value = frechet_distance(own, Statistics.of(other))
        assert 0 <= value < 1e-10 * 2 * own.trace
        assert frechet(other, own).value < 1e-10 * 2 * own.trace
    # A covariance that was formed and factored again keeps that: |S^(1/2) - R^(1/2)|^2 <= tr |S - R|.
    again = Statistics.from_moments(own.mean, own.covariance)
    assert frechet_distance(own, again) < 1e-10 * 2 * own.trace


def test_only_rounding_below_zero_is_clamped(monkeypatch):
    s = Statistics.of(normal(10, 3, 0))
    exact = torch.linalg.svdvals
    for excess, kept in ((1 + 0.9e-6, True), (1 + 1.1e-6, False)):
        monkeypatch.setattr(torch.linalg, "svdvals", lambda m, excess=excess: exact(m) * excess)
        if kept:
            assert frechet_distance(s, s) == 0
        else:
            with pytest.raises(NumericalError, match="range of float64"):
                frechet_distance(s, s)


def test_overflow_is_an_error():
    huge = Statistics(5, torch.full((2,), 1e200, dtype=torch.float64), torch.eye(2, dtype=torch.float64))
    with pytest.raises(NumericalError, match="came out as inf"):
        frechet_distance(huge, Statistics.of(normal(5, 2, 0)))


# The bias


def test_bias_follows_the_formula():
    """Two sets of n of one isotropic law: E FD = (2 d + d (d + 1) / 2) / n.

    The next order is of the relative size d / 8n (the square root of a Wishart matrix): 0.1% here, while 4 standard
    errors of the 700 repetitions are 5%.
    """
    d, n, repetitions = 6, 600, 700
    x = normal(repetitions * 2 * n, d, 0).reshape(repetitions, 2, n, d)
    values = torch.tensor([frechet_distance(Statistics.of(a), Statistics.of(b)) for a, b in x])
    assert_mean(values, (2 * d + d * (d + 1) / 2) / n)


def test_expected_bias_matches_the_formula_and_other_spectra():
    unit = Statistics.from_moments(torch.zeros(5), torch.eye(5))
    assert 2 * expected_bias(unit, 100) == pytest.approx((2 * 5 + 5 * 6 / 2) / 100, rel=1e-14)
    scale = torch.tensor([3.0, 1.0, 0.3, 0.1, 0.0]).double()
    law = Statistics.from_moments(torch.zeros(5), torch.diag(scale**2))
    x = normal(500 * 500, 5, 1).reshape(500, 500, 5) * scale
    assert_mean(torch.tensor([frechet_distance(Statistics.of(a), law) for a in x]), expected_bias(law, 500))


# The extrapolation and the intervals


def simulate(n, d, scale, repetitions, reference_size=None):
    """Estimates of the distance of N(0, scale^2 I) from a fixed reference, and the exact distance from it."""
    if reference_size is None:
        reference = Statistics.from_moments(torch.zeros(d), torch.eye(d))
    else:
        reference = Statistics.of(normal(reference_size, d, 99))
    truth = frechet_distance(Statistics.from_moments(torch.zeros(d), scale**2 * torch.eye(d)), reference)
    return [frechet(normal(n, d, 1000 + i, scale), reference, seed=i) for i in range(repetitions)], truth


def test_extrapolation_is_unbiased_and_its_interval_covers():
    """The reference is fixed: infinitely many samples keep the bias of a finite one, and so must the extrapolation.

    Curvature of the bias in 1/n leaves about d^3 / 32 n^2 = 1e-4 of it, far below the standard error.
    """
    n, d, repetitions = 400, 8, 80
    estimates, truth = simulate(n, d, 1.15, repetitions, reference_size=300)
    plain = torch.tensor([e.value for e in estimates]).double()
    mean = float(plain.mean())
    assert mean - truth > 8 * float(plain.std()) / repetitions**0.5
    assert_mean(torch.tensor([e.details["extrapolated"] for e in estimates]), truth)
    cover = np.mean([e.details["low_inf"] <= truth <= e.details["high_inf"] for e in estimates])
    cover_plain = np.mean([e.low <= mean <= e.high for e in estimates])
    # 4 binomial standard errors of 80 repetitions are 10%.
    assert 0.95 - 0.1 < cover <= 1
    assert 0.95 - 0.1 < cover_plain <= 1


def test_interval_covers_for_a_perfect_model():
    """At distance zero the interval is wider than it need be, not narrower."""
    estimates, truth = simulate(300, 8, 1.0, 50)
    assert truth < 1e-12
    assert_mean(torch.tensor([e.details["extrapolated"] for e in estimates]), truth)
    assert np.mean([e.details["low_inf"] <= truth <= e.details["high_inf"] for e in estimates]) > 0.95 - 0.06
    # The bias of a perfect model is the predicted one, up to its noise.
    assert np.mean([e.details["bias"] for e in estimates]) == pytest.approx(
        estimates[0].details["expected_bias"], rel=0.1
    )


def test_jackknife_matches_recomputation_from_rows():
    """Leaving out every single point by brute force; 20 points make 20 blocks of one."""
    x, y = normal(20, 3, 0, 1.3), normal(50, 3, 1)
    distance, reference = frechet(x, y), Statistics.of(y)
    value = frechet_distance(Statistics.of(x), reference)
    keep = ~torch.eye(20, dtype=torch.bool)
    without = np.array([frechet_distance(Statistics.of(x[k]), reference) for k in keep])
    error = math.sqrt(19 / 20 * float(((without - without.mean()) ** 2).sum()))
    assert distance.value == pytest.approx(value, rel=1e-13)
    assert distance.details["extrapolated"] == pytest.approx(20 * value - 19 * without.mean(), rel=1e-10)
    half = distance.details["high_inf"] - distance.details["extrapolated"]
    assert half == pytest.approx(2.0930240544082634 * error, rel=1e-10)
    assert distance.high - distance.value == pytest.approx(half, rel=1e-12)


def test_unequal_blocks_and_few_points_give_finite_errors():
    for n in (2, 7, 8, 21, 33):
        distance = frechet(normal(n, 3, n), normal(40, 3, 0))
        assert (distance.high is None) == (n < 8)
        assert (distance.details["extrapolated"] is None) == (n < 8)
    wide = frechet(normal(30, 16, 0), normal(60, 16, 1))
    assert wide.details["extrapolated"] is None and wide.details["bias"] is None and wide.high > wide.value
    assert (wide.n, wide.m, wide.details["dimension"]) == (30, 60, 16)


def test_result_depends_only_on_the_seed():
    x, y = normal(90, 3, 0), normal(80, 3, 1)
    assert frechet(x, y, seed=3) == frechet(x, y, seed=3)
    assert frechet(x, y, seed=3).high != frechet(x, y, seed=4).high
    assert frechet(x, y, seed=3).value == frechet(x, y, seed=4).value


def test_distance_per_class_matches_each_class():
    x, y = normal(60, 3, 0), normal(90, 3, 1)
    own, others = torch.arange(60) % 3, torch.arange(90) % 4
    distances = per_class_frechet(x, own, y, others.numpy(), seed=5)
    assert list(distances) == [0, 1, 2]  # nothing was generated of class 3
    for label, estimate in distances.items():
        assert estimate == frechet(x[own == label], y[others == label], seed=5)


# Files


def test_statistics_survive_saving(tmp_path):
    x = Statistics.of(normal(50, 6, 0))
    x.save(tmp_path / "a.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
    again = Statistics.load(tmp_path / "a.npz")
    assert again.n == 50
    assert frechet_distance(x, again) < 1e-12
    Statistics(None, x.mean, x.factor).save(tmp_path / "b.npz")
    assert Statistics.load(tmp_path / "b.npz").n is None


def test_files_of_other_tools_load(tmp_path):
    """pytorch-fid and clean-fid: np.mean and np.cov. guided-diffusion: more entries. torchmetrics: float32 moments."""
    x = normal(400, 10, 0).numpy()
    np.savez(tmp_path / "a.npz", mu=x.mean(0), sigma=np.cov(x, rowvar=False))
    np.savez_compressed(tmp_path / "b.npz", mu=x.mean(0), sigma=np.cov(x, rowvar=False), mu_s=x[0], sigma_s=x[:3])
    few = x[:5].astype(np.float32)
    np.savez(tmp_path / "c.npz", mu=few.mean(0), sigma=np.cov(few, rowvar=False, dtype=np.float32))
    for name in "ab":
        loaded = Statistics.load(tmp_path / f"{name}.npz")
        assert loaded.n is None and frechet_distance(loaded, Statistics.of(x)) < 1e-12
    assert frechet_distance(Statistics.load(tmp_path / "c.npz"), Statistics.of(few)) < 1e-4
    assert frechet(x, Statistics.load(tmp_path / "a.npz")).m is None


def test_invalid_moments_are_errors(tmp_path):
    zero = torch.zeros(2)
    for sigma, message in (
        ([[1.0, 0.5], [0.4, 1.0]], "not symmetric"),
        ([[1.0, 2.0], [2.0, 1.0]], "eigenvalue -1"),
        ([[1.0, math.nan], [math.nan, 1.0]], "not finite"),
        ([[1.0]], "moments are mu"),
    ):
        with pytest.raises(InputError, match=message):
            Statistics.from_moments(zero, torch.tensor(sigma))
    with pytest.raises(InputError, match="n = 1"):
        Statistics.from_moments(zero, torch.eye(2), 1)
    (tmp_path / "text.npz").write_text("mu")
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    np.savez(tmp_path / "pickle.npz", mu=np.array([{}], dtype=object), sigma=np.eye(1))
    np.savez(tmp_path / "endless.npz", mu=np.zeros(1), sigma=np.eye(1), n=np.inf)
    np.savez(tmp_path / "words.npz", mu=np.array(["a"]), sigma=np.eye(1))
    for name, message in (
        ("text.npz", "truncated .npz file"),
        ("array.npy", "npz"),
        ("other.npz", "'mu' and 'sigma'"),
        ("pickle.npz", "truncated .npz file"),
        ("endless.npz", "n must be one number"),
        ("words.npz", "must hold numbers"),
        ("none.npz", "no statistics at"),
    ):
        with pytest.raises(InputError, match=message):
            Statistics.load(tmp_path / name)
    with pytest.raises(InputError, match="cannot write"):
        Statistics.of(normal(5, 2, 0)).save(tmp_path / "no" / "a.npz")


def test_invalid_features_are_errors():
    good = normal(10, 3, 0)
    for bad, message in (
        (normal(10, 4, 0), "4 and 3 dimensions"),
        (normal(1, 3, 0), "1 of the at least 2"),
        (normal(10, 3, 0)[None], r"shape \(n, d\)"),
        (torch.full((4, 3), math.inf), "not finite"),
        (np.zeros((0, 3)), "no points"),
    ):
        with pytest.raises(InputError, match=message):
            frechet(bad, good)
    with pytest.raises(InputError, match="labels"):
        per_class_frechet(good, torch.zeros(9, dtype=torch.int64), good, torch.zeros(10, dtype=torch.int64))
    with pytest.raises(InputError, match="integers"):
        per_class_frechet(good, torch.zeros(10), good, torch.zeros(10, dtype=torch.int64))
    with pytest.raises(ValueError, match="float64"):
        Statistics(5, torch.zeros(2), torch.zeros(2, 2))
