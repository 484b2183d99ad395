from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from pipelines.datasets.synthetic import FIRST_INDEX, simulate
from pipelines.poke.aim import Aim
from pipelines.poke.following import plant_trials, psnr, shift, summary


class Simulator:
    """A model that is always right: it finds out which plant it is shown and asks it."""

    def __call__(self, picture: np.ndarray, aims: Sequence[Aim]) -> np.ndarray:
        (aim,) = aims
        for index in range(FIRST_INDEX["test"], FIRST_INDEX["test"] + 20):
            poke = (aim.column + 0.25, aim.row + 0.25, aim.dx, aim.dy)
            clip = simulate("plant", index, poke=poke, num_frames=11, with_truth=False)
            if np.array_equal(clip.frames[0], picture):
                return clip.frames[1:]
        raise AssertionError("an unknown plant")


def still(picture: np.ndarray, aims: Sequence[Aim]) -> np.ndarray:
    return np.repeat(picture[None], 10, axis=0)


@pytest.mark.parametrize("vector", [(0, 0), (5, -3), (-12, 7)])
def test_a_moved_patch_is_found_where_it_went(vector):
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    moved = np.roll(picture, (vector[1], vector[0]), (0, 1))
    assert shift(picture, moved, 30, 32) == pytest.approx(vector, abs=0.3)


def test_the_simulator_itself_follows_every_poke_and_a_still_video_none():
    right = summary(list(plant_trials(Simulator(), count=4, lag=10, frame_step=1)))
    assert right["poke_cosine"] > 0.8
    assert right["end_point_error"] < 0.5 * right["still_end_point_error"]
    assert right["opposite_cosine"] < -0.3
    assert right["background_share"] < 0.1
    assert right["gain_db"] > 10 and right["still_db"] > 50
    wrong = summary(list(plant_trials(still, count=4, lag=10, frame_step=1)))
    assert abs(wrong["poke_cosine"]) < 0.5
    assert wrong["end_point_error"] > 0.8 * wrong["still_end_point_error"]
    assert wrong["gain_db"] == pytest.approx(0)


def test_a_longer_poke_is_answered_by_more_motion_of_the_simulator():
    means = []
    for length in (2.5, 7.5):
        trials = plant_trials(still, count=4, lag=10, frame_step=1, length_px=length)
        means.append(np.mean([math.hypot(*trial.true) for trial in trials]))
    assert means[1] > 1.2 * means[0]  # a stiff leaf cannot go as far as it is asked to


def test_psnr_counts_the_region_alone():
    real = np.zeros((2, 8, 8, 3), np.uint8)
    made = real.copy()
    made[:, 4:] = 255
    region = np.zeros((8, 8), bool)
    region[:4] = True
    assert psnr(real, made, region) > 60 and psnr(real, made, ~region) == pytest.approx(0)
