"""What metrics ask of the embedded backbone: one vector per frame, or maps to compare places with.

Both take uint8 T H W 3 frames and run in small batches, so that memory does not grow with T.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipelines.features import efficientnet
from pipelines.features.perceptual import EmbeddedPerceptual

_BATCH_FRAMES = 16
_POOLED_SIZE_PX = 128
_POOLED_STAGES = 5


class PooledFrames:
    """A 112-vector per frame: the fifth stage's maps, averaged over the image.

    Frames are resized to 128 x 128 first (bilinear, with antialiasing where that shrinks them),
    since at the native size of small videos the network's later maps have only a few places. The
    fifth stage still tells sharp from blurred, and few samples suffice for its 112 dimensions.
    """

    name = f"{efficientnet.NAME} stage {_POOLED_STAGES}, frames at {_POOLED_SIZE_PX} px"
    sha256 = efficientnet.WEIGHTS_SHA256
    size = efficientnet.STAGES[_POOLED_STAGES - 1].channels

    def __init__(self, device: torch.device) -> None:
        self._device = device
        network = efficientnet.load(_POOLED_STAGES).to(memory_format=torch.channels_last)
        self._network = network.to(device)

    @torch.inference_mode()
    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """frames: uint8 T H W 3.  Returns float32 T 112."""
        rows = []
        for images in _batches(frames, self._device):
            if images.shape[-2:] != (_POOLED_SIZE_PX, _POOLED_SIZE_PX):
                images = F.interpolate(
                    images, size=(_POOLED_SIZE_PX,) * 2, mode="bilinear", antialias=True
                )
            images = images.contiguous(memory_format=torch.channels_last)
            rows.append(self._network(images)[-1].mean((2, 3)))
        pooled: NDArray[np.float32] = torch.cat(rows).cpu().numpy()
        return pooled


class UnitMaps:
    """The maps of the embedded perceptual distance, at the frames' own size."""

    name = f"{efficientnet.NAME} perceptual"
    sha256 = efficientnet.WEIGHTS_SHA256

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._network = EmbeddedPerceptual().to(device)

    @torch.inference_mode()
    def __call__(self, frames: NDArray[np.uint8]) -> list[Tensor]:
        """frames: uint8 T H W 3.  Returns T C H' W' maps, to compare by perceptual.map_distance."""
        batches = [self._network.unit_maps(each) for each in _batches(frames, self._device)]
        return [torch.cat(parts) for parts in zip(*batches, strict=True)]


def _batches(frames: NDArray[np.uint8], device: torch.device) -> Iterator[Tensor]:
    for start in range(0, len(frames), _BATCH_FRAMES):
        images = torch.from_numpy(frames[start : start + _BATCH_FRAMES]).to(device)
        yield images.permute(0, 3, 1, 2).float() / 127.5 - 1
