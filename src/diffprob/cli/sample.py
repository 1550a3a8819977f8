"""Draw images from a run. Image i depends on the seed + i alone, not on how many are drawn with it."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError
from diffprob.cli import output
from diffprob.cli.parser import add_device, add_dry_run, add_seed, choose_device, component, whole
from diffprob.cli.progress import Progress, say

if TYPE_CHECKING:
    from diffprob.denoise.denoiser import NetDenoiser
    from diffprob.recipe.checkpoint import Run

EXAMPLES = (
    "diffprob sample mnist                                   # 64 digits in 50 steps of DDIM, into samples.png",
    'diffprob sample runs/x -n 16 --sampler "Ancestral()" --steps 1000 --variance "UnitData()"   # DDPM as published',
    'diffprob sample runs/x --sampler "DDIM(eta=0.5)" --grid "Karras(rho=7)" --steps 20 --progressive',
    "diffprob sample runs/x -n 10000 --out samples.npz       # arrays images, seeds, metadata",
    "diffprob sample runs/x -n 100 --seed 7 --out pictures/  # one PNG an image, its seed in the name",
)

ROWS = 8  # images that a progression follows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of a packaged run (diffprob show runs)")
    parser.add_argument("-n", type=whole(1), default=64, metavar="N", help="how many images (64)")
    add_seed(parser, "seed of the first image; image i has the seed N + i (0)")
    parser.add_argument(
        "--sampler", metavar="S", help='"DDIM()" unless given, "Ancestral()" with as many steps as training had'
    )
    parser.add_argument(
        "--steps", type=whole(1), metavar="N", help="network calls for each image (50; Ancestral: 1000)"
    )
    parser.add_argument("--grid", default="Uniform()", metavar="G", help='which times are visited ("Uniform()")')
    parser.add_argument(
        "--variance", metavar="V", help="variance of x_0 given x_t, such as UnitData(); by default the run's"
    )
    parser.add_argument(
        "--clip", action=argparse.BooleanOptionalAction, default=True, help="clamp the predicted image to [-1, 1] (on)"
    )
    parser.add_argument(
        "--batch", type=whole(1), metavar="N", help="images per network call: decides speed, and the last bits"
    )
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of the network (fp32)")
    parser.add_argument(
        "--out", default="samples.png", metavar="PATH", help="x.png (a grid), x.npz or a folder (samples.png)"
    )
    parser.add_argument(
        "--progressive", action="store_true", help="also draw how the predicted image changes along the chain"
    )
    add_device(parser)
    add_dry_run(parser, "check everything and say what would be done, without drawing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Draw and write; the result says everything that decided the images."""
    from diffprob.base.rng import Rng
    from diffprob.cli.drawing import calls, counted, draw, make_times, seeds_text
    from diffprob.recipe.checkpoint import Run

    kind = output.kind_of(args.out)
    found = Run.open(args.run)
    sampler, steps = _sampler(args, found)
    grid = component(args.grid, "--grid", "grid")
    model = load(found, args)
    times = make_times(grid, model.process, steps)
    facts = {
        "Software": f"diffprob {_version()}",
        "run": found.name,
        **_weights(found),
        "seeds": seeds_text(args.seed, args.n),
        "sampler": repr(sampler),
        "steps": steps,
        "grid": repr(grid),
        "variance": repr(model.variance),
        "clip": args.clip,
        "chunk": model.evaluation.chunk,
        "precision": model.evaluation.precision,
        **_machine(args),
    }
    total = calls(model, args.n, steps)
    written = {"out": args.out, "progression": None}
    result = {**facts, "run": str(found.path), "n": args.n, "network_calls": total, **written}
    if args.dry_run:
        return {**result, "dry_run": True}
    streams = Rng.of(args.seed, args.n, device=choose_device(args.device))
    with Progress("sample", total, "network call") as progress, counted(model, progress.update):
        rows = min(ROWS, args.n) if args.progressive else 0
        drawn = draw(model, sampler, times, streams, found.space, args.clip, rows)
    write(kind, args.out, drawn.levels, args.seed, found.space.levels, facts)
    if args.progressive:
        path = _beside(args.out, kind)
        output.write_file(path, output.progression_png(drawn.frames, found.space.levels, drawn.times))
        result["progression"] = str(path)
    return {**result, "dry_run": False}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    what = "would draw" if result["dry_run"] else "drew"
    yield f"{what} {result['n']} images of {result['run']} (step {result['step']:,}), seeds {result['seeds']}"
    clip = "clipped" if result["clip"] else "not clipped"
    yield f"{result['sampler']}, {result['steps']} steps on {result['grid']}, {result['variance']}, {clip}"
    where = f"{result['device']} in {result['precision']}, chunks of {result['chunk']}"
    yield f"on {where}: {result['network_calls']:,} network calls"
    yield ("would write " if result["dry_run"] else "wrote ") + " and ".join(
        path for path in (result["out"], result["progression"]) if path
    )


def load(run: "Run", args: argparse.Namespace) -> "NetDenoiser":
    """The run's denoiser as the options want it."""
    variance = None if args.variance is None else component(args.variance, "--variance", "variance")
    model = run.load(choose_device(args.device), args.batch or "auto", args.precision)
    if variance is not None:
        model.variance = variance
    return model


def write(kind: str, out: str, levels: Any, seed: int, most: int, facts: dict[str, Any]) -> None:
    """Write grey levels (N, C, H, W) as a grid, as arrays or one by one."""
    import numpy as np

    if kind == "npz":
        seeds = np.arange(seed, seed + len(levels), dtype=np.int64)
        output.write_file(out, output.arrays(levels, seeds, {**facts, "levels": most}))
    elif kind == "png":
        output.write_file(out, output.grid_png(levels, most, facts))
    else:
        for k, image in enumerate(levels):
            own = {**facts, "seeds": str(seed + k)}
            output.write_file(Path(out) / f"seed-{seed + k:08d}.png", output.tile_png(image, most, own))
        say(f"{len(levels)} pictures in {out}")


def _sampler(args: argparse.Namespace, run: "Run") -> tuple[Any, int]:
    """The sampler and its number of steps, where not given: DDIM in 50, Ancestral in as many as training had."""
    from diffprob.recipe.tables import SAMPLERS

    native = run.recipe.process.schedule.steps or 1000
    if args.sampler is None:
        name = "Ancestral" if args.steps == native else "DDIM"
        return SAMPLERS[name](), args.steps or 50
    sampler = component(args.sampler, "--sampler", "sampler")
    return sampler, args.steps or (native if type(sampler).__name__ == "Ancestral" else 50)


def _weights(run: "Run") -> dict[str, Any]:
    from diffprob.recipe.manifest import Manifest
    from diffprob.recipe.runfiles import MODEL

    manifest = Manifest.read(run.path)
    entry = manifest.files.get(MODEL)
    if entry is None:
        raise InputError(
            f"{run.path} has no model yet: its training has not reached the first checkpoint; train it again"
        )
    return {"step": run.meta["step"], "model_sha256": entry["sha256"]}


def _machine(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    return {"device": str(choose_device(args.device)), "torch": torch.__version__}


def _version() -> str:
    from diffprob import __version__

    return __version__


def _beside(out: str, kind: str) -> Path:
    path = Path(out)
    return path / "progression.png" if kind == "folder" else path.with_name(f"{path.stem}-progression.png")
