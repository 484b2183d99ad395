"""A poke in the network's pixels: where, and how far; from what a user says, or drawn from flow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipelines.events import EXIT_USAGE, UserError
from pipelines.io.fitting import Placement
from pipelines.poke import pokes
from pipelines.poke.config import Poke


@dataclass(frozen=True)
class Aim:
    """What is at (column, row) shall move by (dx, dy); all in pixels of the network's image."""

    column: int
    row: int
    dx: float
    dy: float

    @property
    def length(self) -> float:
        """How far, in pixels."""
        return math.hypot(self.dx, self.dy)

    def facts(self) -> dict[str, float]:
        """As meta.json tells it."""
        return {"column": self.column, "row": self.row, "dx": self.dx, "dy": self.dy}

    def turned(self, angle: float) -> Aim:
        """The same poke in another direction. angle: radians, clockwise on the screen."""
        dx, dy = self.dx, self.dy
        cos, sin = math.cos(angle), math.sin(angle)
        return Aim(self.column, self.row, cos * dx - sin * dy, sin * dx + cos * dy)


def aimed(poke: Poke, *, image_size: tuple[int, int], target: Placement) -> Aim:
    """A user's poke on the image as the network sees it.

    image_size: width and height of the image as it was given.  target: how it becomes a square.
    Raises UserError for a poke outside the image, or longer than it.
    """
    width, height = image_size
    x, y, dx, dy = poke.x, poke.y, poke.dx, poke.dy
    if poke.is_fraction:
        x, y, dx, dy = x * width, y * height, dx * width, dy * height
    if not (0 <= x < width and 0 <= y < height):
        raise _refused(
            f"the poke at ({x:g}, {y:g}) lies outside the image",
            image_size,
            f"give x from 0 to {width - 1} and y from 0 to {height - 1}",
        )
    if math.hypot(dx, dy) > math.hypot(width, height):
        raise _refused(
            f"the poke is {math.hypot(dx, dy):.0f} px long, which is longer than the image",
            image_size,
            "give dx and dy in pixels of the image: how far it shall move",
        )
    left, top, crop_width, crop_height = target.crop
    if not (left <= x < left + crop_width and top <= y < top + crop_height):
        raise _refused(
            f"the poke at ({x:g}, {y:g}) lies in a part of the image that is cut off",
            image_size,
            "choose --fit squash or --fit pad, or another place",
        )
    scale_x, scale_y = target.scaled[0] / crop_width, target.scaled[1] / crop_height
    column = target.offset[0] + (x - left) * scale_x
    row = target.offset[1] + (y - top) * scale_y
    return Aim(int(column), int(row), dx * scale_x, dy * scale_y)


def placed_flow(flow: np.ndarray, target: Placement, image_size: tuple[int, int]) -> Tensor:
    """The flow of an image as the network sees the image: 2 S S, its pixels; 0 where unknown.

    flow: float32 2 H W, pixels, of the whole image, at any resolution.
    """
    size_px = target.size_px
    steps = np.array(flow.shape[:0:-1]) / image_size  # flow pixels per image pixel, x then y
    pixels = np.arange(size_px) + 0.5
    index, inside = [], []
    for axis in (0, 1):
        length = target.crop[2 + axis]
        place = (pixels - target.offset[axis]) * length / target.scaled[axis]
        inside.append((place >= 0) & (place < length))
        place = np.floor((place + target.crop[axis]) * steps[axis]).astype(np.int64)
        index.append(place.clip(0, flow.shape[2 - axis] - 1))
    picked = np.nan_to_num(flow[:, index[1]][:, :, index[0]])
    scale = [target.scaled[axis] / target.crop[2 + axis] / steps[axis] for axis in (0, 1)]
    picked = picked * np.array(scale, np.float32)[:, None, None]
    picked *= inside[1][:, None] & inside[0]
    return torch.from_numpy(picked.astype(np.float32))


def drawn_aims(flow: Tensor, *, count: int, margin_px: int, uniform: Tensor) -> list[Aim]:
    """Pokes where a flow moves most, `count` of them. flow: 2 S S.  uniform: at least count.

    Raises UserError where everything moves alike.
    """
    places = pokes.candidates(flow[None], margin_px=margin_px)
    picked = pokes.pick(places, uniform[None, :count].contiguous())
    if bool((picked < 0).any()):
        raise UserError(
            "the flow is the same everywhere: there is nothing to poke",
            {"to fix": "give another flow file, or say where to poke: --poke x,y,dx,dy"},
            EXIT_USAGE,
        )
    values = pokes.values_at(flow[None], picked)[0]
    return [
        Aim(column, row, dx, dy)
        for (row, column), (dx, dy) in zip(picked[0].tolist(), values.tolist(), strict=True)
    ]


def guessed_aims(
    picture: np.ndarray, *, count: int, margin_px: int, length_px: float, uniform: Tensor
) -> list[Aim]:
    """Pokes of an image nothing is known of: on what stands out, in any direction.

    picture: uint8 S S 3.  What stands out: where the image differs most from the colour of its
    border, away from it.  uniform: count 2.
    """
    levels = picture.astype(np.float32)
    border = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
    stands_out = np.linalg.norm(levels - np.median(border, axis=0), axis=-1)
    inside = stands_out[margin_px:-margin_px, margin_px:-margin_px]
    marked = np.pad(inside >= np.quantile(inside, 0.8), margin_px)
    picked = pokes.pick(torch.from_numpy(marked)[None], uniform[None, :count, 0].contiguous())[0]
    angles = (uniform[:count, 1] * 2 * math.pi).tolist()
    return [
        Aim(column, row, length_px * math.cos(angle), length_px * math.sin(angle))
        for (row, column), angle in zip(picked.tolist(), angles, strict=True)
    ]


def aims_map(aims: Sequence[Aim], *, size_px: int, patch_px: int) -> Tensor:
    """The poke map of all aims together, 1 2 S S."""
    places = torch.tensor([[[aim.row, aim.column] for aim in aims]])
    values = torch.tensor([[[aim.dx, aim.dy] for aim in aims]], dtype=torch.float32)
    return pokes.poke_map(places, values, size_px=size_px, patch_px=patch_px)


def _refused(message: str, image_size: tuple[int, int], remedy: str) -> UserError:
    details = {"image": f"{image_size[0]} x {image_size[1]} px", "to fix": remedy}
    return UserError(message, details, EXIT_USAGE)
