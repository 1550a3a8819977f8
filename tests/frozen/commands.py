"""Commands whose results must not change when code moves: {name: arguments}, on the packaged runs and embedded digits.

Every one runs in a folder of its own below which `data/` holds what `inputs` writes. Names of files are relative, so
that a result says nothing of the machine.
"""

from pathlib import Path

# A chain of few steps: what is frozen is the way from options to numbers, not quality.
FEW = ("--steps", "6", "-n", "3", "--device", "cpu")
BOUND = ("-n", "4", "--device", "cpu")
SMALL = (
    *("--set", "network.widths=(8,8)", "--set", "network.groups=4", "--set", "training.batch=8"),
    *("--set", "training.precision=fp32", "--set", "training.sample_every=0", "--device", "cpu"),
)

# Their results name what is there and what would be done: the same on every machine.
WORDS: dict[str, tuple[str, ...]] = {
    "show": ("show",),
    "show-runs": ("show", "runs"),
    "show-samplers": ("show", "samplers"),
    "show-run": ("show", "mnist_labels"),
    "show-recipe": ("show", "cifar10"),
    "data-check": ("data-check", "digits"),
    "data-check-folder": ("data-check", "data/pictures"),
    "sample-dry": ("sample", "mnist", "--dry-run", "--device", "cpu"),
    "sample-dry-8": ("sample", "mnist", "--steps", "8", "--dry-run", "--device", "cpu"),
    "sample-dry-label": ("sample", "mnist_labels", "--label", "7", "--guidance", "0.5", "--dry-run", "--device", "cpu"),
    "sample-dry-from": ("sample", "digits", "--from", "digits:3", "--at", "0.3", "0.6", "--dry-run", "--device", "cpu"),
    "interpolate-dry": ("interpolate", "digits", "digits:0", "digits:1", "--latent", "--dry-run", "--device", "cpu"),
    "likelihood-dry": ("likelihood", "digits", "--dry-run", "--device", "cpu"),
    "likelihood-dry-beta": (
        *("likelihood", "digits", "--variance", "UnitData()", "--grid", "Native()", "--steps", "1000"),
        *("--terms", "all", "--dry-run", "--device", "cpu"),
    ),
    "rate-dry": ("rate", "digits", "--steps", "100", "--dry-run", "--device", "cpu"),
    "restore-dry": ("restore", "digits", "digits", "-n", "4", "--add-noise", "3", "--dry-run", "--device", "cpu"),
    "detect-dry": ("detect", "digits", "data/odd.npy", "--resize", "--dry-run", "--device", "cpu"),
    "evaluate-dry": ("evaluate", "digits", "-n", "200", "--dry-run", "--device", "cpu"),
    "fit-dry": ("fit", "digits", "analytic", "steps", "--dry-run", "--device", "cpu"),
    "classifier-dry": ("baseline", "classifier", "digits", "--dry-run", "--device", "cpu"),
    "translate-dry": (
        *("translate", "digits", "data/odd.npy", "--method", "sdedit", "--start", "0.6", "--resize"),
        *("--dry-run", "--device", "cpu", "--out", "t"),
    ),
}

