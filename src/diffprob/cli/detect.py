"""Tell images that belong from images that do not, by what a run says of their density: every proxy, side by side.

Higher is denser, always, and no direction is chosen after looking: an AUROC below 0.5 says that a proxy finds the
outside images denser. With DATA alone its images are ranked among held-out images of the run's own data.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError
from diffprob.cli import output
from diffprob.cli.options import add_place
from diffprob.cli.output import written
from diffprob.cli.parser import add_device, add_dry_run, add_seed, component, share, whole
from diffprob.cli.progress import TERMINAL, Progress, say
from diffprob.cli.scoring import ImageSet, Subject, score_sets, subjects, take

if TYPE_CHECKING:
    import torch

    from diffprob.density.proxy import Proxy
    from diffprob.runs.folder import Run
    from diffprob.runs.images import OwnImages

EXAMPLES = (
    "diffprob detect digits pictures/                         # rank pictures among held-out digits",
    "diffprob detect fashion --data data/fashion --outside data/mnist   # its test images inside; every proxy",
    'diffprob detect runs/x --inside held/ --outside odd/ --proxy "NoiseNorm(t=0.02)" --proxy ScoreNorms',
    "diffprob detect fashion --outside data/mnist --with runs/fashion-gradient runs/fashion-glow",
    "diffprob detect runs/x odd/ --map AnomalyMap               # and where the least typical images are odd",
    "diffprob detect runs/x odd/ --resize --out odd-ones      # scores.csv, detect.json and figures in odd-ones/",
)

LOW = 0.05  # of the images that belong, so many are flagged
MAPS = "maps.png"
LEAST = 50  # images of a set that is compared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of a packaged run (diffprob show runs)")
    parser.add_argument("judged", nargs="?", metavar="DATA", help="images to rank, or one (instead of --outside)")
    parser.add_argument(
        "--held-out", "--inside", dest="inside", metavar="DATA", help="images that belong (the run's own held-out ones)"
    )
    parser.add_argument("--outside", nargs="+", metavar="DATA", default=[], help="images that do not; several sets")
    parser.add_argument(
        "--proxy",
        action="append",
        metavar="P",
        help='such as "NoiseNorm(t=0.02)"; may be repeated; all: every one, also the slow (all but those)',
    )
    parser.add_argument(
        "--with", nargs="+", default=[], dest="others", metavar="RUN", help="potentials and baselines to compare with"
    )
    parser.add_argument(
        "--map", metavar="M", help='with DATA: anomaly maps of the least typical images, by "AnomalyMap(t=0.25)" or so'
    )
    parser.add_argument("-n", type=whole(1), default=500, metavar="N", help="at most so many images of each set (500)")
    add_place(parser)
    parser.add_argument(
        "--false-alarms",
        type=share,
        default=LOW,
        metavar="A",
        help=f"with DATA: flag images of a conformal p-value of at most A, which A of all that belong have ({LOW})",
    )
    parser.add_argument(
        "--fit-images",
        type=whole(LEAST),
        default=500,
        metavar="N",
        help="training images that proxies are fitted to (500)",
    )
    parser.add_argument("--out", metavar="FOLDER", help="scores.csv, detect.json and figures (detect-NAME)")
    parser.add_argument("--batch", type=whole(1), metavar="N", help="images per network call; decides the last bits")
    parser.add_argument("--best", action="store_true", help="the best averaged weights that the training watched for")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of the network (fp32)")
    add_seed(parser, "which images, and their noise: image i of a set has the seed N + i (0)")
    add_device(parser)
    add_dry_run(parser, "check everything and say what would be measured, without measuring")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, fit where needed, compare, write."""
    from diffprob.cli.verdict import compare, rank, write
    from diffprob.runs.folder import Run
    from diffprob.runs.images import OwnImages
    from diffprob.tasks.compute import choose_device, weights_facts

    if (args.judged is None) == (not args.outside):
        raise InputError("give DATA to rank, or --outside DATA to compare with: one of the two")
    if args.map and not args.judged:
        raise InputError("--map belongs to DATA, whose least typical images it shows, not to --outside")
    mapped = component(args.map if "(" in args.map else f"{args.map}()", "--map", "map") if args.map else None
    found, device = Run.open(args.run), choose_device(args.device)
    out = Path(args.out or f"detect-{found.name}")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; a folder would be right")
    output.check_writable(out)
    chosen = _proxies(args)
    measured = subjects(found, chosen, args.others, device, args)
    own = OwnImages(found, args.data)
    inside, outside = _sets(args, found, own)
    for text in own.notes:
        say(text)
    fitting = _fitting(args, own) if any(subject.proxy.needs_fit for subject in measured) else None
    about = {
        "run": found.place,
        **weights_facts(found, args.best),
        "proxies": [subject.label for subject in measured],
        "inside": {"name": inside.name, **inside.about},
        "outside": [{"name": each.name, **each.about} for each in outside],
        "fitted_to": None if fitting is None else fitting.about,
        "seed": args.seed,
        "precision": args.precision,
        "device": str(device),
        "out": str(out),
        "dry_run": args.dry_run,
    }
    if args.dry_run:
        return about
    scores = score_sets(found, measured, (inside, *outside), fitting, device, args.seed, args.precision, args.best)
    result = {
        **about,
        **(rank(scores, inside, outside[0], args.false_alarms) if args.judged else compare(scores, inside, outside)),
    }
    result["integrability"] = _integrability(args, found, inside, device)

    def keep() -> None:
        if mapped is not None:
            result["map"] = repr(mapped)
            _map(mapped, out, result, outside[0], measured[0], found, args.seed, device)
        write(out, result, scores, (inside, *outside), found.space.levels)

    return {**result, **written(keep), "files": result.get("files", [])}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    from diffprob.cli.verdict import compared, integrable, ranked

    sets = ", ".join(f"{each['n']:,} of {each['name']}" for each in result["outside"])
    yield f"{result['run']}: {result['inside']['n']:,} images of {result['inside']['name']} inside, {sets}"
    if result["dry_run"]:
        yield f"would measure {', '.join(result['proxies'])}; {result['out']} would hold the scores"
        return
    yield from compared(result) if "separation" in result else ranked(result)
    yield from integrable(result)
    if "not_written" not in result:
        yield f"wrote {result['out']}/: {', '.join(result['files'])}"


