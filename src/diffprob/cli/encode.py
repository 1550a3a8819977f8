"""Images as one file of few bytes: the steps of the run's chain, and the levels at its end, from coarse to fine.

`diffprob decode` gives them back to the last bit, or shows what the first bytes say; with --bits or --psnr the file has
the first steps alone. It is decoded again before it is written.
"""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.cli import output
from diffprob.cli.options import add_network as add_network_options
from diffprob.cli.options import add_place, compute, images, optional
from diffprob.cli.parser import add_device, add_dry_run, add_seed, whole
from diffprob.cli.progress import TERMINAL
from diffprob.cli.text import table

EXAMPLES = (
    "diffprob encode digits --out digits.dfp                 # 16 test digits",
    "diffprob encode runs/mnist picture.png --out picture.dfp",
    'diffprob encode runs/mnist -n 300 --coder "BitsBack()" --out mnist.dfp   # smallest and fast; all or nothing',
    "diffprob encode runs/mnist -n 100 --psnr 25 --out coarse.dfp     # or --bits 400: the coarse images alone",
    'diffprob encode digits --coder "UniversalQuantisation()" --steps 6 --out fast.dfp   # at once, but twice as long',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, which images, the coder, and the file."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of a packaged run (diffprob show runs)")
    parser.add_argument(
        "images", nargs="?", metavar="DATA", help="images to encode (default: held-out ones of the run's own)"
    )
    add_place(parser)
    parser.add_argument("--split", choices=("auto", "test", "train"), default="auto", help="of the data to encode")
    parser.add_argument("-n", type=whole(1), default=16, metavar="N", help="encode at most N images (default 16)")
    add_seed(parser, "decides which images (default 0)")
    parser.add_argument("--out", required=True, metavar="FILE", help="the file, such as images.dfp")
    parser.add_argument("--coder", metavar="C", help="PoissonFunctional(), or for sets, all or nothing, BitsBack()")
    parser.add_argument("--steps", type=whole(1), metavar="N", help="times of the chain (default: the cheapest)")
    parser.add_argument("--variance", metavar="V", help="of the steps (default GaussianNLL(), once fitted)")
    parser.add_argument(
        "--group", type=whole(1), metavar="N", help="images that are coded together (default 100, BitsBack 1,000)"
    )
    parser.add_argument("--bits", type=float, metavar="N", help="coarse images, of at most N bits each, all counted")
    parser.add_argument("--psnr", type=float, metavar="X", help="coarse images, until their mean PSNR is X dB")
    add_network_options(parser)
    add_device(parser)
    add_dry_run(parser, "check everything and write nothing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Encode, decode, write."""
    from diffprob.codec.poisson import PoissonFunctional
    from diffprob.runs.folder import Run
    from diffprob.tasks.encoding import EncodeRequest, encode_prepared, prepare_encoding
    from diffprob.tasks.options import requesting

    args.held_out = None
    with requesting():
        request = EncodeRequest(
            images=images(args),
            coder=optional(args.coder, "--coder", "coder") or PoissonFunctional(),
            steps=args.steps,
            variance=optional(args.variance, "--variance", "variance"),
            group=args.group,
            bits=args.bits,
            psnr=args.psnr,
            compute=compute(args),
        )
    opened = Run.open(args.run)
    setup = prepare_encoding(opened, request, TERMINAL)
    if args.dry_run:
        return {**setup.settings, "coder": repr(request.coder), "out": args.out, "dry_run": True}
    encoded = encode_prepared(opened, setup, request, TERMINAL)
    result = {**encoded.to_json(), "out": args.out, "dry_run": False}
    return {**result, **output.written(lambda: encoded.save(args.out))}


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    how = ", ".join(f"{name} {result[name]}" for name in ("coder", "steps", "variance"))
    if result["dry_run"]:
        yield f"would encode {result['n']:,} images; {how}"
        return
    yield f"{result['n']:,} images in {result['bytes']:,} bytes, {result['bytes_per_image']:.1f} each; {how}"
    if result["psnr"] is not None:
        low, high = result["t"]
        until = f"{high:g}" if low == high else f"{low:g} to {high:g}"
        exact = f"; {result['lossless']:,} of them exact" if result["lossless"] else ""
        yield f"coarse as asked: E[x_0 | x_t] at t = {until}, mean PSNR {result['psnr']:.2f} dB{exact}"
    of = result["bits_per_dim_of"]
    names = {"steps": "steps of the chain", "levels": "levels at its end", "first": "bits to begin with"}
    rows = [(names.get(name, "all else (header, checks)"), f"{bits:.4f}") for name, bits in of.items()]
    yield from table([*rows, ("all", f"{result['bits_per_dim']:.4f}")], ("", "bits/dim"))
    yield f"encoded in {result['seconds']['encode']:.1f} s, decoded and compared in {result['seconds']['decode']:.1f} s"
    if result["n"] >= 50 and result["psnr"] is None and "BitsBack" not in result["coder"]:
        yield 'a set without coarse images on the way takes fewer bytes: --coder "BitsBack()"'
    if "not_written" not in result:
        yield f"wrote {result['out']}; diffprob decode {result['run']} {result['out']} --out images.png"
