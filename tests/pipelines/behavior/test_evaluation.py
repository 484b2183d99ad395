from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pipelines.behavior import evaluation
from pipelines.behavior.baseline import load_model
from pipelines.behavior.data import open_poses
from pipelines.behavior.evaluation import EvaluationSettings, asked_frames, normality
from pipelines.behavior.evaluation_run import collect
from pipelines.behavior.inference import load
from pipelines.behavior.train import train
from pipelines.events import UserError
from pipelines.metrics.config import EvalRequest
from pipelines.metrics.evaluate import evaluate
from tests.learning.behavior_world import prepare_poses
from tests.pipelines.behavior import tiny

QUICK = EvaluationSettings(num_samples=3, max_conditions=6, max_clips=24, batch_size=8, steps=5)


@pytest.fixture(scope="module")
def measured(trained):
    device = torch.device("cpu")
    model = load(trained / "runs" / "2", device, data_root=trained / "data", warn=print)
    data = open_poses(
        trained / "data", model.config, tiny.Heard(), scale=model.scale, splits=("test",)
    )
    clips = evaluation.held_out_clips(data, QUICK, device)
    told = []
    found = collect(model, data, clips, QUICK, progress=lambda *each: told.append(each))
    return model, data, clips, {each.name: each for each in found}, told


def test_how_far_it_is_is_told_at_every_step_of_the_classifiers(measured):
    told = [each[1:] for each in measured[-1] if each[0] == "realism"]
    total = 4 * QUICK.steps
    assert told == [(done + 1, total) for done in range(total)]


def test_every_published_number_is_there_and_finite(measured):
    *_, numbers, _ = measured
    names = (
        *(f"{name} (flow)" for name in ("ASD", "FSD", "ADE", "FDE", "APD")),
        *("code found again", "code ratio", "ADE of transfer", "FDE of transfer"),
        *(f"realism, {kind}" for kind in ("prior", "transfer", "reconstruction", "flow")),
        *("posture error at 0", "displacement at 5", "flow nll", "flow normality"),
    )
    for name in names:
        assert np.isfinite(numbers[name].value), name
    assert numbers["posture error at 0"].reference[0] == "by chance"
    assert numbers["ASD (flow)"].reference[0] == "plain prior"
    assert numbers["flow nll"].reference == ("normal numbers", 4.0)
    assert asked_frames(50) == [0, 10, 20, 30, 40, 49]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (
            "behavior-net",
            [
                *("action accuracy, real", "action accuracy, transferred"),
                *("velocity accuracy, real", "velocity accuracy, transferred"),
                "latent accuracy, codes",
            ],
        ),
        ("mt-vae", ["latent accuracy, codes"]),
    ],
)
def test_a_runs_own_classifiers_say_which_action_is_seen(tmp_path, monkeypatch, kind, names):
    monkeypatch.setattr("pipelines.behavior.preview.write_preview", lambda *_: None)
    prepare_poses(tmp_path / "data", {"train": 12, "test": 4}, num_frames=8)
    request = tiny.request(tmp_path, "1", config=tiny.changed(stage1={"kind": kind}), max_steps=2)
    train(request, tiny.Heard())
    cpu = torch.device("cpu")
    model = load_model(request.run_dir, cpu, data_root=tmp_path / "data", warn=print)
    data = open_poses(tmp_path / "data", model.config, tiny.Heard(), splits=("test",))
    classifiers = evaluation.trained_classifiers(model, data)
    clips = evaluation.held_out_clips(data, QUICK, cpu)
    found = evaluation.action_numbers(model, clips, classifiers)
    assert sorted(found) == sorted(names)
    assert all(0 <= value <= 1 for value in found.values())
    right = dict.fromkeys(classifiers, _Oracle(clips))
    if "latent" in right:
        right.pop("latent")
    for name, value in evaluation.action_numbers(model, clips, right).items():
        assert value == 1, name


class _Oracle(torch.nn.Module):
    """A classifier that knows."""

    def __init__(self, clips: evaluation.Clips) -> None:
        super().__init__()
        self.logits = torch.nn.functional.one_hot(clips.actions).float()

    def forward(self, poses: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.logits, None


def test_a_regressor_tells_what_a_code_tells_and_nothing_else():
    draw = torch.Generator().manual_seed(0)
    code = torch.randn(256, 4, generator=draw)
    told = torch.cat([code, 2 * code], dim=1)
    untold = torch.randn(256, 8, generator=draw)
    settings = EvaluationSettings(batch_size=64, steps=150)
    errors = {}
    for name, poses in (("told", told), ("untold", untold)):
        regressor = evaluation.fitted_regressor(code[:128], poses[:128], settings)
        with torch.no_grad():
            errors[name] = float((regressor(code[128:]) - poses[128:]).norm(dim=1).mean())
        errors[f"{name} chance"] = float((poses[128:] - poses[:128].mean(0)).norm(dim=1).mean())
    assert errors["told"] < 0.5 * errors["told chance"]
    assert errors["untold"] > 0.9 * errors["untold chance"]


def test_a_normal_sample_looks_normal_and_another_does_not():
    draw = np.random.default_rng(0)
    assert normality(draw.normal(size=(500, 8))).mean() > 0.3
    assert normality(draw.uniform(size=(500, 8))).mean() < 0.01


def test_eval_pose_measures_a_run_and_writes_its_numbers(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.behavior.evaluation_run.EvaluationSettings", lambda **_: QUICK)
    request = EvalRequest(
        metrics=("pose",),
        source=trained / "runs" / "1",
        device="cpu",
        out_path=tmp_path / "metrics.json",
        num_images=4,
    )
    found = evaluate(request, tiny.Heard())
    assert len(found["rows"]) > 12
    stored = json.loads((tmp_path / "metrics.json").read_text())["evaluations"][0]
    assert stored["results"][0]["metric"].startswith("pose: ASD (normal)")
    assert (request.source / "samples" / "codes" / "grid.png").is_file()


def test_eval_pose_of_videos_says_that_it_measures_a_run(tmp_path):
    request = EvalRequest(metrics=("pose",), source=tmp_path, device="cpu")
    with pytest.raises(UserError, match="pose measures a run"):
        evaluate(request, tiny.Heard())
