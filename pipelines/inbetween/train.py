"""Training of the inbetween family (spec: completion, G): what it is made of, and its step.

The arithmetic of a step is in steps.py, the loop in pipelines.training.loop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipelines.events import Work
from pipelines.inbetween import preview
from pipelines.inbetween.config import FIXED_SETTINGS, FREE_SETTINGS, FamilyConfig, TrainRequest
from pipelines.inbetween.data import as_clips, open_data
from pipelines.inbetween.sample import FAMILY
from pipelines.inbetween.steps import (
    Log,
    Networks,
    Turn,
    build_networks,
    build_optimizers,
    inbetween_step,
    next_turn,
)
from pipelines.inbetween.validation import validate
from pipelines.nn.whole_batch import mean_over_parts, normal_rows, uniform_rows
from pipelines.training.checkpoint import TrainState
from pipelines.training.course import Course, train_in_run
from pipelines.training.generators import seeded_initialisation, torch_generator
from pipelines.training.optim import set_learning_rate


def train(request: TrainRequest, work: Work) -> dict[str, Any]:
    """Train a model into request.run_dir, or go on with what is there."""
    return train_in_run(
        request, work, _train, family=FAMILY, fixed=FIXED_SETTINGS, free=FREE_SETTINGS
    )


def _train(request: TrainRequest, device: torch.device, work: Work) -> dict[str, Any]:
    config = request.config
    data = open_data(request.data_root, config, work)
    with seeded_initialisation(config.train.seed, FAMILY):
        networks = build_networks(config)
    for network in networks.named().values():
        network.to(device)
    state = TrainState(
        networks.named(),
        build_optimizers(networks, config),
        {each: torch_generator(config.train.seed, each) for each in ("augmentation", "noise")},
        _turn_scalars(Turn()),
    )
    course = Course(
        FAMILY,
        request,
        data.sampler,
        state,
        config.batch_size,
        epochs=1,
        device=device,
        work=work,
        num_steps=config.steps,
    )
    course.start()
    is_trained = course.run(
        lambda size, first: data.batches(batch_size=size, first_batch=first),
        _Training(config, networks, state).step,
        lambda: validate(networks.model, data, config, device),
    )
    if is_trained:
        preview.write_samples(request.run_dir, networks.model, data, config, work)
    return course.result()


@dataclass
class _Training:
    """What a step needs beside its batch."""

    config: FamilyConfig
    networks: Networks
    state: TrainState

    @property
    def turn(self) -> Turn:
        """Which sides the step at hand updates."""
        scalars = self.state.scalars
        return Turn(bool(scalars["updates_judges"]), bool(scalars["updates_model"]))

    def step(self, frames: Tensor) -> Log:
        """One update on a batch of stored clips, uint8 B 16 H W C."""
        config, state = self.config, self.state
        clip = self._mirrored(as_clips(frames))
        shape = (len(clip), config.network.noise_size)
        noise = normal_rows(shape, state.generators["noise"]).to(clip)
        for optimizer in state.optimizers.values():
            set_learning_rate(optimizer, learning_rate(config, state.step))
        log = inbetween_step(
            self.networks,
            state.optimizers,
            clip,
            noise,
            config=config.losses,
            turn=self.turn,
        )
        if self.networks.judges and config.losses.has_update_gate:
            losses = (log[f"discriminator_video_{each}"] for each in ("real", "fake"))
            turn = next_turn(self.turn, *(float(mean_over_parts(each)) for each in losses))
            state.scalars = _turn_scalars(turn)
        return log

    def _mirrored(self, clip: Tensor) -> Tensor:
        """Some of the clips, B T C S S, with left and right changed."""
        drawn = uniform_rows((len(clip),), self.state.generators["augmentation"])
        is_mirrored = (drawn < self.config.horizontal_flip).to(clip.device)
        return torch.where(is_mirrored[:, None, None, None, None], clip.flip(-1), clip)


def _turn_scalars(turn: Turn) -> dict[str, float]:
    return {"updates_judges": float(turn.judges), "updates_model": float(turn.model)}


def learning_rate(config: FamilyConfig, step: int) -> float:
    """The rate at a step: half a cosine from the first rate to `last_rate` times it."""
    share = (1 + math.cos(math.pi * min(step / config.steps, 1))) / 2
    return config.optimizer.learning_rate * (config.last_rate + (1 - config.last_rate) * share)
