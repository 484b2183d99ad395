"""The baseline MT-VAE does with poses what the behavior net does: samples, transfers, numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pipelines.behavior import evaluation
from pipelines.behavior.baseline import BaselineModel, load_model
from pipelines.behavior.config import SampleRequest, TransferRequest
from pipelines.behavior.data import open_poses
from pipelines.behavior.pose_files import Wanted, read_poses
from pipelines.behavior.sample import sample, transfer
from pipelines.events import UserError
from pipelines.io.sample_folders import read_sample_folder
from pipelines.metrics.config import EvalRequest
from pipelines.metrics.evaluate import evaluate
from tests.pipelines.behavior import tiny
from tests.pipelines.behavior.test_evaluation import QUICK
from tests.pipelines.behavior.test_sample import fields, takes

GIVEN = tiny.CONFIG["stage1"]["mtvae"]["num_condition"]
WORLD = Wanted(17, 3, "joints_world_m")


def request(trained, baseline, out_dir, **changes) -> dict:
    return fields(trained, out_dir) | {"run_dir": baseline} | changes


def made_in(folder) -> list[np.ndarray]:
    found = []
    for path in sorted((folder / "poses").iterdir()):
        with np.load(path) as arrays:
            found.append(arrays["joints_world_m"])
    return found


def test_futures_go_on_from_the_last_given_pose_and_differ_and_come_again(
    trained, baseline, tmp_path
):
    target = takes(trained, "test", 0)
    for name in ("first", "again"):
        asked = request(trained, baseline, tmp_path / name, target=(target,), num=2)
        assert sample(SampleRequest(**asked), tiny.Heard())["videos"] == 2
    poses = made_in(tmp_path / "first")
    given = read_poses(target, WORLD, trained / "data").joints
    assert [each.shape for each in poses] == [(6, 17, 3)] * 2
    assert np.array_equal(poses[0][0], given[GIVEN - 1])
    assert not np.allclose(poses[0][1:], poses[1][1:])
    for one, other in zip(poses, made_in(tmp_path / "again"), strict=True):
        assert np.array_equal(one, other)


def test_too_few_given_poses_are_counted(trained, baseline, tmp_path):
    target = f"{takes(trained, 'test', 0)}@6"
    asked = request(trained, baseline, tmp_path / "out", target=(target,))
    with pytest.raises(UserError, match=f"has 2 poses, the model needs {GIVEN}"):
        sample(SampleRequest(**asked), tiny.Heard())


def test_a_transfer_depends_on_the_source_and_on_the_target(trained, baseline, tmp_path):
    pairs = {"a": (0, 0), "b": (1, 0), "c": (0, 1)}
    for name, (source, target) in pairs.items():
        asked = request(
            trained,
            baseline,
            tmp_path / name,
            source=(takes(trained, "test", source),),
            target=(takes(trained, "val", target),),
        )
        transfer(TransferRequest(**asked), tiny.Heard())
    ways = {name: made_in(tmp_path / name)[0] for name in pairs}
    assert np.array_equal(ways["a"][0], ways["b"][0])
    assert not np.allclose(ways["a"], ways["b"]) and not np.allclose(ways["a"], ways["c"])


def test_eval_pose_measures_it_as_it_does_a_behavior_net(trained, baseline, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.behavior.evaluation_run.EvaluationSettings", lambda **_: QUICK)
    out_path = tmp_path / "metrics.json"
    asked = EvalRequest(metrics=("pose",), source=baseline, device="cpu", out_path=out_path)
    evaluate(asked, tiny.Heard())
    stored = json.loads(out_path.read_text())["evaluations"][0]["results"]
    values = {each["metric"].removeprefix("pose: "): each["value"] for each in stored}
    for name in ("ASD (normal)", "FDE (normal)", "APD (normal)", "code found again", "code ratio"):
        assert np.isfinite(values[name]), name
    for name in ("realism, prior", "realism, transfer", "posture error at 0", "displacement at 3"):
        assert np.isfinite(values[name]), name
    assert not any("flow" in name for name in values)


def test_a_reconstruction_is_what_the_network_makes_of_the_same_numbers(trained, baseline):
    """So the code and the encoder's first state are taken apart as they were put together."""
    cpu = torch.device("cpu")
    model = load_model(baseline, cpu, data_root=trained / "data", warn=print)
    assert isinstance(model, BaselineModel)
    data = open_poses(trained / "data", model.config, tiny.Heard(), scale=model.scale)
    clips = evaluation.held_out_clips(data, QUICK, cpu).poses
    noise = torch.randn(len(clips), model.noise_size)
    code, state = model._parted(noise)
    expected = model.net(
        clips, None, state, num_condition=GIVEN, noise=code, cycle_noise=torch.zeros_like(code)
    )
    found = model.continued(model.encode(clips, noise), clips[:, :GIVEN], 4)
    assert torch.allclose(found, expected.poses, atol=1e-6)


def test_its_run_shows_takes_and_futures_of_them(baseline):
    real, made = (read_sample_folder(baseline / "samples" / kind) for kind in ("real", "sample"))
    assert len(made.videos) == 5 * len(real.videos)
