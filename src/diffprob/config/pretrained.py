"""Another run as a part of a recipe, named by the hash of its weights."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from diffprob.base.checks import shown, text
from diffprob.base.errors import InputError
from diffprob.base.finite import check_tensors
from diffprob.denoise.denoiser import NetworkModel

_LEAST_HASH = 8


class Weights(Protocol):
    """What a recipe takes from another run (`diffprob.runs.folder.Run`)."""

    @property
    def place(self) -> str:
        """What opens it again."""
        ...

    def sha256(self, best: bool = False) -> str:
        """Of the averaged weights."""
        ...

    def load(self, *, chunk: int | None) -> NetworkModel:
        """The denoiser."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights by name."""
        ...


@dataclass(frozen=True)
class PretrainedRun:
    """The averaged weights of a run: a teacher to learn from, or what a training starts with.

    Args:
        run: its folder, or the name of a packaged run.
        sha256: of its weights' file, as in its ``manifest.json``; other weights are refused. "": whatever it has when a
            training begins, which puts the hash down (`pin`).

    Raises:
        ValueError: not the beginning of a SHA-256.
    """

    run: str
    sha256: str = ""

    # How a run is opened: `diffprob.runs.folder`, which reads recipes and so this, puts it here.
    opener: ClassVar[Callable[[str], Weights]]
    opener_of_any: ClassVar[Callable[[str], Any]]  # likewise, of runs without a denoiser too

    def __post_init__(self) -> None:
        text("run", self.run)
        text("sha256", self.sha256, 0)
        if (self.sha256 and (len(self.sha256) < _LEAST_HASH)) or not set(self.sha256) <= set("0123456789abcdef"):
            raise ValueError(f"sha256 must be hexadecimal, {_LEAST_HASH} digits or more, got {shown(self.sha256)}")

    @classmethod
    def of(cls, run: Weights) -> "PretrainedRun":
        """The weights that ``run`` has now."""
        return cls(run.place, run.sha256())

    def load(self) -> NetworkModel:
        """The denoiser, in eval mode and frozen, whole batches at once.

        Raises:
            InputError: no such run, or its weights are others.
        """
        return self._open().load(chunk=None)

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights by name.

        Raises:
            InputError: no such run, or its weights are others.
        """
        return self._open().weights()

    def load_autoencoder(self) -> Any:
        """The autoencoder, in eval mode and frozen, in network calls of a fixed size.

        Raises:
            InputError: no such run, its weights are others, or it is no autoencoder.
        """
        run = self.opened()
        if not hasattr(run.recipe.network, "latent_shape"):
            kind = type(run.recipe.network).__name__
            raise InputError(f"{self.run} is a run of a {kind}; that of an AutoencoderSpec(...) would be right")
        return run.load()

    def opened(self) -> Any:
        """The run, of whatever kind.

        Raises:
            InputError: no such run, or its weights are others.
        """
        return self._checked(PretrainedRun.opener_of_any(self.run))

    def pinned(self) -> "PretrainedRun":
        """The same run from anywhere, with the hash of the weights that it has now.

        Raises:
            InputError: no such run, or its weights are others.
        """
        run = self.opened()
        return PretrainedRun(run.path.name if run.is_packaged else str(run.path), run.sha256())

    def _open(self) -> Weights:
        return self._checked(PretrainedRun.opener(self.run))

    def _checked(self, run: Any) -> Any:
        if not run.sha256().startswith(self.sha256):
            raise InputError(f"{self.run} has other weights than the recipe names: sha256 {run.sha256()[:12]}...")
        return run


def pin(recipe: Any, old: Any = None) -> Any:
    """The recipe with the hash of the autoencoder in whose latents it lives, where it has none yet.

    Args:
        recipe: of any kind.
        old: the recipe of the run that is there, which goes on with the weights that it began with.

    Raises:
        InputError: no such autoencoder.
    """
    source = getattr(recipe.space, "autoencoder", None)
    if source is None or source.sha256:
        return recipe
    before = getattr(getattr(old, "space", None), "autoencoder", None)
    going_on = before is not None and before.run in (source.run, str(Path(source.run).expanduser().absolute()))
    return replace(recipe, space=replace(recipe.space, autoencoder=before if going_on else source.pinned()))


def with_place_of(old: Any, new: Any) -> Any:
    """The recipe ``new`` with its autoencoder where that of ``old`` lies, if both name a hash: only hashes differ."""
    before, now = (getattr(recipe.space, "autoencoder", None) for recipe in (old, new))
    if before is None or now is None or not (before.sha256 and now.sha256):
        return new
    same = before if before.sha256.startswith(now.sha256) else replace(now, run=before.run)
    return replace(new, space=replace(new.space, autoencoder=same))


def begin(model: nn.Module, start: PretrainedRun) -> list[str]:
    """Copy the weights of a run into those of ``model`` that have their name and shape; returns the names.

    A network inside another goes by its own names: ``net.body.conv_in.weight`` begins with ``net.conv_in.weight``.

    Raises:
        InputError: none agrees.
        NumericalError: a weight is not finite.
    """
    wanted, taken, weights = model.state_dict(), [], start.weights()
    check_tensors(weights, f"start: the weights of {start.run} are")
    for name, value in weights.items():
        for own in (name, name.replace("net.", "net.body.", 1)):
            if own in wanted and wanted[own].shape == value.shape:
                wanted[own].copy_(value)
                taken.append(own)
    if not taken:
        raise InputError(f"start: no weight of {start.run} has the name and shape of one of this network")
    return taken
