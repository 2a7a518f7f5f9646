"""The training loop: resumable, averaged weights, the best ones kept."""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from pipeline.errors import ExperimentError, MethodError
from pipeline.methods.precision import channels_last, computes_bf16
from pipeline.training.checkpoint import load_checkpoint, save_checkpoint
from pipeline.training.field_making import processors
from pipeline.training.optimizers import Optimizers
from pipeline.training.prefetch import Prefetched
from pipeline.training.settings import Schedule

# Share of the training over which the learning rate rises.
_RISE = 0.01
# The batch statistics of small patches are noisy: a slower mean than torch's 0.1.
_NORM_MOMENTUM = 0.03
_LOG_EVERY = 25
_USUAL_MINUTES = 50.0
# Draw batches for a GPU: each takes some milliseconds, as a GPU's step does.
_DRAWING_THREADS = 8


@dataclass(frozen=True)
class Budget:
    """How long to train: so many steps (the same weights again), or so many minutes."""

    steps: int | None = None
    minutes: float | None = None

    def progress(self, step: int, seconds: float) -> float:
        """0 at the start, 1 at the end."""
        if self.steps is not None:
            return step / self.steps
        assert self.minutes is not None  # the trainer is given one of the two
        return seconds / 60 / self.minutes


def given_budget(minutes: float | None, steps: int | None) -> Budget:
    """A user's wish: 50 minutes where there is none. Raises `ExperimentError` for one that can't be."""
    if minutes is not None and steps is not None:
        raise ExperimentError("minutes and steps are both given", "give one of them")
    if (minutes is not None and not minutes > 0) or (steps is not None and steps < 1):
        raise ExperimentError(
            "a training needs time", "give more than 0 minutes, or a step or more"
        )
    return Budget(steps, _USUAL_MINUTES if minutes is None and steps is None else minutes)


@dataclass(frozen=True)
class Event:
    """What the trainer reports as it goes."""

    step: int
    seconds: float
    progress: float
    loss: float
    learning_rate: float
    validation: dict[str, float] | None = None
    best: bool = False


Net = TypeVar("Net", bound=nn.Module)
Drawn = TypeVar("Drawn")
# Given averaged weights in evaluation mode: named figures; `score` (higher is better) decides.
Validate = Callable[[Net], dict[str, float]]
# Given the best weights so far, the event that made them: writes the weights file.
Keep = Callable[[Net, Event], None]


@dataclass(frozen=True)
class Task(Generic[Net, Drawn]):
    """What is trained on what.

    Parameters
    ----------
    network
        To begin with; is trained in place.
    inner_kernels
        Of its parameters those that Muon is to learn.
    draw
        The batch of (seed, step): a function of both alone.
    loss
        Of (network, batch, device, whether the device computes in bf16); moves the batch there.
    """

    network: Net
    inner_kernels: Callable[[Net], list[nn.Parameter]]
    draw: Callable[[int, int], Drawn]
    loss: Callable[[Net, Drawn, torch.device, bool], torch.Tensor]


