"""Detect images that are unlike a run's own by their density under it, measured by several proxies side by side.

A higher score always means denser, and no direction is chosen afterwards: an AUROC below 0.5 says that a proxy finds
the outside images denser. With DATA, its images are ranked among held-out images of the run's own data.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError
from diffprob.cli import output
from diffprob.cli.options import add_network, add_place, compute
from diffprob.cli.parser import add_device, add_dry_run, add_seed, component, share, whole
from diffprob.cli.progress import TERMINAL
from diffprob.cli.text import table

if TYPE_CHECKING:
    from diffprob.density.proxy import Proxy
    from diffprob.tasks.detection import DetectionRequest

EXAMPLES = (
    "diffprob detect digits pictures/                         # rank pictures among held-out digits",
    "diffprob detect fashion --data data/fashion --outside data/mnist   # its test images inside; the quick proxies",
    'diffprob detect runs/x --inside held/ --outside odd/ --proxy "NoiseNorm(t=0.02)" --proxy ScoreNorms',
    "diffprob detect fashion --outside data/mnist --with runs/fashion-gradient runs/fashion-glow",
    "diffprob detect runs/x odd/ --map AnomalyMap               # and where the least typical images are odd",
    "diffprob detect runs/x odd/ --resize --out odd-ones      # scores.csv, detect.json and figures in odd-ones/",
)

LOW = 0.05  # `diffprob.tasks.separation.LOW`, whose module imports torch
LEAST = 50  # `diffprob.density.proxy.LEAST`
FLAGGED = 20  # flagged images that are named on a screen
CSV = "scores.csv"
WAYS = ("pearson", "spearman", "partial")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, images that belong and that do not, the proxies, and where scores go."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of a packaged run (diffprob show runs)")
    parser.add_argument("judged", nargs="?", metavar="DATA", help="an image or images to rank (instead of --outside)")
    parser.add_argument(
        "--held-out",
        "--inside",
        dest="inside",
        metavar="DATA",
        help="images that belong (default: held-out images of the run's own data)",
    )
    parser.add_argument(
        "--outside", nargs="+", metavar="DATA", default=[], help="images that do not belong; one or more sets"
    )
    parser.add_argument(
        "--proxy",
        action="append",
        metavar="P",
        help='a proxy such as "NoiseNorm(t=0.02)"; may be repeated; standard; all: slow ones too (default: quick ones)',
    )
    parser.add_argument(
        "--with", nargs="+", default=[], dest="others", metavar="RUN", help="potentials and baselines to compare with"
    )
    parser.add_argument(
        "--map",
        metavar="M",
        help='with DATA: draw anomaly maps of the least typical images, such as by "AnomalyMap(t=0.25)"',
    )
    parser.add_argument(
        "-n", type=whole(1), default=500, metavar="N", help="at most N images of each set (default 500)"
    )
    add_place(parser)
    parser.add_argument(
        "--false-alarms",
        type=share,
        default=LOW,
        metavar="A",
        help=f"with DATA: flag images with a conformal p-value of at most A, the share of false alarms (default {LOW})",
    )
    parser.add_argument(
        "--fit-images",
        type=whole(LEAST),
        default=500,
        metavar="N",
        help="training images that proxies are fitted to (default 500)",
    )
    parser.add_argument(
        "--out", metavar="FOLDER", help="folder for scores.csv, detect.json and figures (default detect-NAME)"
    )
    add_network(parser)
    add_seed(parser, "decides which images, and their noise: image i of a set has the seed N + i (default 0)")
    add_device(parser)
    add_dry_run(parser, "check everything and say what would be measured, without measuring")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, fit where needed, compare, write."""
    from diffprob.runs.folder import Run
    from diffprob.tasks.detection import measure_detection, prepare_detection
    from diffprob.tasks.detection_files import save_detection
    from diffprob.tasks.recording import recorded

    request = _request(args)
    run = Run.open(args.run)
    out = Path(args.out or f"detect-{run.name}")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; a folder would be right")
    output.check_writable(out)
    prepared = prepare_detection(run, request, TERMINAL)
    if args.dry_run:
        return {**prepared.settings, "out": str(out), "dry_run": True}
    detection = measure_detection(prepared, TERMINAL)
    result = {**detection.to_json(), "out": str(out), "dry_run": False, "files": []}

    def write() -> None:
        result.update(save_detection(out, detection, run.space.levels, out=str(out), dry_run=False))

    kept = output.written(write)
    if detection.fits.new:
        recorded(run, lambda: detection.fits.keep(run), TERMINAL)
    return {**result, **kept}


