from __future__ import annotations

import numpy as np
import pytest

from pipelines.shape_pose.part_crops import crop_parts, part_transforms, perspective
from pipelines.shape_pose.skeletons import SKELETONS

SIZE, PART = 256, 64
SKELETON = SKELETONS["deepfashion"]


def _joints() -> np.ndarray:
    return np.random.default_rng(3).uniform(40, 216, (18, 2))


def test_a_perspective_maps_each_corner_to_its_target() -> None:
    rng = np.random.default_rng(0)
    source = np.array([(0, 0), (9, 1), (8, 7), (1, 9)]) + rng.normal(0, 0.3, (4, 2))
    target = np.array([(0, 0), (64, 0), (64, 64), (0, 64)], float)
    matrix = perspective(source, target)
    assert matrix is not None and matrix[2, 2] == 1
    mapped = np.c_[source, np.ones(4)] @ matrix.T
    assert np.allclose(mapped[:, :2] / mapped[:, 2:], target)


def test_points_on_one_line_have_no_perspective() -> None:
    line = np.array([(0, 0), (1, 1), (2, 2), (3, 3)], float)
    assert perspective(line, np.array([(0, 0), (1, 0), (1, 1), (0, 1)], float)) is None


def test_limbs_run_from_top_to_bottom_of_their_crops() -> None:
    joints = _joints()
    transforms = part_transforms(joints, skeleton=SKELETON, size_px=SIZE, part_px=PART)
    for part, transform in zip(SKELETON.parts[2:], transforms[2:], strict=True):
        assert transform is not None
        ends = np.c_[joints[list(part.joints)], np.ones(2)] @ transform.T
        ends = ends[:, :2] / ends[:, 2:]
        assert np.allclose(ends, [(-1, 31), (63, 31)], atol=1) or np.allclose(
            ends, [(31, -1), (31, 63)], atol=1
        )


def test_parts_that_are_not_seen_are_black() -> None:
    joints = _joints()
    joints[[2, 3, 4]] = -SIZE
    transforms = part_transforms(joints, skeleton=SKELETON, size_px=SIZE, part_px=PART)
    is_there = [transform is not None for transform in transforms]
    assert is_there == [False, False, False, False, *[True] * 6]
    image = np.full((SIZE, SIZE, 3), 200, np.uint8)
    crops = crop_parts(image, transforms, PART)
    assert crops.shape == (10, PART, PART, 3)
    assert [bool(crop.any()) for crop in crops] == is_there
    assert (crops[4:] == 200).all()


@pytest.mark.parametrize("missing", [0, 14])
def test_without_a_head_the_place_above_the_shoulders_is_taken(missing: int) -> None:
    joints = _joints()
    joints[2], joints[5] = (150, 100), (100, 100)
    joints[missing] = -SIZE
    head = part_transforms(joints, skeleton=SKELETON, size_px=SIZE, part_px=PART)[1]
    assert head is not None
    if missing == 0:
        corners = np.c_[[(100, 100), (150, 50)], np.ones(2)] @ head.T
        assert np.allclose(corners[:, :2] / corners[:, 2:], [(0, 0), (64, 64)], atol=1e-6)
