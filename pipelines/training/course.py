"""A stage on its way from its first step to its last: epochs, checkpoints, validation, the result.

For families whose stages all go the same way; what a step is, is theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from pipelines.events import Work
from pipelines.schema import LogConfig, TrainConfig
from pipelines.training.beginning import begin_or_resume, num_parameters, training_result
from pipelines.training.checkpoint import TrainState, save_checkpoint
from pipelines.training.loop import train_to_next_save
from pipelines.training.tracking import Tracker

Step = Callable[[Any], Mapping[str, Tensor]]
Batches = Callable[[int, int], Generator[Any]]
"""(batch size, first batch) -> endless batches."""


class Epochs(Protocol):
    """How long an epoch is: a sampler."""

    @property
    def clips_per_epoch(self) -> int:
        """Clips in an epoch."""
        ...

    def epoch_at(self, position: int) -> int:
        """The epoch that the clip at a position belongs to."""
        ...


@dataclass(frozen=True)
class StageRequest:
    """What the request of any family says about a stage."""

    family: str
    stage: str
    run_dir: Path
    init_run: Path | None
    max_steps: int | None
    train: TrainConfig
    log: LogConfig


@dataclass
class Course:
    """A stage being trained. about: more facts for each checkpoint's meta.json.

    num_steps: in all, where that is not given by the epochs.
    """

    request: StageRequest
    epochs_of: Epochs
    state: TrainState
    batch_size: int
    epochs: int
    device: torch.device
    work: Work
    about: Mapping[str, Any] = field(default_factory=dict)
    num_steps: int | None = None

    def __post_init__(self) -> None:
        self._tracker = Tracker(self.request.run_dir, self.request.log)

    @property
    def total_steps(self) -> int:
        """Steps in all: the epochs' clips in batches, the last one filled up."""
        steps = math.ceil(self.epochs * self.epochs_of.clips_per_epoch / self.batch_size)
        steps = steps if self.num_steps is None else self.num_steps
        return min(steps, self.request.max_steps or steps)

    @property
    def epoch(self) -> int:
        """The epoch that the step at hand begins in, from 0."""
        return self.epochs_of.epoch_at(self.state.step * self.batch_size)

    def start(self) -> None:
        """Go on where it stopped, or begin."""
        request, state = self.request, self.state
        begin_or_resume(
            request.run_dir,
            state,
            self.work,
            family=request.family,
            stage=request.stage,
            init_run=request.init_run,
        )
        self.work.log(
            f"stage {request.stage} on {self.device}: "
            f"{num_parameters(state) / 1e6:,.1f} M parameters, "
            f"{self.epochs_of.clips_per_epoch} clips per epoch, {self.total_steps} steps of "
            f"{self.batch_size}"
        )

    def run(
        self,
        batches: Batches,
        step: Step,
        validate: Callable[[], Mapping[str, float]],
        *,
        score: str | None = None,
    ) -> bool:
        """Train to the end; validate and save on the way. False when nothing was left to do.

        score: the value of validate whose smallest names the best checkpoint.
        """
        state, work = self.state, self.work
        if state.step >= self.total_steps:
            work.log(f"already trained for {state.step} steps: nothing to do")
            return False
        source = batches(self.batch_size, state.step)
        with work.stops_at_boundaries(), closing(source):
            while state.step < self.total_steps and not work.stopping:
                train_to_next_save(
                    state,
                    source,
                    step,
                    settings=self.request.train,
                    total_steps=self.total_steps,
                    device=self.device,
                    work=work,
                )
                self._save({} if work.stopping else validate(), score)
        return True

    def result(self) -> dict[str, Any]:
        """What the job reports, at its very end."""
        self._tracker.close()
        request = self.request
        return training_result(
            request.run_dir, self.state, family=request.family, stage=request.stage
        )

    def _save(self, found: Mapping[str, float], score: str | None) -> None:
        if found:
            self.work.metric(self.state.step, found)
        about: dict[str, Any] = {"epoch": self.epoch, "validation": dict(found), **self.about}
        if score is not None and score in found:
            about["score"] = {"metric": score, "value": found[score]}
        folder = save_checkpoint(
            self.request.run_dir, self.state, keep=self.request.train.keep, about=about
        )
        self.work.artifact(folder, "checkpoint")
        self._tracker.draw()
