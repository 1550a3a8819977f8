"""Images as bytes by a run, beside PNG, WebP, AVIF, JPEG XL, JPEG and a histogram coder: docs/results/codec.md.

    python benchmarks/codec_compare.py digits mnist --data mnist=data/mnist --out docs/results/codec.md
    python benchmarks/codec_compare.py digits -n 100 --classical 100 --out codec.md

``-n`` images are coded by the run, of which the first ``--alone`` also as files of their own; larger sets are computed
from their mean. Classical codecs take ``--classical`` images, and sets as one picture of all of them, side by side.
JPEG XL needs pillow-jxl-plugin, which the library does not. Seconds are of the processor.
"""

import argparse
import io
import lzma
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, features

import diffprob as dp
from diffprob.codec.bits_back import BitsBack
from diffprob.codec.container import head_size, read
from diffprob.density.histogram import PixelHistogram
from diffprob.evaluation.classifier import TrainedClassifier, classifier_for
from diffprob.evaluation.classify import judge
from diffprob.tasks.coding import finite_psnr
from diffprob.tasks.images import ImageBatch
from diffprob.tasks.reporter import SILENT

with suppress(ImportError):
    import pillow_jxl  # noqa: F401 (it makes Pillow read and write JPEG XL)

SETS = (1, 100, 1000)
SHARES = (0.05, 0.15, 0.3, 0.5, 0.8)  # of the bytes of our lossless code: five rates
HAS_JXL = ".jxl" in Image.registered_extensions()


@dataclass(frozen=True)
class Picture:
    """A codec of pictures.

    Args:
        name: of the codec.
        format: as Pillow calls it.
        lossless: its options for exact images; None: there are none.
        lossy: its options at five rates, the coarsest first.
    """

    name: str
    format: str
    lossless: dict[str, Any] | None = None
    lossy: tuple[dict[str, Any], ...] = ()

    def encode(self, pixels: np.ndarray, options: dict[str, Any]) -> bytes:
        """Grey levels (H, W), or (H, W, 3)."""
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, self.format, **options)
        return buffer.getvalue()

    def decode(self, data: bytes, grey: bool) -> np.ndarray:
        """What `encode` was given, or about that."""
        with Image.open(io.BytesIO(data), formats=[self.format]) as picture:
            return np.asarray(picture.convert("L" if grey else "RGB"))


def qualities(*values: int, **more: Any) -> tuple[dict[str, Any], ...]:
    return tuple({"quality": value, **more} for value in values)


def codecs() -> Iterator[Picture]:
    yield Picture("PNG, optimised", "PNG", {"optimize": True})
    yield Picture(
        "WebP", "WEBP", {"lossless": True, "quality": 100, "method": 6}, qualities(0, 10, 40, 75, 95, method=6)
    )
    if features.check("avif"):
        fixed = {"subsampling": "4:4:4", "speed": 2}
        yield Picture("AVIF", "AVIF", {"quality": 100, **fixed}, qualities(5, 20, 40, 65, 90, **fixed))
    if HAS_JXL:
        options = tuple({"quality": value, "effort": 9} for value in (5, 20, 45, 75, 93))
        yield Picture("JPEG XL", "JXL", {"lossless": True, "effort": 9}, options)
    yield Picture("JPEG", "JPEG", None, qualities(2, 10, 35, 75, 95, optimize=True))


