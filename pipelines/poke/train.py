"""Training of the poke family (spec: poke, 4): what it is made of, and its step.

The arithmetic of a step is in steps.py, the way from the first step to the last in
pipelines.training.course.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.events import Work
from pipelines.poke import preview
from pipelines.poke.batches import training_batch
from pipelines.poke.build import build_networks, build_optimizers
from pipelines.poke.config import FIXED_SETTINGS, FREE_SETTINGS, FamilyConfig, TrainRequest
from pipelines.poke.data import open_poke_data
from pipelines.poke.perceptual import build_image_loss
from pipelines.poke.run_config import FAMILY
from pipelines.poke.steps import Log, Networks, Optimizers, draw_step, poke_step
from pipelines.poke.validation import HeldOut, validate
from pipelines.training.checkpoint import TrainState
from pipelines.training.course import Course, train_in_run
from pipelines.training.generators import seeded_initialisation, torch_generator


def train(request: TrainRequest, work: Work) -> dict[str, Any]:
    """Train a model into request.run_dir, or go on with what is there."""
    return train_in_run(
        request, work, _train, family=FAMILY, fixed=FIXED_SETTINGS, free=FREE_SETTINGS
    )


def _train(request: TrainRequest, device: torch.device, work: Work) -> dict[str, Any]:
    config = request.config
    data = open_poke_data(request.data_root, config, work)
    with seeded_initialisation(config.train.seed, "poke"):
        networks = build_networks(config)
    for network in vars(networks).values():
        network.to(device)
    optimizers = build_optimizers(networks, config)
    state = TrainState(dict(vars(networks)), dict(vars(optimizers)), _generators(config.train.seed))
    course = Course(
        FAMILY, request, data.sampler, state, config.batch_size, config.epochs, device, work
    )
    course.start()
    weights_dir = request.data_root / "weights" / "vgg19"
    perceptual = build_image_loss(config.perceptual, weights_dir=weights_dir, device=device)
    held_out = HeldOut(data, config, device)
    is_trained = course.run(
        lambda size, first: data.batches(batch_size=size, first_batch=first),
        _Training(config, networks, optimizers, course, perceptual).step,
        lambda: validate(networks.model, held_out),
    )
    if is_trained:
        preview.write_answers(request.run_dir, networks.model, held_out, work)
    return course.result()


@dataclass
class _Training:
    """What a step needs beside its batch."""

    config: FamilyConfig
    networks: Networks
    optimizers: Optimizers
    course: Course
    perceptual: nn.Module

    def step(self, arrays: dict[str, Tensor]) -> Log:
        """One update on a batch of stored clips."""
        config, state, epoch = self.config, self.course.state, self.course.epoch
        generators = state.generators
        batch = training_batch(
            arrays,
            config,
            augmentation=generators["augmentation"],
            drawing=generators["poke"],
        )
        num_frames = len(batch.frames) * (batch.frames.shape[1] - 1)
        self._set_rates()
        static_epochs = config.losses.static_epochs
        return poke_step(
            self.networks,
            self.optimizers,
            batch,
            config=config,
            step=state.step,
            draws=draw_step(config, num_frames, generators["step"]),
            perceptual=self.perceptual,
            is_static=static_epochs is None or epoch < static_epochs,
        )

    def _set_rates(self) -> None:
        """Give every optimizer its learning rate for the step at hand.

        The decoder's in the static update follows a line of its own, and a discriminator's epochs
        count from its start.
        """
        config, optimizers, course = self.config, self.optimizers, self.course
        rate = learning_rate(config, course.epoch)
        encoder, decoder = optimizers.static.param_groups
        encoder["lr"], decoder["lr"] = rate, decoder_rate(config, course.state.step)
        for optimizer, start in (
            (optimizers.moving, 0),
            (optimizers.patch, config.patch.start_step or 0),
            (optimizers.temporal, config.temporal.start_step or 0),
        ):
            epoch = max(course.epoch - course.epoch_of(start), 0)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, epoch)


def learning_rate(config: FamilyConfig, epoch: int) -> float:
    """The rate in an epoch: it falls at each milestone, a part of all epochs."""
    passed = sum(epoch >= int(config.epochs * share) for share in config.milestones)
    return config.optimizer.learning_rate * config.milestone_factor**passed


def decoder_rate(config: FamilyConfig, step: int) -> float:
    """The decoder's rate in static updates: a line from the first rate to decoder_rate_end."""
    first, last = config.optimizer.learning_rate, config.decoder_rate_end
    rate = first + (last - first) * step / config.decoder_rate_steps
    return min(max(rate, 0.0), first) if step < config.decoder_rate_steps else min(last, first)


def _generators(seed: int) -> dict[str, torch.Generator]:
    """One per meaning, on the CPU: the draws are then the same on every device."""
    meanings = ("augmentation", "poke", "step")
    return {each: torch_generator(seed, each) for each in meanings}
