"""Pokes: where one may sit, what it says, and its map (spec: poke, 6).

A poke is a pixel and how far (pixels, x and y) its content shall have moved at the end of the
video. In training it is read from the optical flow between the first frame and that end. Nothing
here draws numbers: what is random comes in as uniform numbers from [0, 1).
Shapes: B samples, N pokes in each, S height and width in pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

STILL_QUANTILE = 0.05
"""Share of the pixels that count as background where no foreground mask says it."""


def resize_flow(flow: Tensor, size_px: int, *, scale: float | None = None) -> Tensor:
    """Flow at another resolution, in its pixels.

    flow: B 2 H W.  scale: what the vectors are multiplied with; the change of width if not given.
    Corners stay corners, as the published models were trained with (align_corners).
    """
    if scale is None:
        scale = size_px / flow.shape[-1]
    if flow.shape[-2:] == (size_px, size_px):
        return flow if scale == 1 else flow * scale
    size = (size_px, size_px)
    return F.interpolate(flow * scale, size=size, mode="bilinear", align_corners=True)


def resize_flow_array(flow: np.ndarray, size_px: int) -> np.ndarray:
    """The same for an array, N 2 H W, with its unknown values (nan)."""
    if flow.shape[-1] == size_px:
        return flow
    return resize_flow(torch.from_numpy(np.ascontiguousarray(flow)), size_px).numpy()


def candidates(flow: Tensor, *, margin_px: int, foreground: Tensor | None = None) -> Tensor:
    """Where a poke may sit: what moves much more than the rest, away from the border.

    flow: B 2 S S.  foreground: B S S, 1 where a poke is wanted.  Returns bool B S S; nothing at all
    where everything moves alike.
    """
    moving = _movement(flow, margin_px)
    chosen = moving if foreground is None else moving * _inside(foreground, margin_px)
    places = chosen > _mean(chosen) + 2 * _std(chosen)
    for fallback in (moving > _mean(moving) + _std(moving), moving > _mean(moving)):
        places = torch.where(_any(places), places, fallback)
    return _whole(places, margin_px)


def background_places(flow: Tensor, *, margin_px: int, foreground: Tensor | None = None) -> Tensor:
    """Where nothing moves: outside the foreground, or else what moves least. Bool B S S."""
    moving = _movement(flow, margin_px)
    if foreground is None:
        limit = torch.quantile(moving.flatten(1), STILL_QUANTILE, dim=1).view(-1, 1, 1)
        return _whole(moving < limit, margin_px)
    return _whole(_inside(foreground, margin_px) == 0, margin_px)


def strong_places(flow: Tensor, *, margin_px: int) -> Tensor:
    """Whose flow a poke of the background takes: what moves more than most. Bool B S S."""
    moving = _movement(flow, margin_px)
    return _whole(moving > _mean(moving) + _std(moving), margin_px)


def pick(places: Tensor, uniform: Tensor) -> Tensor:
    """Some of the marked pixels, each with the same chance.

    places: bool B S S.  uniform: B N in [0, 1).  Returns B N 2: row, column; -1 where none is
    marked.
    """
    flat = places.flatten(1)
    count = flat.sum(1, keepdim=True)
    rank = (uniform.to(places.device) * count).long().clamp(max=(count - 1).clamp(min=0))
    order = flat.cumsum(1)
    index = torch.searchsorted(order, rank + 1)  # the first pixel that so many are marked up to
    found = torch.stack((index // places.shape[-1], index % places.shape[-1]), dim=-1)
    return torch.where(count.unsqueeze(-1) > 0, found, torch.full_like(found, -1))


def values_at(flow: Tensor, places: Tensor) -> Tensor:
    """The flow at places B N 2 (row, column): B N 2 (x, y); 0 where a place is -1."""
    size = flow.shape[-1]
    index = (places[..., 0] * size + places[..., 1]).clamp(min=0)
    picked = flow.flatten(2).gather(2, index.unsqueeze(1).expand(-1, 2, -1)).transpose(1, 2)
    return picked * (places[..., :1] >= 0)


def poke_map(
    places: Tensor, values: Tensor, *, size_px: int, patch_px: int, flow: Tensor | None = None
) -> Tensor:
    """The map that the network sees: zero but for a square patch around each poke.

    places: B N 2 (row, column), -1 for none.  values: B N 2 (x, y).  A patch that crosses the
    border is cut; where patches overlap the later poke counts.
    flow: B 2 S S, given when the patches are to hold the flow itself and not one value each.
    Returns B 2 S S.
    """
    half = patch_px // 2
    pixels = torch.arange(size_px, device=places.device)
    result = values.new_zeros(len(places), 2, size_px, size_px)
    for number in range(places.shape[1]):
        row, column = places[:, number, :1], places[:, number, 1:]
        in_rows = ((pixels - row).abs() <= half) & (row >= 0)
        in_columns = (pixels - column).abs() <= half
        covered = (in_rows.unsqueeze(2) & in_columns.unsqueeze(1)).unsqueeze(1)
        patch = values[:, number].view(-1, 2, 1, 1) if flow is None else flow
        result = torch.where(covered, patch, result)
    return result


def moving_foreground(flow: Tensor) -> Tensor:
    """A foreground mask from the flow alone: what moves more than most. Bool B S S."""
    moving = _movement(flow, 0)
    return moving > _mean(moving) + _std(moving)


def bounding_box(foreground: Tensor) -> tuple[int, int, int, int] | None:
    """Top, left, bottom, right of a mask S S, the last two the last marked row and column.

    None for an empty mask.
    """
    rows = torch.nonzero(foreground.any(1)).flatten()
    columns = torch.nonzero(foreground.any(0)).flatten()
    if not len(rows):
        return None
    return int(rows[0]), int(columns[0]), int(rows[-1]), int(columns[-1])


def box_weights(
    foregrounds: Tensor, *, foreground_value: float = 10.0, background_weight: float = 1.0
) -> Tensor:
    """Weights of pixels: high in the box around all masks together, low outside.

    foregrounds: K S S, of the first, the middle and the last frame.  The box leaves its last row
    and column out, as published.  Returns S S.
    """
    weights = torch.full(foregrounds.shape[1:], background_weight, device=foregrounds.device)
    box = bounding_box(foregrounds.any(0))
    if box is not None:
        top, left, bottom, right = box
        weights[top:bottom, left:right] = foreground_value
    return weights


def crop_to_weights(videos: Tensor, weights: Tensor, *, foreground_value: float = 10.0) -> Tensor:
    """Each video, or frame, cut to the box of its high weights and brought back to full size.

    videos: B T 3 S S, or B 3 S S.  weights: B S S.  Once more the last row and column are left out.
    A box of less than two rows or columns leaves the video as it is.
    """
    cropped = []
    for video, weight in zip(videos, weights, strict=True):
        box = bounding_box(weight == foreground_value)
        if box is None or box[2] - box[0] < 1 or box[3] - box[1] < 1:
            cropped.append(video)
            continue
        top, left, bottom, right = box
        part = video[..., top:bottom, left:right].reshape(-1, 3, bottom - top, right - left)
        size = videos.shape[-2:]
        resized = F.interpolate(part, size=size, mode="bilinear", align_corners=False)
        cropped.append(resized.view_as(video))
    return torch.stack(cropped)


def _movement(flow: Tensor, margin_px: int) -> Tensor:
    """Length of the flow away from the border, from 0 to 1 in each sample: B s s."""
    length = _inside(torch.linalg.vector_norm(flow, dim=1), margin_px)
    above = length - length.amin((1, 2), keepdim=True)
    return above / above.amax((1, 2), keepdim=True).clamp_min(torch.finfo(flow.dtype).tiny)


def _inside(maps: Tensor, margin_px: int) -> Tensor:
    size = maps.shape[-1]
    return maps[..., margin_px : size - margin_px, margin_px : size - margin_px]


def _whole(places: Tensor, margin_px: int) -> Tensor:
    return F.pad(places, (margin_px,) * 4)


def _mean(maps: Tensor) -> Tensor:
    return maps.mean((1, 2), keepdim=True)


def _std(maps: Tensor) -> Tensor:
    return maps.std((1, 2), keepdim=True)


def _any(places: Tensor) -> Tensor:
    return places.flatten(1).any(1).view(-1, 1, 1)
