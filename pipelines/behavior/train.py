"""Training of the behavior family (spec: behavior, 3): what each stage is made of, and its step.

The arithmetic of a step is in steps.py, the way from the first to the last in training.course.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor

from pipelines.behavior import inference, preview
from pipelines.behavior.baseline import build_mtvae
from pipelines.behavior.config import (
    FIXED_SETTINGS,
    FREE_SETTINGS,
    FamilyConfig,
    Stage1Config,
    TrainRequest,
)
from pipelines.behavior.data import Arrays, PoseData, open_poses
from pipelines.behavior.flow import BehaviorFlow
from pipelines.behavior.frozen import (
    FAMILY,
    SCALE,
    StoredScale,
    earlier_scale,
    keep_input,
    stored_scale,
    with_earlier_settings,
)
from pipelines.behavior.losses import linear
from pipelines.behavior.steps import (
    Log,
    build_networks,
    build_optimizers,
    draw_mtvae_noise,
    flow_step,
    latent_classifier,
    mtvae_step,
    stage1_step,
)
from pipelines.behavior.validation import (
    HeldOut,
    validate_flow,
    validate_mtvae,
    validate_stage1,
)
from pipelines.events import Work
from pipelines.nn.whole_batch import normal_rows
from pipelines.training.checkpoint import TrainState
from pipelines.training.course import Course, score_of, train_in_run
from pipelines.training.generators import seeded_initialisation, torch_generator
from pipelines.training.kl_control import KlControl
from pipelines.training.optim import build_adam, set_learning_rate


def train(request: TrainRequest, work: Work) -> dict[str, Any]:
    """Train a stage into request.run_dir, or go on with what is there."""
    request = with_earlier_settings(request)
    is_baseline = request.config.stage1.kind == "mt-vae"
    stages = {"1": _train_mtvae if is_baseline else _train_stage1, "2": _train_flow}
    return train_in_run(
        request,
        work,
        stages[request.stage],
        family=FAMILY,
        fixed=FIXED_SETTINGS,
        free=FREE_SETTINGS,
    )


def _train_stage1(request: TrainRequest, device: torch.device, work: Work) -> dict[str, Any]:
    """The behavior net, beside it a posture regressor and classifiers of actions."""
    config, poses = request.config.stage1, request.config.poses
    data = open_poses(request.data_root, request.config, work, scale=earlier_scale(request))
    with seeded_initialisation(request.config.train.seed, "stage 1"):
        networks = build_networks(
            config, num_frames=poses.num_frames, num_actions=len(data.action_names)
        )
    for network in networks.by_name.values():
        network.to(device)
    optimizers = build_optimizers(networks.by_name, config.optimizer)
    modules = {**networks.by_name, SCALE: StoredScale(data.scale)}
    start = KlControl(config.kl).scalars
    state = TrainState(modules, optimizers, _generators(request.config), start)
    course = _course(request, data, state, config.batch_size, config.epochs, device, work)
    course.start()
    held_out = HeldOut.of(data.held_out_clips(), device, request.config.train.seed)

    def step(batch: dict[str, Tensor]) -> Log:
        clip, epoch, drawn = batch["poses"], course.epoch, state.generators
        set_learning_rate(optimizers["net"], learning_rate(config, epoch))
        control = KlControl.restored(config.kl, state.scalars)
        is_tuning = epoch >= config.epochs - config.tuning_epochs
        log = stage1_step(
            networks,
            optimizers,
            clip,
            batch["action"],
            noise=_normal((len(clip), config.net.code_size), drawn["noise"], device),
            frames=_drawn_frames(config, poses.num_frames, drawn["frames"]),
            kl_weight=control.weight,
            weights=config.losses,
            is_tuning=is_tuning,
        )
        log["kl_weight"] = torch.tensor(control.weight)
        if not is_tuning:
            share = epoch / max(1, config.epochs - config.tuning_epochs)
            control.update(float(log["kl"]), share=share)
            state.scalars = control.scalars
        return log

    score = score_of("val_reconstruction") if config.score == "reconstruction" else None
    if course.run(_batches(data), step, lambda: validate_stage1(networks, held_out), score=score):
        preview.write_preview(request.run_dir, data, device, work)
    return course.result()


def _train_mtvae(request: TrainRequest, device: torch.device, work: Work) -> dict[str, Any]:
    """The baseline MT-VAE."""
    config = request.config.stage1
    settings = config.mtvae
    data = open_poses(request.data_root, request.config, work, scale=earlier_scale(request))
    with seeded_initialisation(request.config.train.seed, "mt-vae"):
        model = build_mtvae(config)
        count = len(data.action_names) if config.auxiliary.classifiers else 0
        networks = {"net": model, **latent_classifier(settings.code_size, count)}
    for network in networks.values():
        network.to(device)
    optimizers = build_optimizers(networks, config.optimizer)
    modules = {**networks, SCALE: StoredScale(data.scale)}
    state = TrainState(modules, optimizers, _generators(request.config))
    course = _course(request, data, state, config.batch_size, config.epochs, device, work)
    course.start()
    held_out = HeldOut.of(data.held_out_clips(), device, request.config.train.seed)

    def step(batch: dict[str, Tensor]) -> Log:
        epoch, last = course.epoch, max(1, config.epochs - config.tuning_epochs)
        noise = draw_mtvae_noise(settings, len(batch["poses"]), state.generators["noise"], device)
        return mtvae_step(
            networks,
            optimizers,
            batch["poses"],
            batch["action"],
            noise=noise,
            kl_weight=linear(epoch, start=0, end=last, first=settings.kl_first, last=1.0),
            config=settings,
            is_tuning=epoch >= last,
        )

    def validate() -> dict[str, float]:
        return validate_mtvae(model, held_out, settings)

    score = score_of("val_reconstruction") if config.score == "reconstruction" else None
    if course.run(_batches(data), step, validate, score=score):
        preview.write_preview(request.run_dir, data, device, work)
    return course.result()


def _train_flow(request: TrainRequest, device: torch.device, work: Work) -> dict[str, Any]:
    """Flow between the codes of the frozen stage 1 and normal numbers."""
    config, settings = request.config.stage2, request.config
    kept = keep_input(request, work)
    data = open_poses(request.data_root, settings, work, scale=stored_scale(kept, settings))
    net = inference.load_net(settings, kept, device)
    with seeded_initialisation(settings.train.seed, "stage 2"):
        flow = BehaviorFlow(config.flow, code_size=settings.stage1.net.code_size).to(device)
    optimizer = build_adam([flow], config.optimizer)
    modules = {"flow": flow, SCALE: StoredScale(data.scale)}
    state = TrainState(modules, {"flow": optimizer}, _generators(settings))
    course = _course(request, data, state, config.batch_size, config.epochs, device, work)
    course.start()
    modules[SCALE].load_state_dict(
        StoredScale(data.scale).state_dict()
    )  # stage 1's, not init_run's
    held_out = HeldOut.of(data.held_out_clips(), device, settings.train.seed)

    def step(batch: dict[str, Tensor]) -> Log:
        with torch.no_grad():
            found = net.encoder(batch["poses"][:, :-1])
            code = found.sample(_normal(found.mean.shape, state.generators["noise"], device))
        reference = _normal(code.shape, state.generators["reference"], device)
        return flow_step(flow, optimizer, code, reference)

    def validate() -> dict[str, float]:
        return validate_flow(flow, net.encoder, held_out)

    score = score_of("val_nll") if config.score == "nll" else None
    if course.run(_batches(data), step, validate, score=score):
        preview.write_preview(request.run_dir, data, device, work)
    return course.result()


def learning_rate(config: Stage1Config, epoch: int) -> float:
    """The net's rate in an epoch: it falls at each milestone, a part of all epochs."""
    passed = sum(epoch >= int(config.epochs * share) for share in config.milestones)
    return config.optimizer.learning_rate * config.milestone_factor**passed


