"""It learns: motion models go round the wheel where straight lines cut through it.

In keypoint space over the known courses; in the full form (`make learn`) also over the keypoints of
a fomm that was trained on the wheel's frames, and rendered through it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.fomm.train import train as train_fomm
from pipelines.io.packed import PackedVideos
from pipelines.motion.sample import load
from pipelines.motion.train import train
from pipelines.training.checkpoint import WEIGHTS_NAME, checkpoint_meta, list_checkpoints
from tests.learning import motion_world as world
from tests.learning.cinn_measured import Quiet
from tests.learning.results import Findings, is_full

FAMILY = "motion"
STEPS = {"wgan": 1500 if is_full() else 300, "autoregressive": 1000 if is_full() else 300}
FOMM_STEPS = 400
MARGINS = {"wgan": 0.5, "autoregressive": 0.4}
"""Largest error of a model, as a part of that of straight lines."""
RENDERED_DB = 1.0
DIVERSITY = 0.002
"""Least distance between draws, in parts of the frame's height."""


@dataclass
class Trained:
    """Where the runs are, and what each model's held-out errors are."""

    root: Path
    errors: dict[str, dict[str, float]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, findings: Findings) -> Trained:
    torch.set_num_threads(1)  # small networks: a second thread costs more than it brings
    root = findings.folder(tmp_path_factory)
    if not (root / "data").exists():
        world.prepare(root / "data")
    train_fomm(world.fomm_request(root, steps=FOMM_STEPS if is_full() else 1), Quiet())
    meta = checkpoint_meta(list_checkpoints(root / "fomm")[0])
    digest = meta["files"][WEIGHTS_NAME]["sha256"]
    known = world.write_known_keypoints(root / "known", digest)
    errors = {}
    for kind, steps in STEPS.items():
        train(world.request(root, kind, f"known-{kind}", steps=steps, keypoints=known), Quiet())
        newest = list_checkpoints(root / f"known-{kind}")[0]
        errors[kind] = checkpoint_meta(newest)["validation"]
    return Trained(root, errors)


@pytest.mark.parametrize("kind", list(MARGINS))
def test_a_model_goes_round_where_straight_lines_cut_through(
    trained: Trained, findings: Findings, kind: str
) -> None:
    found = trained.errors[kind]
    share = found["val_error"] / found["val_error_linear"]
    findings.add(
        f"{kind}: distance of keypoints to the true course, over that of straight lines",
        f"{share:.2f} ({found['val_error']:.3f} / {found['val_error_linear']:.3f} of the height)",
        f"at most {MARGINS[kind]:g}",
    )
    assert share <= MARGINS[kind]


def test_draws_of_the_adversarial_model_differ(trained: Trained, findings: Findings) -> None:
    apart = trained.errors["wgan"]["val_diversity"]
    findings.add("wgan: distance between draws", f"{apart:.4f}", f"at least {DIVERSITY:g}")
    assert apart >= DIVERSITY


@pytest.mark.skipif(not is_full(), reason="a fomm is trained for minutes: only in `make learn`")
def test_rendered_frames_are_nearer_to_the_true_ones_than_those_of_straight_lines(
    trained: Trained, findings: Findings
) -> None:
    root, quality = trained.root, {}
    for kind in ("linear", *STEPS):
        train(world.request(root, kind, kind, steps=STEPS.get(kind, 1)), Quiet())
        quality[kind] = _rendered_psnr(root, kind)
    for kind in STEPS:
        found = checkpoint_meta(list_checkpoints(root / kind)[0])["validation"]
        share = found["val_error"] / found["val_error_linear"]
        findings.add(
            f"{kind}: the same over keypoints that a fomm found", f"{share:.2f}", "below 1"
        )
        gain = quality[kind] - quality["linear"]
        findings.add(
            f"{kind}: PSNR of rendered inner frames, over straight lines",
            f"{gain:+.2f} dB ({quality[kind]:.2f} / {quality['linear']:.2f})",
            f"at least {RENDERED_DB:g} dB",
        )
        assert share < 1
        assert gain >= RENDERED_DB


def _rendered_psnr(root: Path, kind: str) -> float:
    """Mean PSNR in dB of the inner frames of test clips."""
    sampler = load(root / kind, torch.device("cpu"), warn=pytest.fail)
    videos = PackedVideos(root / "data" / world.DATASET / "prepared" / f"{world.SIZE_PX}px")
    found = []
    for row in videos.select("test", ["*"])[:16]:
        real = videos.frames(row, 0, world.NUM_FRAMES)
        noise = sampler.noise(0, row, world.NUM_FRAMES)
        made = sampler.between(real[0], real[-1], noise)
        error = np.square(real[1:-1].astype(float) - made[1:-1]).mean((1, 2, 3))
        found.append(float((10 * np.log10(255**2 / error)).mean()))
    return float(np.mean(found))