def _proxies(args: argparse.Namespace) -> "list[Proxy]":
    from diffprob.density.choose import DEFAULT, SLOW, STANDARD

    wanted = args.proxy or ([] if args.judged else ["standard"])
    found: list[Proxy] = [] if wanted and wanted != ["standard"] else [DEFAULT]
    for text in wanted:
        if text in ("all", "standard"):
            found += STANDARD + (SLOW if text == "all" else ())
        else:
            found.append(component(text if "(" in text else f"{text}()", "--proxy", "proxy"))
    return list(dict.fromkeys(found))


def _sets(args: argparse.Namespace, run: "Run", own: "OwnImages") -> tuple[ImageSet, list[ImageSet]]:
    """The images inside and the others, equally many of each unless they are ranked."""
    from diffprob.tasks.images import held_out_of, measured_on

    if args.inside is None:
        held, given = own.test, []
        if held is None:
            raise InputError(f"{run.name}: its data has no held-out images; --held-out DATA would be right")
    else:
        held, given = held_out_of(run, args.inside, TERMINAL, args.data, args.resize), [args.inside]
    texts = args.outside or [args.judged]
    name, *names = _names([*given, *texts]) if given else [f"{run.name} test", *_names(texts)]
    found = [measured_on(run, text, TERMINAL, resize=args.resize) for text in texts]
    others = list(zip(found, names, strict=True))
    n = min([args.n, len(held), *(len(found) for found, _ in others if args.outside)])
    for found, name_of in [(held, name), *(others if args.outside else [])]:
        if len(found) < LEAST:
            raise InputError(f"{name_of}: {len(found)} images; a comparison needs at least {LEAST}")
    if n < LEAST:
        raise InputError(f"-n {n}: at least {LEAST} images of each set would be right")
    again = next((name_of for found, name_of in others if found.digest == held.digest), None)
    if again is not None:
        raise InputError(f"{again} and {name}: the same data twice, its images are the very ones inside")
    if args.judged and args.false_alarms * (n + 1) < 1:
        raise InputError(
            f"--false-alarms {args.false_alarms:g}: {n} images inside can flag at a rate of at least {1 / (n + 1):.2g}"
        )
    return take(held, n, args.seed, name), [
        take(found, n if args.outside else len(found), args.seed, name_of) for found, name_of in others
    ]


def _names(texts: list[str]) -> list[str]:
    """A name for each place of data: its last part, or all of it where last parts repeat.

    Raises:
        InputError: the same place twice.
    """
    short = [Path(text).name or text for text in texts]
    names = short if len(set(short)) == len(short) else texts
    if len(set(names)) < len(names):
        raise InputError(f"{' '.join(texts)}: the same data twice")
    return names


def _fitting(args: argparse.Namespace, own: "OwnImages") -> ImageSet:
    found = own.train
    if len(found) < LEAST:
        raise InputError(f"{found.images.name}: {len(found)} images; proxies are fitted to at least {LEAST}")
    return take(found, args.fit_images, args.seed, "training images")


def _map(
    mapped: Any,
    out: Path,
    result: dict[str, Any],
    judged: ImageSet,
    subject: Subject,
    run: "Run",
    seed: int,
    device: "torch.device",
) -> None:
    """maps.png: the least typical images above what the model would have put there otherwise."""
    import numpy as np
    import torch

    from diffprob.base.rng import Rng
    from diffprob.cli.verdict import maps_png

    places = np.flatnonzero(np.isin(judged.index, result["ranks"][0]["least"]))
    order = np.argsort(np.array(result["ranks"][0]["scores"])[places], kind="stable")
    chosen = places[order]
    x0 = run.space.to_model(torch.from_numpy(judged.levels[chosen]).to(device))
    say(f"anomaly maps of {len(chosen)} images: {mapped!r}")
    found = mapped(subject.model, x0, Rng.of_images(seed, judged.levels[chosen], device))
    result["map_means"] = [float(value) for value in found.flatten(1).mean(1)]
    names = [judged.called(place) for place in chosen]
    maps = maps_png(judged.levels[chosen], found.cpu().numpy(), run.space.levels, repr(mapped), names)
    output.write_file(out / MAPS, maps)


_TIMES = (0.01, 0.1, 0.5)  # at which a field is looked at
_LOOKED_AT = 16  # images


def _integrability(
    args: argparse.Namespace, run: "Run", inside: ImageSet, device: "torch.device"
) -> list[dict[str, Any]]:
    """How far the run's own noise prediction is from a gradient field, by the full precision of the network."""
    from dataclasses import asdict

    import torch

    from diffprob.base.rng import Rng
    from diffprob.density.integrability import integrability

    model = run.load(device, _LOOKED_AT, best=args.best)
    x0 = run.space.to_model(torch.from_numpy(inside.levels[:_LOOKED_AT]).to(device))
    rng = Rng.of_images(args.seed, inside.levels[:_LOOKED_AT], device)
    found = []
    with Progress("integrability", len(_TIMES), "time") as bar:
        for k, t in enumerate(_TIMES):
            found.append(asdict(integrability(model, x0, [t], rng.fold(f"{t}"))[0]))
            bar.update(k + 1)
    return found
