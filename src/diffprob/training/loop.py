"""The training loop: Algorithm 1 of Ho et al. 2020 through accelerate; order and noise are functions of (seed,
step)."""

import copy
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from diffprob.base.errors import InputError, NumericalError
from diffprob.base.finite import check_tensors
from diffprob.base.options import option
from diffprob.base.rng import Rng, derive
from diffprob.denoise.autoencoder import Autoencoder
from diffprob.denoise.denoiser import Evaluation, NetworkModel
from diffprob.density.baselines import DensityModel
from diffprob.guidance.noisy_classifier import NoisyClassifier
from diffprob.training.averages import PowerAverages
from diffprob.training.batches import Batches, ImageSet, ToModel, check_shares
from diffprob.training.denoising import Memory, Objective
from diffprob.training.optimise import Optimiser, choose_precision
from diffprob.training.pace import PLANNED, Pace
from diffprob.training.settings import Training
from diffprob.training.store import AVERAGES, Snapshot, Store

LOG_EVERY = 10
EARLY = (100, 300)  # steps with a picture besides those of `sample_every`: whether it learns is seen early
Model = NetworkModel[Any] | DensityModel | NoisyClassifier | Autoencoder
MEMORY = "memory."  # the objective's tensors in a checkpoint, beside the optimiser's, which begin with net or curve


class Progress(NamedTuple):
    """What a progress display needs after a step."""

    step: int
    steps: int
    loss: float
    images_per_second: float


class _Losses(nn.Module):
    """The objective as a module's forward, which is what data-parallel training wraps."""

    def __init__(self, model: Model, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, x0: Tensor, rng: Rng, rows: Tensor | None) -> Tensor:
        model: Any = self.model
        if rows is not None:
            model = model.condition_on(rows)
        return self.objective(model, x0, rng)


