from __future__ import annotations

import numpy as np
import pytest

from pipelines.shape_pose.raster import draw_line, fill_polygon
from pipelines.shape_pose.skeletons import SKELETONS
from pipelines.shape_pose.stick_figure import stick_figure


def _standing(size_px: int = 64) -> np.ndarray:
    """Human3.6M joints of somebody who faces the camera."""
    across = [24, 24, 24, 40, 40, 40, 32, 32, 32, 32, 32, 42, 48, 52, 22, 16, 12]
    down = [36, 46, 58, 36, 46, 58, 34, 26, 18, 13, 8, 20, 28, 34, 20, 28, 34]
    return np.stack([across, down], axis=1).astype(float) * size_px / 64


@pytest.mark.parametrize("end", [(9, 4), (4, 9), (0, 4), (4, 0), (9, 9), (4, 4), (0, 9)])
def test_a_line_is_connected_and_reaches_both_ends(end: tuple[int, int]) -> None:
    mask = np.zeros((10, 10), bool)
    draw_line(mask, (4, 4), end)
    assert mask[4, 4] and mask[end[1], end[0]]
    assert mask.sum() == max(abs(end[0] - 4), abs(end[1] - 4)) + 1


def test_a_line_from_outside_is_cut_at_the_border() -> None:
    mask = np.zeros((10, 10), bool)
    draw_line(mask, (-5, 5), (20, 5))
    assert mask[5].all() and mask.sum() == 10
    draw_line(mask, (-5, -5), (-1, 20))
    assert mask.sum() == 10


def test_a_polygon_is_filled_with_its_border() -> None:
    mask = np.zeros((10, 10), bool)
    fill_polygon(mask, np.array([(2, 3), (7, 3), (7, 8), (2, 8)]))
    expected = np.zeros((10, 10), bool)
    expected[3:9, 2:8] = True
    assert np.array_equal(mask, expected)


def test_sides_of_the_body_have_channels_of_their_own() -> None:
    figure = stick_figure(_standing(), 64, skeleton=SKELETONS["human36m"])
    assert figure.shape == (64, 64, 3) and figure.dtype == np.uint8
    assert tuple(figure[52, 24]) == (0, 255, 0)  # right leg
    assert tuple(figure[52, 40]) == (255, 0, 0)  # left leg
    assert tuple(figure[28, 30]) == (0, 127, 255)  # body
    assert tuple(figure[10, 32]) == (127, 127, 0)  # head
    assert not figure[:5].any()


def test_joints_that_are_not_seen_take_their_lines_with_them() -> None:
    skeleton = SKELETONS["human36m"]
    joints = _standing()
    joints[2] = -1
    figure = stick_figure(joints, 64, skeleton=skeleton)
    assert not figure[52, 24].any() and figure[40, 24].any()
    assert not stick_figure(np.full((17, 2), -1.0), 64, skeleton=skeleton).any()


def test_a_larger_picture_shows_the_same_posture() -> None:
    skeleton = SKELETONS["human36m"]
    small, large = (stick_figure(_standing(size), size, skeleton=skeleton) for size in (64, 128))
    filled = [np.mean(each[..., 2] > 0) for each in (small, large)]
    assert filled[0] == pytest.approx(filled[1], rel=0.15)
