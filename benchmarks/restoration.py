"""Restored images beside those of classical methods: how near do they come to the clean ones?

    python benchmarks/restoration.py noise mnist --data data/mnist -n 100 --figure docs/images/restoration-mnist.png
    python benchmarks/restoration.py holes mnist --data data/mnist -n 32
    python benchmarks/restoration.py sizes runs/digits_superresolution -n 360 --figure docs/images/restoration-sizes.png

"noise" needs scikit-image and bm3d, of which the latter is free for non-commercial use only. Noise is added to test
images, "whole", and then rounded to grey levels and cut off at black and white, "file". Non-local means and BM3D get
the standard deviation; what else they take is chosen on training images for each of these cases.
"""

import argparse
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality import answer, finish
from torch import Tensor

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.denoise.denoiser import Denoiser
from diffprob.evaluation.image_quality import mean_and_error, psnr
from diffprob.guidance.energy import EnergyGuided, ReconstructionGuidance
from diffprob.reporting.figures import grid_image
from diffprob.sampling.defaults import default
from diffprob.sampling.restore import RePaint, denoised, draw_denoised, estimate_noise, unclip
from diffprob.sampling.simulate import draw
from diffprob.tasks.images import splits

UNIT = 2 / 255
REACH = 1 - UNIT / 2  # what was rounded to black or white lay beyond
TRAINING = 20  # images on which the classical methods are set up
SMOOTHING, PATCHES, FACTORS = (0.4, 0.6, 0.8, 1.0, 1.3), (3, 5, 7), (0.8, 1.0, 1.3)
MOSAIC = 10  # images in a row of the picture that BM3D sees


def main() -> int:
    """Restore, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("part", choices=("noise", "holes", "sizes"))
    parser.add_argument("run", nargs="?", default="mnist")
    parser.add_argument("--data")
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--draws", type=int, default=64, help="of noisy images: how many are drawn")
    parser.add_argument("--stds", nargs="+", type=float, default=(10, 25, 50, 100), help="of the noise, of 255")
    parser.add_argument("--chain", type=int, default=100, help="times of the grid on which noisy images are drawn")
    parser.add_argument("--steps", type=int, default=25, help="evaluations of other draws")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    run = dp.Run.open(arguments.run)
    rows = {"noise": _noise, "holes": _holes, "sizes": _sizes}[arguments.part](run, arguments)
    settings = {name: str(value) for name, value in vars(arguments).items() if name not in ("figure", "out")}
    return finish(rows, True, settings, arguments.out)


def _noise(run: Any, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    non_local, block_matching = _classical()
    train, test = splits(run, arguments.data)
    assert test is not None
    n, seed = arguments.n, arguments.seed
    clean, known = (_to_model(images.take(range(count))) for images, count in ((test, n), (train, TRAINING)))
    model, rng = dp.Clip(run.load()), dp.Rng.of(seed, n)
    z, own = (
        dp.Rng.of(first, len(x)).fold("added").normal(x.shape[1:]) for first, x in ((seed, clean), (2**40, known))
    )
    rows, shown, across = [], [], min(n, arguments.draws, 10)
    for std in arguments.stds:
        for kind, cut in (("whole", lambda x: x), ("file", lambda x: (x.clamp(-1, 1) / UNIT).round() * UNIT)):
            noisy, training = cut(clean + std * UNIT * z), cut(known + std * UNIT * own)
            found = {"noisy": noisy}
            found["non-local means"], h = _tuned(non_local, std * UNIT, training, known, noisy)
            found["BM3D"], factor = _tuned(block_matching, std * UNIT, training, known, noisy)
            found |= _ours(model, noisy, std * UNIT, rng, kind == "file")
            some = slice(min(n, arguments.draws))
            times = dp.Uniform()(model.process, arguments.chain)
            whole, streams = found.pop("unclip")[some], rng.select(some)
            found["mean, those drawn"] = found["mean"][some]
            found["draw"] = draw_denoised(model, dp.DDIM(eta=1.0), whole, std * UNIT, times, streams)
            stds = {name: float(value) / UNIT for name, value in found.pop("stds").items()}
            row = {"noise": kind, "std": std, "chosen": f"{h}, {factor}", **stds}
            rows.append(row | {name: _score(x, clean[: len(x)]) for name, x in found.items()})
            print({name: value for name, value in rows[-1].items() if value}, file=sys.stderr, flush=True)
            if kind == "file":
                names = ("noisy", "non-local means", "BM3D", "mean", "draw")
                shown.append([*(found[name][:across] for name in names), clean[:across]])
    if arguments.figure:
        _plot(rows, arguments.figure)
        grid = torch.cat([row for rows_ in shown[-2:] for row in rows_])
        grid_image(_to_levels(grid), across).save(arguments.figure.with_stem(arguments.figure.stem + "-images"))
    return rows


def _ours(model: Denoiser, noisy: Tensor, std: float, rng: dp.Rng, cut: bool) -> dict[str, Any]:
    """The means, with the noise known, estimated, and cut noise taken for whole; and the estimates' medians."""
    with torch.no_grad():
        taken = denoised(model, noisy, std).mean
        reach = REACH if cut else float("inf")
        whole, _ = unclip(model, noisy, std, rng, -reach, reach)
        other, sizes = unclip(model, noisy, None, rng, -reach, reach)
        means = {
            "mean": denoised(model, whole, std).mean if cut else taken,
            "mean, estimated": denoised(model, other, sizes).mean,
            "mean, cut as it is": taken if cut else None,
        }
    stds = {"estimated": sizes.median(), "estimated, cut as it is": estimate_noise(noisy).median()}
    return {**{name: x for name, x in means.items() if x is not None}, "unclip": whole, "stds": stds}


