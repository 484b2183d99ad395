"""The training loop that all families share: fetch, to device, step, log, stop in order.

A family's train.py reads
    while state.step < total_steps and not work.stopping:
        train_to_next_save(state, batches, step, ...)
        ... validate ...
        save_checkpoint(...)
so that what happens between two checkpoints is here and everything a family does in its own way is
there, in plain sight.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.events import Work
from pipelines.nn.whole_batch import mean_over_parts
from pipelines.schema import TrainConfig
from pipelines.training import levers
from pipelines.training.checkpoint import TrainState, diverged
from pipelines.training.device import states_lie_apart
from pipelines.training.processes import agree_to_stop, together

Step = Callable[[Any], Mapping[str, Tensor]]
"""One update on a batch on the device, frames or arrays by name; returns the scalars to log."""


def train_to_next_save(
    state: TrainState,
    batches: Iterator[Any],
    step: Step,
    *,
    settings: TrainConfig,
    total_steps: int,
    device: torch.device,
    work: Work,
    task: str = "train",
) -> None:
    """Train until a checkpoint is due (every `save_every` steps), total_steps, or a stop.

    batches: arrays, or dicts of arrays, the first of them the one that belongs to state.step.
    Raises UserError, naming the term and the step, when a scalar is not finite; the last checkpoint
    is then still the one before.
    """
    end = min(total_steps, (state.step // settings.save_every + 1) * settings.save_every)
    levers.prepare(state, settings, device, work.warning)
    window = _Window(state.step)
    work.progress(task, state.step, total_steps, "steps")
    with together(state.modules, state.optimizers):
        while state.step < end and not _is_stopping(work, state.step):
            batch = _on_device(next(batches), device)
            with states_lie_apart(state.optimizers.values()):
                made = levers.step_in_parts(step, batch, state, settings, device)
            window.add(made)
            state.step += 1
            if state.step % settings.log_every == 0:
                work.metric(state.step, window.means())
                window = _Window(state.step)
            work.progress(task, state.step, total_steps, "steps")
        if window.num_steps:
            work.metric(state.step, window.means())


def _is_stopping(work: Work, step: int) -> bool:
    """Whether this or, in a training of several, any other process was asked to stop."""
    if agree_to_stop(work.stopping, step):
        work.stopping = True
    return work.stopping


def _on_device(batch: np.ndarray | Mapping[str, np.ndarray], device: torch.device) -> Any:
    if isinstance(batch, Mapping):
        return {name: to_device(array, device) for name, array in batch.items()}
    return to_device(batch, device)


def to_device(batch: np.ndarray, device: torch.device) -> Tensor:
    """A numpy batch as a tensor on the device; to a GPU it is copied while that one works."""
    tensor = torch.from_numpy(batch)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class _Window:
    """The scalars of the steps since the last record; read back from the device only at its end."""

    def __init__(self, first_step: int) -> None:
        self._first_step = first_step
        self._started = time.perf_counter()
        self.num_steps = 0
        self._values: list[tuple[int, str, Tensor]] = []

    def add(self, values: Mapping[str, Tensor]) -> None:
        self.num_steps += 1
        step = self._first_step + self.num_steps
        self._values += [(step, name, value.detach().float()) for name, value in values.items()]

    def means(self) -> dict[str, float]:
        """The mean of each scalar over the steps that gave it, and the time per step."""
        gathered = torch.stack([value for _, _, value in self._values]).double()
        numbers = mean_over_parts(gathered).tolist()
        found: dict[str, list[float]] = {}
        for (step, name, _), number in zip(self._values, numbers, strict=True):
            if not math.isfinite(number):
                raise diverged(f"{name} is {number}", step)
            found.setdefault(name, []).append(number)
        seconds = (time.perf_counter() - self._started) / self.num_steps
        return {name: fmean(each) for name, each in found.items()} | {"seconds_per_step": seconds}
