from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.inbetween.config import FamilyConfig, TrainRequest
from pipelines.inbetween.networks import mixed
from pipelines.inbetween.steps import (
    Turn,
    build_networks,
    build_optimizers,
    inbetween_step,
    next_turn,
)
from pipelines.inbetween.train import learning_rate, train
from pipelines.inbetween.validation import crossfade
from pipelines.training.checkpoint import WEIGHTS_NAME, list_checkpoints
from pipelines.training.run_folder import load_run
from tests.pipelines.inbetween import tiny
from tests.pipelines.training.toy import assert_equal_trees

ROOT = Path(__file__).parents[3]

STUCK = """
import sys, time
from tests.pipelines.inbetween import tiny
from pipelines.inbetween.config import TrainRequest
from pipelines.inbetween.train import train

class Stuck(tiny.Heard):
    def progress(self, task, done, total=None, unit=""):
        if done == 5:
            print("two steps after the checkpoint", flush=True)
            time.sleep(600)

train(TrainRequest.model_validate_json(sys.argv[1]), Stuck())
"""


def newest(root: Path) -> Path:
    return list_checkpoints(root / "run")[0]


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


def test_killed_and_resumed_training_equals_uninterrupted_training_bit_by_bit(trained, tmp_path):
    shutil.copytree(trained / "data", tmp_path / "data")
    request = tiny.request(tmp_path)
    train_and_kill(request)
    assert [path.name for path in list_checkpoints(request.run_dir)] == ["step-00000003"]
    assert load_run(request.run_dir).status == "running"

    heard = tiny.Heard()
    assert train(request, heard)["step"] == 6
    assert "going on from step 3" in [each["text"] for each in heard.of("log")]
    expected, found = newest(trained), newest(tmp_path)
    assert (found / WEIGHTS_NAME).read_bytes() == (expected / WEIGHTS_NAME).read_bytes()
    states = [torch.load(each / "state.pt", weights_only=True) for each in (expected, found)]
    assert_equal_trees(*states)
    meta, other = (json.loads((each / "meta.json").read_text()) for each in (expected, found))
    assert meta["validation"] == other["validation"]


def test_held_out_clips_are_compared_with_a_cross_fade(trained):
    validation = json.loads((newest(trained) / "meta.json").read_text())["validation"]
    assert {"val_psnr", "val_psnr_crossfade", "val_ssim"} == set(validation)
    assert validation["val_psnr_crossfade"] > 5


def test_a_finished_training_leaves_inner_frames_beside_the_real_ones(trained):
    samples = trained / "run" / "samples"
    meta = json.loads((samples / "sample" / "meta.json").read_text())
    assert len(meta["videos"]) == 4, "two samples of each of two held-out clips"
    assert (samples / "sample" / "grid.png").is_file()
    assert (samples / "real" / "meta.json").is_file()


