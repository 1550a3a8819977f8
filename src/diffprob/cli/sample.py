"""Draw images from a run. Image i depends on the seed + i alone, not on how many are drawn with it.

With --from, noise is added to an image up to each time of --at, once, and the chain goes on from there many times with
noise of its own: draws of p(x_0 | x_t). With --reconstruct it is taken up to the noise and back by DDIM.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffprob.base.errors import InputError
from diffprob.cli import between, gallery, output
from diffprob.cli.options import add_drawing, sampling
from diffprob.cli.parser import add_device, add_dry_run, share, whole
from diffprob.cli.progress import TERMINAL, Progress, say
from diffprob.storage.files import check_replaceable

EXAMPLES = (
    "diffprob sample mnist                                   # 64 digits in 50 evaluations, into samples.png",
    "diffprob sample mnist --steps 8                         # a sampler and a grid that suit 8 evaluations",
    'diffprob sample runs/x -n 16 --sampler "Ancestral()" --steps 1000 --variance "UnitData()"   # DDPM as published',
    'diffprob sample runs/x --sampler "DDIM(eta=0.5)" --grid "Karras(rho=7)" --steps 20 --progressive',
    "diffprob sample runs/x -n 10000 --out samples.npz       # arrays images, seeds, metadata",
    "diffprob sample runs/x -n 100 --seed 7 --out pictures/  # one PNG an image, its seed in the name",
    "diffprob sample mnist_labels --label 7 --guidance 0.5   # sevens, and clearer ones than without guidance",
    'diffprob sample runs/captioned_digits --caption "two small sevens" "a large three" --guidance 1',
    "diffprob sample mnist --from path/to/mnist:0 --at 0.25 0.5 0.75   # 8 images from each x_t, which they share",
    "diffprob sample mnist --from seven.png --reconstruct              # up to the noise and back, by DDIM",
)

ROWS = 8  # images that a progression follows
COUNT, COUNT_FROM = 64, 8
AT = (0.25, 0.5, 0.75)  # where chains from an image start unless told


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of a packaged run (diffprob show runs)")
    add_drawing(parser, None)
    parser.add_argument(
        "-n", type=whole(1), metavar="N", help=f"how many images ({COUNT}; with --from {COUNT_FROM} from each time)"
    )
    parser.add_argument(
        "--out", default="samples.png", metavar="PATH", help="x.png (a grid), x.npz or a folder (samples.png)"
    )
    parser.add_argument(
        "--progressive", action="store_true", help="also draw how the predicted image changes along the chain"
    )
    parser.add_argument(
        "--from", dest="source", metavar="IMAGE", help=f"go on from this image with noise added: {between.IMAGE}"
    )
    parser.add_argument(
        "--at", nargs="+", type=share, metavar="T", help="with --from: up to these times, in (0, 1] (0.25 0.5 0.75)"
    )
    parser.add_argument(
        "--reconstruct", action="store_true", help="with --from: find the latent at --at (1) by DDIM, and decode it"
    )
    add_device(parser)
    add_dry_run(parser, "check everything and say what would be done, without drawing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Draw and write; the result says everything that decided the images."""
    from diffprob.runs.folder import Run
    from diffprob.tasks.sample import SampleRequest, draw_sample, prepare_sample

    if args.source is not None:
        return _reconstructed(args) if args.reconstruct else _predicted(args)
    if args.at is not None or args.reconstruct:
        option = "--reconstruct" if args.reconstruct else "--at"
        raise InputError(f"{option} goes with --from IMAGE, {between.IMAGE}")
    kind = output.kind_of(args.out)
    if kind == "folder":
        gallery.check(args.out)
    run = Run.open(args.run)
    request = SampleRequest(sampling=sampling(args, args.n or COUNT), progressive=ROWS if args.progressive else 0)
    prepared = prepare_sample(run, request, TERMINAL)
    beside = _beside(args.out, kind) if args.progressive else None
    if beside is not None:
        output.check_writable(beside, "--progressive")
        check_replaceable(beside)
    if args.dry_run:
        return {**prepared.to_json(), "out": args.out, "progression": None, "dry_run": True}
    samples = draw_sample(prepared, TERMINAL)
    progression = None if beside is None else output.progression_png(samples.frames, run.space.levels, samples.times)
    write(kind, args.out, samples.images, request.sampling.seed, run.space.levels, samples.facts, progression)
    if beside is not None and progression is not None and kind != "folder":
        output.write_file(beside, progression)
    written = {"out": args.out, "progression": None if beside is None else str(beside)}
    return {**samples.to_json(), **written, "dry_run": False}


def _predicted(args: argparse.Namespace) -> dict[str, Any]:
    """``--from``: n images from one x_t each."""
    import numpy as np

    from diffprob.base.rng import Rng
    from diffprob.runs.folder import Run
    from diffprob.sampling.between import noised
    from diffprob.tasks.drawing import counted

    if args.progressive:
        raise InputError("--progressive and --from exclude each other")
    kind, found, n = between.no_folder(args.out), Run.open(args.run), args.n or COUNT_FROM
    args.n, original = n, between.read_image(args.source, "--from", found)
    rows = between.prepare_rows(args, found, args.at or AT)
    choice, total = rows.choice, rows.calls(n)
    if choice.sampler.order is not None:
        say(f"note: {choice.sampler!r} draws nothing: from one x_t all {n} images are the same")
    choice.facts.update(between.source_facts("from", args.source, original))
    result = {**choice.facts, "run": found.place, "n": n, "network_calls": total, "out": args.out}
    if not args.dry_run:
        streams, drawn = Rng.of(args.seed, n, device=rows.device), []
        x0 = rows.to_model(original)
        with Progress("sample", total, "network call") as progress, counted(choice.model, progress.update):
            for t in rows.at:
                # One noise for all chains of all rows: that of the first seed.
                xt = noised(choice.model.process, x0, t, streams.select(slice(1)))
                images = rows.decode(xt.expand(n, *xt.shape[1:]), t, streams)
                drawn.append(np.concatenate([original, rows.visible(xt, t), images]))
        result["network_calls"] = progress.done
        between.write_rows(kind, args.out, drawn, streams, found.space.levels, choice.facts)
    return {**result, "dry_run": args.dry_run}


