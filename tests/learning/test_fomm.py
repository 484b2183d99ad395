"""It learns: videos are made again from their first frames, and keypoints follow what moves.

One model for robot arms and, in the full form, one for bouncing digits; about 12 minutes on two CPU
cores. The short form trains the first for 2 minutes. All videos that are measured are unseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.io.packed import PackedVideos
from tests.learning import fomm_world, results
from tests.learning.fomm_measured import Quiet, measure_following, measure_reconstruction
from tests.learning.results import Findings

FAMILY = "fomm"
KINDS = fomm_world.KINDS if results.is_full() else fomm_world.KINDS[:1]
NUM_STEPS = {"arm": 600 if results.is_full() else 350, "moving_digits": 1500}
GAIN_DB = 3.0
CORRELATION = {"arm": 0.8, "moving_digits": 0.7}
"""Digits are any two of ten and cross each other; links are always the same two."""


@dataclass
class World:
    """A trained world: prepared videos, and a run for each kind."""

    videos: PackedVideos
    runs: dict[str, Path]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, findings: Findings) -> World:
    root = findings.folder(tmp_path_factory)
    videos = PackedVideos(fomm_world.prepare(root / "data", num_videos=128, kinds=KINDS))
    runs = {
        kind: fomm_world.train_world(root, kind, max_steps=NUM_STEPS[kind], work=Quiet())
        for kind in KINDS
    }
    return World(videos, runs)


@pytest.mark.parametrize("kind", KINDS)
def test_reconstruction_is_far_better_than_a_picture_that_stands_still(
    world: World, findings: Findings, kind: str
) -> None:
    found = measure_reconstruction(world.videos, world.runs[kind], kind)
    findings.add(
        f"{kind}: PSNR of reconstruction over that of the first frame, dB (16 unseen videos)",
        f"{found.gain:.2f} ({found.made:.2f} / {found.static:.2f})",
        f"{GAIN_DB:g}",
    )
    assert found.gain >= GAIN_DB


@pytest.mark.parametrize("kind", KINDS)
def test_each_moving_part_has_a_keypoint_that_follows_it(
    world: World, findings: Findings, kind: str
) -> None:
    found = measure_following(world.videos, world.runs[kind], kind)
    findings.add(
        f"{kind}: correlation of a keypoint with {' and '.join(found)} (16 unseen videos)",
        " and ".join(f"{value:.2f}" for value in found.values()),
        f"{CORRELATION[kind]:g} each",
    )
    assert min(found.values()) >= CORRELATION[kind]
