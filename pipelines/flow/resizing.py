"""Flow and its checks at another size."""

from __future__ import annotations

import cv2
import numpy as np


def resize_flow(flow: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
    """Flow on another grid, in pixels of that grid: float32 [N 2 H W] -> [N 2 height width].

    Bilinear with half-pixel centres and without antialiasing, as the published data is made; x is
    scaled with the width, y with the height. nan spreads to the pixels it would enter.
    """
    height, width = flow.shape[2:]
    if (height, width) == (height_px, width_px):
        return flow
    scale = np.array([width_px / width, height_px / height], np.float32)
    resized = np.empty((len(flow), 2, height_px, width_px), np.float32)
    for source, target in zip(flow, resized, strict=True):
        planes = np.ascontiguousarray(source.transpose(1, 2, 0))
        moved = cv2.resize(planes, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
        target[:] = (moved * scale).transpose(2, 0, 1)
    return resized


def resize_mask(mask: np.ndarray, size_px: int) -> np.ndarray:
    """A mask on another grid: bool [N H W] -> [N size size], true where most of the area is."""
    if mask.shape[1:] == (size_px, size_px):
        return mask
    is_shrunk = mask.shape[1] > size_px
    how = cv2.INTER_AREA if is_shrunk else cv2.INTER_LINEAR
    parts = [
        cv2.resize(each.astype(np.float32), (size_px, size_px), None, 0, 0, how) for each in mask
    ]
    return np.stack(parts) > 0.5
