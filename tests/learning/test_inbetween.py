"""It learns: frames between two given ones are nearer to the truth than a cross-fade of both.

Two digits that bounce; what is measured are clips of courses that were not trained on.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.inbetween.data import as_clips
from pipelines.inbetween.sample import Sampler, load
from pipelines.inbetween.train import train
from pipelines.inbetween.validation import crossfade, psnr
from pipelines.io.packed import PackedVideos
from tests.learning import inbetween_world as world
from tests.learning.cinn_measured import Quiet
from tests.learning.results import Findings, is_full

FAMILY = "inbetween"
STEPS = 1500 if is_full() else 500
GAIN_DB = 2.0 if is_full() else 0.5
_NUM_CLIPS = 32


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, findings: Findings
) -> tuple[Sampler, PackedVideos]:
    torch.set_num_threads(1)  # small networks: a second thread costs more than it brings
    root = findings.folder(tmp_path_factory)
    variant = root / "data" / world.DATASET / "prepared" / f"{world.SIZE_PX}px"
    if not variant.is_dir():
        world.prepare(root / "data", num_videos=256)
    train(world.request(root, steps=STEPS), Quiet())
    return load(root / "run", torch.device("cpu"), warn=pytest.fail), PackedVideos(variant)


def test_frames_between_two_ends_are_nearer_to_the_truth_than_a_cross_fade(
    trained: tuple[Sampler, PackedVideos], findings: Findings
) -> None:
    made, faded = _quality(*trained)
    findings.add(
        f"PSNR of the 14 inner frames, over a cross-fade ({_NUM_CLIPS} clips of {world.KIND})",
        f"{made - faded:+.2f} dB ({made:.2f} / {faded:.2f})",
        f"at least {GAIN_DB:g} dB",
    )
    assert made - faded >= GAIN_DB


def _quality(sampler: Sampler, videos: PackedVideos) -> tuple[float, float]:
    """Mean PSNR in dB of test clips: of what the model makes, and of a cross-fade."""
    rows = videos.select("test", ["*"])[:_NUM_CLIPS]
    stored = np.stack([videos.frames(row, world.START, 16) for row in rows])
    real = as_clips(torch.from_numpy(stored))
    made = np.stack(
        [
            sampler.between(clip[0], clip[-1], sampler.noise(0, number))
            for number, clip in enumerate(stored)
        ]
    )
    faded = crossfade(real[:, 0], real[:, -1], 16)
    fake = as_clips(torch.from_numpy(made))
    return float(psnr(real, fake).mean()), float(psnr(real, faded).mean())