class Trainer(Generic[Net, Drawn]):
    """One training.

    Parameters
    ----------
    task, settings, seed
        With a budget in steps they decide the weights: bit for bit on one kind of processor with one number of
        threads.
    identity
        Of all that decides the weights, in words: a checkpoint of another training is refused.
    checkpoint
        Where the state is kept, every `checkpoint_s` seconds and after each validation; read first, if it is there.
    validations
        How many, evenly over the budget: by the clock, the weights kept would depend on it.

    Raises
    ------
    MethodError
        If the checkpoint is damaged, or of another training.
    """

    def __init__(
        self,
        task: Task[Net, Drawn],
        settings: Schedule,
        seed: int,
        budget: Budget,
        identity: str,
        checkpoint: Path,
        device: str = "cpu",
        checkpoint_s: float = 180.0,
        validations: int = 16,
    ) -> None:
        self._task, self._settings = task, settings
        self._seed, self._budget, self._path = seed, budget, checkpoint
        self._device = torch.device(device)
        self._checkpoint_s, self._validations = checkpoint_s, validations
        if self._device.type == "cuda":
            # Or sums of gradients come in any order, and the same steps give other weights.
            torch.backends.cudnn.deterministic = True
        # A GPU without bf16 imitates it, slowly.
        self._bf16 = (
            computes_bf16()
            if self._device.type == "cpu"
            else torch.cuda.is_bf16_supported(including_emulation=False)
        )
        self._network = channels_last(task.network.to(self._device))
        for module in self._norms():
            module.momentum = _NORM_MOMENTUM
        self._average = copy.deepcopy(self._network).eval()
        self._optimizers = Optimizers(
            self._network, task.inner_kernels(self._network), settings.weight_decay
        )
        # Norms' running statistics are averaged, too; their counters are no numbers to average.
        pairs = zip(
            self._average.state_dict().values(), self._network.state_dict().values(), strict=True
        )
        self._averaged = [(mean, now) for mean, now in pairs if mean.is_floating_point()]
        self._step, self._seconds, self._best = 0, 0.0, -math.inf
        self._identity = hashlib.sha256(
            "|".join([identity, settings.model_dump_json(), str(seed), repr(budget)]).encode()
        ).hexdigest()
        self._resume()

    @property
    def step(self) -> int:
        """Steps done, those before a resume included."""
        return self._step

    def run(
        self, validate: Validate[Net], keep: Keep[Net], report: Callable[[Event], None]
    ) -> None:
        """Train to the end of the budget.

        The checkpoint stays, for the caller to `forget` once nothing more is to be done: a call after the end
        validates once more, and that is all.

        Raises
        ------
        MethodError
            If the loss stops being a number.
        """
        if not self._path.exists():
            # Weights without a checkpoint beside them are another training's, not to be written over.
            self._save()
        with Prefetched(self._draw, self._step, self._drawing_threads()) as batches:
            self._run(batches, validate, keep, report)
        final = Event(self._step, self._seconds, 1.0, math.nan, 0.0)
        self._validate(final, validate, keep, report)

    def forget(self) -> None:
        """Remove the checkpoint."""
        self._path.unlink(missing_ok=True)

    def _run(
        self,
        batches: Prefetched[Drawn],
        validate: Validate[Net],
        keep: Keep[Net],
        report: Callable[[Event], None],
    ) -> None:
        begun = time.monotonic() - self._seconds
        saved = self._seconds
        while True:
            self._seconds = time.monotonic() - begun
            progress = self._budget.progress(self._step, self._seconds)
            if progress >= 1:
                return
            rate = self._learning_rate(progress)
            loss = self._train_step(batches.take(), rate, progress)
            event = Event(self._step, self._seconds, progress, loss, rate)
            if self._step % _LOG_EVERY == 0:
                report(event)
            after = self._budget.progress(self._step, time.monotonic() - begun)
            if after < 1 and int(after * self._validations) > int(progress * self._validations):
                self._validate(event, validate, keep, report)
            if self._seconds - saved >= self._checkpoint_s:
                self._save()
                saved = self._seconds

    def _draw(self, step: int) -> Drawn:
        return self._task.draw(self._seed, step)

    def _drawing_threads(self) -> int:
        # A CPU that computes the network has no core to spare; a GPU waits for one that draws.
        return 0 if self._device.type == "cpu" else min(_DRAWING_THREADS, processors())

    def _learning_rate(self, progress: float) -> float:
        peak = self._settings.learning_rate
        if progress < _RISE:
            return peak * max(progress / _RISE, 0.02)
        fall = (progress - _RISE) / (1 - _RISE)
        return peak * max(0.5 * (1 + math.cos(math.pi * fall)), 1e-3)

    def _train_step(self, batch: Drawn, rate: float, progress: float) -> float:
        self._network.train()
        if progress >= self._settings.freeze_norms_at:
            for module in self._norms():
                module.eval()
        loss = self._task.loss(self._network, batch, self._device, self._bf16)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise MethodError(
                f"the training's loss became {value} at step {self._step}",
                "lower learning_rate; the last checkpoint is kept",
            )
        self._optimizers.step(loss, rate)
        self._step += 1
        self._update_average()
        return value

    def _update_average(self) -> None:
        # At the start the mean reaches back over few steps: not to the random initial weights.
        keep = min(1 - 1 / self._settings.average_steps, self._step / (self._step + 10))
        with torch.no_grad():
            for mean, now in self._averaged:
                mean.lerp_(now, 1 - keep)

    def _validate(
        self,
        event: Event,
        validate: Validate[Net],
        keep: Keep[Net],
        report: Callable[[Event], None],
    ) -> None:
        figures = validate(self._average)
        best = figures["score"] > self._best
        done = replace(event, validation=figures, best=best)
        if best:
            self._best = figures["score"]
            keep(self._average, done)
        self._save()
        report(done)

    def _norms(self) -> list[nn.BatchNorm2d]:
        return [m for m in self._network.modules() if isinstance(m, nn.BatchNorm2d)]

    def _save(self) -> None:
        state: dict[str, Any] = {
            "identity": self._identity,
            "step": self._step,
            "seconds": self._seconds,
            "best": self._best,
            "network": self._network.state_dict(),
            "average": self._average.state_dict(),
            "optimizers": self._optimizers.state_dict(),
        }
        save_checkpoint(state, self._path)

    def _resume(self) -> None:
        state = load_checkpoint(self._path, self._identity)
        if state is None:
            return
        self._network.load_state_dict(state["network"])
        self._average.load_state_dict(state["average"])
        self._optimizers.load_state_dict(state["optimizers"])
        self._step, self._seconds = state["step"], state["seconds"]
        self._best = state["best"]
