"""Training of the shape-pose family (spec: behavior, 3.3, 3.4): its parts, and its step."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.events import Work
from pipelines.features.image_loss import build_image_loss
from pipelines.nn.norm_conv import look_at_data
from pipelines.shape_pose import preview
from pipelines.shape_pose.config import (
    FIXED_SETTINGS,
    FREE_SETTINGS,
    FamilyConfig,
    TrainRequest,
)
from pipelines.shape_pose.data import Arrays, People, open_people
from pipelines.shape_pose.sample import FAMILY
from pipelines.shape_pose.steps import (
    Log,
    Networks,
    as_batch,
    baseline_step,
    build_networks,
    draw_noise,
    draw_prior_noise,
    renderer_step,
)
from pipelines.shape_pose.validation import HeldOut, validate
from pipelines.training.checkpoint import TrainState
from pipelines.training.course import Course, score_of, train_in_run
from pipelines.training.generators import seeded_initialisation, torch_generator
from pipelines.training.kl_control import KlControl
from pipelines.training.optim import build_adam, set_learning_rate


def train(request: TrainRequest, work: Work) -> dict[str, Any]:
    """Train a renderer into request.run_dir, or go on with what is there."""
    return train_in_run(
        request, work, _train, family=FAMILY, fixed=FIXED_SETTINGS, free=FREE_SETTINGS
    )


def _train(request: TrainRequest, device: torch.device, work: Work) -> dict[str, Any]:
    config = request.config
    people = open_people(request.data_root, config, work)
    with seeded_initialisation(config.train.seed, "shape-pose"):
        networks = build_networks(config)
    for network in networks.by_name.values():
        network.to(device)
    optimizers = {"net": build_adam([networks.net], config.optimizer)}
    if networks.regressor is not None and config.regressor is not None:
        rate = config.regressor.learning_rate
        plain = config.optimizer.model_copy(
            update={"learning_rate": rate, "beta1": 0.9, "beta2": 0.999}
        )
        optimizers["regressor"] = build_adam([networks.regressor], plain)
    meanings = ("noise", "other noise", "prior noise")
    generators = {each: torch_generator(config.train.seed, each) for each in meanings}
    state = TrainState(networks.by_name, optimizers, generators, KlControl(config.kl).scalars)
    course = _course(request, people, state, device, work)
    course.start()
    weights_dir = request.data_root / "weights" / config.perceptual.backbone
    perceptual = build_image_loss(
        config.perceptual.backbone,
        pixel_weight=config.perceptual.pixel_weight,
        weights_dir=weights_dir,
        device=device,
    )
    held_out = HeldOut(people, device)

    def step(arrays: dict[str, Tensor]) -> Log:
        rate = config.optimizer.learning_rate * (1 - state.step / config.steps)
        set_learning_rate(optimizers["net"], rate)
        return update(networks, state, arrays, perceptual=perceptual, config=config)

    def batches(batch_size: int, first_batch: int) -> Generator[Arrays]:
        return people.batches(batch_size, first_batch)

    score = score_of("val_dissimilarity") if config.score == "ssim" else None
    if course.run(batches, step, lambda: validate(networks.net, held_out), score=score):
        preview.write_preview(request.run_dir, networks.net, held_out, work)
    return course.result()


def update(
    networks: Networks,
    state: TrainState,
    arrays: dict[str, Tensor],
    *,
    perceptual: nn.Module,
    config: FamilyConfig,
) -> Log:
    """One update at state.step, of stored arrays on the device; the KL's weight goes on too."""
    batch, network = as_batch(arrays, config.network), config.network
    device, drawn, size = batch.image.device, state.generators, len(batch.image)
    noise = draw_noise(network, size, drawn["noise"], device)
    look_at_data(networks.net, state.step < config.steps_without_kl)
    if config.kind == "vunet":
        return baseline_step(
            networks,
            state.optimizers,
            batch,
            noise=noise,
            prior_noise=draw_prior_noise(network, size, drawn["prior noise"], device),
            perceptual=perceptual,
            kl_weight=baseline_kl_weight(config, state.step),
            config=config,
        )
    others = len(batch.others[1]) if batch.others else 0
    control = KlControl.restored(config.kl, state.scalars)
    has_kl = state.step >= config.steps_without_kl
    log = renderer_step(
        networks,
        state.optimizers,
        batch,
        noise=noise,
        other_noise=draw_noise(network, others, drawn["other noise"], device),
        perceptual=perceptual,
        kl_weight=control.weight if has_kl else 0.0,
        config=config,
    )
    log["kl_weight"] = torch.tensor(control.weight)
    control.update(float(log["kl"]), share=state.step / config.steps)
    state.scalars = control.scalars
    return log


def baseline_kl_weight(config: FamilyConfig, step: int) -> float:
    """kl_first in the first half of the training, kl_last in its last quarter, a line between."""
    share = min(max((step / config.steps - 0.5) / 0.25, 0.0), 1.0)
    return config.kl_first + share * (config.kl_last - config.kl_first)


def _course(
    request: TrainRequest, people: People, state: TrainState, device: torch.device, work: Work
) -> Course:
    config = request.config
    return Course(
        FAMILY,
        request,
        people.sampler,
        state,
        config.batch_size,
        1,
        device,
        work,
        num_steps=config.steps,
    )
