"""Training of the motion family (spec: completion, H): what it is made of, and its step.

The arithmetic of a step is in steps.py, the way from the first step to the last in
pipelines.training.course.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipelines.clips.training_data import long_enough, open_videos
from pipelines.events import Work
from pipelines.fomm import sample as fomm
from pipelines.io.packed import PackedVideos
from pipelines.motion import preview
from pipelines.motion.config import FIXED_SETTINGS, FREE_SETTINGS, FamilyConfig, TrainRequest
from pipelines.motion.data import MotionData, motion_data
from pipelines.motion.keypoints import keypoints_of, store_dir
from pipelines.motion.models import build
from pipelines.motion.renderer import kept_fomm
from pipelines.motion.sample import FAMILY
from pipelines.motion.steps import Log, build_optimizers, motion_step
from pipelines.motion.validation import validate
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
    videos = open_videos(request.data_root, config.data)
    renderer = kept_fomm(request.run_dir, request.fomm_run, warn=work.warning)
    animator = fomm.load(renderer, device, warn=work.warning)
    data = _data(request, videos, animator, work)
    with seeded_initialisation(config.train.seed, FAMILY, config.kind):
        model = build(config, data.vector_size)
    for network in model.networks.values():
        network.to(device)
    draws = torch_generator(config.train.seed, "noise")
    state = TrainState(model.networks, build_optimizers(model), {"noise": draws})
    course = _course(request, data, state, device, work)
    course.start()

    def step(real: Tensor) -> Log:
        return motion_step(model, state.optimizers, real, draws=draws, step=state.step)

    is_trained = course.run(data.batches, step, lambda: validate(model, data.held_out, device))
    if is_trained:
        preview.write_samples(request.run_dir, model, data, animator, videos, work)
    return course.result()


def _data(
    request: TrainRequest, videos: PackedVideos, animator: fomm.Animator, work: Work
) -> MotionData:
    """The keypoints of the videos that a config names, found now or before."""
    config = request.config
    span = (config.num_frames - 1) * config.frame_step + 1
    folder: Path = request.keypoints or store_dir(videos.dir, animator.checkpoint["sha256"])
    rows = long_enough(videos, config.data, split="train", num_frames=span, work=work)
    training = keypoints_of(animator, videos, rows, folder / "train.npz", work)
    held_rows = videos.select("val", config.data.include, span)
    if not held_rows:
        work.warning("no videos of split 'val' are long enough: nothing is validated")
        return motion_data(training, None, config)
    held_out = keypoints_of(animator, videos, held_rows, folder / "val.npz", work)
    return motion_data(training, held_out, config)


def _course(
    request: TrainRequest, data: MotionData, state: TrainState, device: torch.device, work: Work
) -> Course:
    config: FamilyConfig = request.config
    return Course(
        FAMILY,
        request,
        data.sampler,
        state,
        config.batch_size,
        epochs=1,
        device=device,
        work=work,
        about={"jacobian_range": [data.limits.low, data.limits.high]},
        num_steps=1 if config.kind == "linear" else config.steps,
    )
