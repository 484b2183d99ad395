"""Geometric augmentation of whole clips, batched on the device: flip, turn, scale, shift, crop.

One draw for all that belongs to a clip: its frames, their flow, masks, pokes and keypoints. Flow
and pokes are vectors: they turn, stretch and flip with the picture. Coordinates are pixels, x right
and y down, 0 in the middle of the first pixel. Shapes: B clips, T frames, S side in pixels before
and R after the crop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.nn.whole_batch import uniform_rows

Padding = Literal["reflect", "edge", "constant"]
Interpolation = Literal["bilinear", "nearest"]

_PADDING_MODES = {"reflect": "reflection", "edge": "border", "constant": "zeros"}


@dataclass(frozen=True)
class GeometryRanges:
    """What may happen to a clip, and from which range it is drawn.

    horizontal_flip: chance.  time_flip: chance; a clip that runs backwards is not flipped as well.
    chance: of turn, scale and shift, together.  turn_deg: degrees, clockwise on the screen.
    scale: factor.  shift: largest share of the side, right and down, either way.
    has_whole_shifts: whether shifts are whole pixels.  crop_margin_px: so much is cut off the side,
    in all, somewhere.
    """

    horizontal_flip: float = 0.0
    time_flip: float = 0.0
    chance: float = 1.0
    turn_deg: tuple[float, float] = (0.0, 0.0)
    scale: tuple[float, float] = (1.0, 1.0)
    shift: tuple[float, float] = (0.0, 0.0)
    has_whole_shifts: bool = True
    crop_margin_px: int = 0


@dataclass(frozen=True)
class Geometry:
    """What is done to each of B clips of S x S pixels, which become R x R.

    A place p goes to matrix (p - middle before) + middle after + shift.
    matrix: B 2 2.  shift: B 2, pixels.  is_reversed: B, bool: the clip runs backwards.
    """

    matrix: Tensor
    shift: Tensor
    is_reversed: Tensor
    size_px: int
    size_after_px: int


def draw_geometry(
    ranges: GeometryRanges, num_clips: int, *, size_px: int, generator: torch.Generator
) -> Geometry:
    """Draws for a batch, on the generator's device (the CPU, or a GPU is waited for later)."""
    drawn = uniform_rows((num_clips, 9), generator)
    is_reversed = drawn[:, 0] < ranges.time_flip
    is_flipped = (drawn[:, 1] < ranges.horizontal_flip) & ~is_reversed
    is_moved = drawn[:, 2] < ranges.chance
    turn = torch.where(is_moved, _between(drawn[:, 3], ranges.turn_deg), 0.0).deg2rad()
    scale = torch.where(is_moved, _between(drawn[:, 4], ranges.scale), 1.0)
    reach = drawn.new_tensor(ranges.shift) * size_px
    shift = (drawn[:, 5:7] * 2 - 1) * reach
    if ranges.has_whole_shifts:
        # so that every whole shift up to the reach is as likely as any other
        reach = reach.floor()
        shift = (drawn[:, 5:7] * (2 * reach + 1)).floor().minimum(2 * reach) - reach
    shift = torch.where(is_moved.unsqueeze(1), shift, 0.0)
    margin = ranges.crop_margin_px
    corner = (drawn[:, 7:9] * (margin + 1)).floor().clamp(max=margin)
    return Geometry(
        _matrices(turn, scale, is_flipped),
        shift + margin / 2 - corner,
        is_reversed,
        size_px,
        size_px - margin,
    )


def move_frames(
    frames: Tensor,
    geometry: Geometry,
    *,
    padding: Padding = "reflect",
    fill: float = 0.0,
    interpolation: Interpolation = "bilinear",
) -> Tensor:
    """Frames B T C S S -> B T C R R, any range, in the order of time that was drawn.

    Flips, crops and whole shifts alone move pixels and change none of their values.
    padding: what lies beyond the border, with "constant" the value `fill`.
    """
    maps = frames.flatten(1, 2)
    moved = _moved(maps - fill if fill else maps, geometry, padding, interpolation) + fill
    moved = moved.unflatten(1, frames.shape[1:3])
    is_reversed = geometry.is_reversed
    if not bool(is_reversed.any()):
        return moved
    is_reversed = is_reversed.to(frames.device).view(-1, 1, 1, 1, 1)
    return torch.where(is_reversed, moved.flip(1), moved)


def move_flow(flow: Tensor, geometry: Geometry, *, padding: Padding = "reflect") -> Tensor:
    """Flow B N 2 S S, pixels -> B N 2 R R, the motion in the moved frames.

    Interpolated between pixels; nan, and so unknown, next to a place where it was nan, and for a
    clip that runs backwards. Beyond the border of a reflected picture motion is reflected too.
    """
    is_known = ~flow.isnan().any(dim=2, keepdim=True)
    with_known = torch.cat((flow.nan_to_num(0.0), is_known.to(flow)), dim=2)
    moved = _moved(with_known.flatten(1, 2), geometry, padding, "bilinear")
    moved = moved.unflatten(1, with_known.shape[1:3])
    vectors, known = moved[:, :, :2], moved[:, :, 2:]
    if padding == "reflect":
        vectors = vectors * _mirroring(geometry).to(flow)
    turned = torch.einsum("bij,bnjhw->bnihw", geometry.matrix.to(flow), vectors)
    is_unknown = known < 1 - 1e-4
    if bool(geometry.is_reversed.any()):
        is_unknown = is_unknown | geometry.is_reversed.to(flow.device).view(-1, 1, 1, 1, 1)
    return turned.masked_fill(is_unknown, math.nan)


