"""Options that several verbs share, and the requests that they make."""

import argparse
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError
from diffprob.base.text import one_line
from diffprob.cli.parser import add_device, add_dry_run, add_seed, component, number, share, whole

if TYPE_CHECKING:
    from diffprob.tasks.compute import Compute
    from diffprob.tasks.conditioning import Conditioning
    from diffprob.tasks.images import ImageSelection
    from diffprob.tasks.plan import Sampling

ONE_IMAGE = "a picture, or DATA:INDEX such as digits:0"
PLAIN = re.compile(r"[\w.=+-]+")  # text that a shell needs no quotes for
NONE = "none"  # `diffprob.tasks.conditioning.NONE`, whose module imports torch


# Fields that the command line calls otherwise than by their names.
_NAMES = {
    "image": "--from",
    "first": "A",
    "second": "B",
    "inside": "--held-out",
    "others": "--with",
    "ddib": "--method invert",
    "duration": "--for",
}


def spelling(name: str, value: Any) -> str:
    """A field as an option: ``--decoder-std 0.1``; overrides, fields of a recipe by path, as ``--set FIELD=VALUE``."""
    if name == "overrides":
        settings = [f"{path}={text}" for path, text in (value or {}).items()]
        return " ".join(f"--set {text}" if PLAIN.fullmatch(text) else f"--set '{text}'" for text in settings) or "--set"
    dashes = "-" if len(name) == 1 else "--"
    several = value if isinstance(value, tuple) else () if value is None else (value,)
    return " ".join([_NAMES.get(name, dashes + name.replace("_", "-")), *map(str, several)])


def add_drawing(parser: argparse.ArgumentParser, n: int | None = 64, steps: str = "50, or 1000 with Ancestral") -> None:
    """``-n --seed --sampler --steps --grid --variance --clip --dynamic-clip --batch --best --precision`` and those of
    `steering`; -n only where there is a default for it."""
    if n is not None:
        parser.add_argument("-n", type=whole(1), default=n, metavar="N", help=f"how many images (default {n:,})")
    add_seed(parser, "seed of the first image; image i has the seed N + i (default 0)")
    parser.add_argument(
        "--sampler",
        metavar="S",
        help='a sampler such as "UniPC(2)" (default: one that suits --steps; diffprob show samplers)',
    )
    parser.add_argument(
        "--steps", type=whole(1), metavar="N", help=f"network evaluations for each image (default {steps})"
    )
    parser.add_argument(
        "--grid",
        metavar="G",
        help='which times are visited, such as "Uniform()", or best: the fitted path (default: to suit the sampler)',
    )
    parser.add_argument(
        "--variance",
        metavar="V",
        help="variance of x_0 given x_t, such as UnitData() or, once fitted, Analytic() (default: the run's)",
    )
    parser.add_argument(
        "--clip",
        action=argparse.BooleanOptionalAction,
        help="clamp the predicted image to [-1, 1] (default: on, but for latents, which have no interval)",
    )
    parser.add_argument(
        "--dynamic-clip",
        nargs="?",
        const=0.995,
        type=share,
        metavar="Q",
        help="clamp each predicted image at its own quantile Q instead, and scale it back (0.995 if Q is left out)",
    )
    add_steering(parser)
    add_network(parser)


def add_network(parser: argparse.ArgumentParser) -> None:
    """``--batch --best --precision``: how the network is evaluated, and with which of its weights."""
    parser.add_argument(
        "--batch",
        type=whole(1),
        metavar="N",
        help="images per network call; changes the speed, and the last bits of the result",
    )
    parser.add_argument(
        "--best",
        action="store_true",
        help="use the weights that were best by the metric watched during training, not the last ones",
    )
    add_precision(
        parser, "auto: fp32, but bf16 for images that a large network draws or tells apart, where that is fast"
    )


def add_precision(parser: argparse.ArgumentParser, default: str) -> None:
    """``--precision``, of which "auto" is the default."""
    choices = ("auto", "fp32", "bf16", "fp16")  # `diffprob.tasks.compute.PRECISIONS`
    parser.add_argument("--precision", choices=choices, default="auto", help=f"of the network (default {default})")


