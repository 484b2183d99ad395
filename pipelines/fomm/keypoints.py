"""Keypoints with the affine motion around them (spec: completion, B.2 and D)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipelines.fomm.blocks import (
    AntiAliasDownsample,
    Hourglass,
    coordinate_grid,
    full_precision,
    in_full,
)
from pipelines.fomm.config import KeypointConfig
from pipelines.nn.training_convolutions import convolved_by_both

VARIANCE = 0.01
"""Of the Gaussian that stands for a keypoint, in squared grid units."""


@dataclass(frozen=True)
class Keypoints:
    """value: B K 2 as (x, y) in [-1, 1].  jacobian: B K 2 2, row major, or None."""

    value: Tensor
    jacobian: Tensor | None

    def detach(self) -> Keypoints:
        """The same numbers without their history."""
        return self.map(Tensor.detach)

    def map(self, change: Callable[[Tensor], Tensor]) -> Keypoints:
        """Both tensors changed by a function."""
        jacobian = None if self.jacobian is None else change(self.jacobian)
        return Keypoints(change(self.value), jacobian)


class KeypointDetector(nn.Module):
    """Finds K keypoints in an image and how the image is stretched around each."""

    def __init__(self, config: KeypointConfig, *, num_keypoints: int, num_channels: int) -> None:
        super().__init__()
        self.temperature = config.temperature
        self.downsample = AntiAliasDownsample(config.scale_factor)
        self.hourglass = Hourglass(
            num_channels,
            width=config.block_expansion,
            num_blocks=config.num_blocks,
            max_features=config.max_features,
        )
        features = self.hourglass.channels_out
        # without padding, as published: the ends of the map lie three pixels inside the image's
        self.heatmap = nn.Conv2d(features, num_keypoints, 7)
        self.jacobian: nn.Conv2d | None = None
        if config.has_jacobian:
            num_maps = 1 if config.has_single_jacobian_map else num_keypoints
            self.jacobian = nn.Conv2d(features, 4 * num_maps, 7)
            nn.init.zeros_(self.jacobian.weight)
            assert self.jacobian.bias is not None
            with torch.no_grad():
                self.jacobian.bias.copy_(torch.tensor([1.0, 0, 0, 1]).repeat(num_maps))

    def forward(self, image: Tensor) -> Keypoints:
        """image: B C H W in [0, 1]."""
        return self.locate(self.hourglass(self.downsample(image)))

    def each(self, *images: Tensor) -> list[Keypoints]:
        """The same of several batches of one size, B C H W each, as if one after the other."""
        small = self.downsample(torch.cat(images))
        found = self.locate(self.hourglass(small, len(images)))
        values = found.value.chunk(len(images))
        if found.jacobian is None:
            return [Keypoints(value, None) for value in values]
        jacobians = found.jacobian.chunk(len(images))
        return [Keypoints(*pair) for pair in zip(values, jacobians, strict=True)]

    def locate(self, features: Tensor) -> Keypoints:
        """From the hourglass's output, B F h w, to keypoints: means over a soft map of each."""
        logits, maps = convolved_by_both(self.heatmap, self.jacobian, features)
        logits, maps = in_full(logits), None if maps is None else in_full(maps)
        with full_precision(logits):
            heat = (logits.flatten(2) / self.temperature).softmax(dim=2).view_as(logits)
            grid = coordinate_grid(logits.shape[2], logits.shape[3], like=heat)
            value = torch.einsum("bkhw,hwc->bkc", heat, grid)
            if maps is None:
                return Keypoints(value, None)
            maps = maps.view(len(maps), -1, 4, *logits.shape[2:])
            maps = maps.expand(-1, heat.shape[1], -1, -1, -1)
            jacobian = torch.einsum("bkhw,bkjhw->bkj", heat, maps)
        return Keypoints(value, jacobian.unflatten(2, (2, 2)))


def gaussian_maps(value: Tensor, height: int, width: int, *, variance: float = VARIANCE) -> Tensor:
    """A Gaussian of height 1 around each keypoint. value: B K 2; returns B K H W."""
    grid = coordinate_grid(height, width, like=value)
    squared = (grid - value[:, :, None, None]).square().sum(-1)
    return torch.exp(-0.5 * squared / variance)


def inverse_2x2(matrix: Tensor) -> Tensor:
    """Inverse in closed form, ... 2 2, in float32 at least.

    A matrix that folds the plane onto a line has no inverse; its determinant is kept away from 0 so
    that a single bad keypoint of a batch does not end a training.
    """
    dtype = torch.promote_types(matrix.dtype, torch.float32)
    a, b, c, d = matrix.to(dtype).flatten(-2).unbind(-1)
    determinant = a * d - b * c
    smallest = torch.finfo(dtype).tiny ** 0.5
    safe = torch.where(
        determinant.abs() < smallest, torch.full_like(determinant, smallest), determinant
    )
    adjugate = torch.stack([d, -b, -c, a], dim=-1).unflatten(-1, (2, 2))
    return adjugate / safe[..., None, None]


def transfer_motion(
    source: Keypoints,
    driving: Keypoints,
    first: Keypoints,
    *,
    adapt_scale: bool = False,
    relative_movement: bool = True,
    relative_jacobian: bool = True,
) -> Keypoints:
    """Where the source's keypoints go when they move like the driving video's.

    source: of the image.  driving: of the frames, any number.  first: of the frame that looks like
    the source image; both with batch size 1.  Without relative_movement the driving keypoints
    themselves are used.  adapt_scale: moves are scaled by the sizes of the two, measured as the
    area of the hull of the keypoints.
    """
    if not relative_movement:
        return driving
    scale = (
        hull_area(source.value[0]) ** 0.5 / hull_area(first.value[0]) ** 0.5 if adapt_scale else 1.0
    )
    value = (driving.value - first.value) * scale + source.value
    jacobian = driving.jacobian
    if relative_jacobian and jacobian is not None:
        assert source.jacobian is not None and first.jacobian is not None
        jacobian = jacobian @ inverse_2x2(first.jacobian) @ source.jacobian
    return Keypoints(value, jacobian)


def hull_area(points: Tensor) -> float:
    """Area of the convex hull of points, N 2."""
    ordered = sorted(map(tuple, points.detach().double().cpu().tolist()))
    hull = [*_half_hull(ordered)[:-1], *_half_hull(ordered[::-1])[:-1]]
    following = [*hull[1:], *hull[:1]]
    twice = sum(
        x * next_y - y * next_x for (x, y), (next_x, next_y) in zip(hull, following, strict=True)
    )
    return abs(twice) / 2


def _half_hull(points: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """One side of the hull of points that are sorted along x (Andrew's monotone chain)."""
    chain: list[tuple[float, ...]] = []
    for point in points:
        while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
            chain.pop()
        chain.append(point)
    return chain


def _turn(a: tuple[float, ...], b: tuple[float, ...], c: tuple[float, ...]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
