"""Asks a model of the fomm family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.fomm import sample
from pipelines.fomm.config import TransferRequest
from pipelines.fomm.inference import taken
from pipelines.fomm.keypoints import Keypoints, transfer_motion
from pipelines.serve.families.pictures import command_line, picture_at
from pipelines.serve.model_process import Answering
from pipelines.training.device import prepare_device

_FPS = 10.0  # of a clip that does not say


def open_model(run_dir: Path, device_name: str, warn: Callable[[str], None]) -> AnimatedModel:
    """The model of a run. Raises UserError when it has no checkpoint that can be used."""
    return AnimatedModel(sample.load(run_dir, prepare_device(device_name), warn=warn))


class AnimatedModel:
    """A model that moves a picture as a clip moves."""

    def __init__(self, animator: sample.Animator) -> None:
        self._animator = animator

    def warm_up(self) -> None:
        """Move grey by grey."""
        animator = self._animator
        grey = np.full((animator.size_px, animator.size_px, 3), 128, np.uint8)
        source = animator.source(animator.frames([grey]))
        animator.video(source, source.keypoints)

    def answer(self, question: dict[str, Any]) -> Answering:
        """The picture, moved by the clip's keypoints. Raises UserError for a clip of one frame."""
        animator = self._animator
        request = _request(question)
        pictures, fps = sample.read_driving(request.driving, animator.size_px, request)
        picture = picture_at(request.source)
        source = animator.source(animator.frames([picture], fit=request.fit))
        moved = _moved(source.keypoints, animator.find(animator.frames(pictures)), request)
        return Answering(
            start=animator.picture(picture, fit=request.fit),
            arrow=None,
            num_videos=1,
            num_frames=len(pictures),
            fps=fps or _FPS,
            meta=self._meta(request, len(pictures)),
            frames=(
                (0, index, frame) for index, frame in enumerate(animator.stream(source, moved))
            ),
        )

    def _meta(self, request: TransferRequest, num_frames: int) -> dict[str, Any]:
        options = [
            ("run", request.run_dir),
            ("source", request.source),
            ("driving", request.driving),
            ("relative", request.relative),
            ("adapt-scale", request.adapt_scale),
            ("frames", num_frames),
        ]
        return {
            "family": "fomm",
            "run": str(request.run_dir),
            "checkpoints": {"model": self._animator.checkpoint},
            "relative": request.relative,
            "adapt_scale": request.adapt_scale,
            "frames": num_frames,
            "command": command_line("transfer", "fomm", options),
        }


def _request(question: dict[str, Any]) -> TransferRequest:
    """What the command line would ask; nothing is written here, so that out_dir is never used."""
    run_dir, is_relative = Path(question["run"]), question["relative"]
    return TransferRequest(
        run_dir=run_dir,
        source=Path(question["image"]),
        driving=Path(question["clip"]),
        out_dir=run_dir,
        relative=is_relative,
        adapt_scale=is_relative and question["adapt_scale"],
        frames=max(2, question["frames"]),
    )


def _moved(picture: Keypoints, clip: Keypoints, request: TransferRequest) -> Keypoints:
    return transfer_motion(
        picture,
        clip,
        taken(clip, slice(0, 1)),
        adapt_scale=request.adapt_scale,
        relative_movement=request.relative,
        relative_jacobian=request.relative,
    )
