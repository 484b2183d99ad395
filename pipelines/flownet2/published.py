"""Flow of a pair of images exactly as the published poking data was made (spec: flow, 6).

Kept for comparison with that data and its checkpoints. It differs from FlowNet2Estimator in what
happens to images that are not square: here they lose what is beyond a multiple of 64 pixels, and
the flow along y is scaled by the ratio of the widths.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.flownet2.cascade import normalise
from pipelines.flownet2.config import SIZE_MULTIPLE_PX


def resize_shorter_side(image: np.ndarray, size_px: int) -> np.ndarray:
    """The image with its shorter side at a size, aspect ratio kept, bilinear with antialiasing.

    image: uint8 H W 3.  Returns uint8 h w 3; the longer side is rounded down.
    """
    height, width = image.shape[:2]
    shorter = min(height, width)
    if shorter == size_px:
        return image
    size = (size_px * width // shorter, size_px * height // shorter)
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def crop_to_multiple(image: np.ndarray) -> np.ndarray:
    """The image without its last rows and columns, sides multiples of 64. image: H W 3."""
    height, width = (side - side % SIZE_MULTIPLE_PX for side in image.shape[:2])
    return image[:height, :width]


def network_input(
    first: np.ndarray, second: np.ndarray, *, size_px: int | None, flips_colours: bool = False
) -> Tensor:
    """Two images as the network's wrapper took them.

    first, second: uint8 H W 3.  size_px: for the shorter side; None leaves the size.
    flips_colours: reverse their order; the published data was made without, from BGR images.
    Returns 3 2 h w in [0, 1], h and w multiples of 64.
    """
    frames = []
    for image in (first, second):
        resized = image if size_px is None else resize_shorter_side(image, size_px)
        frame = torch.from_numpy(np.array(crop_to_multiple(resized))).permute(2, 0, 1)
        frames.append(frame.flip(0) if flips_colours else frame)
    return torch.stack(frames, dim=1).float() / 255


def published_flow(
    network: nn.Module, frames: Tensor, *, stored_size_px: int, value_max: float = 1.0
) -> Tensor:
    """Flow as the published data stores it.

    network: of cascade.build, in eval mode.  frames: 3 2 h w of `network_input`.
    value_max: what the network takes for white.
    Returns 2 S S, pixels at that size; both components scaled by the ratio of the widths.
    """
    with torch.inference_mode():
        flow = network(normalise(frames[None], value_max=value_max))
        size = (stored_size_px, stored_size_px)
        resized = F.interpolate(flow, size, mode="bilinear", align_corners=False)[0]
        return resized / (flow.shape[-1] / stored_size_px)