def _reconstructed(args: argparse.Namespace) -> dict[str, Any]:
    """``--from --reconstruct``: up by DDIM and down again."""
    import numpy as np

    from diffprob.base.rng import Rng
    from diffprob.runs.folder import Run
    from diffprob.tasks.drawing import counted

    if args.progressive or args.n is not None:
        option = "--progressive" if args.progressive else "-n"
        raise InputError(f"{option} and --reconstruct exclude each other: there is one way up and one down")
    kind, found = between.no_folder(args.out), Run.open(args.run)
    args.n, original = 1, between.read_image(args.source, "--from", found)
    between.only_ddim(args, "--reconstruct")
    rows = between.prepare_rows(args, found, args.at or (1.0,), alone=True)
    total = rows.calls(1, 1)
    facts = {**rows.choice.facts, **between.source_facts("from", args.source, original), "rmse": None}
    result = {**facts, "run": found.place, "n": 1, "network_calls": total, "out": args.out}
    if not args.dry_run:
        drawn, rng = [], Rng.of(args.seed, 1, device=rows.device)
        with Progress("sample", total, "network call") as progress, counted(rows.choice.model, progress.update):
            for t in rows.at:
                latent = rows.encode(rows.to_model(original), t)
                drawn.append(np.concatenate([original, rows.visible(latent, t), rows.decode(latent, t, rng)]))
        facts["rmse"] = result["rmse"] = [between.rmse(row[0], row[-1]) for row in drawn]
        between.write_rows(kind, args.out, drawn, rng, found.space.levels, facts)
    return {**result, "dry_run": args.dry_run}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    what = "would draw" if result["dry_run"] else "drew"
    if "rmse" in result:
        what = "would take" if result["dry_run"] else "took"
        way = f"{result['from']} up to t = {_times(result)} and back"
        yield f"{what} {way}, by {result['run']} (step {result['step']:,})"
    elif "from" in result:
        each = f"{result['n']} images from {result['from']} at each t of {_times(result)}"
        yield f"{what} {each}, of {result['run']} (step {result['step']:,}), seeds {result['seeds']}"
    else:
        yield f"{what} {result['n']} images of {result['run']} (step {result['step']:,}), seeds {result['seeds']}"
    yield from how(result)
    if result.get("rmse"):
        values = ", ".join(f"{value:.2f}" for value in result["rmse"])
        yield f"root of the mean squared difference: {values} grey levels"
    written = (result["out"], result.get("progression"))
    yield ("would write " if result["dry_run"] else "wrote ") + " and ".join(path for path in written if path)


def _times(result: dict[str, Any]) -> str:
    return ", ".join(f"{t:g}" for t in result["at"])


def how(result: dict[str, Any]) -> Iterator[str]:
    """What decided the images, and where it was computed."""
    clip = {True: "clipped", False: "not clipped"}.get(result["clip"], f"clipped ({result['clip']})")
    steps = "steps by tolerance" if result["steps"] is None else f"{result['steps']} steps"
    if result["told"] is not None:
        guided = "" if result["guidance"] is None else f", guided by {result['guidance']}"
        yield f"told: {result['told']}{guided}"
    yield f"{result['sampler']}, {steps} on {result['grid']}, {result['variance']}, {clip}"
    where = f"{result['device']} in {result['precision']}, chunks of {result['chunk']}"
    if result["network_calls"] is None:
        yield f"on {where}: as many network calls as the tolerances need"
    else:
        told = result["steps"] is None and isinstance(result["evaluations"], float)
        each = f" ({result['evaluations']:g} evaluations an image)" if told else ""
        yield f"on {where}: {result['network_calls']:,} network calls{each}"


def write(
    kind: str, out: str, levels: Any, seed: int, most: int, facts: dict[str, Any], progression: bytes | None = None
) -> None:
    """Write grey levels (N, C, H, W) as a grid, as arrays or one by one; into a folder a progression goes with them."""
    import numpy as np

    if kind == "npz":
        seeds = np.arange(seed, seed + len(levels), dtype=np.int64)
        output.write_file(out, output.arrays(levels, seeds, {**facts, "levels": most}))
    elif kind == "png":
        output.write_file(out, output.grid_png(levels, most, facts))
    else:
        names = [gallery.name_of(seed + k) for k in range(len(levels))]

        def pictures() -> Iterator[tuple[str, bytes]]:
            for k, (name, image) in enumerate(zip(names, levels, strict=True)):
                yield name, output.tile_png(image, most, {**facts, "seeds": str(seed + k)})
            if progression is not None:
                yield gallery.PROGRESSION, progression

        more = [] if progression is None else [gallery.PROGRESSION]
        gallery.write(out, pictures(), [*names, *more], facts)
        say(f"{len(levels)} pictures in {out}")


def _beside(out: str, kind: str) -> Path:
    path = Path(out)
    return path / gallery.PROGRESSION if kind == "folder" else path.with_name(f"{path.stem}-progression.png")