def add_steering(parser: argparse.ArgumentParser) -> None:
    """``--label --caption --guidance --guidance-interval --guidance-rescale --guide-with``."""
    parser.add_argument(
        "--label",
        nargs="+",
        metavar="L",
        help="classes to draw, in turn: by name (diffprob show RUN lists them), or by number where they have no names; "
        f"{NONE} on its own: of any class (default: all classes in turn)",
    )
    parser.add_argument(
        "--caption",
        nargs="+",
        metavar="TEXT",
        help=f"captions to draw, in turn, for a run trained on captions; {NONE}: without a caption",
    )
    parser.add_argument(
        "--guidance",
        type=_finite,
        default=0.0,
        metavar="W",
        help="weight W of classifier-free guidance: (1 + W) conditional - W unconditional (default 0: none)",
    )
    parser.add_argument(
        "--guidance-interval",
        nargs=2,
        type=_unit,
        metavar=("LOW", "HIGH"),
        help="guide only between these times (default 0 1)",
    )
    parser.add_argument(
        "--guidance-rescale",
        type=_unit,
        default=0.0,
        metavar="S",
        help="share of the unguided contrast to restore, 0 to 1 (default 0)",
    )
    parser.add_argument(
        "--guide-with", metavar="RUN", help="guide away from this weaker run instead of the unconditional model"
    )
    parser.add_argument(
        "--classify-with",
        metavar="REC",
        help="for an unconditional run: draw --label by this classifier, which `diffprob noisy-classifier` trained",
    )
    parser.add_argument(
        "--classifier-scale", type=_finite, metavar="S", help="with --classify-with: how strongly (default 1)"
    )


