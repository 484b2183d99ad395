"""From videos to what I3D is given, for each published distance (spec: metrics, 2, 4 and 5).

They differ in the resize, the range of values and the frames they take, and each difference moves
the number: a distance is named by its inputs as much as by its weights. All give B 3 T 224 224.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.events import UserError

SIZE_PX = 224

_REPEATS = 3  # of a clip that DTI3D finds too short


def fvd_clips(videos: Tensor) -> Tensor:
    """Inputs of FVD as google-research computes it, with the weights of the TF hub module.

    videos: B T 3 H W, 0..255, bytes or floats.  Returns values in [-1, 1].
    """
    resized = _each_frame(videos.float(), resize_as_tensorflow1)
    return 2 * resized / 255 - 1


def logging_fvd_clips(videos: Tensor) -> Tensor:
    """Inputs of the FVD that the cINN code logs while training, with hassony2's weights.

    videos: B T 3 H W, in [-1, 1], all that are compared on one side: if none of their values is
    negative they are taken for [0, 1].  Returns values in [0, 1], which is not what the weights
    were trained for.
    """
    resized = _each_frame(videos, _resize_corners)
    return (resized + 1) / 2 if videos.min() < 0 else resized


def dynamic_texture_clips(videos: Tensor, *, length: int = 16, loops: bool = True) -> Tensor:
    """Inputs of DTFVD: the 16-frame network takes a short clip three times over.

    videos: B T 3 H W, in [-1, 1].  length: 16, where a longer T is cut and a shorter one repeated,
    or 32, where T must be 32.  loops: else a shorter T stays as it is (for diversity; 9 at least).
    Returns values in [-1, 1].
    Raises UserError when there are fewer frames than that.
    """
    num_frames = videos.shape[1]
    if length == 16:
        videos = (videos.repeat(1, _REPEATS, 1, 1, 1) if loops else videos)[:, :length]
    if videos.shape[1] != length and not (length == 16 and not loops):
        raise UserError(
            f"the {length}-frame network of DTFVD cannot take clips of {num_frames} frames",
            {"to fix": f"give clips of {length} frames"},
        )
    return _each_frame(videos, _resize_corners)


def resize_as_tensorflow1(frames: Tensor) -> Tensor:
    """Bilinear as TensorFlow 1 resizes by default: from corner to corner of pixels, not centres.

    Destination pixel i comes from i * size / 224, so the picture moves by up to half a source
    pixel; no mode of torch does that. No antialiasing; the aspect ratio is not kept.
    frames: N C H W, float32.  Returns N C 224 224.
    """
    return _resized_along(_resized_along(frames, -1), -2)


def _resized_along(frames: Tensor, axis: int) -> Tensor:
    """Bilinear along one axis, -1 or -2; frames of that size already are returned as given."""
    size = frames.shape[axis]
    if size == SIZE_PX:
        return frames
    before, after, share = _places(size, frames.device)
    found = frames.index_select(axis, before)
    share = share if axis == -1 else share[:, None]
    return found.add_(frames.index_select(axis, after).sub_(found).mul_(share))


def _places(size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Source indices before and after each destination, and how far towards the latter it lies."""
    exact = np.arange(SIZE_PX, dtype=np.float32) * np.float32(size / SIZE_PX)
    lower = np.floor(exact).astype(np.int64)
    upper = np.minimum(lower + 1, size - 1)
    part = exact - lower.astype(np.float32)
    before, after, share = (torch.from_numpy(each).to(device) for each in (lower, upper, part))
    return before, after, share


def _resize_corners(frames: Tensor) -> Tensor:
    return F.interpolate(frames, (SIZE_PX, SIZE_PX), mode="bilinear", align_corners=True)


def _each_frame(videos: Tensor, resize: Callable[[Tensor], Tensor]) -> Tensor:
    """B T C H W -> B C T 224 224."""
    frames = resize(videos.flatten(0, 1))
    return frames.unflatten(0, videos.shape[:2]).transpose(1, 2)
