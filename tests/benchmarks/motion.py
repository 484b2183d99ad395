"""motion: training steps of both models over ten keypoints, and a motion of 16 frames."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from pipelines.motion.config import FamilyConfig
from pipelines.motion.models import build
from pipelines.motion.steps import build_optimizers, motion_step
from pipelines.motion.vectors import NUMBERS_PER_KEYPOINT
from tests.benchmarks.rows import Measurement, Settings, apart, seconds

_NUM_KEYPOINTS, _NUM_FRAMES = 10, 16
_BATCHES = {"wgan": 8, "autoregressive": 16}
"""Kind -> the published batch."""


def measure(settings: Settings) -> Iterator[Measurement]:
    """Rows of both kinds; each in a process of its own, for its memory."""
    for kind, batch in _BATCHES.items():
        for what, function in (
            (f"training step, batch {batch}", step_seconds),
            ("motion of 16 frames", motion_seconds),
        ):
            done = apart(function, kind, settings.repeats)
            note = "random weights; 10 keypoints; cpu"
            yield Measurement(f"{kind}, {what}", done.result, "s", peak_mb=done.peak_mb, note=note)


def step_seconds(kind: str, repeats: int) -> list[float]:
    """Seconds of one training step; of wgan the critic's update alone."""
    model = build(FamilyConfig.model_validate({"kind": kind}), _vector_size())
    optimizers, draws = build_optimizers(model), torch.Generator().manual_seed(0)
    real = torch.rand(_BATCHES[kind], _NUM_FRAMES, _vector_size()) * 2 - 1
    return seconds(
        lambda: motion_step(model, optimizers, real, draws=draws, step=0), repeats=repeats
    )


def motion_seconds(kind: str, repeats: int) -> list[float]:
    """Seconds from the keypoints of both ends to a motion between them."""
    model = build(FamilyConfig.model_validate({"kind": kind}), _vector_size())
    first, last = torch.rand(2, 1, _vector_size()) * 2 - 1
    noise = model.noise(1, _NUM_FRAMES, torch.Generator().manual_seed(0))

    def work() -> torch.Tensor:
        with torch.inference_mode():
            return model.between(first, last, noise)

    return seconds(work, repeats=repeats)


def _vector_size() -> int:
    return _NUM_KEYPOINTS * NUMBERS_PER_KEYPOINT
