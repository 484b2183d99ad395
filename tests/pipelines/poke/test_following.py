from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from pipelines.datasets.synthetic import FIRST_INDEX, generate, simulate
from pipelines.poke.aim import Aim
from pipelines.poke.following import patch_shift, plant_trials, psnr, summary
from pipelines.poke.template import follow

LAG = 3


class Simulator:
    """A model that is always right: it finds out which plant it is shown and asks it."""

    def __call__(self, picture: np.ndarray, aims: Sequence[Aim]) -> np.ndarray:
        (aim,) = aims
        for index in range(FIRST_INDEX["test"], FIRST_INDEX["test"] + 20):
            poke = (aim.column + 0.25, aim.row + 0.25, aim.dx, aim.dy)
            clip = simulate(
                "plant", index, poke=poke, lag=LAG, num_frames=LAG + 1, with_truth=False
            )
            if np.array_equal(clip.frames[0], picture):
                return clip.frames[1:]
        raise AssertionError("an unknown plant")


def still(picture: np.ndarray, aims: Sequence[Aim]) -> np.ndarray:
    return np.repeat(picture[None], LAG, axis=0)


@pytest.mark.parametrize("vector", [(0, 0), (4, -3), (-3, 1)])
def test_a_moved_patch_is_found_where_it_went(vector):
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    moved = np.roll(picture, (vector[1], vector[0]), (0, 1))
    assert patch_shift(picture, moved, 30, 32) == vector


@pytest.mark.parametrize("way", [(4.5, -3.0), (-5.0, 2.0), (0.0, 0.0)])
def test_a_part_is_followed_over_several_frames_farther_than_one_search_reaches(way):
    noise = np.random.default_rng(1)
    behind, part = (noise.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(2))
    mask = np.zeros((64, 64), bool)
    mask[26:38, 28:36] = True
    steps = [np.rint(np.array(way) * t).astype(int) for t in range(4)]
    picture, *video = (
        np.where(np.roll(mask, (y, x), (0, 1))[..., None], np.roll(part, (y, x), (0, 1)), behind)
        for x, y in steps
    )
    found = follow(picture, np.stack(video), mask, column=31, row=31)
    assert found == pytest.approx(tuple(steps[-1]), abs=0.5)


def test_a_leaf_of_a_real_answer_is_found_where_the_truth_says():
    errors = []
    for index in range(12):
        clip = generate("plant", index, num_frames=LAG + 1)
        column, row = (int(64 * each) for each in clip.labels["poke"][:2])  # type: ignore[index]
        if not (0 <= column < 64 and 0 <= row < 64):
            continue
        leaf = clip.maps["mask"][0] == clip.maps["mask"][0, row, column]
        found = follow(clip.frames[0], clip.frames[1:], leaf, column=column, row=row)
        true = clip.extra["flow_from_start"][LAG - 1][:, row, column]
        errors.append(math.dist(found, true))
    assert np.median(errors) < 1


def test_the_simulator_itself_follows_every_poke_and_a_still_video_none():
    right = summary(list(plant_trials(Simulator(), count=4, lag=LAG, frame_step=1)))
    assert right["poke_cosine"] > 0.95
    assert right["end_point_error"] < 0.3 * right["still_end_point_error"]
    assert right["opposite_cosine"] < -0.5
    assert right["background_share"] < 0.05 and right["unpoked_share"] < 0.05
    assert right["gain_db"] > 10
    wrong = summary(list(plant_trials(still, count=4, lag=LAG, frame_step=1)))
    assert abs(wrong["poke_cosine"]) < 0.5
    assert wrong["end_point_error"] > 0.9 * wrong["still_end_point_error"]
    assert wrong["gain_db"] == pytest.approx(0)


def test_a_longer_poke_is_answered_by_more_motion_of_the_simulator():
    means = []
    for length in (3, 9):
        trials = plant_trials(still, count=4, lag=LAG, frame_step=1, length_px=length)
        means.append(np.mean([math.hypot(*trial.true) for trial in trials]))
    assert means[1] > 1.5 * means[0]


def test_psnr_counts_the_region_alone():
    real = np.zeros((2, 8, 8, 3), np.uint8)
    made = real.copy()
    made[:, 4:] = 255
    region = np.zeros((8, 8), bool)
    region[:4] = True
    assert psnr(real, made, region) > 60 and psnr(real, made, ~region) == pytest.approx(0)
