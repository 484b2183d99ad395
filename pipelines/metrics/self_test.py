"""`i2v eval --self-test`: the FVD in PyTorch and the one in TensorFlow agree on this machine.

Both are given the same made-up weights, or the published module where it has been downloaded, and
the same made-up videos; PyTorch reads its weights from the very module that TensorFlow runs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pipelines.events import UserError, Work
from pipelines.metrics import frechet, weights
from pipelines.metrics.config import EvalRequest, VideoProtocol
from pipelines.metrics.result import short
from pipelines.metrics.scenes import Clip, Resources
from pipelines.metrics.video_features import TensorFlowI3d, TorchI3d, generated_module
from pipelines.training.device import prepare_device

TOLERANCE = 1e-3
"""Largest relative difference of the two distances."""
_NUM_VIDEOS, _NUM_FRAMES, _SIZE_PX = 3, 10, 48


def run(request: EvalRequest, work: Work) -> dict[str, Any]:
    """A table of both values; UserError when they disagree."""
    resources = Resources(
        prepare_device(request.device, threads=request.threads),
        request.weights_root,
        request.weights,
        tensorflow_python=request.tensorflow_python,
        cache_dir=request.cache_dir,
    )
    resources, source = _with_module(resources)
    protocol, clips = VideoProtocol(), made_up_clips(request.seed)
    features: dict[str, np.ndarray] = {}
    for name, extractor in (
        ("PyTorch", TorchI3d(protocol, "i3d", resources)),
        ("TensorFlow", TensorFlowI3d(protocol, resources)),
    ):
        work.progress("self-test", len(features), 2, "networks")
        features[name] = np.concatenate(extractor(clips))
    work.progress("self-test", 2, 2, "networks")
    values = {
        name: frechet.distance(rows[::2], rows[1::2]).value for name, rows in features.items()
    }
    first, second = features.values()
    deviation = float(np.abs(first - second).max() / np.abs(second).max())
    relative = abs(values["PyTorch"] - values["TensorFlow"]) / values["TensorFlow"]
    if not relative < TOLERANCE:
        raise UserError(
            "FVD in PyTorch and in TensorFlow disagree",
            {**values, "relative difference": f"{relative:.2e}", "allowed": TOLERANCE},
        )
    rows = [[name, short(value)] for name, value in values.items()]
    rows += [
        ["relative difference", f"{relative:.1e}"],
        ["allowed", f"{TOLERANCE:g}"],
        ["largest difference of a feature", f"{deviation:.1e}"],
        ["weights", source],
    ]
    return {
        "columns": ["FVD of the same videos", "value"],
        "rows": rows,
        "values": values,
        "relative_difference": relative,
        "weights": source,
    }


def made_up_clips(seed: int) -> list[Clip]:
    """Moving patterns, every second one noisier: uint8 T H W 3."""
    generator = np.random.default_rng([seed, 7])
    clips = []
    for number in range(2 * _NUM_VIDEOS):
        picture = generator.integers(0, 256, (_SIZE_PX, _SIZE_PX, 3)).astype(np.float64)
        for axis in (0, 1):
            moved = [np.roll(picture, shift, axis) for shift in range(-3, 4)]
            picture = np.mean(moved, axis=0)
        frames = np.stack([np.roll(picture, step, 1) for step in range(_NUM_FRAMES)])
        noise = (10 + 40 * (number % 2)) * generator.standard_normal(frames.shape)
        contrast = 128 + 3 * (frames - frames.mean()) + noise
        clips.append(Clip(str(number), contrast.clip(0, 255).astype(np.uint8)))
    return clips


def _with_module(resources: Resources) -> tuple[Resources, str]:
    """Resources in which both networks take one module, and what that is."""
    try:
        module, source = weights.find("i3d-tf", resources), "the published module"
    except UserError:
        assert resources.tensorflow_python is not None and resources.cache_dir is not None
        module = generated_module(resources.tensorflow_python, resources.cache_dir)
        source = "made up (the published module is not downloaded)"
    return replace(resources, weights={"i3d": module, "i3d-tf": module}), source
