"""Any torch module as a network: of a model in memory, or of a run, which then knows it by its kind and its shapes."""

import copy
import hashlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from diffprob.base.checks import MOST_CHANNELS, instance, shown, text, whole
from diffprob.base.errors import FieldError, InputError
from diffprob.base.limits import MOST_CLASSES
from diffprob.net.layers import Output

_GIVEN: dict[str, nn.Module] = {}  # of this session, by the digest of kind and shapes


class Foreign(nn.Module):
    """Any network ``net(x, t)`` that answers with a tensor, with an object that has ``.sample``, or with an `Output`.

    Args:
        net: the network; with a third argument where it has a condition.
        channels: of x; where the answer has twice as many the second half is the `Output`'s ``extra``. None: never.
    """

    def __init__(self, net: nn.Module, channels: int | None = None) -> None:
        super().__init__()
        self.net, self.channels = net, channels

    def forward(self, x: Tensor, t: Tensor, *condition: Tensor) -> Output:
        """Its answer as an `Output`.

        Raises:
            ValueError: it answers with something else.
        """
        answer = self.net(x, t, *condition)
        if isinstance(answer, Output):
            return answer
        main = answer if isinstance(answer, Tensor) else getattr(answer, "sample", None)
        if not isinstance(main, Tensor):
            kind = type(answer).__name__
            raise ValueError(f"the network answered with a {kind}; a tensor, .sample or an Output would be right")
        if self.channels is not None and main.ndim > 1 and main.shape[1] == 2 * self.channels:
            return Output(*main.chunk(2, 1))
        return Output(main, None)


@dataclass(frozen=True)
class FromModule:
    """A module of one's own as the network of a recipe: ``net(x, t)``, or ``net(x, t, c)`` with classes c.

    x is (B, C, H, W), t (B,) the clock's label, and c (B,) the class, int64, or ``classes - 1`` for none where the
    training drops labels. It answers with a tensor like x, with an object that has ``.sample``, or with an `Output`;
    with 2 C channels where the variance is learned. The network of a training is a copy, and begins with its weights.

    A recipe keeps the kind of the module and a digest of the names and shapes of its weights, not its code: in another
    session make this again, of a module of the same kind, before the run is opened. A network that has settings and is
    opened everywhere is a registered component (`diffprob.config.registry.register`).

    Args:
        module: it; None: that of ``digest``, which this session was given before.
        in_channels, out_channels: of its input and its answer.
        classes: numbers that c takes; 0: there is no c.
        kind: name of the module's class.
        parameters: how many numbers it has.
        digest: of its kind, and of the names, shapes and types of its weights.

    Raises:
        ValueError: a field out of its range, or another module than that of the digest.
    """

    module: Any = field(default=None, repr=False, compare=False)
    in_channels: int = 3
    out_channels: int = 3
    classes: int = 0
    kind: str = ""
    parameters: int = 0
    digest: str = ""

    widths = (1,)  # one resolution, as far as anybody else knows
    divisor = 1

    def __post_init__(self) -> None:
        for name in ("in_channels", "out_channels"):
            whole(name, getattr(self, name), 1, MOST_CHANNELS)
        whole("classes", self.classes, 0, MOST_CLASSES + 1)
        whole("parameters", self.parameters, 0, 2**40)
        text("kind", self.kind, 0)
        text("digest", self.digest, 0, 64)
        if self.module is None:
            if not self.digest:
                raise FieldError("module", "must be a torch.nn.Module, or digest that of one")
            return
        instance("module", self.module, nn.Module, "a torch.nn.Module")
        parameters = sum(parameter.numel() for parameter in self.module.parameters())
        own = {"kind": type(self.module).__name__, "parameters": parameters, "digest": _digest(self.module)}
        for name, value in own.items():
            if getattr(self, name) not in ("", 0, value):
                raise FieldError(name, f"must be {shown(value)}, that of the module, got {shown(getattr(self, name))}")
            object.__setattr__(self, name, value)
        _GIVEN[self.digest] = self.module

    def build(self) -> Foreign:
        """A copy of the module, with the weights that it has now.

        Raises:
            InputError: this session was not given one of the digest.
        """
        module = _GIVEN.get(self.digest) if self.module is None else self.module
        if module is None:
            raise InputError(
                f"the network is a {self.kind or 'module'} of {self.parameters:,} parameters that was given in Python: "
                "dp.load(run, network=net), with net made as it was then, would be right"
            )
        net = Foreign(copy.deepcopy(module), self.in_channels)
        return net.to("meta") if torch.get_default_device().type == "meta" else net


def _digest(module: nn.Module) -> str:
    """SHA-256 of the module's class, and of the names, shapes and types of its state."""
    state = sorted((name, tuple(value.shape), str(value.dtype)) for name, value in module.state_dict().items())
    return hashlib.sha256(repr((type(module).__qualname__, state)).encode()).hexdigest()[:16]
