from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, Interrupted, UserError
from pipelines.fomm.config import TrainRequest
from pipelines.fomm.data import open_pair_data
from pipelines.fomm.train import rate_scale, train
from pipelines.training.checkpoint import WEIGHTS_NAME, list_checkpoints, load_weights
from pipelines.training.run_folder import load_run
from tests.pipelines.fomm import tiny
from tests.pipelines.training.toy import assert_equal_trees

ROOT = Path(__file__).parents[3]

STUCK = """
import sys, time
from tests.pipelines.fomm import tiny
from pipelines.fomm.config import TrainRequest
from pipelines.fomm.train import train

class Stuck(tiny.Heard):
    def progress(self, task, done, total=None, unit=""):
        if done == 5:
            print("two steps after the checkpoint", flush=True)
            time.sleep(600)

train(TrainRequest.model_validate_json(sys.argv[1]), Stuck())
"""


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


def newest(root: Path) -> Path:
    return list_checkpoints(root / "run")[0]


def next_batch(root: Path) -> np.ndarray:
    """The batch that a training would see next, found from its newest checkpoint alone."""
    state = torch.load(newest(root) / "state.pt", weights_only=True)
    data = open_pair_data(root / "data", tiny.config(), tiny.Heard())
    return next(islice(data.batches(batch_size=2, first_batch=state["step"]), 1))


def assert_same_end(expected_root: Path, found_root: Path) -> None:
    expected, found = newest(expected_root), newest(found_root)
    assert found.name == expected.name
    assert (found / WEIGHTS_NAME).read_bytes() == (expected / WEIGHTS_NAME).read_bytes()
    states = [torch.load(each / "state.pt", weights_only=True) for each in (expected, found)]
    assert states[0]["optimizers"]
    assert_equal_trees(*states)
    metas = [json.loads((each / "meta.json").read_text()) for each in (expected, found)]
    assert metas[0]["validation"] == metas[1]["validation"]
    assert np.array_equal(next_batch(expected_root), next_batch(found_root))


def test_killed_and_resumed_training_equals_uninterrupted_training_bit_by_bit(trained, tmp_path):
    shutil.copytree(trained / "data", tmp_path / "data")
    request = tiny.request(tmp_path, max_steps=6)
    train_and_kill(request)
    assert [path.name for path in list_checkpoints(request.run_dir)] == ["step-00000003"]
    assert load_run(request.run_dir).status == "running"
    heard = tiny.Heard()
    assert train(request, heard)["step"] == 6
    assert "going on from step 3" in [each["text"] for each in heard.of("log")]
    assert_same_end(trained, tmp_path)


def test_a_training_that_was_stopped_goes_on_to_the_same_end(trained, tmp_path):
    shutil.copytree(trained / "data", tmp_path / "data")

    class Stopped(tiny.Heard):
        def progress(self, task, done, total=None, unit=""):
            if done == 4:
                self.ask_to_stop()

    with pytest.raises(Interrupted):
        train(tiny.request(tmp_path, max_steps=6), Stopped())
    assert newest(tmp_path).name == "step-00000004"
    train(tiny.request(tmp_path, max_steps=6), tiny.Heard())
    assert_same_end(trained, tmp_path)


def test_five_hundred_steps_do_not_diverge(tmp_path):
    """The gradient of the blurred, thinned out image once blew up with newer versions of torch."""
    tiny.prepare_squares(tmp_path / "data", counts=(16, 2, 0))
    config = tiny.changed(
        train={"log_every": 50, "save_every": 500},
        losses={"generator_gan": 0},
        milestones=[],
        epochs=100,
    )
    heard = tiny.Heard()
    train(tiny.request(tmp_path, config=config, max_steps=500), heard)
    losses = [each["values"]["loss"] for each in heard.of("metric") if "loss" in each["values"]]
    assert len(losses) == 10
    assert max(losses[1:]) < losses[0]
    assert losses[-1] < 0.75 * losses[0]


def test_every_network_is_trained_and_every_term_is_told(trained, tmp_path):
    heard = tiny.Heard()
    request = tiny.request(trained, run_dir=tmp_path / "run", max_steps=2)
    train(request, heard)
    found = set(heard.of("metric")[0]["values"])
    terms = {"perceptual", "generator_gan", "feature_matching", "discriminator_gan"}
    assert terms | {"loss", "equivariance_value", "equivariance_jacobian"} <= found
    state = torch.load(newest(tmp_path) / "state.pt", weights_only=True)
    assert all(each["state"] for each in state["optimizers"].values())


def test_without_a_weight_for_it_there_is_no_discriminator_step(trained, tmp_path):
    config = tiny.changed(losses={"generator_gan": 0})
    heard = tiny.Heard()
    train(tiny.request(trained, config=config, run_dir=tmp_path / "run", max_steps=2), heard)
    assert not {"generator_gan", "feature_matching", "discriminator_gan"} & set(
        heard.of("metric")[0]["values"]
    )


def test_a_finished_training_leaves_real_clips_beside_reconstructions(trained):
    samples = trained / "run" / "samples"
    meta = json.loads((samples / "reconstruction" / "meta.json").read_text())
    assert (len(meta["videos"]), meta["kind"]) == (2, "reconstruction")
    for name in ("grid.png", "keypoints.mp4"):
        assert (samples / "reconstruction" / name).is_file()
    assert (samples / "real" / "meta.json").is_file()


