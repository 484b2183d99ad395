"""Lines and filled polygons as OpenCV draws them (8-connected, no antialias), without OpenCV.

The published stick figures are drawn by it, and the networks have learned its very pixels: equal
inside the picture; the border of a polygon that reaches out of it may differ by a pixel, as it does
between OpenCV's own versions. Points are whole pixels, x then y; masks are bool H W.
"""

from __future__ import annotations

import numpy as np

_ONE = 1 << 16
"""Fixed point: the unit in which polygon borders are followed."""

Point = tuple[int, int]


def draw_line(mask: np.ndarray, first: Point, last: Point) -> None:
    """Set the pixels of a line in a mask."""
    clipped = _clipped(first, last, mask.shape[1] - 1, mask.shape[0] - 1)
    if clipped is None:
        return
    (x, y), (x_end, y_end) = sorted(clipped, key=lambda point: point[0])
    if clipped[0][0] == clipped[1][0]:
        (x, y), (x_end, y_end) = clipped
    across, down = x_end - x, abs(y_end - y)
    step = 1 if y_end >= y else -1
    long, short = max(across, down), min(across, down)
    places = np.arange(long + 1)
    # A step aside is taken when the line has moved aside by more than half a pixel.
    aside = np.zeros(1, int) if not long else (2 * short * places + long - 1) // (2 * long)
    if across >= down:
        mask[y + step * aside, x + places] = True
    else:
        mask[y + step * places, x + aside] = True


def fill_polygon(mask: np.ndarray, corners: np.ndarray) -> None:
    """Set the pixels of a polygon and of its border in a mask; even-odd where it crosses itself.

    corners: int N 2.
    """
    following = np.roll(corners, -1, axis=0)
    for first, last in zip(corners.tolist(), following.tolist(), strict=True):
        draw_line(mask, (first[0], first[1]), (last[0], last[1]))
    is_up = corners[:, 1] > following[:, 1]
    top = np.where(is_up[:, None], following, corners).astype(np.int64)
    bottom = np.where(is_up[:, None], corners, following).astype(np.int64)
    slanted = top[:, 1] < bottom[:, 1]
    if not slanted.any():
        return
    top, bottom = top[slanted], bottom[slanted]
    run = (bottom[:, 0] - top[:, 0]) * _ONE
    rise = bottom[:, 1] - top[:, 1]
    slope = np.sign(run) * (np.abs(run) // rise)
    y = np.arange(mask.shape[0])[:, None]
    is_met = (top[:, 1] <= y) & (y < bottom[:, 1])
    x = top[:, 0] * _ONE + slope * (y - top[:, 1])
    borders = np.sort(np.where(is_met, x, np.iinfo(np.int64).max), axis=1)
    columns = np.arange(mask.shape[1])
    for left, right in zip(borders[:, 0::2].T, borders[:, 1::2].T, strict=False):
        has_both = right < np.iinfo(np.int64).max
        from_x = -(-left // _ONE)
        to_x = right // _ONE
        inside = (columns >= from_x[:, None]) & (columns <= to_x[:, None])
        mask |= inside & has_both[:, None]


def _clipped(first: Point, last: Point, right: int, bottom: int) -> tuple[Point, Point] | None:
    """The part of a line inside the picture, with ends in whole pixels; None if there is none."""
    ends = [list(first), list(last)]
    for axis, limit in ((1, bottom), (0, right)):
        if all(end[axis] < 0 for end in ends) or all(end[axis] > limit for end in ends):
            return None
        for end, other in (ends, ends[::-1]):
            at = min(max(end[axis], 0), limit)
            if at != end[axis]:
                slope = (other[1 - axis] - end[1 - axis]) / (other[axis] - end[axis])
                end[1 - axis] += int((at - end[axis]) * slope)
                end[axis] = at
    if any(not 0 <= end[0] <= right or not 0 <= end[1] <= bottom for end in ends):
        return None
    return (ends[0][0], ends[0][1]), (ends[1][0], ends[1][1])