@dataclass
class Comparison:
    """Everything that one run's tables are made of.

    Args:
        lossless: rows (codec, images, bits/dim in files of 1, 100, 1,000, interval of the first, seconds of encoding
            and decoding an image); NaN where there is none.
        lossy: rows (codec, setting, images, bits/dim, PSNR, accuracy).
        notes: lines below.
    """

    name: str
    about: str
    lossless: list[tuple[str, int, list[float], float, float, float]] = field(default_factory=list)
    lossy: list[tuple[str, str, int, float, float, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def sheet(images: np.ndarray, columns: int) -> np.ndarray:
    """Images (N, C, H, W) side by side, (rows H, columns W) or with colours last."""
    n, channels, height, width = images.shape
    rows = -(-n // columns)
    padded = np.zeros((rows * columns, channels, height, width), np.uint8)
    padded[:n] = images
    grid = padded.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    grid = grid.reshape(rows * height, columns * width, channels)
    return grid[..., 0] if channels == 1 else grid


def unsheet(grid: np.ndarray, like: np.ndarray, columns: int) -> np.ndarray:
    """What `sheet` put side by side."""
    n, channels, height, width = like.shape
    rows = grid.shape[0] // height
    parts = grid.reshape(rows, height, columns, width, channels).transpose(0, 2, 4, 1, 3)
    return parts.reshape(rows * columns, channels, height, width)[:n]


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.process_time()
    return call(), time.process_time() - began


def spread(values: np.ndarray) -> float:
    """Half the 95% interval of a mean."""
    return 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def classical(comparison: Comparison, images: np.ndarray, labels: np.ndarray, judged: "Judge", most: int) -> None:
    """Rows of every codec of pictures."""
    d, grey, few = images[0].size, images.shape[1] == 1, images[:most]
    for codec in codecs():
        if codec.lossless is not None:
            exact, seconds = codec.lossless, [0.0, 0.0]
            sizes, same = [], True
            for image in few:
                pixels = sheet(image[None], 1)
                data, encoding = timed(lambda codec=codec, pixels=pixels, exact=exact: codec.encode(pixels, exact))
                back, decoding = timed(lambda codec=codec, data=data: codec.decode(data, grey))
                sizes.append(8 * len(data) / d)
                same &= bool((back == pixels).all())
                seconds = [seconds[0] + encoding, seconds[1] + decoding]
            if same:
                per_image = np.array(sizes)
                bits = [float(per_image.mean())]
                for n in SETS[1:]:
                    columns = round(math.sqrt(n))
                    data = codec.encode(sheet(images[:n], columns), exact)
                    bits.append(8 * len(data) / (n * d) if len(images) >= n else math.nan)
                encoding, decoding = (value / len(few) for value in seconds)
                comparison.lossless.append((codec.name, len(few), bits, spread(per_image), encoding, decoding))
            else:
                comparison.notes.append(
                    f"{codec.name}: its finest setting is not exact, so that it has no lossless row."
                )
        columns = round(math.sqrt(len(few)))
        for options in codec.lossy:
            data = codec.encode(judged.stretch(sheet(few, columns)), options)
            back = judged.shrink(unsheet(codec.decode(data, grey), few, columns))
            setting = f"quality {options['quality']}"
            comparison.lossy.append(
                (codec.name, setting, len(few), 8 * len(data) / (len(few) * d), *judged(back, few, labels))
            )


def others(comparison: Comparison, train: np.ndarray, images: np.ndarray, levels: int, most: int) -> None:
    """The histogram coder, whose bits are -log2 p and nothing else, and xz of the bare levels."""
    d, each = images[0].size, PixelHistogram.fit(train, levels).bits_per_dim(images[:most])
    comparison.lossless.append(("histogram of each pixel", len(each), [float(each.mean())] * 3, spread(each), 0.0, 0.0))
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "pb": 0}]
    bits = []
    for n in SETS:
        data = lzma.compress(images[:n].tobytes(), format=lzma.FORMAT_RAW, filters=filters)
        bits.append(8 * len(data) / (n * d) if len(images) >= n else math.nan)
    comparison.lossless.append(("xz of the levels, without headers", 1, bits, math.nan, 0.0, 0.0))


@dataclass(frozen=True)
class Judge:
    """What is seen of coarse images: their PSNR, and whether a classifier reads them right.

    Args:
        classifier: of real images.
        levels: grey levels K; codecs of pictures are given 0..255, and come back to K.
    """

    classifier: TrainedClassifier
    levels: int

    def stretch(self, pixels: np.ndarray) -> np.ndarray:
        return np.round(pixels * (255 / (self.levels - 1))).astype(np.uint8)

    def shrink(self, pixels: np.ndarray) -> np.ndarray:
        return np.round(pixels * ((self.levels - 1) / 255)).astype(np.uint8)

    def __call__(self, images: np.ndarray, real: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
        """Mean PSNR, and share of right labels."""
        accuracy = judge(self.classifier.net, images, labels[: len(images)], self.levels).accuracy
        return float(finite_psnr(images, real[: len(images)], self.levels).mean()), float(
            "nan" if accuracy is None else accuracy
        )


def ours(
    comparison: Comparison, model: dp.Model, batch: ImageBatch, labels: np.ndarray, judged: Judge, alone: int
) -> None:
    """Rows of the run: files of one image, sets, and its coarse images."""
    images = batch.images
    d, n = images[0].size, len(images)
    sizes, seconds = [], np.zeros(2)
    for k in range(min(alone, n)):
        one, encoding = timed(lambda k=k: model.encode(judged.stretch(images[k : k + 1])))
        _, decoding = timed(lambda one=one: model.decode(one.data))
        sizes.append(8 * len(one.data) / d)
        seconds += (encoding - decoding, decoding)  # encode decodes, to look
    together, encoding = timed(lambda: model.encode(batch, group=n))
    file = read(together.data)
    stream = sum(len(group.stream) for group in file.groups)
    fixed = len(together.data) - stream - head_size(n, 0, stream)
    bits = [float(np.mean(sizes))]
    for size in SETS[1:]:
        heads = -(-size // 100) * head_size(100, 0, 100 * stream // n)
        bits.append(8 * (fixed + heads + size * stream / n) / (size * d))
    each = seconds / len(sizes)
    comparison.lossless.insert(0, (f"**{model.run.name}, diffprob**", n, bits, spread(np.array(sizes)), *each.tolist()))
    states = list(model.decode_progressively(together.data))
    start = states[0].settings["bytes"]
    for share in SHARES:
        state = [state for state in states if state.settings["bytes"] - start <= share * stream][-1]
        said = state.settings["bytes"] - start
        rate = 8 * (fixed + head_size(100, 1, 100 * said // n) + 100 * said / n) / (100 * d)
        t = float(state.times.max())
        comparison.lossy.append(
            (f"**{model.run.name}, diffprob**", f"t = {t:.3g}", n, rate, *judged(state.images, images, labels))
        )
    parts = {name: 8 * value / (n * d) for name, value in (("stream", stream), ("header of a file", fixed))}
    coded = ", ".join(f"{name} {value:.3f} bits/dim" for name, value in parts.items())
    steps, coder = together.settings["steps"], together.settings["coder"]
    comparison.notes.append(
        f"diffprob: `{coder}`, {steps} times, {n} images in one group, {encoding / n:.1f} s an image with decoding; "
        f"{coded}. Sets of 100 and 1,000 are computed from their mean; files of one image are the first {len(sizes)}."
    )


def back(comparison: Comparison, model: dp.Model, few: ImageBatch) -> None:
    """The run's code with bits back: one file of all images, from which follow those of other numbers of them."""
    coded = model.encode(few, coder=BitsBack())
    n, d = coded.n, coded.dimensions
    each, fixed = (coded.bits["steps"] + coded.bits["levels"]) / n, coded.bits["rest"] + coded.bits.get("first", 0)
    bits = [(fixed / size + each) / d for size in SETS]
    name = f"**{model.run.name}, diffprob, bits back**"
    encoding, decoding = (coded.seconds[side] / n for side in ("encode", "decode"))
    comparison.lossless.insert(1, (name, n, bits, math.nan, encoding, decoding))
    comparison.notes.append(
        f"bits back: `{coded.settings['coder']}`, {coded.settings['steps']} times, {n} images in one file of "
        f"{len(coded.data):,} bytes; each image {each / d:.3f} bits/dim, header and first bits {fixed / 8:.0f} bytes a "
        "file. Other numbers of images are computed from these."
    )


def compare(name: str, place: str | None, n: int, classical_n: int, alone: int) -> Comparison:
    """All rows of a run."""
    model = dp.load(name, device="cpu", reporter=SILENT)
    test, train = model.data(split="test", place=place), model.data(split="train", place=place)
    trained = classifier_for(train.selection.images, test.selection.images)
    judged = Judge(trained, model.run.space.levels)
    some = model.data(split="test", n=max(SETS), place=place)
    if some.labels is None:
        raise SystemExit(f"{name}: its test images have no labels")
    weights = [path for path in sorted(Path(model.run.path).glob("*.safetensors")) if path.name in CARRIED]
    size = sum(path.stat().st_size for path in weights)
    few = model.data(split="test", n=n, place=place)
    bound = model.bits_per_dim(few)
    about = (
        f"{'x'.join(map(str, model.shape))} grey levels 0..{model.run.space.levels - 1}; the model has "
        f"{size / 1e6:.2f} MB ({', '.join(path.name for path in weights)}), which no file counts; its bound is "
        f"{bound.mean:.3f} +- {bound.standard_error:.3f} bits/dim on the {n} images that it codes (no coder). The "
        f"classifier is right on {trained.accuracy:.1%} of the exact test images."
    )
    comparison = Comparison(name, about)
    labels = few.labels
    assert labels is not None
    ours(comparison, model, few, labels, judged, alone)
    back(comparison, model, few)
    classical(comparison, some.images, some.labels, judged, classical_n)
    others(comparison, train.images, some.images, model.run.space.levels, classical_n)
    return comparison


CARRIED = ("model.safetensors", "fit-nll.safetensors")  # what a decoder needs


def text(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def verdict(comparison: Comparison) -> Iterator[str]:
    """Where the run's code is the shorter one, and where it is not."""
    for k, size in enumerate(SETS):
        own = min(comparison.lossless[:2], key=lambda row, k=k: row[2][k])
        rest = [row for row in comparison.lossless[2:] if not math.isnan(row[2][k]) and row[1] > 1]
        better = sorted((row[2][k], row[0]) for row in rest if row[2][k] < own[2][k])
        best = min((row[2][k], row[0]) for row in rest)
        who = ", ".join(f"{name} ({value:.2f})" for value, name in better)
        said = (
            f"**shorter than diffprob's {own[2][k]:.2f}: {who}**"
            if better
            else (f"diffprob's {own[2][k]:.2f} is the shortest; next is {best[1]} with {best[0]:.2f}")
        )
        yield f"- Lossless, {size:,} image{'s' if size > 1 else ''} a file, bits/dim: {said}."
    ours_lossy = [row for row in comparison.lossy if "diffprob" in row[0]]
    for name in dict.fromkeys(row[0] for row in comparison.lossy if "diffprob" not in row[0]):
        rows = sorted((row[4], row[3]) for row in comparison.lossy if row[0] == name)
        quality, rates = zip(*rows, strict=True)
        pairs = [
            (row[3], float(np.interp(row[4], quality, rates)))
            for row in ours_lossy
            if quality[0] <= row[4] <= quality[-1]
        ]
        if not pairs:
            yield f"- Lossy, {name}: at none of our five rates has it the same PSNR."
            continue
        wins = sum(theirs < mine for mine, theirs in pairs)
        ratio = math.exp(sum(math.log(theirs / mine) for mine, theirs in pairs) / len(pairs))
        end = f"it takes {ratio:.2f} times diffprob's bits on average (between its settings, interpolated)"
        yield f"- Lossy, {name}: at the PSNR of {len(pairs)} of our rates {end}; **shorter at {wins}**."


def page(comparisons: list[Comparison], command: str) -> str:
    """The whole page."""
    lines = [
        "# Images as bytes, beside classical codecs",
        "",
        f"`{command}`. Sizes are whole files, header and checks counted; intervals are 95% over images; seconds are of "
        "one core, an image, in files of one image. A set is one file: of diffprob groups of 100 images, of picture "
        "codecs one picture with all images side by side. JPEG XL "
        + ("is libjxl's by pillow-jxl-plugin." if HAS_JXL else "was not there.")
        + " The histogram coder's and xz's numbers have no file around them. A model is no part of a file, as a codec "
        "is none: below stands how large it is.",
    ]
    for comparison in comparisons:
        lines += ["", f"## {comparison.name}", "", comparison.about, ""]
        lines += [
            "| lossless, bits/dim | images | 1 a file | 100 | 1,000 | encode, s | decode, s |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, n, bits, interval, encoding, decoding in comparison.lossless:
            first = text(bits[0]) + ("" if math.isnan(interval) else f" +- {text(interval)}")
            seconds = [text(value, 4 if value < 0.1 else 1) if value else "-" for value in (encoding, decoding)]
            lines.append(f"| {name} | {n} | {first} | {text(bits[1])} | {text(bits[2])} | {' | '.join(seconds)} |")
        lines += [
            "",
            "| coarse, in a set of 100 | setting | images | bits/dim | mean PSNR, dB | accuracy |",
            "|---|---|---|---|---|---|",
        ]
        for name, setting, n, rate, quality, accuracy in comparison.lossy:
            lines.append(f"| {name} | {setting} | {n} | {text(rate)} | {text(quality, 2)} | {text(accuracy, 2)} |")
        lines += ["", *verdict(comparison), "", "\n\n".join(comparison.notes)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--data", action="append", default=[], metavar="RUN=PLACE", help="where a run's images are")
    parser.add_argument("-n", type=int, default=16, help="images that the run codes (16)")
    parser.add_argument("--alone", type=int, default=4, help="of these as files of one image (4)")
    parser.add_argument("--classical", type=int, default=100, help="images for each classical codec (100)")
    parser.add_argument("--out", default="codec.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    places = dict(entry.split("=", 1) for entry in args.data)
    comparisons = [compare(name, places.get(name), args.n, args.classical, args.alone) for name in args.runs]
    given = " ".join(f"--data {name}=data/{name}" for name in places)
    command = f"python benchmarks/codec_compare.py {' '.join(args.runs)} {given} -n {args.n} --alone {args.alone}"
    Path(args.out).write_text(page(comparisons, " ".join(command.split())))


if __name__ == "__main__":
    main()