def test_held_out_clips_are_compared_with_a_still_video(trained):
    validation = json.loads((newest(trained) / "meta.json").read_text())["validation"]
    assert set(validation) == {"val_l1", "val_psnr", "val_psnr_static", "val_ssim"}


@pytest.mark.parametrize(
    "settings",
    [
        {"model": {"num_channels": 1}},
        {"model": {"keypoints": {**tiny._SMALL, "has_single_jacobian_map": True}}},
        {"model": {"keypoints": {**tiny._SMALL, "has_jacobian": False}}},
        {"augment": {"rotation_deg": 10, "resize": [0.8, 1.2]}, "transform": {"points_tps": 3}},
        {"draws_identities": True, "pairs_per_video": 5},
        {"train": {"precision": "bf16"}},
    ],
    ids=["grey", "single map", "no jacobian", "augmented", "identities", "bf16"],
)
def test_every_kind_of_training_takes_its_steps(trained, tmp_path, settings):
    sections = {
        name: {**tiny.CONFIG.get(name, {}), **values} if isinstance(values, dict) else values
        for name, values in settings.items()
    }
    config = tiny.changed(**sections)
    request = tiny.request(trained, config=config, run_dir=tmp_path / "run", max_steps=2)
    assert train(request, tiny.Heard())["step"] == 2


def test_a_frozen_keypoint_detector_keeps_its_weights_while_its_statistics_move(trained, tmp_path):
    config = tiny.changed(keypoint_learning_rate=0.0)
    run_dir = tmp_path / "run"
    request = tiny.request(trained, config=config, run_dir=run_dir, init_run=trained / "run")
    train(request.model_copy(update={"max_steps": 2}), tiny.Heard())
    before, after = (detector_state(each) for each in (newest(trained), newest(tmp_path)))
    names = [name for name in before if "running" not in name and "tracked" not in name]
    assert all(torch.equal(before[name], after[name]) for name in names)
    assert any(not torch.equal(before[name], after[name]) for name in before if "running" in name)


def detector_state(checkpoint: Path) -> dict[str, torch.Tensor]:
    from pipelines.fomm.networks import build

    detector = build(tiny.config().model).keypoint_detector
    load_weights(checkpoint, {"keypoint_detector": detector})
    return detector.state_dict()


def test_another_discriminator_begins_anew_on_the_weights_of_the_rest(trained, tmp_path):
    model = tiny.CONFIG["model"]
    changes = {**model["discriminator"], "sees_keypoints": True, "has_spectral_norm": True}
    config = tiny.changed(model={"discriminator": changes})
    heard = tiny.Heard()
    run_dir = tmp_path / "run"
    request = tiny.request(
        trained, config=config, run_dir=run_dir, init_run=trained / "run", max_steps=1
    )
    train(request, heard)
    assert "no discriminator that fits" in heard.of("warning")[0]["message"]


@pytest.mark.parametrize(
    ("settings", "message", "exit_code"),
    [
        ({"data": {"dataset": "nothing"}}, "nothing", EXIT_NO_DATA),
        ({"model": {"size_px": 64}}, "the data has frames of 32 px", EXIT_USAGE),
        ({"perceptual": {"backbone": "vgg19"}}, "no weights for the perceptual", EXIT_NO_DATA),
    ],
)
def test_what_is_missing_is_named_before_anything_is_trained(
    trained, tmp_path, settings, message, exit_code
):
    changes = {"config": tiny.changed(**settings), "run_dir": tmp_path / "run"}
    with pytest.raises(UserError, match=message) as caught:
        train(tiny.request(trained, **changes), tiny.Heard())
    assert caught.value.exit_code == exit_code
    assert list(caught.value.details)[-1] in ("run first", "or", "to fix", "or set")


def test_grey_data_is_refused_by_a_colour_model(tmp_path):
    tiny.prepare_squares(tmp_path / "data", channels=1)
    with pytest.raises(UserError, match="the data is grey") as caught:
        train(tiny.request(tmp_path), tiny.Heard())
    assert "num_channels=1" in caught.value.details["to fix"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": {**tiny.CONFIG["model"], "size_px": 36}}, "cannot be halved"),
        ({"losses": {"scales": [1, 0.25]}}, "16 are needed"),
        ({"augment": {"resize": [1.1, 0.9]}}, "smaller one first"),
    ],
)
def test_settings_that_do_not_go_together_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny.config(**settings)


def test_a_run_is_not_continued_with_another_network(trained, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(trained, root)
    config = tiny.changed(model={"num_keypoints": 4})
    with pytest.raises(UserError, match="other settings") as caught:
        train(tiny.request(root, config=config, max_steps=8), tiny.Heard())
    assert "was 3, now 4" in caught.value.details.values()


def test_all_rates_fall_at_the_milestones():
    config = tiny.config(milestones=[60, 90])
    assert [rate_scale(config, epoch) for epoch in (0, 59, 60, 90)] == pytest.approx(
        [1, 1, 0.1, 0.01]
    )
