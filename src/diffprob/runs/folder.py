"""A run is a folder: the recipe, the averaged weights, the hash of every file. This is the reading side."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor
from torch.nn.utils import convert_conv2d_weight_memory_format

from diffprob.base.errors import InputError, did_you_mean
from diffprob.base.finite import check_tensors
from diffprob.base.options import option
from diffprob.config.pretrained import PretrainedRun
from diffprob.config.recipe import (
    AnyRecipe,
    AutoencoderRecipe,
    Baseline,
    NoisyClassifierRecipe,
    Recipe,
    build_autoencoder,
    build_density,
    build_model,
    build_noisy_classifier,
)
from diffprob.denoise.autoencoder import Autoencoder
from diffprob.denoise.denoiser import Evaluation, NetworkModel
from diffprob.denoise.variance import Variance
from diffprob.density.baselines import DensityModel
from diffprob.guidance.noisy_classifier import NoisyClassifier
from diffprob.net.head import HeadedUNet
from diffprob.process.learned import LearnedSchedule
from diffprob.runs.bundled import located
from diffprob.runs.files import BEST, MODEL, model_meta, read_recipe, weights_step
from diffprob.runs.fits import bind_variance
from diffprob.runs.measurements import Measurement, read_measurements
from diffprob.runs.writer import RunWriter
from diffprob.space.space import Space
from diffprob.storage import tensors
from diffprob.storage.files import expanded, kind_of
from diffprob.storage.manifest import NAME, Manifest

PRETRAINED = Path(__file__).resolve().parents[1] / "pretrained"


AnyRecipe_co = TypeVar("AnyRecipe_co", bound=AnyRecipe, covariant=True)
Model = TypeVar("Model", NetworkModel, DensityModel, NoisyClassifier, Autoencoder)


@dataclass(frozen=True)
class RunFolder(Generic[AnyRecipe_co]):
    """What every trained run is, read and never written except by `record` and `add`.

    Args:
        path: the folder, absolute once opened: the working directory may change.
        recipe: what was trained.
        meta: ``step`` of the weights (0 before the first checkpoint), ``library`` version and ``data`` digest.
        manifest: the inventory as it was when the run was opened.
        typed: the folder as the user named it, for what is printed; empty: ``path``.
    """

    path: Path
    recipe: AnyRecipe_co
    meta: dict[str, Any]
    manifest: Manifest
    typed: str = ""

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.recipe.name

    @property
    def is_packaged(self) -> bool:
        """Whether it came with the library: such a run is read, and written to only where that is asked for."""
        return self.path.absolute().parent == PRETRAINED

    @property
    def place(self) -> str:
        """What opens it again: the name of a packaged run, whose folder is that of the installation, or the folder."""
        return self.path.name if self.is_packaged else self.typed or str(self.path)

    @property
    def space(self) -> Space:
        """The space of the run's images."""
        return self.recipe.space

    @property
    def measurements(self) -> list[Measurement]:
        """What was measured on this run."""
        return read_measurements(self.path)

    def weights_path(self, best: bool = False) -> Path:
        """The file of the averaged weights: the last ones, or the best by the metric that the training watched.

        Raises:
            InputError: there is no such file.
        """
        path = self.path / (BEST if best else MODEL)
        exists = kind_of(path) is not None
        if not exists and kind_of(self.path) is None:
            raise InputError(f"{self.path} is gone: the folder was moved or deleted after it was opened; open it anew")
        if not exists and best:
            watch = option("overrides", {"training.monitor": 'Monitor(best="frechet")'})
            raise InputError(
                f"{self.place} has no best weights: its training watched no metric ({watch}), or has not measured yet"
            )
        if not exists:
            raise InputError(
                f"{self.place} has no model yet: it was stopped before its first checkpoint; train it again"
            )
        return path

    def sha256(self, best: bool = False) -> str:
        """Of the file of the averaged weights, as the inventory has it.

        Raises:
            InputError: there is no such file.
        """
        return self.manifest.entry(self.weights_path(best).name)["sha256"]

    def weights_provenance(self, best: bool = False) -> dict[str, Any]:
        """Which weights: their step, and the SHA-256 of their file, JSON literals by name.

        Raises:
            InputError: there is no such file.
        """
        return {"step": weights_step(self.weights_path(best)), "model_sha256": self.sha256(best)}

    def weights(self, best: bool = False) -> dict[str, Tensor]:
        """The averaged weights of `weights_path`, named as in ``NetDenoiser.state_dict()``.

        Raises:
            InputError: there are none yet, or the file is not safetensors.
        """
        return tensors.read(self.weights_path(best))

    def record(self, *measurements: Measurement) -> None:
        """Add measurements of the present weights to ``measured.json`` and the model card.

        Raises:
            InputError: the folder cannot be written, or a training is using it.
        """
        writer = RunWriter(self.path)
        try:
            writer.record(*measurements)
        finally:
            writer.close()

    def add(self, name: str, contents: bytes) -> None:
        """Put a whole file such as ``report.html`` into the run and its inventory.

        Raises:
            InputError: the folder cannot be written, or a training is using it.
        """
        writer = RunWriter(self.path)
        try:
            writer.add({name: contents})
        finally:
            writer.close()


