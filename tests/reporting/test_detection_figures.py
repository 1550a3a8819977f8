"""Figures of detection: what is drawn is read back from the objects of matplotlib, and from the pixels."""

import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from diffprob.base.errors import InputError
from diffprob.evaluation.correlation import matrix, pearson, spearman
from diffprob.evaluation.detection import auroc
from diffprob.reporting import detection
from diffprob.reporting.detection import correlation_map, histogram_grid, histograms, roc, scatter

RNG = np.random.default_rng(0)
INSIDE, OUTSIDE = RNG.normal(3, 1, 400), RNG.normal(1, 2, 300)
GROUPS = {"Fashion-MNIST (inside)": INSIDE, "MNIST (outside)": OUTSIDE}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were written, in order."""
    figures: list[Figure] = []
    save = detection.save_figure
    monkeypatch.setattr(detection, "save_figure", lambda figure, path: (figures.append(figure), save(figure, path)))
    return figures


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def outlines(axes):
    """(heights, edges) of the outlines of the histograms, without their fillings."""
    return [patch.get_data()[:2] for patch in axes.patches if not patch.get_fill()]


def assert_nothing_overlaps(figure):
    """Titles, tick labels and legends lie within the picture, and legends off the axes."""
    renderer = figure.canvas.get_renderer()
    width, height = figure.canvas.get_width_height()
    legends = [legend.get_window_extent(renderer) for legend in figure.legends]
    for axes in (axes for axes in figure.axes if axes.get_visible()):
        box = axes.get_tightbbox(renderer)
        assert box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1
        assert not any(box.overlaps(legend) for legend in legends)
    for legend in legends:
        assert legend.x0 > 0 and legend.y0 > 0 and legend.x1 < width and legend.y1 < height
    boxes = [axes.get_tightbbox(renderer) for axes in figure.axes if axes.get_visible()]
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])


def test_histograms_share_their_bins(tmp_path, drawn):
    histograms(tmp_path / "x.png", GROUPS, "Noise norm", "S", "AUROC 0.8")
    (figure,) = drawn
    (axes,) = figure.axes
    (one, edges), (two, same) = outlines(axes)
    assert np.array_equal(edges, same)
    for shares, values in ((one, INSIDE), (two, OUTSIDE)):
        assert shares.sum() == pytest.approx(1, rel=1e-12)
        assert np.array_equal(shares[1:-1], np.histogram(values, edges)[0][1:-1] / len(values))
    assert axes.get_title() == "Noise norm\nAUROC 0.8" and axes.get_xlabel() == "S"
    assert labels(figure) == list(GROUPS)
    assert_nothing_overlaps(figure)
    assert Image.open(tmp_path / "x.png").size == (960, 600)


def test_outliers_do_not_set_the_axis_range(tmp_path, drawn):
    far = np.r_[INSIDE, -1e6, -np.inf]
    histograms(tmp_path / "x.png", {"inside": far, "outside": OUTSIDE}, "", "S")
    (axes,) = drawn[0].axes
    (shares, edges), _ = outlines(axes)
    assert edges[0] > OUTSIDE.min() - 1 and edges[-1] < INSIDE.max() + 1
    beyond = sum(((v < edges[0]) | (v > edges[-1])).sum() for v in (far, OUTSIDE))
    assert f"{beyond} of 702 beyond, counted at the ends" in axes.get_xlabel()
    assert shares.sum() == pytest.approx(1) and shares[0] >= 2 / 402
    # 0 for every image, and nothing but infinite values, can be drawn too.
    histograms(tmp_path / "y.png", {"none": np.full(5, -np.inf), "same": np.zeros(9)}, "", "S")
    assert [s.sum() for s, _ in outlines(drawn[1].axes[0])] == pytest.approx([1, 1])


def test_grid_has_a_panel_and_an_auroc_for_each_proxy(tmp_path, drawn):
    third = {"uniform noise, as it comes": RNG.normal(size=50)}
    proxies = {"V_0": GROUPS | third, "a long name " * 4: {name: -v for name, v in (GROUPS | third).items()}}
    histogram_grid(tmp_path / "x.png", proxies | {f"p{k}": GROUPS | third for k in range(3)}, "Proxies", columns=3)
    histogram_grid(tmp_path / "y.png", {"V_0": GROUPS | third})
    figure = drawn[0]
    assert [axes.get_visible() for axes in figure.axes] == [True] * 5 + [False]
    for sign, axes in ((1, figure.axes[0]), (-1, figure.axes[1])):
        wanted = [
            auroc(sign * INSIDE, sign * OUTSIDE),
            auroc(sign * INSIDE, sign * third["uniform noise, as it comes"]),
        ]
        assert axes.get_title().endswith("AUROC " + ", ".join(f"{e.value:.3f}" for e in wanted))
        assert len(outlines(axes)) == 3
    assert "\n" in figure.axes[1].get_title().removesuffix("\n" + figure.axes[1].get_title().split("\n")[-1])
    for figure in drawn:
        assert labels(figure) == [*GROUPS, *third]
        assert_nothing_overlaps(figure)


def test_scatter_names_both_correlations(tmp_path, drawn):
    x, y = INSIDE, -INSIDE + RNG.normal(size=400)
    broken = np.where(np.arange(300) < 7, np.inf, OUTSIDE)
    groups = {"$CIFAR": (x, y), "SVHN": (broken, OUTSIDE**3), "few": (x[:2], y[:2])}
    scatter(tmp_path / "x.png", groups, "V_0 and S", "V_0", "S")
    (figure,) = drawn
    r, rho = (f"\u2212{abs(f(x, y).value):.3f}" for f in (pearson, spearman))
    first, second, third = labels(figure)
    assert first == rf"\$CIFAR: Pearson {r}, Spearman {rho}, n = 400"
    assert "Spearman 1.000" in second and second.endswith("n = 293 of 300")
    assert third == "few: n = 2"
    points = [c.get_offsets() for c in figure.axes[0].collections if len(c.get_offsets())]
    assert np.array_equal(points[0], np.stack([x, y], 1)) and len(points[1]) == 293
    assert_nothing_overlaps(figure)


def test_roc_curves_enclose_their_area(tmp_path, drawn):
    ties = RNG.integers(0, 4, 50), RNG.integers(0, 3, 60)
    curves = {
        "Typicality(statistic='bound', terms=20, noises=16, t=0.0045)": (INSIDE, OUTSIDE),
        "V_0": (INSIDE, OUTSIDE),
        "other way": (-INSIDE, -OUTSIDE),
        "levels": ties,
        "inf": (INSIDE - np.inf, ties[1]),
    }
    roc(tmp_path / "x.png", curves, "Fashion-MNIST against MNIST")
    (figure,) = drawn
    _, *lines = figure.axes[0].lines
    for line, label, (inside, outside) in zip(lines, labels(figure), curves.values(), strict=False):
        x, y = line.get_data()
        assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
        estimate = auroc(inside, outside)
        assert np.trapezoid(y, x) == pytest.approx(estimate.value, rel=1e-12, abs=1e-15)
        assert label.replace("\n", " ").endswith(f": {estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]")
    assert len(lines) == 5 and labels(figure)[-1] == "chance: 0.5"
    assert_nothing_overlaps(figure)


def test_correlation_map_is_symmetric_and_annotated(tmp_path, drawn):
    base = RNG.normal(size=200)
    correlations = matrix(
        {"V_0": base, "noise norm": -base + RNG.normal(size=200), "a name that is long": RNG.normal(size=200)}
    )
    correlation_map(tmp_path / "x.png", correlations, "Pearson's r")
    (figure,) = drawn
    axes = figure.axes[0]
    values = np.asarray(axes.images[0].get_array())
    assert np.array_equal(values, values.T) and np.all(np.diag(values) == 1)
    assert values[0, 1] == correlations["V_0", "noise norm"].value < -0.5
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert len(texts) == 9 and texts[0, 0] == "1"
    assert texts[1, 0] == texts[0, 1] == f"\u2212{-values[0, 1]:.2f}"
    assert detection._signed(-0.001, 2) == "0.00"
    assert [t.get_text() for t in axes.get_yticklabels()] == ["V_0", "noise norm", "a name that is long"]
    assert axes.images[0].get_clim() == (-1, 1)
    assert_nothing_overlaps(figure)


def test_missing_matplotlib_is_an_error_with_advice(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="pip install matplotlib"):
        histograms(tmp_path / "x.png", GROUPS, "", "")


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda p: histograms(p / "x.png", {}, "", ""), "no group"),
        (lambda p: histograms(p / "x.png", {"V_0": np.array([np.nan])}, "", ""), r"V_0 must be real numbers"),
        (lambda p: histograms(p / "x.png", {"V_0": np.zeros((2, 2))}, "", ""), r"got float64 \(2, 2\)"),
        (lambda p: histograms(p / "x.png", {"V_0": np.zeros(0)}, "", ""), "V_0 must be"),
        (lambda p: histograms(p / "none" / "x.png", GROUPS, "", ""), "cannot write the figure"),
        (lambda p: histograms(p / "x.doc", GROUPS, "", ""), "cannot write the figure"),
        (lambda p: histogram_grid(p / "x.png", {}), "proxies of the same groups"),
        (lambda p: histogram_grid(p / "x.png", {"a": GROUPS, "b": {"c": INSIDE}}), "proxies of the same groups"),
        (lambda p: scatter(p / "x.png", {"a": (INSIDE, OUTSIDE)}, "", "", ""), "400 values of x and 300 of y"),
        (lambda p: scatter(p / "x.png", {}, "", "", ""), "no group"),
        (lambda p: roc(p / "x.png", {}, ""), "no curve"),
        (lambda p: roc(p / "x.png", {"a": (INSIDE, np.array(["b"]))}, ""), "a, outside must be real numbers"),
        (lambda p: correlation_map(p / "x.png", {}, ""), "no correlation"),
    ],
)
def test_invalid_input_is_an_error(tmp_path, draw, message):
    with pytest.raises(InputError, match=message) as caught:
        draw(tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="columns"):
        histogram_grid(tmp_path / "x.png", {"a": GROUPS}, columns=0)
