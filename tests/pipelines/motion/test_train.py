from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.fomm.train import train as train_fomm
from pipelines.motion.config import TrainRequest
from pipelines.motion.keypoints import read_keypoints, write_keypoints
from pipelines.motion.train import train
from pipelines.training.checkpoint import WEIGHTS_NAME, checkpoint_meta, list_checkpoints
from tests.pipelines.fomm import tiny as fomm
from tests.pipelines.motion import tiny
from tests.pipelines.training.toy import assert_equal_trees

ROOT = Path(__file__).parents[3]

STUCK = """
import sys, time
from tests.pipelines.motion import tiny
from pipelines.motion.config import TrainRequest
from pipelines.motion.train import train

class Stuck(tiny.Heard):
    def progress(self, task, done, total=None, unit=""):
        if task == "train" and done == 5:
            print("two steps after the checkpoint", flush=True)
            time.sleep(600)

train(TrainRequest.model_validate_json(sys.argv[1]), Stuck())
"""


def newest(root: Path, kind: str) -> Path:
    return list_checkpoints(root / kind)[0]


def other_fomm(root: Path) -> None:
    """root/other: another fomm than root/fomm."""
    config = fomm.changed(train={"seed": 1})
    train_fomm(fomm.request(root, run_dir=root / "other", max_steps=1, config=config), tiny.Heard())


def stored(root: Path) -> Path:
    (path,) = (root / "data").glob("squares/prepared/*/keypoints/*/train.npz")
    return path


def copied(trained: Path, root: Path) -> Path:
    """The data and the fomm, in a folder of its own."""
    for name in ("data", "fomm"):
        shutil.copytree(trained / name, root / name)
    return root


def train_and_kill(request: TrainRequest) -> None:
    """Train in a process of its own, killed two steps after the checkpoint of step 3."""
    with subprocess.Popen(
        [sys.executable, "-c", STUCK, request.model_dump_json()],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    ) as process:
        line = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert line == "two steps after the checkpoint\n"


@pytest.mark.parametrize("kind", ["wgan", "autoregressive"])
def test_killed_and_resumed_training_equals_uninterrupted_training_bit_by_bit(
    trained, tmp_path, kind
):
    root = copied(trained, tmp_path)
    request = tiny.request(root, kind)
    train_and_kill(request)
    assert [path.name for path in list_checkpoints(request.run_dir)] == ["step-00000003"]
    heard = tiny.Heard()
    assert train(request, heard)["step"] == 6
    assert "going on from step 3" in [each["text"] for each in heard.of("log")]
    expected, found = newest(trained, kind), newest(root, kind)
    assert (found / WEIGHTS_NAME).read_bytes() == (expected / WEIGHTS_NAME).read_bytes()
    states = [torch.load(each / "state.pt", weights_only=True) for each in (expected, found)]
    assert_equal_trees(*states)
    assert checkpoint_meta(expected)["validation"] == checkpoint_meta(found)["validation"]


def test_keypoints_are_stored_once_with_the_hash_of_the_fomm_that_found_them(trained):
    meta = checkpoint_meta(list_checkpoints(trained / "fomm")[0])
    digest = meta["files"][WEIGHTS_NAME]["sha256"]
    path = stored(trained)
    assert path.parent.name == digest[:12]
    found = read_keypoints(path, fomm=digest)
    assert found.value.shape == (4 * fomm.NUM_FRAMES, 3, 2)
    assert found.jacobian.shape == (4 * fomm.NUM_FRAMES, 3, 2, 2)
    assert len(found.ids) == 4 and found.ids[0].startswith("squares/train/")


def test_keypoints_of_another_fomm_are_refused(trained, tmp_path):
    root = copied(trained, tmp_path)
    other_fomm(root)
    request = tiny.request(root, fomm_run=root / "other", keypoints=stored(root).parent)
    with pytest.raises(UserError, match="found by another fomm") as caught:
        train(request, tiny.Heard())
    assert caught.value.exit_code == EXIT_USAGE
    assert caught.value.details["found by"] == stored(root).parent.name


def test_a_file_that_holds_no_keypoints_is_named(trained, tmp_path):
    root = copied(trained, tmp_path)
    stored(root).write_bytes(b"PK no archive")
    with pytest.raises(UserError, match="holds no keypoints") as caught:
        train(tiny.request(root), tiny.Heard())
    assert caught.value.exit_code == EXIT_NO_DATA


