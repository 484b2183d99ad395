"""Training of the poke family (spec: poke, 4): what it is made of, and its step.

The arithmetic of a step is in steps.py, the loop in pipelines.training.loop.
"""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.events import Work
from pipelines.poke import preview
from pipelines.poke.batches import training_batch
from pipelines.poke.build import build_networks, build_optimizers
from pipelines.poke.config import FIXED_SETTINGS, FREE_SETTINGS, FamilyConfig, TrainRequest
from pipelines.poke.data import PokeData, open_poke_data
from pipelines.poke.perceptual import build_image_loss
from pipelines.poke.run_config import FAMILY
from pipelines.poke.steps import Log, Networks, Optimizers, draw_step, poke_step
from pipelines.poke.validation import HeldOut, validate
from pipelines.training.beginning import begin_or_resume, num_parameters, training_result
from pipelines.training.checkpoint import TrainState, save_checkpoint
from pipelines.training.device import prepare_device
from pipelines.training.generators import seeded_initialisation, torch_generator
from pipelines.training.loop import train_to_next_save
from pipelines.training.run_folder import open_run


def train(request: TrainRequest, work: Work) -> dict[str, Any]:
    """Train a model into request.run_dir, or go on with what is there."""
    settings = request.config.train
    device = prepare_device(settings.device, threads=settings.threads)
    with open_run(
        request.run_dir,
        family=FAMILY,
        stage=request.stage,
        request=request.model_dump(mode="json"),
        fixed=FIXED_SETTINGS[request.stage],
        free=FREE_SETTINGS,
    ) as changes:
        for change in changes:
            work.log(f"changed since the last time: {change}")
        return _train(request, device, work)


def _train(request: TrainRequest, device: torch.device, work: Work) -> dict[str, Any]:
    config = request.config
    data = open_poke_data(request.data_root, config, work)
    with seeded_initialisation(config.train.seed, "poke"):
        networks = build_networks(config)
    for network in vars(networks).values():
        network.to(device)
    optimizers = build_optimizers(networks, config)
    state = TrainState(dict(vars(networks)), dict(vars(optimizers)), _generators(config.train.seed))
    training = _Training(request, data, networks, optimizers, state, device, work)
    if training.run():
        held_out = HeldOut(data, config, device)
        preview.write_answers(request.run_dir, networks.model, held_out, work)
    return training.result()


@dataclass
class _Training:
    """A training on its way: where it stands, and what a step is."""

    request: TrainRequest
    data: PokeData
    networks: Networks
    optimizers: Optimizers
    state: TrainState
    device: torch.device
    work: Work

    def __post_init__(self) -> None:
        weights_dir = self.request.data_root / "weights" / "vgg19"
        image_loss = build_image_loss(self.config.perceptual, weights_dir=weights_dir)
        self.perceptual: nn.Module = image_loss.to(self.device)
        self._start()

    @property
    def config(self) -> FamilyConfig:
        """The settings."""
        return self.request.config

    @property
    def total_steps(self) -> int:
        """Steps in all: the epochs' clips in batches, the last one filled up."""
        clips = self.config.epochs * self.data.sampler.clips_per_epoch
        steps = math.ceil(clips / self.config.batch_size)
        return min(steps, self.request.max_steps or steps)

    @property
    def epoch(self) -> int:
        """The epoch that the step at hand begins in, from 0."""
        return self._epoch_of(self.state.step)

    def step(self, arrays: dict[str, Tensor]) -> Log:
        """One update on a batch of stored clips."""
        config, generators = self.config, self.state.generators
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
            step=self.state.step,
            draws=draw_step(config, num_frames, generators["step"]),
            perceptual=self.perceptual,
            is_static=static_epochs is None or self.epoch < static_epochs,
        )

    def run(self) -> bool:
        """Train to the end; validate and save on the way. False when nothing was left to do."""
        state, settings, work = self.state, self.config.train, self.work
        if state.step >= self.total_steps:
            work.log(f"already trained for {state.step} steps: nothing to do")
            return False
        held_out = HeldOut(self.data, self.config, self.device)
        batches = self.data.batches(batch_size=self.config.batch_size, first_batch=state.step)
        with work.stops_at_boundaries(), closing(batches):
            while state.step < self.total_steps and not work.stopping:
                train_to_next_save(
                    state,
                    batches,
                    self.step,
                    settings=settings,
                    total_steps=self.total_steps,
                    device=self.device,
                    work=work,
                )
                found = {} if work.stopping else validate(self.networks.model, held_out)
                if found:
                    work.metric(state.step, found)
                about = {"epoch": self.epoch, "validation": found}
                run_dir = self.request.run_dir
                folder = save_checkpoint(run_dir, state, keep=settings.keep, about=about)
                work.artifact(folder, "checkpoint")
        return True

    def result(self) -> dict[str, Any]:
        """What the job reports."""
        request = self.request
        return training_result(request.run_dir, self.state, family=FAMILY, stage=request.stage)

    def _epoch_of(self, step: int) -> int:
        return self.data.sampler.epoch_at(step * self.config.batch_size)

    def _set_rates(self) -> None:
        """Give every optimizer its learning rate for the step at hand.

        The decoder's in the static update follows a line of its own, and a discriminator's epochs
        count from its start.
        """
        config, optimizers, step = self.config, self.optimizers, self.state.step
        rate = learning_rate(config, self.epoch)
        encoder, decoder = optimizers.static.param_groups
        encoder["lr"], decoder["lr"] = rate, decoder_rate(config, step)
        for optimizer, start in (
            (optimizers.moving, 0),
            (optimizers.patch, config.patch.start_step or 0),
            (optimizers.temporal, config.temporal.start_step or 0),
        ):
            epoch = max(self.epoch - self._epoch_of(start), 0)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, epoch)

    def _start(self) -> None:
        """Go on where it stopped, or begin."""
        request, state, work = self.request, self.state, self.work
        begin_or_resume(
            request.run_dir,
            state,
            work,
            family=FAMILY,
            stage=request.stage,
            init_run=request.init_run,
        )
        work.log(
            f"{self.config.experiment} model on {self.device}: "
            f"{num_parameters(state) / 1e6:,.1f} M parameters, "
            f"{self.data.sampler.clips_per_epoch} clips per epoch, {self.total_steps} steps "
            f"of {self.config.batch_size}"
        )


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
