"""The flaw that the options of `restore` speak of: which options go together, and what they say about the images."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from diffprob.base.errors import InputError
from diffprob.cli.given import Given, check_size, read, read_box, read_masks
from diffprob.cli.restoring import GUIDED, METHODS, REPAINT, Flaw, Holed, Noisy, Small

if TYPE_CHECKING:
    from diffprob.base.rng import Rng
    from diffprob.runs.folder import Run

JUMPS = 5
# Multistep samplers remember steps that repaint takes back; this one has no memory.
SAMPLER = "DDIM(eta=1.0)"
STEPS = 200  # from pure noise to the data; a chain from the noise of an image makes a part of them

# The options that not every flaw takes, and those of chains, which a mean has none of.
TAKES = {
    "noise": ("noise", "draw", "add_noise", "clean"),
    "missing": ("mask", "box", "method", "jumps", "average", "clean"),
    "small": ("average", "clean"),
}
DRAWING = ("sampler", "steps", "grid", "variance")


def kind_of(args: argparse.Namespace, found: "Run") -> str:
    """Which flaw the images have.

    Raises:
        InputError: options that do not go together.
    """
    from diffprob.conditions.low_resolution import Degraded

    if isinstance(found.recipe.condition, Degraded):
        kind, meant = "small", f"{found.name}, which enlarges images"
    elif args.mask is not None or args.box is not None:
        kind, meant = "missing", "--mask" if args.mask is not None else "--box"
    else:
        kind, meant = "noise", "noise (neither --mask nor --box is given)"
    for option in {name for names in TAKES.values() for name in names} - set(TAKES[kind]):
        if getattr(args, option) not in (None, False):
            raise InputError(f"--{option.replace('_', '-')} does not go with {meant}")
    for one, other in (("mask", "box"), ("add_noise", "clean"), ("add_noise", "noise")):
        if getattr(args, one) is not None and getattr(args, other) is not None:
            raise InputError(f"--{one.replace('_', '-')} and --{other} exclude each other")
    if args.method == GUIDED and args.jumps is not None:
        raise InputError(f"--jumps goes with --method {REPAINT}")
    given = next((name for name in DRAWING if getattr(args, name) is not None), None)
    if kind == "noise" and not args.draw and given:
        raise InputError(f"--{given} goes with --draw: the mean of the posterior takes one evaluation")
    return kind


def _noisy(args: argparse.Namespace, found: "Run", given: Given, rng: "Rng") -> tuple[Flaw, Given | None]:
    from diffprob.sampling.restore import known_noise

    check_size(given, found.space.shape, found)
    clean, std = _clean(args, found, given), args.noise
    if args.draw and args.sampler is None and args.variance is None:
        args.sampler, args.steps = SAMPLER, args.steps or STEPS
    if args.add_noise is not None:
        given, clean, std = _with_noise(given, args.add_noise, rng), given, args.add_noise
    if std is None:
        if min(given.shape[1:]) < 3:
            raise InputError(f"{given.text}: too small to estimate the noise; --noise STD would be right")
        return Noisy(given, None, args.draw), clean
    low, high = (limit / given.unit for limit in known_noise(found.process))
    # 1e-9 for what was computed from the ends themselves.
    if std > high * (1 + 1e-9) or (std < low * (1 - 1e-9) and not args.draw):
        option = "--noise" if args.noise is not None else "--add-noise"
        known = f"{found.name} knows noise of {low:.3g} to {high:.3g} of {given.levels - 1} grey levels"
        raise InputError(f"{option} {std:g}: {known}" + ("" if std > high else "; --draw also takes less"))
    return Noisy(given, std, args.draw), clean


def _with_noise(given: Given, std: float, rng: "Rng") -> Given:
    """Noise of so many grey levels, rounded to grey levels and cut off at black and white as a file is."""
    from diffprob.base.rng import normal_like

    x = given.to_model(rng.seeds.device)
    noisy = x + std * given.unit * normal_like(rng.fold("added"), x)
    return replace(given, pixels=given.to_levels(noisy))


def _holed(args: argparse.Namespace, found: "Run", given: Given, _: "Rng") -> tuple[Flaw, Given | None]:
    check_size(given, found.space.shape, found)
    if args.mask is None:
        missing, said = read_box(args.box, found), {"box": args.box}
    else:
        missing, masks = read_masks(args.mask, found, args.n)
        said = masks.facts_as("mask")
    args.sampler = args.sampler or (SAMPLER if args.variance is None else None)
    args.method = args.method or (METHODS[0] if args.jumps is None else REPAINT)
    clean = _clean(args, found, given)
    jumps = JUMPS if args.jumps is None else args.jumps
    return Holed(given, missing, args.method, jumps, args.average or 1, said), clean


def _small(args: argparse.Namespace, found: "Run", given: Given, _: "Rng") -> tuple[Flaw, Given | None]:
    import torch.nn.functional as F

    shape, factor = found.space.shape, found.recipe.condition.factor  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
    small = (shape[0], shape[1] // factor, shape[2] // factor)
    if given.shape != shape:
        if given.shape != small:
            found_size, right, large = (f"{wide}x{high}" for _, high, wide in (given.shape, small, shape))
            raise InputError(f"{given.text}: {found_size} pixels; {found.name} enlarges {right} to {large}")
        clean = _clean(args, found, given)
        return Small(given, shape, args.average or 1), clean
    if args.clean is not None:
        raise InputError(
            f"{given.text}: as large as {found.name} draws, so they are the clean images; leave --clean out"
        )
    averaged = replace(given, pixels=given.to_levels(F.avg_pool2d(given.to_model("cpu"), factor)))
    return Small(averaged, shape, args.average or 1), given


def _clean(args: argparse.Namespace, found: "Run", given: Given) -> Given | None:
    """The images of ``--clean``, in the grey levels of those given."""
    if args.clean is None:
        return None
    clean = read(args.clean, found, args.n)
    check_size(clean, found.space.shape, found)
    if len(clean.pixels) != args.n:
        raise InputError(f"--clean {args.clean}: {len(clean.pixels)} images for the {args.n} of {given.text}")
    if clean.levels != given.levels:
        raise InputError(f"--clean {args.clean}: {clean.levels} grey levels, but {given.text} has {given.levels}")
    return clean


READ = {"noise": _noisy, "missing": _holed, "small": _small}
