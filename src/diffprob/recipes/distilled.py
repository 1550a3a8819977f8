"""A potential made of a trained run: gradient distillation, a scalar head on its body, or a whole network anew."""

from dataclasses import replace

from diffprob.base.errors import InputError
from diffprob.base.options import option
from diffprob.config.pretrained import PretrainedRun
from diffprob.config.recipe import Recipe
from diffprob.denoise.prediction import Epsilon
from diffprob.denoise.variance import Zero
from diffprob.net.potential import PotentialSpec
from diffprob.net.scalar_unet import ScalarUNetSpec
from diffprob.net.unet import UNetSpec
from diffprob.runs.folder import Run
from diffprob.training.denoising import Denoising
from diffprob.training.distillation import GradientDistillation
from diffprob.training.settings import ParameterGroup, Training

METHODS = {
    "gradient": "a U-Net whose gradient learns the run's own noise prediction",
    "scalar": "a scalar head on the run's body, frozen at first, whose gradient learns the noise",
    "full": "a U-Net, begun with the run's weights, whose gradient learns the noise",
}
STEPS = 2000
BODY_RATE = 0.1  # learning rate of the body in units of the head's, once it moves


def distilled(run: Run, method: str, steps: int = STEPS, unfreeze: bool = True) -> Recipe:
    """The recipe of ``diffprob distill``: the run's data, space, process and clock, and one of `METHODS`.

    Args:
        run: the teacher.
        method: one of `METHODS`.
        steps: of the training.
        unfreeze: scalar: in the second half of the steps let the body learn too, the middle first and then one
            resolution after the other from the lowest up.

    Raises:
        InputError: an unknown method, a run whose network is no U-Net, or one with a condition by another method than
            gradient, whose teacher has the null condition.
    """
    net = run.recipe.network
    if method not in METHODS:
        raise InputError(f"no method {method!r}: one of {', '.join(METHODS)} would be right")
    if not isinstance(net, UNetSpec):
        raise InputError(f"{run.place}: a {type(net).__name__} cannot be distilled; a run of a U-Net would be right")
    if run.recipe.condition is not None and method != "gradient":
        raise InputError(
            f"{run.place}: only {option('method', 'gradient')} distils a run with condition={run.recipe.condition!r}"
        )
    body = replace(net, out_channels=net.in_channels, dropout=0.0, classes=0)
    teacher = PretrainedRun.of(run)
    training = Training(
        steps=steps,
        batch=32,
        lr=run.recipe.training.lr,
        warmup=min(200, steps // 10),
        cooldown=steps // 5,
        ema=0.999,
        seed=run.recipe.training.seed,
        augment=run.recipe.training.augment,
        checkpoint_every=max(1, steps // 10),
        sample_every=max(1, steps // 4),
        parts=_frozen(body, steps, unfreeze) if method == "scalar" else (),
    )
    scalar = PotentialSpec(ScalarUNetSpec(body))
    return replace(
        run.recipe,
        name=f"{run.name}-{method}",
        network=scalar if method == "scalar" else PotentialSpec(body),
        prediction=Epsilon(),
        variance=Zero(),
        condition=None,
        objective=GradientDistillation(teacher) if method == "gradient" else Denoising(),
        training=training,
        start=None if method == "gradient" else teacher,
    )


def _frozen(body: UNetSpec, steps: int, unfreeze: bool) -> tuple[ParameterGroup, ...]:
    """When each part of the body begins; what never begins starts after the last step."""
    levels = len(body.widths)
    order = ["mid_block", *(f"down_blocks.{level}" for level in reversed(range(levels)))]
    first, room = steps // 2, steps - steps // 2
    begun = [
        ParameterGroup(f"net.body.{name}.", first + k * room // (levels + 1) if unfreeze else steps, BODY_RATE)
        for k, name in enumerate(order)
    ]
    return (*begun, ParameterGroup("net.body.conv_in.", steps), ParameterGroup("net.body.time_embedding.", steps))
