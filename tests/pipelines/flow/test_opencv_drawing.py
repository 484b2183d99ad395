"""Our lines and polygons are OpenCV's, pixel for pixel; this is the environment that has OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipelines.shape_pose.raster import draw_line, fill_polygon

SIZE = 64


@pytest.mark.parametrize(("low", "high"), [(0, SIZE), (-40, 100)], ids=["inside", "across"])
def test_lines_are_those_of_opencv(low: int, high: int) -> None:
    for first, last in np.random.default_rng(0).integers(low, high, (3000, 2, 2)).tolist():
        ours, theirs = np.zeros((SIZE, SIZE), bool), np.zeros((SIZE, SIZE), np.uint8)
        draw_line(ours, tuple(first), tuple(last))
        cv2.line(theirs, tuple(first), tuple(last), 1)
        assert np.array_equal(ours, theirs > 0), (first, last)


@pytest.mark.parametrize("num_corners", [3, 4, 5])
def test_polygons_inside_the_picture_are_those_of_opencv(num_corners: int) -> None:
    for corners in np.random.default_rng(1).integers(0, SIZE, (500, num_corners, 2)):
        ours, theirs = np.zeros((SIZE, SIZE), bool), np.zeros((SIZE, SIZE), np.uint8)
        fill_polygon(ours, corners)
        cv2.fillPoly(theirs, [corners.astype(np.int32)], 1)
        assert np.array_equal(ours, theirs > 0), corners.tolist()
