"""It learns: control brings the arm to its endpoint, skies drift both ways, motion is transferred.

One trained world is shared: a stage 1 for arm and one for skies, an image autoencoder for both, and
three flows built on them. The short form trains the arm alone, and asks what shows early. Every
number is measured on clips that no stage has seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pipelines.io.packed import PackedVideos
from tests.learning import cinn_world
from tests.learning.cinn_measured import (
    ControlResult,
    Quiet,
    base_of_arm,
    measure_control,
    measure_drift_of_samples,
    measure_reconstruction,
    measure_transfer,
    measure_use_of_endpoints,
)
from tests.learning.measures import effector_place, horizontal_drift
from tests.learning.results import Findings, is_full

FAMILY = "cinn"
_STILL = 0.005  # drift below which a sample goes neither way, frame widths per frame


FULL = cinn_world.Steps(
    stage1={"arm": 3000, "clouds": 1000},
    ae=200,
    flow={"arm-control": 400, "arm": 400, "clouds": 500},
)
SHORT = cinn_world.Steps(stage1={"arm": 300}, ae=40, flow={"arm-control": 150})
FACTOR, SHARE_OF_EACH_SIDE, CORRELATION = 2.0, 0.1, 0.5

full_form = pytest.mark.skipif(not is_full(), reason="takes the training of 'make learn'")


@dataclass
class World:
    """A trained world."""

    root: Path
    videos: PackedVideos

    def run(self, name: str) -> Path:
        return self.root / "runs" / name


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, findings: Findings) -> World:
    root = findings.folder(tmp_path_factory)
    videos = PackedVideos(cinn_world.prepare(root / "data", num_videos=512 if is_full() else 256))
    cinn_world.train_all(
        root, FULL if is_full() else SHORT, Quiet(), threads=None if is_full() else 1
    )
    return World(root, videos)


def test_the_measures_find_what_the_data_says(world: World) -> None:
    """On real frames, whose truth is known: the numbers below rest on it."""
    places, drifts = world.videos.extra("endeffector_pos"), []
    errors = []
    for row in world.videos.select("test", ["arm/*"])[:16]:
        frame, place = world.videos.frames(row, 8, 1)[0], places(row, 8, 1)[0, :2]
        base = base_of_arm(world.videos, row)
        errors.append(float(np.hypot(*(effector_place(frame, base) - place))))
    for row in world.videos.select("test", ["clouds/*"])[:16]:
        velocity = world.videos.rows[row].labels["velocity"][0]  # type: ignore[index]
        drifts.append((horizontal_drift(world.videos.frames(row, 0, 9)), velocity))
    assert np.median(errors) < 0.03
    assert np.corrcoef(np.array(drifts).T)[0, 1] > 0.9


def test_codes_say_more_of_an_unseen_motion_than_a_still_image(
    world: World, findings: Findings
) -> None:
    gain, wanted = measure_reconstruction(world.videos, world.run("arm-control")), 1.2
    findings.add(
        "error of a still video over that of the reconstruction (32 arms)",
        f"{gain:.2f}",
        f"at least {wanted:g}",
    )
    assert gain >= wanted


def test_a_flow_uses_the_endpoint_it_is_told(world: World, findings: Findings) -> None:
    true, others = measure_use_of_endpoints(world.videos, world.run("arm-control"))
    findings.add(
        "loss of the controlled flow, told the clip's endpoint or another clip's",
        f"{true:.1f}, {others:.1f}",
        "at least 1 less",
    )
    assert true < others - 1


@full_form
def test_control_brings_the_effector_nearer_to_the_asked_endpoint(
    world: World, findings: Findings
) -> None:
    found: ControlResult = measure_control(
        world.videos, controlled_run=world.run("arm-control"), free_run=world.run("arm")
    )
    findings.add(
        "effector to asked endpoint, uncontrolled over controlled (32 clips)",
        f"{found.factor:.2f} ({found.uncontrolled.mean():.3f} / "
        f"{found.controlled.mean():.3f} of the frame)",
        f"at least {FACTOR:g}",
    )
    assert found.factor >= FACTOR


@full_form
def test_samples_of_one_sky_drift_both_ways(world: World, findings: Findings) -> None:
    drifts = measure_drift_of_samples(world.videos, world.run("clouds"))
    left, right = float((drifts < -_STILL).mean()), float((drifts > _STILL).mean())
    findings.add(
        "64 samples of one sky: share that drifts left, right",
        f"{left:.2f}, {right:.2f}",
        f"at least {SHARE_OF_EACH_SIDE:g} each",
    )
    assert min(left, right) >= SHARE_OF_EACH_SIDE


@full_form
def test_transferred_motion_keeps_its_drift(world: World, findings: Findings) -> None:
    theirs, ours = measure_transfer(world.videos, world.run("clouds"))
    correlation = float(np.corrcoef(theirs, ours)[0, 1])
    findings.add(
        "transfer onto another sky: correlation of drifts, 32 pairs",
        f"{correlation:.2f}",
        f"at least {CORRELATION:g}",
    )
    assert correlation >= CORRELATION
