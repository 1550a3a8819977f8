"""Images as bytes on the page of a run: a few held-out ones encoded, and what the first bytes of them show."""

from diffprob.base.errors import DiffprobError
from diffprob.codec.coders import Coder
from diffprob.codec.poisson import PoissonFunctional
from diffprob.codec.universal import UniversalQuantisation
from diffprob.reporting.material import CodedImages
from diffprob.runs.folder import Run
from diffprob.tasks.compute import Compute
from diffprob.tasks.decoding import SHARES, decode
from diffprob.tasks.encoding import EncodeRequest, encode
from diffprob.tasks.images import ImageSelection
from diffprob.tasks.reporter import SILENT, Reporter

SMALL, LARGE = 256, 1024  # elements of an image up to which several are searched for, and one
FEW = 4
STEPS = 16  # times of an image that is not small: fewer than cost least, for about 5% more bits


def quick(dimensions: int) -> tuple[int, Coder, int | None]:
    """How many images of so many elements are encoded in a few seconds, with which coder, and at how many times."""
    if dimensions <= SMALL:
        return FEW, PoissonFunctional(), None
    return (1, PoissonFunctional(), STEPS) if dimensions <= LARGE else (FEW, UniversalQuantisation(), STEPS)


def coded_images(
    run: Run, place: str | None = None, compute: Compute = Compute(), reporter: Reporter = SILENT
) -> CodedImages | str:
    """A few held-out images as bytes, and as they are known after the first ones; or why there are none, in a line.

    Args:
        run: of the model.
        place: where the run's own images lie, if not where its recipe says.
        compute: where and how precisely.
        reporter: hears of progress.
    """
    n, coder, steps = quick(run.space.dimensions)
    request = EncodeRequest(images=ImageSelection(n=n, place=place), coder=coder, steps=steps, compute=compute)
    try:
        encoded = encode(run, request, reporter)
        decoded = decode(run, encoded.data, None, compute, reporter, progressive=n)
    except DiffprobError as error:
        return str(error)
    return CodedImages(
        frames=decoded.frames,
        shares=SHARES,
        bytes=decoded.frame_bytes,
        size=len(encoded.data),
        n=encoded.n,
        dimensions=encoded.dimensions,
        bits=encoded.bits,
        coder=encoded.settings["coder"],
        steps=encoded.settings["steps"],
        seconds=encoded.seconds,
    )