def add_bounding(parser: argparse.ArgumentParser, n: int) -> None:
    """The run, the images, and what decides a bound on them."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of a packaged run (diffprob show runs)")
    parser.add_argument(
        "images",
        nargs="?",
        metavar="DATA",
        help="images to measure: a picture, a folder, a file of arrays, ... (default: held-out ones of the run's own)",
    )
    parser.add_argument(
        "--held-out",
        metavar="DATA",
        help="images to measure, their test split if they have one; DATA then says where the run's own images are",
    )
    add_place(parser)
    parser.add_argument(
        "--split",
        choices=("auto", "test", "train"),
        default="auto",
        help="split of the data to measure; auto: test, if there is one",
    )
    parser.add_argument("-n", type=whole(1), default=n, metavar="N", help=f"measure at most N images (default {n:,})")
    add_seed(parser, "decides which images, and their noise: image i of the data has the seed N + i (default 0)")
    parser.add_argument(
        "--steps",
        type=whole(1),
        metavar="N",
        help="number of times in the chain (default: those of the fitted path, or all)",
    )
    parser.add_argument("--label", metavar="L", help="p(x|label): own, that of each image, or a class (default: p(x))")
    parser.add_argument(
        "--grid",
        metavar="G",
        help='which times are visited, such as "Native()", or best: the fitted path, the default once there is one',
    )
    parser.add_argument(
        "--variance",
        metavar="V",
        help="variance of x_0 given x_t, such as UnitData() (default: Analytic() once fitted, else the run's)",
    )
    parser.add_argument(
        "--decoder-std",
        type=float,
        metavar="X",
        help="standard deviation of p(x_0|x_t1), where images lie in [-1, 1] (default: that of the posterior)",
    )
    parser.add_argument(
        "--clip",
        action=argparse.BooleanOptionalAction,
        help="clamp the predicted image to [-1, 1] (default: on for bounds)",
    )
    add_network(parser)
    add_device(parser)
    add_dry_run(parser, "check everything and say what would be done, without doing it")


def add_place(parser: argparse.ArgumentParser) -> None:
    """``--data`` and ``--resize``, which mean the same in every verb."""
    parser.add_argument("--data", metavar="PATH", help="where the run's own images are, if not where its recipe says")
    add_resize(parser)


def add_resize(parser: argparse.ArgumentParser) -> None:
    """``--resize``: the only way in which images are converted for a run."""
    parser.add_argument(
        "--resize",
        action="store_true",
        help="convert images whose size, colours or number of grey levels are not the run's",
    )


def compute(args: argparse.Namespace) -> "Compute":
    """What ``--device --precision --batch --best`` ask for."""
    from diffprob.tasks.compute import Compute

    return Compute(device=args.device, precision=args.precision, batch=args.batch, best=args.best)


def conditioning(args: argparse.Namespace) -> "Conditioning":
    """What the options of `add_steering` ask for."""
    from diffprob.tasks.conditioning import Conditioning

    return Conditioning(
        label=None if args.label is None else tuple(args.label),
        caption=None if args.caption is None else tuple(args.caption),
        guidance=args.guidance,
        guidance_interval=None if args.guidance_interval is None else tuple(args.guidance_interval),
        guidance_rescale=args.guidance_rescale,
        guide_with=args.guide_with,
        classify_with=args.classify_with,
        classifier_scale=args.classifier_scale,
    )


def sampling(args: argparse.Namespace, n: int | None = None) -> "Sampling":
    """What the options of `add_drawing` ask for, for n images if not ``-n``.

    Raises:
        InputError: a component that there is not, or options that exclude each other.
    """
    from diffprob.tasks.plan import Sampling

    if args.dynamic_clip is not None and args.clip is False:
        raise InputError("--dynamic-clip and --no-clip exclude each other")
    return Sampling(
        n=args.n if n is None else n,
        seed=args.seed,
        sampler=optional(args.sampler, "--sampler", "sampler"),
        steps=args.steps,
        grid=optional("LeastCost()" if args.grid == "best" else args.grid, "--grid", "grid"),
        variance=optional(args.variance, "--variance", "variance"),
        clip=args.clip if args.dynamic_clip is None else args.dynamic_clip,
        conditioning=conditioning(args),
        compute=compute(args),
    )


def optional(text: str | None, option: str, family: str) -> Any:
    """The component that an option names, or None without one."""
    return None if text is None else component(text, option, family)


def training_fields(args: argparse.Namespace) -> dict[str, Any]:
    """The fields that the requests of all trainings have."""
    fields = {name: getattr(args, name) for name in ("out", "steps", "seed", "device")}
    return {**fields, "overrides": overrides(args.set)}


def overrides(texts: Sequence[str]) -> dict[str, str]:
    """What every ``--set FIELD=VALUE`` asks for: values, as text, by the path of their field.

    Raises:
        InputError: no such text.
    """
    settings = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path or not value:
            raise InputError(f"--set {one_line(text, 60)}: FIELD=VALUE would be right, for instance training.lr=1e-3")
        settings[path.strip()] = value.strip()
    return settings


def images(args: argparse.Namespace) -> "ImageSelection":
    """What the options of `add_bounding` say of images: DATA beside --held-out is the place of the run's own."""
    from diffprob.tasks.images import ImageSelection

    return ImageSelection(
        images=args.held_out or args.images,
        place=args.data or (args.images if args.held_out else None),
        split=args.split,
        n=args.n,
        seed=args.seed,
        resize=args.resize,
    )


def bound(args: argparse.Namespace, **own: Any) -> dict[str, Any]:
    """What the options of `add_bounding` say of a bound, as fields of a `ChainBound`, beside a verb's ``own``.

    Raises:
        InputError: a component that there is not, or a number outside its domain.
    """
    if args.decoder_std is not None and not 0 < args.decoder_std < math.inf:
        raise InputError(f"--decoder-std {args.decoder_std:g}: a number above 0 would be right")
    return {
        "steps": args.steps,
        "grid": optional("LeastCost(whole=True)" if args.grid == "best" else args.grid, "--grid", "grid"),
        "variance": optional(args.variance, "--variance", "variance"),
        "decoder_std": args.decoder_std,
        "clip": args.clip,
        **own,
    }


def _finite(text: str) -> float:
    return number(text, "a number", "be finite", math.isfinite)


def _unit(text: str) -> float:
    return number(text, "a number", "lie in [0, 1]", lambda value: 0 <= value <= 1)
