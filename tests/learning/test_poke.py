"""It learns: the poked leaf of a plant never seen goes where it is poked, and nothing else does.

One run is shared, of the preset `demo` on generated plants with their true motion: about ten
minutes on two CPU cores in full, two in the short form. The truth is the simulator's own answer to
the same poke (pipelines/poke/following.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from pipelines.poke.following import Trial, summary
from tests.learning import poke_world, results
from tests.learning.results import Findings

FAMILY = "poke"


class Wanted(NamedTuple):
    """After how many steps of one training, and what. Cosines, shares of the leaf's motion, dB."""

    max_steps: int
    num_trials: int
    cosine: float
    opposite: float
    background: float
    unpoked: float
    gain_db: float


NUM_VIDEOS, NUM_STEPS = 1600, 1600
FULL = Wanted(NUM_STEPS, 40, cosine=0.8, opposite=0.0, background=0.1, unpoked=0.1, gain_db=2.0)
SHORT = Wanted(500, 24, cosine=0.5, opposite=0.3, background=0.1, unpoked=0.1, gain_db=1.5)
"""The short form ends the same training early, before its learning rate falls."""


@pytest.fixture(scope="module")
def wanted() -> Wanted:
    return FULL if results.is_full() else SHORT


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, findings: Findings, wanted: Wanted) -> Path:
    root = tmp_path_factory.mktemp("poke")
    poke_world.prepare(root / "data", num_videos=NUM_VIDEOS)
    settings = poke_world.settings(NUM_VIDEOS, NUM_STEPS)
    quiet = poke_world.Quiet()
    return poke_world.train_run(root, "run", settings, quiet, max_steps=wanted.max_steps)


@pytest.fixture(scope="module")
def trials(run: Path, wanted: Wanted) -> list[Trial]:
    """Pokes of plants that the training has not seen."""
    return poke_world.poke_plants(run, count=wanted.num_trials)


def test_the_poked_leaf_goes_where_it_is_poked(
    trials: list[Trial], findings: Findings, wanted: Wanted
) -> None:
    found = summary(trials)
    least = wanted.cosine
    findings.add(
        "direction of the poked leaf, mean cosine with the simulator's",
        f"{found['poke_cosine']:.2f}",
        f"{least:g}",
    )
    findings.add(
        "end-point error at the poked pixel, px (of a video that does not move)",
        f"{found['end_point_error']:.2f} ({found['still_end_point_error']:.2f})",
        "less",
    )
    assert found["poke_cosine"] >= least
    assert found["end_point_error"] < found["still_end_point_error"]


def test_the_answer_is_nearer_to_the_truth_than_a_still_video(
    trials: list[Trial], findings: Findings, wanted: Wanted
) -> None:
    gain = summary(trials)["gain_db"]
    findings.add(
        "PSNR over a still video, on the poked leaf's region, dB",
        f"{gain:.1f}",
        f"{wanted.gain_db:g}",
    )
    assert gain >= wanted.gain_db


def test_the_background_stays(trials: list[Trial], findings: Findings, wanted: Wanted) -> None:
    share = summary(trials)["background_share"]
    most = wanted.background
    findings.add(
        "motion of the background over the poked leaf's", f"{share:.3f}", f"under {most:g}"
    )
    assert share < most


def test_opposite_pokes_give_opposite_motion(
    trials: list[Trial], findings: Findings, wanted: Wanted
) -> None:
    cosine = summary(trials)["opposite_cosine"]
    findings.add(
        "answers to a poke and its opposite, mean cosine",
        f"{cosine:.2f}",
        f"under {wanted.opposite:g}",
    )
    assert cosine < wanted.opposite


def test_no_poke_gives_a_still_video(
    trials: list[Trial], findings: Findings, wanted: Wanted
) -> None:
    share = summary(trials)["unpoked_share"]
    most = wanted.unpoked
    findings.add(
        "motion of the leaf without a poke over that with it", f"{share:.3f}", f"under {most:g}"
    )
    assert share < most