def _request(args: argparse.Namespace) -> "DetectionRequest":
    """What the options ask for.

    Raises:
        InputError: a component that there is not, or options that exclude each other.
    """
    from diffprob.tasks.detection import DetectionRequest

    if (args.judged is None) == (not args.outside):
        raise InputError("give DATA to rank, or --outside DATA to compare with: one of the two")
    if args.map and not args.judged:
        raise InputError("--map belongs to DATA, whose least typical images it shows, not to --outside")
    return DetectionRequest(
        judged=args.judged,
        outside=tuple(args.outside),
        inside=args.inside,
        proxies=_proxies(args.proxy) if args.proxy else None,
        others=tuple(args.others),
        map=component(_called(args.map), "--map", "map") if args.map else None,
        n=args.n,
        seed=args.seed,
        false_alarms=args.false_alarms,
        fit_images=args.fit_images,
        place=args.data,
        resize=args.resize,
        compute=compute(args),
    )


def _proxies(texts: list[str]) -> "tuple[Proxy, ...]":
    from diffprob.density.defaults import SLOW, STANDARD

    chosen: list[Proxy] = []
    for text in texts:
        if text in ("all", "standard"):
            chosen += STANDARD + (SLOW if text == "all" else ())
        else:
            chosen.append(component(_called(text), "--proxy", "proxy"))
    return tuple(chosen)


def _called(text: str) -> str:
    return text if "(" in text else f"{text}()"


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    sets = ", ".join(f"{images['n']:,} of {images['name']}" for images in result["outside"])
    yield f"{result['run']}: {result['inside']['n']:,} images of {result['inside']['name']} inside, {sets}"
    if result["dry_run"]:
        yield f"would measure {', '.join(result['proxies'])}; {result['out']} would hold the scores"
        return
    yield from _compared(result) if "separation" in result else _ranked(result)
    yield from _integrable(result)
    if "not_written" not in result:
        yield f"wrote {result['out']}/: {', '.join(result['files'])}"


def _compared(result: dict[str, Any]) -> Iterator[str]:
    """The tables of a comparison."""
    names = [images["name"] for images in result["outside"]]
    by = {(row["proxy"], row["outside"]): row for row in result["separation"]}
    for name in names:
        yield f"inside against {name}; higher scores are denser, nothing was turned round:"
        rows = [
            (
                label,
                *(_interval(by[label, name][column]) for column in ("auroc", "aupr_inside", "aupr_outside", "fpr95")),
            )
            for label in result["proxies"]
        ]
        yield from table(rows, ("proxy", "AUROC", "AUPR inside", "AUPR outside", "FPR95"))
    first = result["proxies"][0]
    near = [row for row in result["correlations"] if first in (row["one"], row["two"])]
    if near:
        yield f"correlation with {first} on the inside images:"
        rows = [
            (row["two"] if row["one"] == first else row["one"], *(f"{row[k]['value']:+.3f}" for k in WAYS if k in row))
            for row in near
        ]
        yield from table(rows, ("proxy", "Pearson", "Spearman", "given complexity")[: len(rows[0])])


def _integrable(result: dict[str, Any]) -> Iterator[str]:
    """How far the run's own noise prediction is from a gradient."""
    yield "how far the noise prediction is from a gradient field (rho: 0 a gradient, 0.5 a random matrix):"
    rows = [
        (f"{row['t']:g}", f"{row['rho']:.4f} +- {row['rho_error']:.4f}", f"{row['loop']:.2e}")
        for row in result["integrability"]
    ]
    yield from table(rows, ("t", "rho", "loop integral / length"))


def _interval(cell: dict[str, Any]) -> str:
    return f"{cell['value']:.3f} ({cell['low']:.3f} to {cell['high']:.3f})"


def _ranked(result: dict[str, Any]) -> Iterator[str]:
    """The tables of a ranking."""
    alarms, n = result["false_alarms"], result["inside"]["n"]
    yield f"flagged: a conformal p-value (k + 1) / (n + 1) of at most {alarms:g}, where k of the n = {n} inside score"
    yield f"no higher; of images that belong, {alarms:.0%} at most are flagged"
    names = dict(zip(result["images"], result["image_files"] or map(str, result["images"]), strict=True))
    for row in result["ranks"]:
        flagged, total = row["flagged"], len(result["images"])
        p = dict(zip(result["images"], row["p_values"], strict=True))
        yield f"{row['proxy']}: {len(flagged)} of {total} image{'s' if total > 1 else ''} flagged"
        shown = [(names[k], f"{p[k]:.4f}") for k in row["least"] if k not in flagged] if not flagged else []
        shown += [(names[k], f"{p[k]:.4f} flagged") for k in flagged[:FLAGGED]]
        yield from table(shown, ("least typical", "p-value"))
        if len(flagged) > FLAGGED:
            yield f"... and {len(flagged) - FLAGGED} more in {CSV}"