def test_a_training_without_a_fomm_says_what_to_run(trained, tmp_path):
    with pytest.raises(UserError, match="none is given") as caught:
        train(tiny.request(trained, run_dir=tmp_path / "run", fomm_run=None), tiny.Heard())
    assert caught.value.details["run first"] == "i2v train fomm"


def test_a_fomm_without_jacobians_is_refused(trained, tmp_path):
    root = copied(trained, tmp_path)
    model = fomm.CONFIG["model"]
    config = fomm.changed(
        model={"keypoints": model["keypoints"] | {"has_jacobian": False}},
        losses={"equivariance_jacobian": 0},
    )
    train_fomm(fomm.request(root, run_dir=root / "plain", config=config, max_steps=1), tiny.Heard())
    with pytest.raises(UserError, match="no jacobians"):
        train(tiny.request(root, fomm_run=root / "plain"), tiny.Heard())


def test_stored_keypoints_that_lack_videos_are_not_used(trained, tmp_path):
    root = copied(trained, tmp_path)
    path = stored(root)
    found = read_keypoints(path, fomm=str(np.load(path)["fomm"]))
    ids = ("elsewhere", *found.ids[1:])
    write_keypoints(path, type(found)(found.value, found.jacobian, found.offsets, ids, found.fomm))
    with pytest.raises(UserError, match="lack 1 of the videos"):
        train(tiny.request(root), tiny.Heard())


def test_clips_longer_than_every_video_are_refused(trained, tmp_path):
    request = tiny.request(trained, config=tiny.changed(num_frames=9), run_dir=tmp_path / "run")
    with pytest.raises(UserError, match="shorter than a clip of 9 frames"):
        train(request, tiny.Heard())


def test_held_out_motions_are_measured_beside_straight_lines(trained):
    validation = checkpoint_meta(newest(trained, "wgan"))["validation"]
    assert {"val_error", "val_error_linear", "val_error_best", "val_diversity"} == set(validation)
    assert validation["val_diversity"] > 0
    linear = checkpoint_meta(newest(trained, "linear"))["validation"]
    assert linear["val_error"] == pytest.approx(linear["val_error_linear"])


@pytest.mark.parametrize(
    ("kind", "section", "names"),
    [
        ("wgan", {}, {"critic", "gradient_penalty", "generator"}),
        ("wgan", {"objective": "clip"}, {"critic", "generator"}),
        ("wgan", {"weight_reconstruction": 1}, {"reconstruction", "generator"}),
        ("autoregressive", {}, {"forward", "backward"}),
        ("autoregressive", {"is_as_published": True}, {"forward"}),
        ("linear", {}, {"error"}),
    ],
)
def test_every_kind_of_training_says_its_losses(trained, tmp_path, kind, section, names):
    config = tiny.changed(kind=kind, **({kind: section} if section else {}))
    heard = tiny.Heard()
    train(tiny.request(trained, run_dir=tmp_path / "run", config=config, max_steps=2), heard)
    said = {name for each in heard.of("metric") for name in each["values"]}
    assert names <= said


def test_clipping_keeps_every_weight_of_the_critic_small(trained, tmp_path):
    config = tiny.changed(wgan={"objective": "clip", "clip": 0.005})
    request = tiny.request(trained, run_dir=tmp_path / "run", config=config, max_steps=2)
    train(request, tiny.Heard())
    weights = load_file(list_checkpoints(request.run_dir)[0] / WEIGHTS_NAME)
    critic = [value for name, value in weights.items() if name.startswith("critic.")]
    assert max(float(value.abs().max()) for value in critic) <= 0.005 + 1e-8


def test_a_finished_training_leaves_rendered_frames_beside_the_real_ones(trained):
    for kind, num in (("wgan", 2), ("autoregressive", 1), ("linear", 1)):
        samples = trained / kind / "samples"
        meta = json.loads((samples / "sample" / "meta.json").read_text())
        assert len(meta["videos"]) == 2 * num
        assert (samples / "sample" / "grid.png").is_file()
        assert (samples / "real" / "meta.json").is_file()


def test_a_run_goes_on_with_the_fomm_it_began_with(trained, tmp_path):
    root = copied(trained, tmp_path)
    train(tiny.request(root, max_steps=3), tiny.Heard())
    other_fomm(root)
    heard = tiny.Heard()
    train(tiny.request(root, fomm_run=root / "other"), heard)
    assert any("has other weights" in each["message"] for each in heard.of("warning"))
    assert (newest(root, "wgan") / WEIGHTS_NAME).read_bytes() == (
        newest(trained, "wgan") / WEIGHTS_NAME
    ).read_bytes()