# Their results are computed: the bits are those of one kind of processor.
NUMBERS: dict[str, tuple[str, ...]] = {
    "sample": ("sample", "digits", *FEW, "--out", "x.npz"),
    "sample-default": ("sample", "digits", "-n", "2", "--device", "cpu", "--out", "x.png"),
    "sample-folder": ("sample", "digits", *FEW, "--out", "pictures/"),
    "sample-ancestral": (
        *("sample", "digits", *FEW, "--sampler", "Ancestral()", "--variance", "Analytic()", "--out", "x.npz"),
    ),
    "sample-karras": (
        *("sample", "digits", *FEW, "--sampler", "DDIM(eta=0.5)", "--grid", "Karras(rho=7)", "--progressive"),
    ),
    "sample-unipc": ("sample", "mnist", *FEW, "--sampler", "UniPC(3)", "--out", "x.npz"),
    "sample-labels": ("sample", "mnist_labels", *FEW, "--label", "7", "--guidance", "0.5", "--out", "x.npz"),
    "sample-in-turn": ("sample", "mnist_labels", *FEW, "--out", "x.npz"),
    "sample-fashion": ("sample", "fashion", *FEW, "--seed", "5", "--no-clip", "--out", "x.npz"),
    "sample-from": ("sample", "digits", "--from", "digits:3", "--at", "0.3", "0.6", *FEW, "--out", "x.npz"),
    "sample-reconstruct": (
        *("sample", "digits", "--from", "digits:3", "--reconstruct", "--steps", "6", "--device", "cpu"),
    ),
    "interpolate": (
        "interpolate",
        "digits",
        "digits:0",
        "digits:1",
        "--points",
        "3",
        "--steps",
        "6",
        "--device",
        "cpu",
    ),
    "interpolate-latent": (
        *("interpolate", "digits", "digits:0", "digits:1", "--latent", "--points", "3", "--steps", "6"),
        *("--device", "cpu", "--out", "x.npz"),
    ),
    "likelihood": ("likelihood", "digits", *BOUND, "--out", "x.json"),
    "likelihood-steps": ("likelihood", "digits", *BOUND, "--steps", "20", "--terms", "all", "--out", "x.csv"),
    "likelihood-beta": (
        *("likelihood", "digits", *BOUND, "--variance", "UnitData()", "--grid", "Native()", "--steps", "1000"),
    ),
    "likelihood-continuous": ("likelihood", "digits", *BOUND, "--method", "continuous"),
    "likelihood-flow": ("likelihood", "digits", "-n", "2", "--device", "cpu", "--method", "flow"),
    "likelihood-train": ("likelihood", "digits", *BOUND, "--split", "train", "--seed", "3"),
    "likelihood-data": ("likelihood", "digits", "data/odd.npy", *BOUND, "--resize"),
    "likelihood-labels": ("likelihood", "mnist_labels", "data/labelled", "-n", "2", "--terms", "4", "--device", "cpu"),
    "rate": ("rate", "digits", *BOUND, "--steps", "20", "--out", "x.json"),
    "detect": (
        *("detect", "digits", "--outside", "data/odd.npy", "--resize", "-n", "50", "--device", "cpu", "--out", "d"),
        *("--proxy", "NoiseNorm(t=0.02)", "--proxy", "ReconstructionError"),
    ),
    "detect-rank": (
        "detect",
        "digits",
        "data/odd.npy",
        "--resize",
        "-n",
        "50",
        "--proxy",
        "ScoreNorms",
        "--device",
        "cpu",
    ),
    "evaluate": ("evaluate", "digits", "-n", "60", "--steps", "6", "--device", "cpu", "--metrics", "frechet,kid"),
    "restore": ("restore", "digits", "digits", "-n", "4", "--add-noise", "3", "--device", "cpu", "--out", "r"),
    "restore-draw": (
        *("restore", "digits", "digits", "-n", "2", "--add-noise", "3", "--draw", "--steps", "6"),
        *("--device", "cpu", "--out", "s"),
    ),
    "restore-box": (
        "restore",
        "digits",
        "digits",
        "-n",
        "2",
        "--box",
        "2,2,4,4",
        "--steps",
        "6",
        "--device",
        "cpu",
        "--out",
        "b",
    ),
    "translate": (
        *("translate", "digits", "data/odd.npy", "--resize", "--method", "sdedit", "--start", "0.6", "-n", "2"),
        *("--steps", "6", "--device", "cpu", "--out", "t"),
    ),
    "train": ("train", "digits", *SMALL, "--steps", "3", "--out", "runs/small"),
    "fit": ("fit", "runs/small", "analytic", "-n", "16", "--device", "cpu"),
    "trained-sample": ("sample", "runs/small", *FEW, "--out", "x.npz"),
    "trained-likelihood": ("likelihood", "runs/small", *BOUND, "--terms", "4"),
    "glow": ("baseline", "glow", "digits", "--steps", "2", "--device", "cpu", "--out", "runs/glow"),
    "distill": (
        "distill",
        "digits",
        "--method",
        "gradient",
        "--steps",
        "2",
        "--device",
        "cpu",
        "--out",
        "runs/gradient",
    ),
    "noisy-classifier": (
        "noisy-classifier",
        "digits",
        "digits",
        "--steps",
        "2",
        "--device",
        "cpu",
        "--out",
        "runs/classes",
    ),
    "export": ("export", "digits", "--out", "exported"),
    "import": ("import", "exported", "--out", "runs/imported"),
    "compare": ("compare", "digits", "runs/small", "--out", "compare.html"),
    "report": ("report", "runs/small", "--out", "report.html"),
}


def inputs(folder: Path) -> None:
    """Write ``data/`` below a folder: small pictures, arrays that are no digits, and labelled images of 28x28."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[:8, :8]
    waves = [np.uint8(127.5 + 127.5 * np.sin(x * (1 + k % 3) + k) * np.cos(y * k / 5)) for k in range(60)]
    (folder / "data" / "pictures").mkdir(parents=True)
    for k, wave in enumerate(waves[:6]):
        Image.fromarray(wave).save(folder / "data" / "pictures" / f"wave-{k}.png")
    np.save(folder / "data" / "odd.npy", np.stack(waves)[:, None])
    for k, wave in enumerate(waves[:4]):
        place = folder / "data" / "labelled" / str(k % 2)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.kron(wave, np.ones((4, 4), np.uint8))[2:30, 2:30]).save(place / f"{k}.png")
