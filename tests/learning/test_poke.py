"""It learns: the poked leaf of a plant never seen goes where it is poked, and nothing else does.

Runs of the preset `demo` on generated plants: with their true motion and, in the full form, with
the motion that DIS estimates, under five minutes of one CPU core each; the short form ends the
first one early. The truth is the simulator's own answer to the same poke
(pipelines/poke/following.py).
"""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import pytest

from pipelines.poke.following import Trial, summary
from pipelines.poke.simulated import LENGTHS_PX
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

WANTED = FULL if results.is_full() else SHORT
FLOWS = ("stored flow", "DIS flow") if results.is_full() else ("stored flow",)
full_form = pytest.mark.skipif(
    not results.is_full(), reason="takes the trainings of 'make learn': five minutes each"
)
CLEARLY = 0.85
"""Of the published variant's end-point error, the length-aware one's is at most so much."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, findings: Findings) -> Path:
    folder = findings.folder(tmp_path_factory)
    poke_world.prepare(folder / "data", num_videos=NUM_VIDEOS)
    return folder


def trained(root: Path, name: str, **changes: dict[str, object]) -> Path:
    settings = poke_world.settings(NUM_VIDEOS, NUM_STEPS, **changes)
    quiet = poke_world.Quiet()
    return poke_world.train_run(root, name, settings, quiet, max_steps=WANTED.max_steps)


@pytest.fixture(scope="module")
def run(root: Path) -> Path:
    return trained(root, "aware")


class Judged(NamedTuple):
    """Pokes of plants that a training on such flow has not seen."""

    flow: str
    trials: list[Trial]


@pytest.fixture(scope="module", params=FLOWS)
def judged(request: pytest.FixtureRequest, root: Path) -> Judged:
    if request.param == "DIS flow":
        poke_world.estimate_flow(root / "data")
        run = trained(root, "dis", clips={"flow_name": "dis"})
    else:
        run = request.getfixturevalue("run")
    return Judged(request.param, poke_world.poke_plants(run, count=WANTED.num_trials))


def test_the_poked_leaf_goes_where_it_is_poked(judged: Judged, findings: Findings) -> None:
    found = summary(judged.trials)
    findings.add(
        f"direction of the poked leaf, mean cosine with the simulator's, {judged.flow}",
        f"{found['poke_cosine']:.2f}",
        f"{WANTED.cosine:g}",
    )
    findings.add(
        f"end-point error at the poked pixel, px (of a video that does not move), {judged.flow}",
        f"{found['end_point_error']:.2f} ({found['still_end_point_error']:.2f})",
        "less",
    )
    assert found["poke_cosine"] >= WANTED.cosine
    assert found["end_point_error"] < found["still_end_point_error"]


def test_the_answer_is_nearer_to_the_truth_than_a_still_video(
    judged: Judged, findings: Findings
) -> None:
    gain = summary(judged.trials)["gain_db"]
    findings.add(
        f"PSNR over a still video, on the poked leaf's region, dB, {judged.flow}",
        f"{gain:.1f}",
        f"{WANTED.gain_db:g}",
    )
    assert gain >= WANTED.gain_db


def test_the_background_stays(judged: Judged, findings: Findings) -> None:
    share = summary(judged.trials)["background_share"]
    findings.add(
        f"motion of the background over the poked leaf's, {judged.flow}",
        f"{share:.3f}",
        f"under {WANTED.background:g}",
    )
    assert share < WANTED.background


def test_opposite_pokes_give_opposite_motion(judged: Judged, findings: Findings) -> None:
    cosine = summary(judged.trials)["opposite_cosine"]
    findings.add(
        f"answers to a poke and its opposite, mean cosine, {judged.flow}",
        f"{cosine:.2f}",
        f"under {WANTED.opposite:g}",
    )
    assert cosine < WANTED.opposite


def test_no_poke_gives_a_still_video(judged: Judged, findings: Findings) -> None:
    share = summary(judged.trials)["unpoked_share"]
    findings.add(
        f"motion of the leaf without a poke over that with it, {judged.flow}",
        f"{share:.3f}",
        f"under {WANTED.unpoked:g}",
    )
    assert share < WANTED.unpoked


@full_form
def test_a_model_that_knows_a_pokes_length_answers_any_length_better(
    run: Path, root: Path, findings: Findings
) -> None:
    """Both variants have the same data and steps; the published one hardly sees the length."""
    published = trained(root, "published", poke={"length_aware": False})
    found: dict[str, list[float]] = {"aware": [], "published": []}
    moved: list[float] = []
    for length in LENGTHS_PX:
        texts = []
        for name, each in (("aware", run), ("published", published)):
            trials = poke_world.poke_plants(each, count=WANTED.num_trials, length_px=length)
            numbers = summary(trials)
            found[name].append(numbers["end_point_error"])
            texts.append(f"{numbers['end_point_error']:.2f}")
            if name == "aware":
                moved.append(fmean(math.hypot(*trial.made) for trial in trials))
        texts.append(f"{numbers['still_end_point_error']:.2f}")
        findings.add(
            f"end-point error, px, pokes of {length:g} px: length-aware, published, still",
            ", ".join(texts),
            "",
        )
    ratio = fmean(found["aware"]) / fmean(found["published"])
    findings.add(
        "end-point error of the length-aware variant over the published one's, 2 to 16 px",
        f"{ratio:.2f}",
        f"under {CLEARLY:g}",
    )
    findings.add(
        "motion after pokes of " + ", ".join(f"{each:g}" for each in LENGTHS_PX) + " px",
        ", ".join(f"{each:.1f}" for each in moved),
        "growing",
    )
    assert ratio < CLEARLY
    assert moved[0] < moved[1] < moved[2]