def _classical() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(images, std, settings) -> images for non-local means and BM3D, with the settings to choose from."""
    try:
        import bm3d
        from skimage.restoration import denoise_nl_means
    except ImportError as error:
        raise InputError(f"{error}: pip install scikit-image bm3d") from error

    def non_local(x: np.ndarray, std: float, settings: tuple[float, int]) -> np.ndarray:
        h, size = settings
        options = {"patch_size": size, "patch_distance": 13, "h": h * std, "sigma": std, "fast_mode": True}
        return np.stack([denoise_nl_means(image, **options) for image in x])

    def block_matching(x: np.ndarray, std: float, settings: tuple[float]) -> np.ndarray:
        # A call takes seconds however small the image is, so all are one picture; blocks may then match across images.
        n, height, width = x.shape
        across = min(n, MOSAIC)
        picture = x.reshape(n // across, across, height, width).transpose(0, 2, 1, 3).reshape(-1, across * width)
        picture = bm3d.bm3d(picture, settings[0] * std)
        return picture.reshape(-1, height, across, width).transpose(0, 2, 1, 3).reshape(n, height, width)

    non_local.choices = tuple(itertools.product(SMOOTHING, PATCHES))  # pyright: ignore[reportFunctionMemberAccess]
    block_matching.choices = tuple((each,) for each in FACTORS)  # pyright: ignore[reportFunctionMemberAccess]
    return non_local, block_matching


def _tuned(method: Any, std: float, training: Tensor, known: Tensor, noisy: Tensor) -> tuple[Tensor, Any]:
    """The noisy images by the method with the settings that are best on the training images, and these."""

    def made(x: Tensor, settings: Any) -> Tensor:
        return torch.from_numpy(method(x[:, 0].double().numpy(), std, settings))[:, None].to(x)

    best = max(method.choices, key=lambda settings: _score(made(training, settings), known)[0])
    return made(noisy, best), best if len(best) > 1 else best[0]


def _holes(run: Any, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A box of 14x14 pixels is missing at the right; every method draws it once."""
    _, test = splits(run, arguments.data)
    assert test is not None
    n, steps = arguments.n, arguments.steps
    clean, model = _to_model(test.take(range(n))), run.load(chunk=min(n, 64))
    known = torch.ones(1, 28, 28, dtype=torch.bool)
    known[:, 6:20, 14:28] = False
    stochastic, fast, flow = dp.DDIM(eta=1.0), dp.DPMppSDE(2), dp.DDIM()
    # The sampler, and the jumps of RePaint or the scale of guidance.
    methods: list[tuple[Any, int, float | None]]
    methods = [(sampler, jumps, None) for sampler in (stochastic, fast) for jumps in (0, 2, 5)]
    methods += [(stochastic, 0, 1.0), (stochastic, 0, 3.0), (fast, 0, 1.0), (flow, 0, 1.0)]
    where = np.broadcast_to(known.numpy(), clean.shape)
    rows, shown = [], [clean[:12], torch.where(known, clean, 0)[:12]]
    for sampler, jumps, scale in methods:
        grid = dp.Trailing(bend=-0.6) if sampler is fast else dp.Uniform()
        if scale is None:
            name, asked, how = f"repaint, {jumps} jumps", model, RePaint(sampler, known, clean, jumps)
        else:
            name, how = f"guided, scale {scale:g}", sampler
            asked = EnergyGuided(model, ReconstructionGuidance(known, clean, model.process, scale))
        times = grid(model.process, steps)
        drawn = draw(dp.Clip(asked), how, times, dp.Rng.of(arguments.seed, n), clean.shape[1:])
        apart = (_to_levels(drawn).astype(float) - _to_levels(clean)) ** 2
        row = {"method": name, "sampler": str(sampler), "evaluations": (jumps + 1) * (steps - 1) + 1}
        rows.append(row | {k: float(apart[w].mean() ** 0.5) for k, w in (("missing", ~where), ("known", where))})
        shown.append(torch.where(known, clean, drawn)[:12])
        print(rows[-1], file=sys.stderr, flush=True)
    if arguments.figure:
        grid_image(_to_levels(torch.cat(shown)), min(n, 12)).save(arguments.figure)
    return rows


