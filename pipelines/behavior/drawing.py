"""Poses as pictures: from the room onto a picture, and skeletons drawn there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from pipelines.behavior.poses import FIGURES, Line
from pipelines.datasets.h36m_camera import Camera, project

_AXES = {"front": (0, 2), "side": (1, 2), "above": (0, 1)}
"""What goes right and what goes up in the room as it is seen from there."""
_FILLS, _SMALLEST_M = 0.8, 1e-3
_MM_PER_M = 1000.0
_FINER = 3
_PAPER, _RIGHT, _LEFT, _MIDDLE = (250, 250, 248), (208, 74, 48), (34, 108, 168), (70, 70, 74)
_LINE_WIDTH, _JOINT_RADIUS = 0.014, 0.011


@dataclass(frozen=True)
class Look:
    """From poses to places in a picture, fractions of its width and height.

    camera: a real one.  view: else from far away, with `middle` and `extent`, metres, in sight.
    """

    camera: Camera | None
    view: str
    middle: np.ndarray
    extent: float

    def places(self, joints: np.ndarray) -> np.ndarray:
        """joints: ... J A, metres (A 3) or fractions already (A 2).  Returns ... J 2."""
        if joints.shape[-1] == 2:
            return joints
        if self.camera is not None:
            seen = project(joints * _MM_PER_M, self.camera.extrinsics, self.camera.intrinsics)[1]
            return np.asarray(seen / np.asarray(self.camera.size_px, np.float64))
        flat = (joints[..., _AXES[self.view]] - self.middle) / self.extent * _FILLS
        return np.asarray(flat * [1, -1] + 0.5)


def look_at(sequences: Sequence[np.ndarray], *, view: str, camera: Camera | None = None) -> Look:
    """A look that has all of some sequences, T J 3 each, in sight.

    view: front, side, above; or camera, which is the one given, where there is one.
    """
    if view == "camera" and camera is not None:
        return Look(camera, view, np.zeros(2), 1.0)
    view = "front" if view == "camera" else view
    if sequences[0].shape[-1] == 2:
        return Look(None, view, np.zeros(2), 1.0)
    points = np.concatenate([each[..., _AXES[view]].reshape(-1, 2) for each in sequences])
    low, high = points.min(axis=0), points.max(axis=0)
    return Look(None, view, (low + high) / 2, max(float((high - low).max()), _SMALLEST_M))


def draw_skeletons(places: np.ndarray, size_px: int) -> np.ndarray:
    """A video of a skeleton: right limbs red, left ones blue. uint8 T S S 3.

    places: T J 2, fractions of the picture.
    """
    return np.stack([_draw(each, size_px) for each in places])


def _draw(places: np.ndarray, size_px: int) -> np.ndarray:
    fine = size_px * _FINER
    picture = Image.new("RGB", (fine, fine), _PAPER)
    pen = ImageDraw.Draw(picture)
    points = [(float(x), float(y)) for x, y in np.clip(places * fine, -fine, 2 * fine)]
    figure = FIGURES.get(len(points))
    width = max(1, round(_LINE_WIDTH * fine))
    groups: list[tuple[tuple[Line, ...], tuple[int, int, int]]] = []
    if figure is not None:
        groups = [(figure.left, _LEFT), (figure.middle, _MIDDLE), (figure.right, _RIGHT)]
    for lines, color in groups:
        for first, last in lines:
            pen.line([points[first], points[last]], fill=color, width=width)
    radius = _JOINT_RADIUS * fine
    for x, y in points:
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=_MIDDLE)
    return np.asarray(picture.resize((size_px, size_px), Image.Resampling.BOX))
