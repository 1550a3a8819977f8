"""Draw images from a run. Image i depends on the seed + i alone, not on how many are drawn with it."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffprob.cli import output
from diffprob.cli.choices import add_drawing, choose
from diffprob.cli.parser import add_device, add_dry_run, choose_device
from diffprob.cli.progress import Progress, say

EXAMPLES = (
    "diffprob sample mnist                                   # 64 digits in 50 evaluations, into samples.png",
    "diffprob sample mnist --steps 8                         # a sampler and a grid that suit 8 evaluations",
    'diffprob sample runs/x -n 16 --sampler "Ancestral()" --steps 1000 --variance "UnitData()"   # DDPM as published',
    'diffprob sample runs/x --sampler "DDIM(eta=0.5)" --grid "Karras(rho=7)" --steps 20 --progressive',
    "diffprob sample runs/x -n 10000 --out samples.npz       # arrays images, seeds, metadata",
    "diffprob sample runs/x -n 100 --seed 7 --out pictures/  # one PNG an image, its seed in the name",
)

ROWS = 8  # images that a progression follows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of a packaged run (diffprob show runs)")
    add_drawing(parser)
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
    from diffprob.cli.drawing import calls, counted, draw
    from diffprob.recipe.checkpoint import Run

    kind = output.kind_of(args.out)
    found = Run.open(args.run)
    choice = choose(args, found)
    model, facts = choice.model, choice.facts
    total = calls(model, args.n, choice.steps)
    written = {"out": args.out, "progression": None}
    spent = {"network_calls": total, "evaluations": choice.steps}
    result = {**facts, "run": str(found.path), "n": args.n, **spent, **written}
    if args.dry_run:
        return {**result, "dry_run": True}
    streams = Rng.of(args.seed, args.n, device=choose_device(args.device))
    with Progress("sample", total, "network call") as progress, counted(model, progress.update):
        rows = min(ROWS, args.n) if args.progressive else 0
        drawn = draw(model, choice.sampler, choice.times, streams, found.space, choice.clip, rows)
    result |= {"network_calls": progress.done, "evaluations": drawn.evaluations}
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
    clip = {True: "clipped", False: "not clipped"}.get(result["clip"], f"clipped ({result['clip']})")
    steps = "steps by tolerance" if result["steps"] is None else f"{result['steps']} steps"
    yield f"{result['sampler']}, {steps} on {result['grid']}, {result['variance']}, {clip}"
    where = f"{result['device']} in {result['precision']}, chunks of {result['chunk']}"
    if result["network_calls"] is None:
        yield f"on {where}: as many network calls as the tolerances need"
    else:
        each = f" ({result['evaluations']:g} evaluations an image)" if result["steps"] is None else ""
        yield f"on {where}: {result['network_calls']:,} network calls{each}"
    yield ("would write " if result["dry_run"] else "wrote ") + " and ".join(
        path for path in (result["out"], result["progression"]) if path
    )


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


def _beside(out: str, kind: str) -> Path:
    path = Path(out)
    return path / "progression.png" if kind == "folder" else path.with_name(f"{path.stem}-progression.png")
