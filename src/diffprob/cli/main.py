"""``diffprob VERB``: finds the verb, runs it, prints; turns every error on purpose into one line and an exit code."""

import atexit
import gc
import inspect
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from importlib import import_module
from io import TextIOWrapper

from diffprob.base.errors import InputError, MovedData, NumericalError, did_you_mean
from diffprob.base.finite import check_numbers
from diffprob.base.text import one_line, printable
from diffprob.cli.options import spelling
from diffprob.cli.output import check_writable
from diffprob.cli.parser import Parser, add_json
from diffprob.cli.progress import TERMINAL, say
from diffprob.config.installed import notes_to
from diffprob.storage.folders import keeping
from diffprob.tasks.options import spelt
from diffprob.tasks.signals import Stopped, heeding

BEGAN = time.monotonic()  # of a process of our own, whose time the imports of a verb are part of

# verb: (module of this package, what it does). The modules are imported one at a time, when needed.
VERBS = {
    "train": ("train", "train a recipe, or a model of your own images; the same command again resumes"),
    "sample": ("sample", "draw images from a run; or go on from an image that noise was added to"),
    "interpolate": ("interpolate", "mix two images at some level of noise, and take the noise out again"),
    "restore": ("restore", "take noise out of images, fill in what is missing, enlarge"),
    "evaluate": ("evaluate", "compare samples with real images: Frechet distance, KID, precision, memorisation"),
    "likelihood": ("likelihood", "how probable images are under a run, in bits per dimension"),
    "rate": ("rate", "what the steps of the chain cost and what they show: rate, distortion, time"),
    "encode": ("encode", "write images as one file of few bytes, from which they come back to the last bit"),
    "decode": ("decode", "images of such a file; or of its first bytes, as far as these say them"),
    "detect": ("detect", "tell images that do not belong from images that do, by every density proxy"),
    "fit": ("fit", "fit the best reverse variances, and the best steps, to a trained run"),
    "average": ("average", "average a run's weights over more or less of its training; which length is best"),
    "distill": ("distill", "make a potential of a run: a network whose value is -log p up to scale"),
    "baseline": ("baseline", "train something to compare with: a classifier, Glow, an energy-based model"),
    "noisy-classifier": (
        "noisy_classifier",
        "train a classifier of noised images, for `translate`, under a run's noise",
    ),
    "translate": ("translate", "turn images of one kind into images of a run's kind that look like them"),
    "show": ("show", "what there is: recipes, runs, samplers, schedules, grids; or one run, recipe or component"),
    "data-add": ("data_add", "note where a data set lies, for all runs that were trained on it"),
    "data-check": ("data_check", "whether data is usable: counts, grey levels, classes, duplicates"),
    "doctor": ("doctor", "whether this machine is usable: PyTorch, processor, memory, packages"),
    "demo": ("demo", "train, sample and measure on the embedded digits, in minutes"),
    "report": ("report", "write the report of a run: one HTML page"),
    "compare": ("compare", "put runs side by side on one HTML page"),
    "studio": ("studio", "look at runs on a local page: draw from them, measure images"),
    "import": ("import_", "make a run of a diffusers folder"),
    "export": ("export", "write a run as a diffusers folder"),
}

# Spellings of before, which work but are not listed.
OLD_VERBS = {"recognise": "noisy-classifier"}

DONE, BAD_INPUT, NUMERICAL, INTERRUPTED = 0, 2, 3, 130