@pytest.mark.parametrize(
    "settings",
    [
        {"losses": {"weight_gan": 0}},
        {"losses": {"adversarial": "hinge", "has_update_gate": False}},
        {"network": {"is_midnet": True}},
        {"network": {"mixes_ends": True}},
        {"frame_step": 1, "horizontal_flip": 0, "last_rate": 0.1},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_every_kind_of_training_takes_its_steps(tmp_path, settings):
    tiny.prepare_squares(tmp_path / "data")
    request = tiny.request(tmp_path, config=tiny.changed(**settings), max_steps=2)
    assert train(request, tiny.Heard())["step"] == 2


def test_a_mixture_begins_near_a_cross_fade_and_can_be_either_end_or_painted():
    start, end = torch.rand(2, 2, 3, 8, 8) * 2 - 1
    made = torch.zeros(2, 6, 16, 8, 8)
    faded = crossfade(start, end, 16).transpose(1, 2)
    assert (mixed(made, start, end) - faded).abs().max() < 0.2
    wanted = (start, end, made[:, :3, 0].tanh())
    for channel, image in enumerate(wanted):
        chosen = made.clone()
        chosen[:, 3 + channel] = 50
        found = mixed(chosen, start, end)
        torch.testing.assert_close(found, image[:, :, None].expand_as(found))


def test_a_mixture_is_no_midnet():
    with pytest.raises(ValueError, match="two ways to make a pixel"):
        FamilyConfig.model_validate(tiny.changed(network={"mixes_ends": True, "is_midnet": True}))


def test_grey_videos_are_trained_on_by_a_grey_model(tmp_path):
    tiny.prepare_squares(tmp_path / "data", channels=1)
    config = tiny.changed(network={"num_channels": 1})
    assert train(tiny.request(tmp_path, config=config, max_steps=1), tiny.Heard())["step"] == 1


@pytest.mark.parametrize(
    ("settings", "message", "exit_code"),
    [
        ({"network": {"num_channels": 1}}, "the data is in colour, the model", EXIT_USAGE),
        ({"size_px": 64}, "the data has frames of 32 px", EXIT_USAGE),
        ({"frame_step": 2}, "shorter than a clip of 31 frames", EXIT_NO_DATA),
    ],
)
def test_what_does_not_fit_is_named_before_anything_is_trained(
    trained, tmp_path, settings, message, exit_code
):
    changes = {"config": tiny.changed(**settings), "run_dir": tmp_path / "run"}
    with pytest.raises(UserError, match=message) as caught:
        train(tiny.request(trained, **changes), tiny.Heard())
    assert caught.value.exit_code == exit_code
    assert list(caught.value.details)[-1] == "to fix"


def test_every_parameter_of_every_network_gets_a_finite_gradient_and_moves():
    config = FamilyConfig.model_validate(tiny.CONFIG)
    networks = build_networks(config)
    before = {n: {k: v.clone() for k, v in m.named_parameters()} for n, m in _named(networks)}
    clip = torch.rand(2, 16, 3, tiny.SIZE_PX, tiny.SIZE_PX) * 2 - 1
    optimizers = build_optimizers(networks, config)
    log = inbetween_step(networks, optimizers, clip, torch.randn(2, 4), config=config.losses)
    assert all(torch.isfinite(value) for value in log.values())
    for name, network in _named(networks):
        for key, parameter in network.named_parameters():
            assert torch.isfinite(parameter.grad).all(), f"{name}.{key}"
        assert any(
            not torch.equal(before[name][key], parameter)
            for key, parameter in network.named_parameters()
        ), name


def test_a_side_that_pauses_is_not_updated():
    config = FamilyConfig.model_validate(tiny.CONFIG)
    networks = build_networks(config)
    clip, noise = torch.rand(2, 16, 3, 32, 32), torch.randn(2, 4)
    optimizers = build_optimizers(networks, config)

    def weights() -> list[torch.Tensor]:
        return [each.linear.weight.clone() for each in networks.judges] + [
            networks.model.encoder.convs[0].weight.clone()
        ]

    for turn, moves in ((Turn(judges=False), [False, False, True]), (Turn(model=False), [1, 1, 0])):
        old = weights()
        inbetween_step(networks, optimizers, clip, noise, config=config.losses, turn=turn)
        moved = [not torch.equal(a, b) for a, b in zip(old, weights(), strict=True)]
        assert moved == [bool(each) for each in moves]


def test_a_pause_ends_only_when_the_other_side_would_have_to_pause():
    assert next_turn(Turn(), 0.5, 0.5) == Turn()
    paused = next_turn(Turn(), 0.2, 0.5)
    assert paused == Turn(judges=False)
    assert next_turn(paused, 0.6, 0.6) == paused, "no pause is taken back singly"
    assert next_turn(paused, 0.6, 0.8) == Turn()
    assert next_turn(Turn(), 0.2, 0.9) == Turn(), "both would pause: neither does"


def test_the_learning_rate_falls_along_half_a_cosine():
    config = FamilyConfig.model_validate(tiny.changed(steps=100, last_rate=0.1))
    rates = [learning_rate(config, step) for step in (0, 50, 100)]
    assert rates == pytest.approx([1e-3, 5.5e-4, 1e-4])


def test_a_hinge_loss_cannot_have_the_gate_of_cross_entropies():
    with pytest.raises(ValueError, match="has_update_gate needs"):
        FamilyConfig.model_validate(tiny.changed(losses={"adversarial": "hinge"}))


def _named(networks):
    return networks.named().items()