def _sizes(run: Any, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    import torch.nn.functional as F

    train, test = splits(run, arguments.data)
    assert test is not None
    n, levels = min(arguments.n, len(test)), run.space.levels
    clean = run.space.to_model(torch.from_numpy(test.take(range(n))))
    small = run.space.to_model(run.space.to_data(F.avg_pool2d(clean, 2)))
    model = dp.Clip(run.load().condition_on(run.recipe.condition.spread(small)))
    sampler, grid = default(arguments.steps, model.process, clean.shape[1:])
    times = grid(model.process, arguments.steps)
    draws = torch.stack(
        [draw(model, sampler, times, dp.Rng.of(arguments.seed + 10_000 * k, n), clean.shape[1:]) for k in range(8)]
    )
    found = {"nearest": F.interpolate(small, scale_factor=2)}
    found |= {
        mode: F.interpolate(small, scale_factor=2, mode=mode, align_corners=False) for mode in ("bilinear", "bicubic")
    }
    found["linear regression"] = _regressed(small, run.space.to_model(torch.from_numpy(np.array(train.pixels))))
    found |= {f"mean of {k}": draws[:k].mean(0) for k in (1, 2, 4, 8)}
    if arguments.figure:
        names = ("nearest", "bilinear", "bicubic", "mean of 1", "mean of 8")
        shown = torch.cat([*(found[name][:16] for name in names), clean[:16]])
        grid_image(run.space.to_data(shown).numpy(), 16, 4, levels=levels).save(arguments.figure)
    rows = []
    for name, x in found.items():
        mean, error = mean_and_error(psnr(run.space.to_data(x).numpy(), test.take(range(n)), levels))
        difference = F.avg_pool2d(x.clamp(-1, 1), 2) - small
        rows.append(
            {
                "method": name,
                "PSNR": mean,
                "error": error,
                "rms of the block means": float(difference.square().mean().sqrt()),
            }
        )
    return rows


def _regressed(small: Tensor, large: Tensor) -> Tensor:
    """The best linear map of small images and a constant to large ones, by least squares on images of the training."""
    import torch.nn.functional as F

    def inputs(x: Tensor) -> Tensor:
        return torch.cat([x.flatten(1), torch.ones(len(x), 1)], 1).double()

    solved = torch.linalg.lstsq(inputs(F.avg_pool2d(large, 2)), large.flatten(1).double()).solution
    return (inputs(small) @ solved).reshape(len(small), *large.shape[1:])


def _score(x: Tensor, clean: Tensor) -> tuple[float, float]:
    """PSNR, and its standard error."""
    return mean_and_error(psnr(_to_levels(x), _to_levels(clean), 256))


def _to_model(levels: np.ndarray) -> Tensor:
    return torch.from_numpy(levels).float() * UNIT - 1


def _to_levels(x: Tensor) -> np.ndarray:
    return ((x.double() + 1) / UNIT).round().clamp(0, 255).byte().numpy()


def _plot(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
    for axis, kind in zip(axes, ("whole", "file"), strict=True):
        own = [row for row in rows if row["noise"] == kind]
        names = ("noisy", "non-local means", "BM3D", "mean, cut as it is", "mean, estimated", "mean", "draw")
        for place, name in enumerate(names):
            known = [row for row in own if name in row]
            if known:
                axis.plot(
                    [row["std"] for row in known], [row[name][0] for row in known], f"C{place}o-", ms=3, label=name
                )
        axis.set_title(
            {"whole": "noise as it is", "file": "noise rounded and cut off at black and white"}[kind], fontsize=9
        )
        axis.set_xlabel("standard deviation of the noise, of 255")
        axis.legend(fontsize=7)
    axes[0].set_ylabel("peak signal-to-noise ratio, dB")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(answer(main))
