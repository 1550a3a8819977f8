"""Pictures of densities inside and outside a distribution: histograms, scatter plots, ROC curves, correlations.

Every function writes a .png, .svg or .pdf file. Groups are named sets of numbers (n,); where inside and outside matter,
the first group is inside. Legends lie beside the data, never on it.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from diffprob.base.errors import InputError
from diffprob.evaluation.correlation import matrix, pearson, spearman
from diffprob.evaluation.detection import auroc
from diffprob.evaluation.estimate import Estimate, Points
from diffprob.reporting.figures import named_grid, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Groups = Mapping[str, Points]

_TAIL = 0.005  # share of a group at either end that may lie beyond the axis
_BINS = 10, 80  # at least, at most
_LETTER = 0.55  # width of a letter in units of its height, rather more than less
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito: for all eyes


def histograms(path: str | Path, groups: Groups, title: str, xlabel: str, note: str = "") -> None:
    """Overlaid histograms on shared bins: the share of each group in each bin.

    The axis holds all but the outermost 0.5% of every group; what lies beyond is counted in the first and the last bin,
    and said below the axis.

    Args:
        note: a second line under the title, for instance the AUROC.

    Raises:
        InputError: no values, NaN, matplotlib is missing, or a file that cannot be written.
    """
    figure = _figure(6.4, 4.0)
    axes = figure.add_subplot()
    handles, beyond = _histogram(axes, _checked(groups))
    axes.set(xlabel=_wrapped(xlabel, 5.4, 10) + beyond, ylabel="share of each group")
    _head(axes, title, note)
    _legend(figure, handles)
    save_figure(figure, path)


def histogram_grid(path: str | Path, proxies: Mapping[str, Groups], title: str = "", columns: int = 3) -> None:
    """`histograms` of several proxies side by side, each with its own axis and its AUROC of the first group against
    each other one; every proxy has the same groups, in the same order.

    Raises:
        ValueError: fewer than 1 column.
        InputError: no proxies, proxies with different groups; else as `histograms`.
    """
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    checked = {name: _checked(groups) for name, groups in proxies.items()}
    if not checked or len({tuple(groups) for groups in checked.values()}) > 1:
        raise InputError(
            f"a grid needs proxies of the same groups, got {[list(groups) for groups in proxies.values()]}"
        )
    rows = math.ceil(len(checked) / (columns := min(columns, len(checked))))
    figure = _figure(max(3.1 * columns, 4.2), 2.5 * rows + 0.7)
    panels = np.ravel(figure.subplots(rows, columns, squeeze=False))
    handles = []
    for axes, (name, groups) in zip(panels, checked.items(), strict=False):
        handles, beyond = _histogram(axes, groups)
        inside, *others = groups.values()
        areas = ", ".join(f"{auroc(inside, outside).value:.3f}" for outside in others)
        _head(axes, name, f"AUROC {areas}" if areas else "", 10, 2.6)
        axes.set_xlabel(beyond.strip(), fontsize=7.5)
        axes.tick_params(labelsize=8)
        axes.locator_params(axis="x", nbins=5)
    for axes in panels[len(checked) :]:
        axes.set_visible(False)
    if title:
        figure.suptitle(_wrapped(title, figure.get_figwidth(), 12))
    _legend(figure, handles)
    save_figure(figure, path)


def scatter(
    path: str | Path, groups: Mapping[str, tuple[Points, Points]], title: str, xlabel: str, ylabel: str
) -> None:
    """Two numbers of each image against each other, with each group's Pearson r and Spearman rho in the legend.

    Pairs that are not finite are left out, and of the correlations too; the legend says how many are left.

    Args:
        groups: (x, y) of each group.

    Raises:
        InputError: x and y of different lengths; else as `histograms`.
    """
    figure = _figure(6.4, 4.6)
    axes = figure.add_subplot()
    pairs = {name: tuple(_checked({f"{name}, x": x, f"{name}, y": y}).values()) for name, (x, y) in groups.items()}
    if not pairs:
        raise InputError("there is no group to draw")
    most = max(len(x) for x, _ in pairs.values())
    handles = []
    for k, (name, (x, y)) in enumerate(pairs.items()):
        if len(x) != len(y):
            raise InputError(f"{name} has {len(x)} values of x and {len(y)} of y")
        kept = np.isfinite(x) & np.isfinite(y)
        style: dict[str, Any] = {"color": _COLOURS[k % len(_COLOURS)], "edgecolors": "none"}
        size = min(max(8000 / most, 5), 18)
        axes.scatter(x[kept], y[kept], s=size, alpha=min(max(600 / most, 0.25), 0.7), rasterized=most > 2000, **style)
        label = f"{name}: {_together(x[kept], y[kept])}n = {kept.sum()}" + f" of {len(x)}" * (not kept.all())
        handles.append(axes.scatter([], [], s=24, label=label, **style))
    axes.set(xlabel=_wrapped(xlabel, 5.4, 10), ylabel=_wrapped(ylabel, 3.4, 10))
    _head(axes, title)
    _dress(axes)
    _legend(figure, handles)
    save_figure(figure, path)


def roc(path: str | Path, curves: Mapping[str, tuple[Points, Points]], title: str) -> None:
    """ROC curves: the share of inside numbers at or above a threshold against that of outside ones, one curve a proxy.

    Args:
        curves: (inside, outside) of each proxy, higher being denser.

    Raises:
        InputError: as `histograms`.
    """
    if not curves:
        raise InputError("there is no curve to draw")
    axes = (figure := _figure(4.9, 5.1 + 0.2 * len(curves))).add_subplot()
    (chance,) = axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":", label="chance: 0.5")
    handles = []
    for k, (name, (one, two)) in enumerate(curves.items()):
        inside, outside = _checked({f"{name}, inside": one, f"{name}, outside": two}).values()
        false, true = _shares(inside, outside)
        area = auroc(inside, outside)
        label = f"{name}: {area.value:.3f} [{area.low:.3f}, {area.high:.3f}]"
        style = ("-", "--", "-.")[k // len(_COLOURS) % 3]
        handles += axes.plot(
            false, true, color=_COLOURS[k % len(_COLOURS)], linewidth=1.6, linestyle=style, label=label
        )
    axes.set(xlabel="false positives: share of outside", ylabel="true positives: share of inside")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    _head(axes, title, inches=3.6)
    _dress(axes)
    _legend(figure, [*handles, chance], "AUROC with its 95% interval")
    save_figure(figure, path)


def correlation_map(path: str | Path, correlations: Mapping[tuple[str, str], Estimate], title: str) -> None:
    """The correlations of `evaluate.correlation.matrix` as a square of colours and numbers, blue below 0, red above.

    Raises:
        InputError: no correlations; else as `histograms`.
    """
    if not correlations:
        raise InputError("there is no correlation to draw")
    names = list(dict.fromkeys(name for pair in correlations for name in pair))
    shown = [_wrapped(name, 1.9, 9) for name in names]
    values = np.full((len(names), len(names)), np.nan)
    np.fill_diagonal(values, 1.0)
    for (one, two), estimate in correlations.items():
        i, j = names.index(one), names.index(two)
        values[i, j] = values[j, i] = estimate.value
    side = 0.62 * len(names) + 0.08 * min(max(map(len, names)), 28) + 1.0
    axes = (figure := _figure(side + 0.9, side)).add_subplot()
    image = axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            text, colour = "1" if i == j else _signed(value, 2), "white" if abs(value) > 0.6 else "black"
            axes.text(j, i, text, ha="center", va="center", fontsize=9, color=colour)
    axes.set_xticks(range(len(names)), shown, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), shown)
    axes.tick_params(length=0, labelsize=9)
    axes.spines[:].set_visible(False)
    _head(axes, title, "", 11, side)
    figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02).outline.set_visible(False)
    save_figure(figure, path)


def comparison_figures(
    folder: Path, scores: Mapping[str, Mapping[str, np.ndarray]], inside: str, outside: Sequence[str]
) -> list[str]:
    """Histograms, ROC curves, correlations and scatter plots of the scores of sets, as files; returns their names.

    Args:
        folder: that exists.
        scores: (n,) numbers by proxy and by the name of the set.
        inside: name of the set of images that belong.
        outside: names of the others.

    Raises:
        InputError: the disk refuses.
    """
    sets, names = [inside, *outside], ["histograms.png"]
    groups = {label: {name: values[name] for name in sets} for label, values in scores.items()}
    histogram_grid(folder / "histograms.png", groups, f"{inside} (inside) and what is outside")
    for k, other in enumerate(outside):
        names.append("roc.png" if len(outside) == 1 else f"roc-{k + 1}.png")
        curves = {label: (values[inside], values[other]) for label, values in scores.items()}
        roc(folder / names[-1], curves, f"{inside} against {other}")
    labels = list(scores)
    varying = {label: scores[label][inside] for label in labels if len(set(scores[label][inside].tolist())) > 1}
    if len(varying) > 1:
        correlations = matrix(varying, ranks=True)
        correlation_map(folder / "correlations.png", correlations, f"rank correlations on {inside}")
        names.append("correlations.png")
    for k, label in enumerate(labels[1:]):
        pairs = {name: (scores[labels[0]][name], scores[label][name]) for name in sets}
        names.append(f"scatter-{k + 1}.png")
        scatter(folder / names[-1], pairs, f"{label} beside {labels[0]}", labels[0], label)
    return names


def map_sheet(images: np.ndarray, maps: np.ndarray, levels: int, names: Sequence[str]) -> tuple[Any, float]:
    """Images (N, C, H, W), with their names, above their maps (N, C, H, W), grey; and the value that is white.

    White is the 99.5% point of all maps.
    """
    means = maps.mean(1, keepdims=True)
    white = np.quantile(means, 0.995) or 1.0
    shown = np.rint((means / white).clip(0, 1) * (levels - 1)).astype(images.dtype)
    both = np.concatenate([images, np.broadcast_to(shown, images.shape)])
    return named_grid(both, [*names, *[""] * len(names)], len(images), levels), float(white)


def _histogram(axes: "Axes", groups: dict[str, np.ndarray]) -> tuple[list[Any], str]:
    """Draw the groups; the legend's handles, and what to say of values beyond the axis."""
    low, high = _span(list(groups.values()))
    edges = np.linspace(low, high, 1 + _bins(list(groups.values()), high - low))
    handles, beyond = [], 0
    for k, (name, values) in enumerate(groups.items()):
        beyond += int(((values < low) | (values > high)).sum())
        shares = np.histogram(values.clip(low, high), edges)[0] / len(values)
        axes.stairs(shares, edges, fill=True, color=_COLOURS[k % len(_COLOURS)], alpha=0.18)
        handles.append(axes.stairs(shares, edges, color=_COLOURS[k % len(_COLOURS)], linewidth=1.5, label=name))
    axes.set_xlim(low, high)
    axes.set_ylim(0, None)
    _dress(axes)
    total = sum(map(len, groups.values()))
    return handles, f"\n{beyond} of {total} beyond, counted at the ends" if beyond else ""


