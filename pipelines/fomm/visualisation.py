"""What a model sees and does, drawn: keypoints on frames, occlusion, the motion of each keypoint.

Numpy pictures, uint8; columns as in the published visualisation.
"""

from __future__ import annotations

import colorsys
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.fomm.generator import Generated
from pipelines.fomm.inference import to_bytes

_RADIUS = 1 / 50  # of a keypoint's disc, as part of the frame


def with_keypoints(frames: np.ndarray, value: np.ndarray | Tensor) -> np.ndarray:
    """Frames with a disc at each keypoint, one colour for each keypoint.

    frames: uint8 N H W 3.  value: N K 2 as (x, y), -1 and 1 at the corner pixels.
    """
    places = np.asarray(value.cpu() if isinstance(value, Tensor) else value)
    marked = np.array(frames)
    height, width = frames.shape[1:3]
    rows, columns = np.mgrid[:height, :width]
    radius = max(1.0, _RADIUS * height)
    for frame, points in zip(marked, places, strict=True):
        for (x, y), colour in zip(points, keypoint_colours(places.shape[1]), strict=True):
            column, row = (x + 1) / 2 * (width - 1), (y + 1) / 2 * (height - 1)
            frame[np.hypot(columns - column, rows - row) <= radius] = colour
    return marked


@cache
def keypoint_colours(count: int) -> tuple[tuple[int, int, int], ...]:
    """Colours around the wheel that can be told apart."""
    turns = (number / count for number in range(count))
    return tuple(
        tuple(round(255 * level) for level in colorsys.hsv_to_rgb(turn, 1, 1))  # type: ignore[misc]
        for turn in turns
    )


def occlusion_pictures(occlusion: Tensor, size_px: int) -> np.ndarray:
    """Occlusion maps, N 1 h w in (0, 1), as grey pictures N S S 3: black is hidden."""
    resized = F.interpolate(occlusion, size=(size_px, size_px), mode="bilinear")
    return to_bytes(resized)


def motion_pictures(made: Generated) -> np.ndarray:
    """For each frame and each motion the source moved by it, dim where another one was chosen.

    Returns N K+1 h w 3, the background's first.
    """
    mask = made.motion.mask.unsqueeze(2)
    colours = [(255, 255, 255), *keypoint_colours(mask.shape[1] - 1)]
    tint = mask.new_tensor(colours).view(1, -1, 3, 1, 1) / 255
    return to_bytes(made.motion.sparse * mask * 0.8 + 0.2 * mask * tint)


def visualised(
    *,
    source: np.ndarray,
    source_keypoints: Tensor,
    driving: np.ndarray,
    driving_keypoints: Tensor,
    moved_keypoints: Tensor,
    made: Generated,
) -> np.ndarray:
    """Side by side: source, driving (both with keypoints), warped source, result with and without
    keypoints, occlusion; and below, what each keypoint's motion contributes.

    source: uint8 S S 3, its keypoints 1 K 2.  driving: uint8 N S S 3.  Returns N H W 3.
    """
    count, size = len(driving), driving.shape[1]
    result = to_bytes(made.frames)
    still = with_keypoints(source[None], source_keypoints)
    columns = [
        np.broadcast_to(still, (count, *still.shape[1:])),
        with_keypoints(driving, driving_keypoints),
        to_bytes(made.deformed),
        with_keypoints(result, moved_keypoints),
        result,
    ]
    if made.motion.occlusion is not None:
        columns.append(occlusion_pictures(made.motion.occlusion, size))
    top = np.concatenate(columns, axis=2)
    return np.concatenate([top, _strip(motion_pictures(made), top.shape[2])], axis=1)


def _strip(pictures: np.ndarray, width: int) -> np.ndarray:
    """Pictures N M h w 3 in a row, made smaller until they fit into a width: N H width 3."""
    num = pictures.shape[1]
    side = min(width // num, pictures.shape[2])
    flat = torch.from_numpy(pictures).flatten(0, 1).movedim(-1, 1).float() / 255
    small = to_bytes(F.interpolate(flat, size=(side, side), mode="bilinear", antialias=True))
    tiles = small.reshape(len(pictures), num, side, side, 3)
    strip = np.zeros((len(pictures), side, width, 3), np.uint8)
    row = np.concatenate(list(tiles.swapaxes(0, 1)), axis=2)
    strip[:, :, : row.shape[2]] = row
    return strip
