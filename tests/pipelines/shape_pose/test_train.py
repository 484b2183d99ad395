from __future__ import annotations

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
from torch import nn

from pipelines.events import UserError
from pipelines.metrics.config import EvalRequest
from pipelines.metrics.evaluate import evaluate
from pipelines.nn.norm_conv import InstanceNormConv2d, L2NormConv2d, look_at_data
from pipelines.shape_pose.appearance import crop_parts
from pipelines.shape_pose.judges import cut_to_joints, inception_score
from pipelines.shape_pose.part_crops import crop_parts as crop_one
from pipelines.shape_pose.part_crops import part_transforms
from pipelines.shape_pose.sample import load
from pipelines.shape_pose.skeletons import SKELETONS
from pipelines.shape_pose.train import baseline_kl_weight, train
from pipelines.training.checkpoint import WEIGHTS_NAME, list_checkpoints
from tests.pipelines.shape_pose import tiny
from tests.pipelines.training.toy import assert_equal_trees

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")

STUCK = """
import sys, time
from tests.pipelines.shape_pose import tiny
from pipelines.shape_pose.config import TrainRequest
from pipelines.shape_pose.train import train
from pipelines.training.checkpoint import list_checkpoints

request = TrainRequest.model_validate_json(sys.argv[1])

class Stuck(tiny.Heard):
    def progress(self, task, done, total=None, unit=""):
        if done == 5:
            list_checkpoints(request.run_dir)  # waits for what is being written
            print("two steps after the checkpoint", flush=True)
            time.sleep(600)

train(request, Stuck())
"""


def test_killed_and_resumed_training_equals_uninterrupted_training_bit_by_bit(trained, tmp_path):
    shutil.copytree(trained / "data", tmp_path / "data")
    request = tiny.request(tmp_path)
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
    assert [path.name for path in list_checkpoints(request.run_dir)] == ["step-00000003"]
    assert train(request, tiny.Heard())["step"] == 6

    expected, found = (list_checkpoints(r / "runs" / "1")[0] for r in (trained, tmp_path))
    assert (found / WEIGHTS_NAME).read_bytes() == (expected / WEIGHTS_NAME).read_bytes()
    states = [torch.load(f / "state.pt", weights_only=True) for f in (expected, found)]
    assert states[0]["scalars"]["kl_weight"] > 0
    assert_equal_trees(*states)


def test_a_renderer_shows_an_appearance_in_postures_and_the_same_every_time(trained):
    renderer = load(trained / "runs" / "1", CPU, warn=print)
    draw = np.random.default_rng(0)
    people = draw.integers(0, 255, (2, tiny.SIZE_PX, tiny.SIZE_PX, 3)).astype(np.uint8)
    places = draw.uniform(0.2, 0.8, (3, 17, 2))
    codes = [renderer.appearance(each, None) for each in people]
    video = renderer.render(codes[0], places)
    assert video.shape == (3, tiny.SIZE_PX, tiny.SIZE_PX, 3) and video.dtype == np.uint8
    assert np.array_equal(video, renderer.render(codes[0], places))
    assert not np.array_equal(video, renderer.render(codes[1], places))
    assert not np.array_equal(video[0], video[1])