class Trainer:
    """Train a denoiser, a density, a classifier of noised images, or an autoencoder; the same arguments on the same
    store go on where the newest checkpoint stands.

    The weights at the start are those of ``model``. Resuming is bit-identical to never having stopped, on the same
    machine and software.

    Args:
        model: its float32 (or float64) parameters are trained in place; one with a ``standardise`` measures there what
            its averages keep of the training images, whenever a checkpoint is made.
        objective: one loss per sample; one with a ``bind`` is asked what it is for this model and these images, and one
            with a ``memory`` has it synchronised after every step and kept in the checkpoints.
        images: integer levels by index.
        space: the map from levels to model space.
        settings: the numbers of the training.
        store: keeps checkpoints and log; only the main process writes to it.
        accelerator: accelerate's ``Accelerator``; None makes one for ``device``.
        device: "auto" (CUDA if it is there), "cpu" or "cuda"; only without ``accelerator``.
        on_step: called on the main process after every step.
        on_sample: called on the main process with (step, averaged model) every ``sample_every`` steps and, before the
            first of them, after the steps of `EARLY`; before a checkpoint.
        on_measure: likewise, every ``measure_every`` steps (an attribute, 0 for never) and at the end.
        halt: asked between two steps whether to end here, with a checkpoint; where any process says so, all end.

    Attributes:
        pace: decides by the clock how many steps there are, in the place of ``settings.steps``; None at first.
        on_plan: called on the main process with the settings that a pace decided.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective,
        images: ImageSet,
        space: ToModel,
        settings: Training,
        store: Store,
        accelerator: Any = None,
        device: str = "auto",
        on_step: Callable[[Progress], None] | None = None,
        on_sample: Callable[[int, Any], None] | None = None,
        on_measure: Callable[[int, Any], None] | None = None,
        halt: Callable[[], bool] = lambda: False,
    ) -> None:
        self.accelerator = accelerator or make_accelerator(device)
        check_shares(settings, self.accelerator.num_processes)
        self.device: torch.device = self.accelerator.device
        self.settings, self.store = settings, store
        self.on_step, self.on_sample, self.on_measure = on_step, on_sample, on_measure
        self.measure_every = 0
        self.halt, self.stopping = halt, False
        self.pace: Pace | None = None
        self.paced: dict[str, float] | None = None  # of an earlier training, as its newest checkpoint has it
        self.on_plan: Callable[[Training], None] = lambda _: None
        self.precision = choose_precision(settings.precision, self.device)
        self.model = model.to(self.device).train()
        convert_conv2d_weight_memory_format(self.model, torch.channels_last)
        self.model.evaluation = Evaluation(precision=self.precision)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimiser = Optimiser(self.model, self.average, settings)
        named = zip(self.optimiser.names, self.optimiser.parameters, strict=True)
        self.averages = PowerAverages(settings.averages, dict(named))
        check, bind = getattr(objective, "check", None), getattr(objective, "bind", None)
        if check is not None and isinstance(model, NetworkModel):
            check(model.process, model.variance)
        self.objective: Objective = objective if bind is None else bind(self.model, space)
        self.memory: Memory | None = getattr(self.objective, "memory", None)
        self.losses = self.accelerator.prepare(_Losses(self.model, self.objective))
        condition = getattr(model, "condition", None)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        self.batches = Batches(images, space, settings, rank, world, condition)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.dtype = next(model.parameters()).dtype
        self.made: list[dict[str, Any]] = []  # from which step on the training computed with what
        self.notes: list[str] = []  # what the user should hear, in one sentence each
        self.step = self.saved = 0
        self.seconds = 0.0
        self.norm = torch.zeros(())  # of the last gradient
        self.window: list[Tensor] = []

    def run(self) -> None:
        """Train to ``settings.steps``, or until `stop` was called or ``halt`` says so.

        An exception, `KeyboardInterrupt` too, leaves the newest checkpoint as the last word: inside a step weights,
        averages and counters do not belong together.

        Raises:
            NumericalError: a loss, gradient or weight is not finite; the newest checkpoint is kept, the message names
                the step.
        """
        self.resume()
        self.saved = self.step
        if self.pace is not None:
            self._plan(self.pace.start(self.settings, self.step, self.paced))
        while self.step < self.settings.steps and not self._stop_requested():
            began = time.perf_counter()
            self.advance()
            self.seconds += time.perf_counter() - began
            if self.pace is not None:
                self._plan(self.pace(self.settings, self.step))
            if self._due(self.settings.checkpoint_every) or self._shows():
                self._check()
            if self._due(LOG_EVERY):
                self._log()
            began = time.perf_counter()
            if self._main:
                self._tell()
            if self._due(self.settings.checkpoint_every):
                self.save()
            if self.pace is not None and self._shows():
                self.pace.drew(time.perf_counter() - began, self.settings.samples)
        if self.saved < self.step:  # stopped between two checkpoints
            self._check()
            self.save()

    def stop(self) -> None:
        """End `run` after this step, with a checkpoint."""
        self.stopping = True

    def _plan(self, settings: Training) -> None:
        """Take the settings that a pace decided: in all processes those of the first."""
        if self.accelerator.num_processes > 1:
            own = [getattr(settings, name) if self._main else 0 for name in PLANNED]
            shared = torch.tensor(own, device=self.device, dtype=torch.float64)
            numbers = map(int, self.accelerator.reduce(shared, reduction="sum").tolist())
            settings = replace(settings, **dict(zip(PLANNED, numbers, strict=True)))
        if settings != self.settings:
            self.settings = self.optimiser.settings = settings
            if self._main:
                self.on_plan(settings)

    def advance(self) -> None:
        """One optimiser step."""
        self.optimiser.begin(self.step + 1)
        torch.manual_seed(derive(self.settings.seed, f"dropout {self.step} {self.accelerator.process_index}"))
        began = time.perf_counter()
        parts = self.batches(self.step, self.device, self.dtype)
        total = torch.zeros((), dtype=self.dtype, device=self.device)
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            with self.accelerator.no_sync(self.losses) if not last else nullcontext():
                loss = self.losses(*part).mean() / len(parts)
                self.scaler.scale(loss).backward()
            total += loss.detach()
        if self.memory is not None:
            self.memory.synchronise(self.accelerator.gather)
        self.norm = self.optimiser.update(self.step + 1, self.scaler)
        self.averages.update(self.step + 1)
        self.step += 1
        self.window.append(total)
        if self.on_step and self._main:
            rate = self.settings.batch / (time.perf_counter() - began)
            self.on_step(Progress(self.step, self.settings.steps, float(total), rate))

    @property
    def _main(self) -> bool:
        return self.accelerator.is_main_process

    def _stop_requested(self) -> bool:
        """Whether any process was asked to end here; all get the same answer, so that they end at the same step."""
        requested = self.stopping or self.halt()
        if self.accelerator.num_processes == 1:
            return requested
        return bool(self.accelerator.reduce(torch.tensor(float(requested), device=self.device), reduction="sum") > 0)

    def _tell(self) -> None:
        if isinstance(self.average, NetworkModel):
            self.average.tabulate_schedule()
        if self.on_sample and self._shows():
            self.on_sample(self.step, self.average)
        if self.on_measure and self.measure_every and self._due(self.measure_every):
            self.on_measure(self.step, self.average)

    def _due(self, every: int) -> bool:
        return self.step == self.settings.steps or (every > 0 and self.step % every == 0)

    def _shows(self) -> bool:
        """Whether a picture is drawn after this step."""
        every = self.settings.sample_every
        return self._due(every) or (self.pace is None and self.step in EARLY and self.step < every)

    def _window(self) -> Tensor:
        """The global losses of the steps since the last record, (n,)."""
        return self.accelerator.reduce(torch.stack(self.window), reduction="mean")

    def _check(self) -> None:
        """Refuse to go on from numbers that are not finite; all processes agree, since they see the same reduced
        losses."""
        finite = torch.isfinite(self._window()) if self.window else torch.ones(1, dtype=torch.bool)
        if not bool(finite.all()):
            step = self.step - len(finite) + int((~finite).nonzero()[0]) + 1
            raise NumericalError(f"the loss is not finite at step {step}; the newest checkpoint before it is kept")
        if not self.scaler.is_enabled() and not bool(torch.isfinite(self.norm)):
            raise NumericalError(f"the gradient is not finite at step {self.step}; the newest checkpoint is kept")

    def _log(self) -> None:
        self._check()
        losses = self._window()
        record = {
            "step": self.step,
            "epoch": round(self.step * self.settings.batch / len(self.batches.images), 4),
            "loss": float(losses.mean()),
            "gradient_norm": float(self.norm),
            "lr": self.optimiser.rate(self.step),
            "seconds": round(self.seconds, 3),
        }
        self.window = []
        if self._main:
            self.store.append(record)

    def _check_weights(self) -> None:
        """Refuse to keep numbers that are not finite; the weights, averages and moments of all processes are equal."""
        held = {"weights": self.model.state_dict(), "averaged weights": self.average.state_dict()}
        for what, tensors in {**held, "moments of the optimiser": self.optimiser.state()}.items():
            check_tensors(tensors, f"after step {self.step} the {what} are")

    def save(self) -> None:
        """Keep a checkpoint (main process).

        Raises:
            NumericalError: a weight, an average or a moment of the optimiser is not finite; nothing was written.
        """
        standardise = getattr(self.average, "standardise", None)
        if standardise is not None:
            standardise(self.batches.examples(self.device, self.dtype))
        self._check_weights()
        window = [float(loss) for loss in self._window()] if self.window else []
        if self._main:
            meta = {
                "precision": self.precision,
                "processes": self.accelerator.num_processes,
                "seconds": round(self.seconds, 3),
                "window": window,
                "norm": float(self.norm),
                "scaler": self.scaler.state_dict(),
                "torch": torch.__version__,
                "made": self.made,
                **({} if self.pace is None else {"pace": self.pace.state()}),
            }
            optimiser = self.optimiser.state()
            optimiser |= {AVERAGES + name: value for name, value in self.averages.state().items()}
            if self.memory is not None:
                optimiser |= {MEMORY + name: value for name, value in self.memory.state().items()}
            self.store.save(Snapshot(self.step, self.model.state_dict(), self.average.state_dict(), optimiser, meta))
        self.saved = self.step
        self.accelerator.wait_for_everyone()

    def resume(self) -> None:
        """Take up the newest checkpoint of the store, if there is one.

        Raises:
            InputError: the checkpoint was trained in another precision than the settings say, or is incomplete.
        """
        snapshot, present = self.store.load(), self._present()
        if snapshot is None:
            self.made = [{"from": 0, **present}]
            return
        meta = snapshot.meta
        lacking = {"precision", "processes", "seconds", "window", "norm", "scaler", "torch"} - set(meta)
        if lacking:
            raise InputError(f"the checkpoint of step {snapshot.step:,} is damaged: it lacks its {min(lacking)}")
        if meta["precision"] != self.precision:
            self._take_precision(meta["precision"])
        self.model.load_state_dict(dict(snapshot.raw))
        self.average.load_state_dict(dict(snapshot.ema))
        self.optimiser.load(snapshot.optimiser)
        self.averages.load(snapshot.part(AVERAGES))
        if self.memory is not None:
            self.memory.load(snapshot.part(MEMORY))
        self.scaler.load_state_dict(meta["scaler"])
        self.step, self.seconds = snapshot.step, meta["seconds"]
        self.window = [torch.tensor(loss, dtype=self.dtype, device=self.device) for loss in meta["window"]]
        self.norm = torch.tensor(meta["norm"])
        self.made, self.paced = list(meta.get("made", [])), meta.get("pace")
        before = self.made[-1] if self.made else {"torch": meta["torch"], "processes": meta["processes"]}
        changed = [
            f"{name} {before[name]} -> {present[name]}"
            for name in present
            if before.get(name, present[name]) != present[name]
        ]
        if not self.made or changed:
            self.made.append({"from": self.step, **present})
        if changed:
            self.notes.append(
                f"from step {self.step:,} on this computes otherwise than before ({', '.join(changed)}): "
                "the bits will not be those of a training that never stopped"
            )

    def _take_precision(self, before: str) -> None:
        """Go on in the precision of the checkpoint, where the settings leave it to the machine.

        Raises:
            InputError: they say another.
        """
        if self.settings.precision != "auto":
            raise InputError(
                f"the checkpoint was trained in {before}, this training would use {self.precision}; "
                f"set training.precision={before} to go on with it"
            )
        self.notes.append(f"goes on in {before}, as it was begun; begun here it would be {self.precision}")
        self.precision = before
        for model in (self.model, self.average):
            model.evaluation = Evaluation(precision=before)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=before == "fp16")

    def _present(self) -> dict[str, Any]:
        """What decides the last bits besides the recipe: equal here, a resumed training is bit-identical."""
        return {
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type,
            "threads": torch.get_num_threads(),
            "processes": self.accelerator.num_processes,
            "precision": self.precision,
            "torch": torch.__version__,
        }


def make_accelerator(device: str = "auto", processes: int | None = None) -> Any:
    """accelerate's ``Accelerator`` on the device asked for; started by torchrun it joins the other processes.

    Raises:
        InputError: fewer processes run than were asked for, or the device does not exist or is none of these two.
    """
    from accelerate import Accelerator

    if device != "auto" and torch.device(device).type not in {"cpu", "cuda"}:
        raise InputError(f"a training computes on cpu or cuda, not on {device}, which may have no float64")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(
            f"no CUDA device here for {option('device', device)}; use {option('device', 'cpu')}, or see "
            "`diffprob doctor`"
        )
    # Left to itself accelerate would take whatever accelerator there is.
    cpu = device == "cpu" or not torch.cuda.is_available()
    accelerator = Accelerator(cpu=cpu, step_scheduler_with_optimizer=False)
    if processes is not None and accelerator.num_processes != processes:
        raise InputError(
            f"{processes} processes were asked for but {accelerator.num_processes} run; "
            f"start them with torchrun --nproc-per-node {processes}"
        )
    return accelerator
