"""A network that is given in Python, in the place of a recipe's own: its settings, or a module with its weights."""

from typing import Any

import torch
from torch import nn

from diffprob.base.checks import able
from diffprob.base.errors import InputError
from diffprob.base.text import one_line
from diffprob.conditions.condition import Labels
from diffprob.config.recipe import AnyRecipe, Recipe
from diffprob.denoise.learned import LearnedDiagonal, LearnedRange
from diffprob.net.from_module import FromModule

CALLED = 2  # images in the call that shows whether a module can be called


def check_network(network: object) -> None:
    """Refuse what is no network.

    Raises:
        ValueError: neither a module nor settings of one.
    """
    if not isinstance(network, nn.Module):
        able("network", network, "build", "a torch.nn.Module or a registered component")


def network_of(network: Any, recipe: AnyRecipe) -> dict[str, Any]:
    """The fields of a recipe that are set where it gets another network.

    Args:
        network: settings, or a module: it is called once, on noise, to see that its answer has the right shape.
        recipe: that gets it.

    Raises:
        InputError: a module in a recipe of another kind, or one that cannot be called, or answers with another shape.
    """
    if not isinstance(network, nn.Module | FromModule):
        return {"network": network}
    if not isinstance(recipe, Recipe) or recipe.space.is_discrete:
        raise InputError(f"network: a module removes noise from images, and {recipe.name} is a recipe of another kind")
    module = network.module if isinstance(network, FromModule) else network
    channels = recipe.space.model_shape[0]
    answered = channels * (1 + isinstance(recipe.variance, LearnedRange | LearnedDiagonal))
    classes = recipe.condition.rows if isinstance(recipe.condition, Labels) else 0
    settings = FromModule(module, channels, answered, classes)
    _try(settings, recipe)
    return {"network": settings}


def check_same(given: FromModule, run: Any) -> None:
    """Refuse a module for a run that was trained with another network.

    Raises:
        InputError: both are named.
    """
    network = getattr(run.recipe, "network", None)
    if not isinstance(network, FromModule):
        raise InputError(f"network: {run.name} has a network of its own, {type(network).__name__}, and takes no module")
    if network.digest != given.digest:
        ours, theirs = (f"{one.kind} of {one.parameters:,} parameters ({one.digest})" for one in (given, network))
        raise InputError(f"network: {ours} is not that of {run.name}, {theirs}: a module made as it was would be right")


def _try(settings: FromModule, recipe: Recipe) -> None:
    """Call a copy of the module, without touching any generator of random numbers.

    Raises:
        InputError: it raises, or answers with another shape.
    """
    net, shape = settings.build().eval(), (CALLED, *recipe.space.model_shape)
    first = next(net.parameters(), None)
    if first is None or not any(weight.requires_grad for weight in net.parameters()):
        raise InputError(f"network: {settings.kind} has no parameters that could be trained")
    condition = () if recipe.condition is None else (recipe.condition.example_rows(CALLED),)
    x, t = torch.zeros(shape, device=first.device, dtype=first.dtype), torch.full((CALLED,), 0.5, device=first.device)
    call = "net(x, t, c)" if condition else "net(x, t)"
    try:
        with torch.no_grad(), torch.random.fork_rng():
            output = net(x, t, *(rows.to(first.device) for rows in condition))
    except Exception as error:  # whatever another's module does
        what = f"{type(error).__name__}: {one_line(error, 120)}"
        raise InputError(f"network: {settings.kind} cannot be called as {call} with x {shape}: {what}") from error
    answer = tuple(output.main.shape if output.extra is None else torch.cat(output, 1).shape)
    wanted = (CALLED, settings.out_channels, *shape[2:])
    if answer != wanted:
        raise InputError(f"network: {settings.kind} answers {call} with the shape {answer}; {wanted} would be right")