def move_points(points: Tensor, geometry: Geometry) -> Tensor:
    """Places B ... 2 (x, y) in the frames -> their places in the moved frames, maybe outside."""
    flat = points.flatten(1, -2) if points.dim() > 2 else points.unsqueeze(1)
    middle, middle_after = (geometry.size_px - 1) / 2, (geometry.size_after_px - 1) / 2
    moved = torch.einsum("bij,bnj->bni", geometry.matrix.to(points), flat - middle)
    return (moved + geometry.shift.to(points).unsqueeze(1) + middle_after).view_as(points)


def move_vectors(vectors: Tensor, geometry: Geometry) -> Tensor:
    """Displacements B ... 2 (x, y), such as pokes, as they are in the moved frames."""
    flat = vectors.flatten(1, -2) if vectors.dim() > 2 else vectors.unsqueeze(1)
    return torch.einsum("bij,bnj->bni", geometry.matrix.to(vectors), flat).view_as(vectors)


def _between(uniform: Tensor, limits: tuple[float, float]) -> Tensor:
    low, high = limits
    return low + uniform * (high - low)


def _matrices(turn: Tensor, scale: Tensor, is_flipped: Tensor) -> Tensor:
    """Flip, then scale and turn: B 2 2."""
    cos, sin = scale * turn.cos(), scale * turn.sin()
    mirror = torch.where(is_flipped, -1.0, 1.0)
    return torch.stack((mirror * cos, -sin, mirror * sin, cos), dim=1).view(-1, 2, 2)


def _moved(maps: Tensor, geometry: Geometry, padding: Padding, interpolation: str) -> Tensor:
    """maps: B C S S -> B C R R."""
    if maps.shape[-2:] != (geometry.size_px, geometry.size_px):
        raise ValueError(f"drawn for {geometry.size_px} px, not {tuple(maps.shape[-2:])}")
    if _is_whole(geometry) and padding != "constant":
        return _moved_whole(maps, geometry, padding)
    grid = _sources(geometry).to(maps) * (2 / max(1, geometry.size_px - 1)) - 1
    return F.grid_sample(
        maps, grid, mode=interpolation, padding_mode=_PADDING_MODES[padding], align_corners=True
    )


def _sources(geometry: Geometry) -> Tensor:
    """Where the content of each pixel comes from: B R R 2 (x, y)."""
    size = geometry.size_after_px
    pixels = torch.arange(size, device=geometry.matrix.device, dtype=torch.float32)
    y, x = torch.meshgrid(pixels, pixels, indexing="ij")
    places = torch.stack((x, y), dim=-1).view(1, -1, 2) - (size - 1) / 2
    back = torch.linalg.inv(geometry.matrix)
    sources = torch.einsum("bij,bnj->bni", back, places - geometry.shift.unsqueeze(1))
    return (sources + (geometry.size_px - 1) / 2).view(-1, size, size, 2)


def _mirroring(geometry: Geometry) -> Tensor:
    """-1 where the picture is mirrored, beyond its border, else 1: B 1 2 R R."""
    turns = (_sources(geometry) / max(1, geometry.size_px - 1)).round(decimals=4).floor()
    return 1 - 2 * turns.remainder(2).permute(0, 3, 1, 2).unsqueeze(1)


def _is_whole(geometry: Geometry) -> bool:
    """Whether pixels go to pixels: nothing turns or changes its size, all shifts are whole."""
    is_upright = geometry.matrix.abs() == torch.eye(2, device=geometry.matrix.device)
    half = (geometry.size_after_px - geometry.size_px) / 2
    corners = geometry.shift + half
    return bool(is_upright.all()) and bool((corners == corners.round()).all())


def _moved_whole(maps: Tensor, geometry: Geometry, padding: Padding) -> Tensor:
    sources = _sources(geometry).round().long()
    columns, rows = sources[:, 0, :, 0], sources[:, :, 0, 1]
    places = [_inside(each, geometry.size_px, padding).to(maps.device) for each in (rows, columns)]
    moved = [each[:, row[:, None], column] for each, row, column in zip(maps, *places, strict=True)]
    return torch.stack(moved)


def _inside(places: Tensor, size: int, padding: Padding) -> Tensor:
    """Pixel numbers beyond the border as those of the pixels that stand for them."""
    if padding == "edge" or size == 1:
        return places.clamp(0, size - 1)
    turned = places.remainder(2 * (size - 1))
    return torch.minimum(turned, 2 * (size - 1) - turned)
