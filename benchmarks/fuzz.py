"""Put broken and hostile input into everything that reads any, for as long as it is told.

    python benchmarks/fuzz.py --for 60
    python benchmarks/fuzz.py --target codes.file --target codes.sealed --cases 5000    # 10,000 files of coded images
    python benchmarks/fuzz.py --seed 0 --target recipes.text --case 1234     # one case again

The targets are the modules of tests/fuzz, where is written what holds for every case. The first one that breaks it ends
the run with exit code 1 and how to repeat it; the folder with its input stays.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

sys.path[0] = str(Path(__file__).resolve().parents[1] / "tests")  # not this folder: this file is called fuzz too

from fuzz.driver import Fault, fuzz  # noqa: E402 (found by the line above)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--for", type=float, dest="seconds", metavar="SECONDS", help="(60, or until --cases are done)")
    parser.add_argument("--cases", type=int, metavar="N", help="so many of each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", action="append", default=[], metavar="NAME", help="only these; may be repeated")
    parser.add_argument("--case", type=int, metavar="N", help="one case of the target and no others")
    parser.add_argument("--out", metavar="FOLDER", help="where the cases lie (a temporary folder)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    home = Path(args.out or tempfile.mkdtemp(prefix="fuzz-")).resolve()
    home.mkdir(exist_ok=True)
    some = {"cases": args.cases} if args.case is None else {"first": args.case, "cases": 1}
    seconds = args.seconds or (60 if args.cases is None else float("inf"))
    try:
        counts = fuzz(home, seconds, args.seed, tuple(args.target), **some)
    except Fault as fault:
        print(f"FAULT: python benchmarks/fuzz.py {fault}")
        return 1
    for name, count in sorted(counts.items()):
        print(f"{count:8,}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
