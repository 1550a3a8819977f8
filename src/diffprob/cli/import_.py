"""Make a run from a diffusers folder in safetensors; diffusers itself is not needed.

DDPMPipeline, DDIMPipeline, LDMPipeline, UNet2DModel, and the autoencoders AutoencoderKL, AutoencoderTiny and VQModel.
"""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.cli.parser import add_dry_run, whole
from diffprob.cli.progress import TERMINAL

_SAID = ("network", "process", "prediction", "variance", "weights")
EXAMPLES = (
    "diffprob import path/to/ddpm-cifar10-32 --out runs/ddpm",
    "diffprob import path/to/unet --size 28 --data path/to/mnist --out runs/imported",
    "diffprob import path/to/vae --size 256 --out runs/vae   # an autoencoder, to train in its latents",
    "diffprob sample runs/ddpm -n 16",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, the new run, and what the folder may not say: size, levels, labels, data, step."""
    parser.add_argument("folder", metavar="FOLDER", help="a folder that diffusers' save_pretrained wrote")
    parser.add_argument("--out", required=True, metavar="RUN", help="the new run's folder")
    parser.add_argument("--size", type=whole(1), metavar="N", help="size of the images, if the folder does not say")
    parser.add_argument(
        "--levels",
        type=whole(2, 65536),
        metavar="K",
        help="number of grey levels (default: what the folder says, else 256)",
    )
    parser.add_argument(
        "--null-label",
        action="store_true",
        help="the network's last class stands for no label, which guidance needs (default: what the folder says)",
    )
    parser.add_argument(
        "--data", metavar="PATH", help="data that it was trained on, for the recipe (default: not known)"
    )
    parser.add_argument(
        "--step", type=whole(0), default=0, metavar="N", help="number of training steps of the weights (default 0)"
    )
    add_dry_run(parser, "read and check the folder, and write nothing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Read the folder, write the run, open it."""
    from diffprob.data import open_data
    from diffprob.tasks.exchange import ImportRequest, import_run, new_folder

    new_folder(args.out)
    request = ImportRequest(
        folder=args.folder,
        out=args.out,
        size=args.size,
        levels=args.levels,
        null_label=args.null_label,
        data=open_data(args.data) if args.data else None,
        step=args.step,
        dry_run=args.dry_run,
    )
    return import_run(request, TERMINAL).to_json()


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    from diffprob.cli.text import table

    channels, height, width = result["shape"]
    yield from table(
        [
            ("would write" if result["dry_run"] else "wrote", result["run"]),
            ("images", f"{height}x{width}, {channels} channel(s)"),
            ("parameters", f"{result['parameters']:,}"),
            *((name, result[name]) for name in _SAID if name in result),
        ]
    )
    yield result["use"]
