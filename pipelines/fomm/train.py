"""Training of the fomm family (spec: completion, C): what it is made of, and its step.

The arithmetic of a step is in steps.py, the way from the first step to the last in
pipelines.training.course.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.events import UserError, Work
from pipelines.fomm import preview
from pipelines.fomm.augment import augment, draw_augmentation
from pipelines.fomm.config import FIXED_SETTINGS, FREE_SETTINGS, FamilyConfig, TrainRequest
from pipelines.fomm.data import open_pair_data
from pipelines.fomm.discriminator import ImagePyramid
from pipelines.fomm.inference import as_frames
from pipelines.fomm.losses import draw_transform
from pipelines.fomm.networks import Networks, build, in_order
from pipelines.fomm.perceptual import build_feature_network
from pipelines.fomm.sample import FAMILY
from pipelines.fomm.steps import Log, Optimizers, fomm_step
from pipelines.fomm.validation import HeldOut, validate
from pipelines.training.checkpoint import TrainState, list_checkpoints, load_weights
from pipelines.training.course import Course, train_in_run
from pipelines.training.generators import seeded_initialisation, torch_generator
from pipelines.training.optim import build_adam, set_learning_rate
from pipelines.training.run_folder import load_run, require_checkpoint


def train(request: TrainRequest, work: Work) -> dict[str, Any]:
    """Train a model into request.run_dir, or go on with what is there."""
    return train_in_run(
        request, work, _train, family=FAMILY, fixed=FIXED_SETTINGS, free=FREE_SETTINGS
    )


def _train(request: TrainRequest, device: torch.device, work: Work) -> dict[str, Any]:
    config = request.config
    data = open_pair_data(request.data_root, config, work)
    with seeded_initialisation(config.train.seed, "fomm"):
        networks = build(config.model)
    in_order(networks, device)
    for network in vars(networks).values():
        network.train()
    optimizers = Optimizers(
        **{name: build_adam([net], config.optimizer) for name, net in vars(networks).items()}
    )
    state = TrainState(dict(vars(networks)), dict(vars(optimizers)), _generators(config.train.seed))
    course = Course(
        FAMILY,
        # its discriminator need not fit, which the shared start would ask for
        request.model_copy(update={"init_run": None}),
        data.sampler,
        state,
        config.batch_size,
        config.epochs,
        device,
        work,
    )
    if request.init_run and not list_checkpoints(request.run_dir):
        start_from(request.init_run, networks, config, work)
    course.start()
    training = _Training(
        config, networks, optimizers, course, _feature_network(request, device), device
    )
    held_out = HeldOut(data, config, device)
    is_trained = course.run(
        lambda size, first: data.batches(batch_size=size, first_batch=first),
        training.step,
        lambda: validate(networks, held_out),
    )
    if is_trained:
        preview.write_reconstructions(request.run_dir, networks, held_out, work)
    return course.result()


@dataclass
class _Training:
    """What a step needs beside its batch."""

    config: FamilyConfig
    networks: Networks
    optimizers: Optimizers
    course: Course
    perceptual: nn.Module | None
    device: torch.device

    def __post_init__(self) -> None:
        self.pyramid = ImagePyramid(self.config.losses.scales).to(self.device)

    def step(self, stored: Tensor) -> Log:
        """One update on a batch of stored pairs, uint8 B 2 H W C."""
        config, generators = self.config, self.course.state.generators
        pairs = as_frames(stored, config.model.num_channels)
        draws = draw_augmentation(
            config.augment,
            len(pairs),
            size_px=config.model.size_px,
            generator=generators["augmentation"],
        )
        transform = draw_transform(
            config.transform,
            len(pairs),
            generators["transform"],
            align_corners=config.model.grid_align_corners,
        )
        source, driving = augment(pairs, draws).unbind(1)
        self._set_rates()
        return fomm_step(
            self.networks,
            self.optimizers,
            source,
            driving,
            config=config.losses,
            pyramid=self.pyramid,
            transform=transform.to(self.device),
            perceptual=self.perceptual,
        )

    def _set_rates(self) -> None:
        config = self.config
        scale = rate_scale(config, self.course.epoch)
        rate, keypoint_rate = config.optimizer.learning_rate, config.keypoint_learning_rate
        set_learning_rate(self.optimizers.generator, rate * scale)
        set_learning_rate(self.optimizers.discriminator, rate * scale)
        keypoint_rate = rate if keypoint_rate is None else keypoint_rate
        set_learning_rate(self.optimizers.keypoint_detector, keypoint_rate * scale)


def start_from(init_run: Path, networks: Networks, config: FamilyConfig, work: Work) -> None:
    """Take another run's weights; its discriminator may be missing, or be another one (vox-adv)."""
    run = load_run(init_run, family=FAMILY)
    checkpoint_dir = require_checkpoint(run, warn=work.warning)
    modules = dict(vars(networks))
    discriminator = deepcopy(modules.pop("discriminator"))
    load_weights(checkpoint_dir, modules)
    work.log(f"starting from the weights of {run.path}")
    try:
        load_weights(checkpoint_dir, {"discriminator": discriminator})
        networks.discriminator.load_state_dict(discriminator.state_dict())
    except UserError:
        if config.losses.generator_gan > 0:
            work.warning(f"run '{run.path.name}' has no discriminator that fits: it begins anew")


def rate_scale(config: FamilyConfig, epoch: int) -> float:
    """What all learning rates are multiplied by in an epoch: they fall at each milestone."""
    passed = sum(epoch >= milestone for milestone in config.milestones)
    return float(config.milestone_factor**passed)


def _feature_network(request: TrainRequest, device: torch.device) -> nn.Module | None:
    config = request.config
    if not any(config.losses.perceptual):
        return None
    weights_dir = request.data_root / "weights" / "vgg19"
    return build_feature_network(config.perceptual, weights_dir=weights_dir, device=device)


def _generators(seed: int) -> dict[str, torch.Generator]:
    """One per meaning, on the CPU: the draws are then the same on every device."""
    return {each: torch_generator(seed, each) for each in ("augmentation", "transform")}
