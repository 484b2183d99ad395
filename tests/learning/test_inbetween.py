"""It learns: frames between two given ones are nearer to the truth than a cross-fade of both.

A model of robot arms and one of bouncing digits; what is measured are courses that were not trained
on. The full form, which also tells what the same networks do without mixtures of both ends, takes
about 15 minutes of one CPU core, the short one 50 s.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.inbetween.config import NUM_FRAMES
from pipelines.inbetween.data import as_clips
from pipelines.inbetween.sample import load
from pipelines.inbetween.train import train
from pipelines.inbetween.validation import crossfade, psnr
from pipelines.io.packed import PackedVideos
from tests.learning import inbetween_world as world
from tests.learning.cinn_measured import Quiet
from tests.learning.results import Findings, is_full

FAMILY = "inbetween"
STEPS = {"arm": 800, "moving_digits": 1500} if is_full() else {"arm": 200, "moving_digits": 200}
GAIN_DB = {"arm": 2.0, "moving_digits": 2.0} if is_full() else {"arm": 0.5, "moving_digits": 0.8}
CASES: list[tuple[str, bool, float | None]] = [(kind, True, GAIN_DB[kind]) for kind in world.KINDS]
"""Videos, whether the network mixes both ends, and how much better than a cross-fade it must be."""
if is_full():
    # The paper's layers alone. Of the arms, where all but the arm stays as it is, they are only
    # told of: narrow ones paint that anew, and a cross-fade need not.
    CASES += [("arm", False, None), ("moving_digits", False, 2.0)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, findings: Findings) -> Path:
    torch.set_num_threads(1)  # small networks: a second thread costs more than it brings
    folder = findings.folder(tmp_path_factory)
    if not (folder / "data").is_dir():
        world.prepare(folder / "data", num_videos=256)
    return folder


@pytest.mark.parametrize(("kind", "mixes_ends", "gain_db"), CASES)
def test_frames_between_two_ends_are_nearer_to_the_truth_than_a_cross_fade(
    root: Path, findings: Findings, kind: str, mixes_ends: bool, gain_db: float | None
) -> None:
    train(world.request(root, kind, steps=STEPS[kind], mixes_ends=mixes_ends), Quiet())
    made, faded = _quality(world.run_dir(root, kind, mixes_ends=mixes_ends), root)
    network = "" if mixes_ends else ", the paper's layers alone (network.mixes_ends=false)"
    findings.add(
        f"{kind}: PSNR of the 14 inner frames, over a cross-fade ({world.NUM_HELD_OUT} clips)"
        + network,
        f"{made - faded:+.2f} dB ({made:.2f} / {faded:.2f})",
        "" if gain_db is None else f"at least {gain_db:g} dB",
    )
    assert gain_db is None or made - faded >= gain_db


def _quality(run_dir: Path, root: Path) -> tuple[float, float]:
    """Mean PSNR in dB of test clips: of what the model makes, and of a cross-fade."""
    sampler = load(run_dir, torch.device("cpu"), warn=pytest.fail)
    videos = PackedVideos(root / "data" / world.DATASET / "prepared" / f"{world.SIZE_PX}px")
    rows = videos.select("test", sampler.config.data.include)
    stored = np.stack([videos.frames(row, 0, NUM_FRAMES) for row in rows])
    real = as_clips(torch.from_numpy(stored))
    made = np.stack(
        [
            sampler.between(clip[0], clip[-1], sampler.noise(0, number))
            for number, clip in enumerate(stored)
        ]
    )
    faded = crossfade(real[:, 0], real[:, -1], NUM_FRAMES)
    fake = as_clips(torch.from_numpy(made))
    return float(psnr(real, fake).mean()), float(psnr(real, faded).mean())