def _span(groups: list[np.ndarray]) -> tuple[float, float]:
    """The axis: everything, unless that is much wider than all but the tails of each group."""
    finite = [values[np.isfinite(values)] for values in groups]
    finite = [values for values in finite if len(values)]
    if not finite:
        return 0.0, 1.0
    low, high = (pick(float(np.quantile(v, q)) for v in finite) for pick, q in ((min, _TAIL), (max, 1 - _TAIL)))
    least, most = float(min(v.min() for v in finite)), float(max(v.max() for v in finite))
    if most - least <= 1.5 * (high - low):
        low, high = least, most
    room = 0.02 * (high - low) or 0.5 * abs(high) or 0.5
    return low - room, high + room


def _bins(groups: list[np.ndarray], span: float) -> int:
    """Their number by the rule of Freedman & Diaconis (1981) for the narrowest group: 2 (q75 - q25) n^(-1/3) wide."""
    quartiles = [np.quantile(values, [0.25, 0.75], method="nearest") for values in groups]
    widths = [2 * (q75 - q25) / len(v) ** (1 / 3) for (q25, q75), v in zip(quartiles, groups, strict=True) if q75 > q25]
    return int(np.clip(span / min(widths, default=span), *_BINS))


def _shares(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(false, true) positive rates at every distinct threshold from above, from (0, 0) to (1, 1)."""
    levels = np.unique(np.concatenate([inside, outside]))[::-1]
    rates = [1 - np.searchsorted(np.sort(v), levels, "left") / len(v) for v in (outside, inside)]
    return np.r_[0.0, rates[0]], np.r_[0.0, rates[1]]


def _together(x: np.ndarray, y: np.ndarray) -> str:
    """The correlations in words, or nothing where there are none."""
    try:
        correlations = pearson(x, y).value, spearman(x, y).value
    except InputError:  # too few, or all the same: the points are drawn without
        return ""
    return f"Pearson {_signed(correlations[0], 3)}, Spearman {_signed(correlations[1], 3)}, "


def _signed(value: float, digits: int) -> str:
    """With a minus sign as wide as a digit, and no minus zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\u2212")


def _checked(groups: Groups) -> dict[str, np.ndarray]:
    arrays = {}
    for name, values in groups.items():
        array = values.detach().cpu().double().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
        if array.ndim != 1 or len(array) == 0 or array.dtype.kind not in "fiu" or np.isnan(array).any():
            raise InputError(f"{name} must be real numbers (n,) without NaN, got {array.dtype} {tuple(array.shape)}")
        arrays[name] = array.astype(np.float64)
    if not arrays:
        raise InputError("there is no group to draw")
    return arrays


def _figure(width: float, height: float) -> "Figure":
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("figures need matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", h_pad=0.08, w_pad=0.06)
    return figure


def _head(axes: "Axes", title: str, note: str = "", size: float = 12, inches: float = 5.4) -> None:
    """The title over the axes, in as many lines as it takes."""
    axes.set_title("\n".join(_wrapped(part, inches, size) for part in (title, note) if part), fontsize=size)


def _wrapped(text: str, inches: float, size: float) -> str:
    """A user's name as text, not as a formula, in lines of letters of ``size`` points that fit."""
    return "\n".join(textwrap.wrap(text, int(72 * inches / size / _LETTER))).replace("$", r"\$")


def _dress(axes: "Axes") -> None:
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: "Figure", handles: list[Any], title: str | None = None) -> None:
    """Under the axes, in as many columns as there is room for."""
    room, size = figure.get_figwidth() - 0.8, 9
    names = [_wrapped(str(handle.get_label()), room, size) for handle in handles]
    widest = 0.6 + max(map(len, names)) * size * _LETTER / 72
    style = {"loc": "outside lower center", "frameon": False, "fontsize": size, "title": title}
    figure.legend(handles, names, ncols=max(1, min(len(names), int(room / widest))), **style)