def usage() -> str:
    """The text of ``diffprob --help``."""
    text = ["usage: diffprob VERB [...]", "", "Diffusion models as probability models.", "", "verbs:"]
    text += [f"  {verb:<16} {what}" for verb, (_, what) in VERBS.items()]
    text += [
        "",
        "`diffprob VERB --help` says more. Everywhere --json prints one JSON object on stdout and nothing else there,",
        "progress goes to stderr, and --seed, --device and --dry-run mean the same. Exit codes: 0 done, 2 bad usage or",
        "input, 3 not a number, 128 + n stopped by signal n (130 by Ctrl-C).",
        "",
        "examples:",
        "  diffprob demo",
        "  diffprob sample mnist -n 64 --out mnist.png",
        "  diffprob train digits --out runs/digits",
    ]
    return "\n".join(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    Args:
        argv: the arguments without the program's name; by default those of the process.
    """
    _streams()
    if argv is None:  # a process of our own: a collection walks over all that torch's import made, 0.1 s each time
        gc.set_threshold(100_000, 20, 20)
        atexit.register(gc.freeze)  # and ten times in the end, when the system takes it all back
    began = BEGAN if argv is None else time.monotonic()
    try:
        with heeding(), spelt(spelling), notes_to(TERMINAL.note):
            return _run(list(sys.argv[1:] if argv is None else argv), began)
    except MovedData as error:
        command = shlex.join(["diffprob", *(sys.argv[1:] if argv is None else argv)])
        once = f"or once, for all runs: diffprob data-add {shlex.quote(error.name)} PATH"
        return _fail(f"{one_line(error, 150)}: {command} --data PATH; {once}", BAD_INPUT)
    except InputError as error:
        return _fail(str(error), BAD_INPUT)
    except NumericalError as error:
        return _fail(str(error), NUMERICAL)
    except Stopped as stop:
        return _stopped(stop, stop.code)
    except KeyboardInterrupt as stop:
        return _stopped(stop, INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output (head, less) has seen enough; the interpreter must not flush into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        where = f" ({one_line(error.filename, 150)})" if error.filename else ""
        return _fail(f"{one_line(error.strerror or error, 100).lower()}{where}", BAD_INPUT)
    except Exception as error:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return _fail(
                "out of memory: use a smaller batch (--set training.accumulate=2, or sample --batch)", BAD_INPUT
            )
        raise


def _run(argv: list[str], began: float) -> int:
    if not argv or argv[0] in {"-h", "--help", "help"}:
        print(usage(), flush=True)
        return DONE
    if argv[0] == "--version":
        from diffprob import __version__

        print(f"diffprob {__version__}")
        return DONE
    verb = OLD_VERBS.get(argv[0], argv[0])
    if verb not in VERBS:
        raise InputError(f"no verb {verb!r} (verbs: {', '.join(VERBS)}){did_you_mean(verb, VERBS)}")
    module = import_module(f"diffprob.cli.{VERBS[verb][0]}")
    parser = Parser(f"diffprob {verb}", inspect.getdoc(module) or verb, module.EXAMPLES)
    module.add_arguments(parser)
    add_json(parser)
    parser.add_argument("--no-cache", action="store_true", help="decode pictures anew, and keep nothing of it")
    try:
        args = parser.read(argv[1:])
    except SystemExit:  # argparse has printed the help
        sys.stdout.flush()
        return DONE
    args.began = began
    if getattr(args, "out", None):
        check_writable(args.out)
    # Whatever a library prints on the way must not get into the JSON.
    with redirect_stdout(sys.stderr) if args.json else nullcontext(), keeping(not args.no_cache):
        result = module.run(args)
    if result is not None:
        check_numbers(result)
        # What stands in a result may come from a stranger's run: each line is made printable, and stays one line.
        output = [json.dumps(result, allow_nan=False)] if args.json else map(printable, module.format_result(result))
        print("\n".join(output), flush=True)
        if result.get("not_written"):
            return _fail(result["not_written"], BAD_INPUT)
    return DONE


def _streams() -> None:
    """Streams that take everything: what they cannot encode is written as an escape, and a closed one drops it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed when we began; the next file that is opened must not take its place
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, TextIOWrapper) and stream.errors in {"strict", "surrogateescape"}:
            stream.reconfigure(errors="backslashreplace")


def _fail(message: str, code: int) -> int:
    rank = os.environ.get("RANK", "0")
    who = "diffprob" if rank == "0" else f"diffprob (process {rank})"
    say(f"{who}: error: {one_line(message)}")
    return code


def _stopped(stop: BaseException, code: int) -> int:
    message = str(stop)
    say(f"diffprob: {one_line(message) if message else 'interrupted'}")
    return code
