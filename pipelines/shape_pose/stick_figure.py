"""A posture as a picture: the filled body, right and left limbs, head and face in channels."""

from __future__ import annotations

import numpy as np

from pipelines.shape_pose.raster import Point, draw_line, fill_polygon
from pipelines.shape_pose.skeletons import Line, Skeleton

BODY_LEVELS = (0, 127, 255)
HEAD_LEVEL = 127
MIN_BODY_CORNERS = 3


def stick_figure(joints: np.ndarray, size_px: int, *, skeleton: Skeleton) -> np.ndarray:
    """The stick figure of one posture: uint8 S S 3.

    joints: J 2, pixels of the picture, x then y; a negative coordinate means not seen.
    """
    picture = np.zeros((size_px, size_px, 3), np.uint8)
    is_seen = np.all(joints >= 0, axis=1)
    places = [(int(x), int(y)) for x, y in joints.tolist()]
    corners = [places[number] for number in skeleton.body if is_seen[number]]
    if len(corners) >= MIN_BODY_CORNERS:
        mask = np.zeros((size_px, size_px), bool)
        fill_polygon(mask, np.array(corners))
        picture[mask] = BODY_LEVELS
    for lines, channels, level in (
        (skeleton.right, (1,), 255),
        (skeleton.left, (0,), 255),
    ):
        segments = _segments(lines, places, is_seen)
        _draw(picture, segments, channels, level)
    head = _segments(skeleton.head, places, is_seen) or _neck(skeleton, joints, is_seen)
    _draw(picture, head, (0, 1), HEAD_LEVEL)
    longest = max((_length(*segment) for segment in head), default=0.0)
    face = [s for s in _segments(skeleton.face, places, is_seen) if _length(*s) < longest]
    _draw(picture, face, (0, 1), HEAD_LEVEL)
    return picture


Segment = tuple[Point, Point]


def _segments(lines: tuple[Line, ...], places: list[Point], is_seen: np.ndarray) -> list[Segment]:
    """The lines of which both ends are seen."""
    return [(places[a], places[b]) for a, b in lines if is_seen[a] and is_seen[b]]


def _neck(skeleton: Skeleton, joints: np.ndarray, is_seen: np.ndarray) -> list[Segment]:
    """From the middle of the shoulders to the head, where there are no lines for the head."""
    if skeleton.neck is None or not all(is_seen[number] for number in skeleton.neck):
        return []
    right, left, head = (joints[number] for number in skeleton.neck)
    middle = (right + left) / 2
    return [((int(middle[0]), int(middle[1])), (int(head[0]), int(head[1])))]


def _length(first: Point, last: Point) -> float:
    return float(np.hypot(last[0] - first[0], last[1] - first[1]))


def _draw(
    picture: np.ndarray, segments: list[Segment], channels: tuple[int, ...], level: int
) -> None:
    mask = np.zeros(picture.shape[:2], bool)
    for first, last in segments:
        draw_line(mask, first, last)
    for channel in channels:
        picture[mask, channel] = level