class Run(RunFolder[Recipe]):
    """A trained diffusion model, or one in training."""

    @classmethod
    def open(cls, path: str | Path, verify: bool = True) -> "Run":
        """Open a folder, or a packaged reference run by its name.

        Args:
            path: a run's folder, or a name such as "mnist" where no run of that name lies in the working directory.
            verify: compare every file with its SHA-256 (the training states are compared when training resumes).

        Raises:
            InputError: no such run, one without a denoiser, or a file of it is missing, damaged or not what it says it
                is; the file is named.
        """
        run = open_run(path, verify)
        if not isinstance(run, Run):
            kind = type(run.recipe.network).__name__.removesuffix("Spec")
            use = f"`diffprob detect RUN --with {path}` takes it"
            if isinstance(run, NoisyClassifierRun):
                use = f"`diffprob translate RUN IMAGES --classifier {path}` takes it"
            if isinstance(run, AutoencoderRun):
                use = "a diffusion model may be trained in its latents, space=Latents(...)"
            raise InputError(f"{path} is a {kind}, which has no denoiser: {use}")
        return run

    @property
    def process(self) -> Any:
        """The noising process, a `diffprob.process.process.Process`; a schedule that was learned is the trained curve.

        Raises:
            InputError: the schedule is learned, and there is no model yet.
        """
        process = self.recipe.process
        return self.load().process if isinstance(process.schedule, LearnedSchedule) else process

    def load(
        self,
        device: str | torch.device = "cpu",
        chunk: int | Literal["auto"] | None = "auto",
        precision: str = "fp32",
        best: bool = False,
        variance: Variance | None = None,
    ) -> NetworkModel:
        """The denoiser with the averaged weights, in eval mode, its parameters frozen; gradients flow through it.

        Args:
            device: where to put it.
            chunk: samples per network call (`Evaluation`); "auto" is `auto_chunk`.
            precision: "fp32", "bf16" or "fp16".
            best: the best weights by the metric that the training watched, instead of the last.
            variance: Var[x_0|x_t] in the place of the recipe's, with what `diffprob fit` found for it.

        Raises:
            InputError: no model yet, weights that are not those of the recipe's network, or a variance that was never
                fitted to them.
        """
        device = torch.device(device)
        size = auto_chunk(device, self.space) if chunk == "auto" else chunk
        with torch.device("meta"):  # no memory, and no random numbers taken from the global generator
            model = build_model(self.recipe, Evaluation(size, precision))
        _filled(model, self, best)
        model.variance, head = bind_variance(self, variance or self.recipe.variance, best)
        if head is not None:
            model.net = HeadedUNet(model.net, head)  # pyright: ignore[reportArgumentType]
            convert_conv2d_weight_memory_format(head, torch.channels_last)
        return model.to(device)


PretrainedRun.opener = Run.open


class BaselineRun(RunFolder[Baseline]):
    """A trained model of a density without a noise process, to compare with; made by `open_run`."""

    def load(
        self,
        device: str | torch.device = "cpu",
        chunk: int | Literal["auto"] | None = "auto",
        precision: str = "fp32",
    ) -> DensityModel:
        """The model with the averaged weights, in eval mode, its parameters frozen; gradients flow through it.

        Args:
            device, chunk, precision: as in `Run.load`.

        Raises:
            InputError: no model yet, or weights that are not those of the recipe's network.
        """
        return _loaded(self, build_density, device, chunk, precision)


class NoisyClassifierRun(RunFolder[NoisyClassifierRecipe]):
    """A trained classifier of noised images; made by `open_run`."""

    def load(
        self,
        device: str | torch.device = "cpu",
        chunk: int | Literal["auto"] | None = "auto",
        precision: str = "fp32",
    ) -> NoisyClassifier:
        """The classifier, as `BaselineRun.load` has a density."""
        return _loaded(self, build_noisy_classifier, device, chunk, precision)


class AutoencoderRun(RunFolder[AutoencoderRecipe]):
    """A trained autoencoder; made by `open_run`."""

    def load(
        self,
        device: str | torch.device = "cpu",
        chunk: int | Literal["auto"] | None = "auto",
        precision: str = "fp32",
    ) -> Autoencoder:
        """The autoencoder, as `BaselineRun.load` has a density."""
        return _loaded(self, build_autoencoder, device, chunk, precision)


AnyRun = Run | BaselineRun | NoisyClassifierRun | AutoencoderRun
_KINDS: dict[type, Any] = {
    Recipe: Run,
    Baseline: BaselineRun,
    NoisyClassifierRecipe: NoisyClassifierRun,
    AutoencoderRecipe: AutoencoderRun,
}