def test_the_baseline_trains_and_goes_on(trained, tmp_path):
    config = tiny.changed(kind="vunet", regressor=None)
    for name, stops in (("whole", (4,)), ("parts", (2, 4))):
        for steps in stops:
            changes = {"config": config, "run_dir": tmp_path / name, "max_steps": steps}
            train(tiny.request(trained, **changes), tiny.Heard())
    files = [list_checkpoints(tmp_path / n)[0] / WEIGHTS_NAME for n in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_baselines_kl_counts_from_the_second_half_on():
    config = tiny.config().model_copy(update={"steps": 100})
    weights = [baseline_kl_weight(config, step) for step in (0, 50, 62, 75, 99)]
    assert weights[0] == weights[1] == config.kl_first
    assert config.kl_first < weights[2] < config.kl_last
    assert weights[3] == weights[4] == config.kl_last


@pytest.mark.parametrize("name", ["deepfashion", "market"])
def test_parts_cut_out_on_the_device_are_those_of_the_published_pictures(name):
    skeleton, size_px, part_px = SKELETONS[name], 64, 16
    draw = np.random.default_rng(3)
    image = draw.integers(0, 256, (size_px, size_px, 3)).astype(np.uint8)
    joints = draw.uniform(8, 56, (skeleton.num_joints, 2))
    joints[[5, 9, 10]] = -1
    found = part_transforms(joints, skeleton=skeleton, size_px=size_px, part_px=part_px)
    expected = crop_one(image, found, part_px)
    matrices = np.stack([np.zeros((3, 3)) if each is None else each for each in found])
    pictures = torch.from_numpy(image).movedim(-1, 0)[None].float() / 127.5 - 1
    crops = crop_parts(pictures, torch.from_numpy(matrices)[None].float(), part_px)
    ours = ((crops[0] + 1) * 127.5).unflatten(0, (-1, 3)).movedim(1, -1).numpy()
    assert any(each is None for each in found)
    assert np.abs(ours - expected).max() < 1.5


def test_eval_pose_measures_a_renderer(trained, tmp_path):
    request = EvalRequest(
        metrics=("pose",),
        source=trained / "runs" / "1",
        device="cpu",
        out_path=tmp_path / "metrics.json",
    )
    rows = {row[0]: row[1] for row in evaluate(request, tiny.Heard())["rows"]}
    assert "pose: PSNR of reconstructions" in rows and "pose: posture error" in rows


def test_joints_that_the_data_lacks_are_said_with_what_there_is(trained, tmp_path):
    config = tiny.changed(people={"joints": "joints_market"})
    with pytest.raises(UserError, match="no joints 'joints_market'") as found:
        train(tiny.request(trained, config=config, run_dir=tmp_path / "run"), tiny.Heard())
    assert "joints_h36m" in found.value.details["there is"]


@pytest.mark.parametrize("kind", ["shape-pose", "vunet"])
def test_l2_convolutions_look_at_the_first_batches_and_learn_afterwards(trained, tmp_path, kind):
    config = tiny.changed(
        kind=kind,
        network={"convolution": "l2", "has_subpixel_upsampling": False},
        **({"regressor": None} if kind == "vunet" else {}),
    )
    gains = []
    for steps in (1, 4):
        request = tiny.request(trained, config=config, run_dir=tmp_path / kind, max_steps=steps)
        assert np.isfinite(train(request, tiny.Heard())["validation"]["val_psnr"])
        weights = load_file(list_checkpoints(request.run_dir)[0] / WEIGHTS_NAME)
        gains.append(weights["net.figure_maps.input.gain"])
    begun = L2NormConv2d(3, 4, 1)
    assert all((each != begun.gain).all() for each in gains)
    assert not torch.equal(*gains)


def test_a_layer_that_looks_at_data_makes_its_batch_standard():
    torch.manual_seed(0)
    layer, batch = L2NormConv2d(3, 5, 3, padding=1), 4 * torch.randn(6, 3, 8, 8) + 2
    look_at_data(layer, True)
    made = layer(batch).transpose(0, 1).flatten(1)
    assert made.mean(dim=1).abs().max() < 1e-5 and (made.std(dim=1) - 1).abs().max() < 1e-5
    look_at_data(layer, False)
    kept = layer.gain.clone()
    layer(2 * batch)
    assert torch.equal(layer.gain, kept)


def test_plain_convolutions_with_instance_norm_train(trained, tmp_path):
    config = tiny.changed(network={"convolution": "instance"})
    request = tiny.request(trained, config=config, run_dir=tmp_path / "run", max_steps=2)
    assert np.isfinite(train(request, tiny.Heard())["validation"]["val_psnr"])
    batch = torch.randn(2, 3, 16, 16)
    made = InstanceNormConv2d(3, 4, 3, padding=1)(batch)
    expected = nn.InstanceNorm2d(4)
    conv = nn.Conv2d(3, 4, 3, padding=1)
    layer = InstanceNormConv2d(3, 4, 3, padding=1)
    layer.load_state_dict(conv.state_dict())
    assert made.shape == (2, 4, 16, 16)
    assert torch.allclose(layer(batch), expected(conv(batch)), atol=1e-5)


def test_inception_scores_and_fid_are_measured_or_it_is_said_what_they_need(trained, tmp_path):
    config = tiny.changed(kind="vunet", regressor=None)
    request = tiny.request(trained, config=config, run_dir=tmp_path / "run", max_steps=2)
    train(request, tiny.Heard())
    fields = {"metrics": ("pose",), "source": tmp_path / "run", "device": "cpu", "num_images": 2}
    heard = tiny.Heard()
    names = [row[0] for row in evaluate(EvalRequest(**fields), heard)["rows"]]
    assert not any("Inception" in name or "FID" in name for name in names)
    missing = " ".join(each["message"] for each in heard.of("warning"))
    assert "i2v download weights/inception-v3" in missing
    assert "i2v download weights/fid-inception" in missing
    found = evaluate(EvalRequest(**fields, generated_weights=True), tiny.Heard())["rows"]
    units = {row[0]: row[4] for row in found}
    for name in ("Inception score of reconstructions", "FID of people in other looks"):
        assert units[f"pose: {name}"] == "made-up weights"


def test_an_inception_score_counts_the_classes_that_are_surely_seen():
    sure = torch.eye(4, dtype=torch.float64).repeat(3, 1)
    assert abs(inception_score(sure) - 4) < 1e-9
    assert abs(inception_score(torch.full((5, 4), 0.25, dtype=torch.float64)) - 1) < 1e-9


def test_pictures_are_cut_to_the_joints_that_are_seen():
    image = torch.zeros(1, 3, 20, 20)
    image[..., 5:15, 10:16] = 1
    joints = torch.tensor([[[0.51, 0.26], [0.76, 0.71], [0.0, 0.0]]]).flatten(1)
    assert (cut_to_joints(image, joints, size_px=8) == 1).all()
    assert cut_to_joints(image, torch.zeros(1, 6), size_px=8).mean() < 0.5
