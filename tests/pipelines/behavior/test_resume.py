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

from pipelines.behavior.config import TrainRequest
from pipelines.behavior.data import open_poses
from pipelines.behavior.train import train
from pipelines.events import Interrupted
from pipelines.training.checkpoint import WEIGHTS_NAME, list_checkpoints
from pipelines.training.run_folder import load_run
from tests.pipelines.behavior import tiny
from tests.pipelines.training.toy import assert_equal_trees

ROOT = Path(__file__).parents[3]

STUCK = """
import sys, time
from tests.pipelines.behavior import tiny
from pipelines.behavior.config import TrainRequest
from pipelines.behavior.train import train
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
    assert process.returncode == -signal.SIGKILL


def newest(root: Path, stage: str) -> Path:
    return list_checkpoints(root / "runs" / stage)[0]


def next_batch(root: Path, stage: str) -> dict[str, np.ndarray]:
    """The batch that a training would see next, found from its newest checkpoint alone."""
    state = torch.load(newest(root, stage) / "state.pt", weights_only=True)
    data = open_poses(root / "data", tiny.config(), tiny.Heard())
    batches = data.batches(batch_size=4, first_batch=state["step"])
    return next(islice(batches, 1))


@pytest.mark.parametrize("stage", ["1", "2"])
def test_killed_and_resumed_training_equals_uninterrupted_training_bit_by_bit(
    trained, tmp_path, stage
):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    request = tiny.request(tmp_path, stage, max_steps=6)
    shutil.rmtree(request.run_dir)
    train_and_kill(request)
    assert [path.name for path in list_checkpoints(request.run_dir)] == ["step-00000003"]
    assert load_run(request.run_dir).status == "running"

    heard = tiny.Heard()
    result = train(request, heard)
    assert result["step"] == 6
    assert "going on from step 3" in [each["text"] for each in heard.of("log")]

    expected, found = newest(trained, stage), newest(tmp_path, stage)
    weights, expected_weights = ((f / WEIGHTS_NAME).read_bytes() for f in (found, expected))
    assert weights == expected_weights
    state, expected_state = (
        torch.load(folder / "state.pt", weights_only=True) for folder in (found, expected)
    )
    assert state["optimizers"]
    assert_equal_trees(expected_state, state)
    meta, expected_meta = (json.loads((f / "meta.json").read_text()) for f in (found, expected))
    assert meta["validation"] == expected_meta["validation"]
    mine, theirs = next_batch(tmp_path, stage), next_batch(trained, stage)
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_the_six_steps_see_several_epochs_and_the_tuning_at_their_end(trained):
    """So that the test above sees a switch of the learning rate, and the net at rest."""
    data = open_poses(trained / "data", tiny.config(), tiny.Heard())
    epochs = [data.sampler.epoch_at(4 * step) for step in range(6)]
    assert epochs == [0, 0, 1, 1, 2, 2]
    metrics = json.loads((newest(trained, "1") / "meta.json").read_text())
    assert metrics["epoch"] == 3


def test_the_baseline_resumes_too(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.behavior.preview.write_preview", lambda *_: None)
    config = tiny.changed(stage1={"kind": "mt-vae"})
    for name, stops in (("whole", (4,)), ("parts", (2, 4))):
        for steps in stops:
            run_dir = tmp_path / name
            changes = {"config": config, "run_dir": run_dir, "max_steps": steps}
            train(tiny.request(trained, "1", **changes), tiny.Heard())
    files = [list_checkpoints(tmp_path / n)[0] / WEIGHTS_NAME for n in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_run_that_is_stopped_saves_at_once(trained, tmp_path):
    request = tiny.request(trained, "1", run_dir=tmp_path / "run", max_steps=6)

    class Stopped(tiny.Heard):
        def progress(self, task, done, total=None, unit=""):
            if done == 4:
                self.ask_to_stop()

    with pytest.raises(Interrupted):
        train(request, Stopped())
    assert list_checkpoints(request.run_dir)[0].name == "step-00000004"
    train(request, tiny.Heard())
    found = list_checkpoints(request.run_dir)[0] / WEIGHTS_NAME
    assert found.read_bytes() == (newest(trained, "1") / WEIGHTS_NAME).read_bytes()
