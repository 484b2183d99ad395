"""Stored frames as a network sees them. Shapes: ... any number of leading dimensions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def from_bytes(frames: Tensor) -> Tensor:
    """Stored frames as numbers. uint8 ... H W C -> float32 ... C H W in [0, 1]."""
    return frames.movedim(-1, -3).to(torch.float32).div_(255)


def normalise(frames: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1]."""
    return frames * 2 - 1


def resize(clips: Tensor, size_px: int) -> Tensor:
    """Bilinear, corners not aligned, no antialiasing: ... 3 H W -> ... 3 S S."""
    if clips.shape[-2:] == (size_px, size_px):
        return clips
    frames = clips.flatten(0, -4)
    frames = F.interpolate(frames, size=(size_px, size_px), mode="bilinear", align_corners=False)
    return frames.view(*clips.shape[:-2], size_px, size_px)
