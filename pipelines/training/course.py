"""A stage on its way from its first step to its last: epochs, checkpoints, validation, the result.

The same for all families; what a step is, is theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from pipelines.events import Work
from pipelines.training.beginning import begin_or_resume, num_parameters, training_result
from pipelines.training.checkpoint import TrainState, save_checkpoint
from pipelines.training.device import prepare_device
from pipelines.training.loop import train_to_next_save
from pipelines.training.run_folder import open_run
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


class Asked(Protocol):
    """What the request of any family says about a stage; config.train and config.log too."""

    @property
    def config(self) -> Any:
        """The family's settings."""
        ...

    @property
    def stage(self) -> str:
        """The stage to train."""
        ...

    @property
    def run_dir(self) -> Path:
        """Where to."""
        ...

    @property
    def init_run(self) -> Path | None:
        """A run whose weights are the beginning."""
        ...

    @property
    def max_steps(self) -> int | None:
        """After how many steps in all to stop."""
        ...

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """All of it as JSON values."""
        ...


Request = TypeVar("Request", bound=Asked)


def train_in_run(
    request: Request,
    work: Work,
    train: Callable[[Request, torch.device, Work], dict[str, Any]],
    *,
    family: str,
    fixed: Mapping[Any, Sequence[str]],
    free: Sequence[str],
) -> dict[str, Any]:
    """Train into request.run_dir, which is owned meanwhile, or go on with what is there.

    fixed, free: settings that a continued run must keep, by stage, and which of these it need not
    (run_folder.open_run).  Returns what `train` does.
    """
    settings = request.config.train
    device = prepare_device(settings.device, threads=settings.threads)
    with open_run(
        request.run_dir,
        family=family,
        stage=request.stage,
        request=request.model_dump(mode="json"),
        fixed=fixed[request.stage],
        free=free,
    ) as changes:
        for change in changes:
            work.log(f"changed since the last time: {change}")
        return train(request, device, work)


Score = Callable[[Mapping[str, float]], Mapping[str, Any]]
"""Validated values -> what decides which checkpoint is best (checkpoint.by_score); may be empty."""


def score_of(name: str) -> Score:
    """The smallest of a validated value is best."""
    return lambda found: {"metric": name, "value": found[name]} if name in found else {}


@dataclass
class Course:
    """A stage being trained. about: more facts for each checkpoint's meta.json.

    num_steps: in all, where that is not given by the epochs.
    """

    family: str
    request: Asked
    epochs_of: Epochs
    state: TrainState
    batch_size: int
    epochs: int
    device: torch.device
    work: Work
    about: Mapping[str, Any] = field(default_factory=dict)
    num_steps: int | None = None

    def __post_init__(self) -> None:
        self._tracker = Tracker(self.request.run_dir, self.request.config.log)

    @property
    def total_steps(self) -> int:
        """Steps in all: the epochs' clips in batches, the last one filled up."""
        steps = math.ceil(self.epochs * self.epochs_of.clips_per_epoch / self.batch_size)
        steps = steps if self.num_steps is None else self.num_steps
        return min(steps, self.request.max_steps or steps)

    @property
    def epoch(self) -> int:
        """The epoch that the step at hand begins in, from 0."""
        return self.epoch_of(self.state.step)

    def epoch_of(self, step: int) -> int:
        """The epoch that a step begins in, from 0."""
        return self.epochs_of.epoch_at(step * self.batch_size)

    def start(self) -> None:
        """Go on where it stopped, or begin."""
        request, state = self.request, self.state
        begin_or_resume(
            request.run_dir,
            state,
            self.work,
            family=self.family,
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
        score: Score | None = None,
    ) -> bool:
        """Train to the end; validate and save on the way. False when nothing was left to do."""
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
                    settings=self.request.config.train,
                    total_steps=self.total_steps,
                    device=self.device,
                    work=work,
                )
                if work.stopping:
                    self._save({}, {})
                else:
                    found = validate()
                    self._save(found, score(found) if score else {})
        return True

    def result(self) -> dict[str, Any]:
        """What the job reports, at its very end."""
        self._tracker.close()
        request = self.request
        return training_result(request.run_dir, self.state, family=self.family, stage=request.stage)

    def _save(self, found: Mapping[str, float], score: Mapping[str, Any]) -> None:
        if found:
            self.work.metric(self.state.step, found)
        about: dict[str, Any] = {"epoch": self.epoch, "validation": dict(found), **self.about}
        if score:
            about["score"] = dict(score)
        keep = self.request.config.train.keep
        folder = save_checkpoint(self.request.run_dir, self.state, keep=keep, about=about)
        self.work.artifact(folder, "checkpoint")
        self._tracker.draw()