def _course(
    request: TrainRequest,
    data: PoseData,
    state: TrainState,
    batch_size: int,
    epochs: int,
    device: torch.device,
    work: Work,
) -> Course:
    about = {"actions": data.action_names, "fps": data.fps, "lag": data.rule.lag}
    return Course(FAMILY, request, data.sampler, state, batch_size, epochs, device, work, about)


def _batches(data: PoseData) -> Any:
    def batches(batch_size: int, first_batch: int) -> Generator[Arrays]:
        return data.batches(batch_size=batch_size, first_batch=first_batch)

    return batches


def _generators(config: FamilyConfig) -> dict[str, torch.Generator]:
    """One per meaning, on the CPU: the draws are then the same on every device."""
    meanings = ("noise", "frames", "reference")
    return {each: torch_generator(config.train.seed, each) for each in meanings}


def _normal(
    shape: torch.Size | tuple[int, ...], generator: torch.Generator, device: torch.device
) -> Tensor:
    return normal_rows(shape, generator).to(device)


def _drawn_frames(config: Stage1Config, num_frames: int, generator: torch.Generator) -> list[int]:
    """Frames whose pose the regressor is asked for, each the same for the whole batch."""
    drawn = torch.randint(num_frames, (max(1, config.losses.regressor_steps),), generator=generator)
    chosen: list[int] = drawn.tolist()
    return chosen
