"""It learns: control brings the arm to its endpoint, skies drift both ways, motion is transferred.

One run of the family is shared: stage 1 and the image autoencoder see arm and skies, and three
flows are built on them. About 20 minutes on two CPU cores. Every number is measured on clips that
no stage has seen.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from pipelines.io.packed import PackedVideos
from tests.learning import cinn_world, results
from tests.learning.cinn_measured import (
    ControlResult,
    Quiet,
    measure_control,
    measure_drift_of_samples,
    measure_transfer,
)
from tests.learning.measures import effector_place, horizontal_drift

STEPS = cinn_world.Steps(stage1=3000, ae=400, flow=800)
FACTOR, SHARE_OF_EACH_SIDE, CORRELATION = 2.0, 0.1, 0.5
_STILL = 0.005  # drift below which a sample goes neither way, frame widths per frame


@dataclass
class World:
    """A trained world, and the rows of the table that the tests leave behind."""

    root: Path
    videos: PackedVideos
    rows: list[tuple[str, str, str]] = field(default_factory=list)

    def run(self, name: str) -> Path:
        return self.root / "runs" / name


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    started = time.monotonic()
    root = tmp_path_factory.mktemp("cinn")
    videos = PackedVideos(cinn_world.prepare(root / "data", num_videos=256))
    cinn_world.train_all(root, STEPS, Quiet())
    found = World(root, videos)
    yield found
    results.record("cinn", found.rows, minutes=(time.monotonic() - started) / 60)


def test_the_measures_find_what_the_data_says(world: World) -> None:
    """On real frames, whose truth is known: the numbers below rest on it."""
    places, drifts = world.videos.extra("endeffector_pos"), []
    errors = []
    for row in world.videos.select("test", ["arm/*"])[:16]:
        frame, place = world.videos.frames(row, 8, 1)[0], places(row, 8, 1)[0, :2]
        errors.append(float(np.hypot(*(effector_place(frame) - place))))
    for row in world.videos.select("test", ["clouds/*"])[:16]:
        velocity = world.videos.rows[row].labels["velocity"][0]  # type: ignore[index]
        drifts.append((horizontal_drift(world.videos.frames(row, 0, 9)), velocity))
    assert np.median(errors) < 0.03
    assert np.corrcoef(np.array(drifts).T)[0, 1] > 0.9


def test_control_brings_the_effector_nearer_to_the_asked_endpoint(world: World) -> None:
    found: ControlResult = measure_control(
        world.videos, controlled_run=world.run("arm-control"), free_run=world.run("arm")
    )
    world.rows.append(
        (
            "effector to asked endpoint, uncontrolled over controlled (32 clips)",
            f"{found.factor:.2f} ({found.uncontrolled.mean():.3f} / "
            f"{found.controlled.mean():.3f} of the frame)",
            f"{FACTOR:g}",
        )
    )
    assert found.factor >= FACTOR


def test_samples_of_one_sky_drift_both_ways(world: World) -> None:
    drifts = measure_drift_of_samples(world.videos, world.run("clouds"))
    left, right = float((drifts < -_STILL).mean()), float((drifts > _STILL).mean())
    world.rows.append(
        (
            "64 samples of one sky: share that drifts left, right",
            f"{left:.2f}, {right:.2f}",
            f"{SHARE_OF_EACH_SIDE:g} each",
        )
    )
    assert min(left, right) >= SHARE_OF_EACH_SIDE


def test_transferred_motion_keeps_its_drift(world: World) -> None:
    theirs, ours = measure_transfer(world.videos, world.run("clouds"))
    correlation = float(np.corrcoef(theirs, ours)[0, 1])
    world.rows.append(
        (
            "transfer onto another sky: correlation of drifts, 32 pairs",
            f"{correlation:.2f}",
            f"{CORRELATION:g}",
        )
    )
    assert correlation >= CORRELATION
