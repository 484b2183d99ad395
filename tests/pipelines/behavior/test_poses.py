from __future__ import annotations

import numpy as np
import pytest

from pipelines.behavior.poses import FIGURES, PoseScale
from pipelines.datasets.generate.skeleton import JOINT_NAMES


def test_poses_come_back_from_the_scale_they_are_learned_in() -> None:
    poses = np.random.default_rng(0).normal(3, 2, (40, 7, 5))
    poses[..., 2] = 4.0
    scale = PoseScale.of(poses.reshape(-1, 5))
    normalized = scale.normalize(poses)
    assert normalized.shape == (40, 7, 4)
    assert np.allclose(normalized.mean(axis=(0, 1)), 0) and np.allclose(normalized.std((0, 1)), 1)
    assert np.allclose(scale.restore(normalized), poses)


def test_a_constant_dimension_can_stay_so_that_a_pose_keeps_its_size() -> None:
    poses = np.random.default_rng(0).normal(3, 2, (40, 5))
    poses[:, 2] = 4.0
    scale = PoseScale.of(poses, keeps_constant=True)
    normalized = scale.normalize(poses)
    assert normalized.shape == (40, 5) and not normalized[:, 2].any()
    assert np.allclose(scale.restore(normalized), poses)
    again = PoseScale.stored(scale.mean, scale.std)
    assert np.array_equal(again.normalize(poses), normalized)


@pytest.mark.parametrize("num_joints", FIGURES)
def test_a_figure_joins_all_joints_and_pairs_right_with_left(num_joints: int) -> None:
    figure = FIGURES[num_joints]
    lines = figure.right + figure.left + figure.middle
    reached = {0}
    for _ in lines:
        reached |= {b for a, b in lines if a in reached} | {a for a, b in lines if b in reached}
    assert reached == set(range(num_joints))
    if num_joints == len(JOINT_NAMES):
        for right, left in figure.limbs:
            names = [[JOINT_NAMES[j] for j in line] for line in (right, left)]
            assert [n.replace("right", "left") for n in names[0]] == names[1]
