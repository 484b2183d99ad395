"""Parts of a person cut out and turned upright (in-plane normalisation), for the appearance.

Every part is a quadrangle in the picture that a perspective matrix maps to a square; a part that is
not seen has no matrix, and its crop is black. Points are pixels, x right, y down.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.shape_pose.skeletons import Part, Skeleton

Quadrangle = np.ndarray
"""Four points, float64 4 2."""

_ROUND = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float64)
"""Corners of the square, in the order in which the body's joints go round."""
_ACROSS = np.array([(0, 0), (0, 1), (1, 1), (1, 0)], np.float64)
"""Corners for head and limbs, which run from top to bottom."""


def part_transforms(
    joints: np.ndarray, *, skeleton: Skeleton, size_px: int, part_px: int
) -> list[np.ndarray | None]:
    """A matrix 3 3 from pixels of the picture to those of the part, or None, for each part.

    joints: J 2, pixels; negative means not seen.  size_px: of the picture.  part_px: of a crop.
    """
    points = np.asarray(joints, np.float64)
    found: list[np.ndarray | None] = []
    for part in skeleton.parts:
        source = _quadrangle(part, points, size_px)
        target = (_ROUND if part.kind == "body" else _ACROSS) * part_px
        if part.kind == "limb":
            target = target - 1
        found.append(None if source is None else perspective(source, target))
    return found


def crop_parts(
    image: np.ndarray, transforms: Sequence[np.ndarray | None], part_px: int
) -> np.ndarray:
    """The parts of an image: uint8 P S S 3 with S = part_px, missing parts black.

    image: uint8 H W 3.  transforms: as part_transforms gives them.
    """
    crops = np.zeros((len(transforms), part_px, part_px, 3), np.uint8)
    for crop, transform in zip(crops, transforms, strict=True):
        if transform is not None:
            crop[:] = _warped(image, transform, part_px)
    return crops


def perspective(source: Quadrangle, target: Quadrangle) -> np.ndarray | None:
    """The matrix 3 3, last entry 1, that maps four points to four others; None: there is none."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
        values += [u, v]
    try:
        solved = np.linalg.solve(np.array(rows), np.array(values))
    except np.linalg.LinAlgError:
        return None
    return np.append(solved, 1.0).reshape(3, 3)


def _quadrangle(part: Part, points: np.ndarray, size_px: int) -> Quadrangle | None:
    joints = points[list(part.joints)]
    if part.kind == "body":
        return joints if (joints >= 0).all() else None
    if part.kind == "head":
        return _head(joints[0], joints[1], joints[2])
    return _limb(joints[0], joints[1], size_px)


def _normal(segment: np.ndarray) -> np.ndarray:
    """The segment turned by a quarter, of the same length."""
    return np.array([-segment[1], segment[0]])


def _head(right: np.ndarray, left: np.ndarray, head: np.ndarray) -> Quadrangle | None:
    """Around the head along the neck, or above the shoulders where the head is not seen."""
    if min(right.min(), left.min()) < 0:
        return None
    if head.min() >= 0:
        neck = (right + left) / 2
        top = neck + 2 * (head - neck)
        aside = _normal(neck - top) / 2
        return np.stack([top - aside, neck - aside, neck + aside, top + aside])
    up = _normal(right - left)
    if up[1] > 0:
        up = -up
    return np.stack([left, right, right + up, left + up])


def _limb(first: np.ndarray, last: np.ndarray, size_px: int) -> Quadrangle | None:
    """Around a limb; from a single joint that is seen straight down to the border."""
    missing = [bool((joint <= 0).all()) for joint in (first, last)]
    if any(missing):
        seen = [joint for joint in (first, last) if (joint > 0).all()]
        if len(seen) != 1:
            return None
        first = seen[0]
        last = np.array([first[0], size_px - 1.0])
    aside = _normal(last - first) / 4
    return np.stack([first + aside, first - aside, last - aside, last + aside])


def _warped(image: np.ndarray, transform: np.ndarray, part_px: int) -> np.ndarray:
    """Bilinear, the border repeated beyond it."""
    back = np.linalg.inv(transform)
    y, x = np.mgrid[:part_px, :part_px]
    places = np.stack([x, y, np.ones_like(x)], axis=-1) @ back.T
    with np.errstate(divide="ignore", invalid="ignore"):
        source = np.nan_to_num(places[..., :2] / places[..., 2:], posinf=0, neginf=0)
    height, width = image.shape[:2]
    column = np.clip(source[..., 0], 0, width - 1)
    row = np.clip(source[..., 1], 0, height - 1)
    left, top = column.astype(int), row.astype(int)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    across, down = (column - left)[..., None], (row - top)[..., None]
    upper = image[top, left] * (1 - across) + image[top, right] * across
    lower = image[bottom, left] * (1 - across) + image[bottom, right] * across
    return np.round(upper * (1 - down) + lower * down).astype(np.uint8)
