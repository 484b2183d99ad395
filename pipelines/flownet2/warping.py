"""How the networks of a cascade look at the flow so far: the second image warped back by it."""

from __future__ import annotations

import torch
from torch import Tensor


def resample(images: Tensor, flow: Tensor) -> Tensor:
    """Sample images at (x, y) + flow, bilinear; places outside take the nearest border pixel.

    images: B C H W, any range.  flow: B 2 H W, pixels, x (right) then y (down).
    Returns B C H W in float32.  Indices are taken rather than `grid_sample` used, whose scaled
    coordinates cost the last digits.
    """
    images, flow = images.float(), flow.float()
    height, width = flow.shape[-2:]
    x = flow[:, 0] + torch.arange(width, device=flow.device, dtype=flow.dtype)
    y = flow[:, 1] + torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None]
    left, top = x.floor(), y.floor()
    right_part, lower_part = (x - left)[:, None], (y - top)[:, None]
    columns, rows = left.long(), top.long()
    near, far = columns.clamp(0, width - 1), (columns + 1).clamp(0, width - 1)
    upper_row = rows.clamp(0, height - 1) * width
    lower_row = (rows + 1).clamp(0, height - 1) * width
    pixels = images.flatten(2)

    def at(row: Tensor, column: Tensor) -> Tensor:
        index = (row + column).flatten(1)[:, None].expand(-1, images.shape[1], -1)
        return pixels.gather(2, index).view_as(images)

    upper = (1 - right_part) * at(upper_row, near) + right_part * at(upper_row, far)
    lower = (1 - right_part) * at(lower_row, near) + right_part * at(lower_row, far)
    return (1 - lower_part) * upper + lower_part * lower


def channel_norm(x: Tensor) -> Tensor:
    """Length of the vector at each place. x: B C H W.  Returns B 1 H W; its gradient at 0 is 0."""
    return torch.linalg.vector_norm(x, dim=1, keepdim=True)


def brightness_error(first: Tensor, second: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """The second image warped back by the flow, and its distance to the first at each place.

    first, second: B 3 H W.  flow: B 2 H W, pixels.  Returns B 3 H W and B 1 H W.
    """
    warped = resample(second, flow)
    return warped, channel_norm(first - warped)