def open_run(path: str | Path, verify: bool = True) -> AnyRun:
    """Open a run of any kind; see `Run.open`.

    Raises:
        InputError: no such run, or a file of it is missing, damaged or not what it says it is; the file is named.
    """
    folder = _find(path)
    for attempt in range(3):
        manifest = Manifest.read(folder)
        try:
            if verify:
                manifest.verify()
            recipe, meta = read_recipe(folder), model_meta(folder, manifest.meta)
            place, recipe = folder.absolute(), located(recipe, folder, manifest)
            return _KINDS[type(recipe)](place, recipe, meta, manifest, str(folder))
        except InputError:
            # A training may have replaced files while we were reading: only an unchanged manifest proves damage.
            if attempt == 2 or Manifest.read(folder) == manifest:
                raise
    raise AssertionError("unreachable")


PretrainedRun.opener_of_any = open_run


def auto_chunk(device: torch.device, space: Space) -> int:
    """Samples per network call by default: on a CPU 8, 16 very small ones, fewer large ones; 256 elsewhere.

    A call costs as much for one sample as for all of them, since what is missing is filled up: the last bits would
    otherwise depend on how many there are.
    """
    d = math.prod(space.model_shape)
    if len(space.model_shape) == 1 and space.levels is None:  # rows of numbers cost next to nothing
        return 256
    most, fitting = (8 if d > 256 else 16, 16 * 3072) if device.type == "cpu" else (256, 256 * 3072)
    # A power of two, so that usual batch sizes are cut evenly.
    return 2 ** int(math.log2(max(1, min(most, fitting // d))))


def packaged() -> list[str]:
    """Names of the reference runs that come with the library."""
    return sorted(path.parent.name for path in PRETRAINED.glob(f"*/{NAME}"))


def _find(path: str | Path) -> Path:
    folder = expanded(path)
    if path == "":  # which would be the working directory
        raise InputError(f"no run has an empty name: one of {', '.join(packaged())} or a folder would be right")
    if kind_of(folder / NAME) is not None:
        return folder
    if str(path) in packaged():
        return PRETRAINED / str(path)
    if (folder / "model_index.json").is_file() or (folder / "unet" / "config.json").is_file():
        raise InputError(f"{folder} is a diffusers folder: make a run of it with `diffprob import {folder} --out RUN`")
    if folder.is_dir():
        raise InputError(f"{folder} is not a run: it has no {NAME}")
    if folder.exists():
        raise InputError(f"{folder} is a file; a run is a folder")
    known = ", ".join(packaged()) or "none"
    raise InputError(f"no run at {folder} (packaged runs: {known}){did_you_mean(str(path), packaged())}")


def _loaded(
    run: Any,
    build: Callable[[Any, Evaluation], Any],
    device: str | torch.device,
    chunk: int | Literal["auto"] | None,
    precision: str,
) -> Any:
    """What ``build`` makes of the run's recipe, with its weights."""
    device = torch.device(device)
    size = auto_chunk(device, run.space) if chunk == "auto" else chunk
    with torch.device("meta"):
        model = build(run.recipe, Evaluation(size, precision))
    return _filled(model, run, False).to(device)


def _filled(model: Model, run: RunFolder[Any], best: bool) -> Model:
    """The model on no device with the run's averaged weights, channels-last, in eval mode and frozen.

    Raises:
        InputError: weights that are not those of the recipe's network.
        NumericalError: one of them is not finite: no number that is computed with them would mean anything.
    """
    _check_weights(model.state_dict(), run.weights_path(best))  # before any memory is taken for them
    weights = run.weights(best)
    check_tensors(weights, f"the weights in {run.weights_path(best)} are")
    model.load_state_dict(weights, strict=True, assign=True)
    convert_conv2d_weight_memory_format(model, torch.channels_last)
    return model.eval().requires_grad_(False)


def _check_weights(wanted: dict[str, Tensor], path: Path) -> None:
    stored = tensors.read_shapes(path)
    for name, tensor in wanted.items():
        if name not in stored:
            raise InputError(f"{path} lacks the tensor {name}: it is not of the network in recipe.txt")
        dtype, shape = stored[name]
        if dtype != tensors.spelt(tensor.dtype):
            raise InputError(
                f"{path}: tensor {name} is {dtype}, the network in recipe.txt has {tensors.spelt(tensor.dtype)}"
            )
        if shape != tuple(tensor.shape):
            shapes = f"{shape}, the network in recipe.txt {tuple(tensor.shape)}"
            raise InputError(f"{path}: tensor {name} has shape {shapes}")
    extra = next((name for name in stored if name not in wanted), None)
    if extra:
        raise InputError(f"{path} has a tensor {extra}, which the network in recipe.txt does not")
