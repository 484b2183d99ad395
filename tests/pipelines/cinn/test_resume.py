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

from pipelines.cinn.config import TrainRequest
from pipelines.cinn.train import train
from pipelines.clips.batches import training_batches
from pipelines.clips.training_data import open_training_data
from pipelines.events import Interrupted
from pipelines.training.checkpoint import WEIGHTS_NAME, list_checkpoints
from pipelines.training.run_folder import load_run
from tests.pipelines.cinn import tiny
from tests.pipelines.training.toy import assert_equal_trees

ROOT = Path(__file__).parents[3]

STUCK = """
import sys, time
from tests.pipelines.cinn import tiny
from pipelines.cinn.config import TrainRequest
from pipelines.cinn.train import train

class Stuck(tiny.Heard):
    def progress(self, task, done, total=None, unit=""):
        if done == 5:
            print("two steps after the checkpoint", flush=True)
            time.sleep(600)

train(TrainRequest.model_validate_json(sys.argv[1]), Stuck())
"""


def train_and_kill(request: TrainRequest) -> None:
    """Train in a process of its own, killed two steps after the checkpoint of step 3."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", STUCK, request.model_dump_json()],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    ) as process:
        line = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert line == "two steps after the checkpoint\n"
    assert process.returncode == -signal.SIGKILL


def copied(trained: Path, root: Path) -> Path:
    """The prepared data and the runs that a stage is built on, in a folder of its own."""
    shutil.copytree(trained / "data", root / "data")
    for stage in ("1", "ae"):
        shutil.copytree(trained / "runs" / stage, root / "runs" / stage)
    return root


def newest(root: Path, stage: str) -> Path:
    return list_checkpoints(root / "runs" / stage)[0]


def next_batch(root: Path, stage: str) -> np.ndarray:
    """The batch that a training would see next, found from its newest checkpoint alone."""
    state = torch.load(newest(root, stage) / "state.pt", weights_only=True)
    config = tiny.config()
    section = {"1": config.stage1, "ae": config.ae, "2": config.stage2}[stage]
    data = open_training_data(
        root / "data",
        config.data,
        sizes_px=(tiny.SIZE_PX,),
        num_frames=1 if stage == "ae" else tiny.NUM_FRAMES + 1,
        repeats=1,
        seed=config.train.seed,
        work=tiny.Heard(),
    )
    batches = training_batches(
        data.videos, data.sampler, batch_size=section.batch_size, first_batch=state["step"]
    )
    return next(islice(batches, 1))


@pytest.mark.parametrize("stage", ["1", "ae", "2"])
def test_killed_and_resumed_training_equals_uninterrupted_training_bit_by_bit(
    trained, tmp_path, stage
):
    root = copied(trained, tmp_path)
    request = tiny.request(root, stage, max_steps=6)
    if stage != "2":
        shutil.rmtree(request.run_dir)
    train_and_kill(request)
    assert [path.name for path in list_checkpoints(request.run_dir)] == ["step-00000003"]
    assert load_run(request.run_dir).status == "running"

    heard = tiny.Heard()
    result = train(request, heard)
    assert result["step"] == 6
    assert "going on from step 3" in [each["text"] for each in heard.of("log")]

    expected, found = newest(trained, stage), newest(root, stage)
    weights, expected_weights = ((f / WEIGHTS_NAME).read_bytes() for f in (found, expected))
    assert weights == expected_weights
    state, expected_state = (
        torch.load(folder / "state.pt", weights_only=True) for folder in (found, expected)
    )
    assert state["optimizers"]
    assert_equal_trees(expected_state, state)
    meta, expected_meta = (json.loads((f / "meta.json").read_text()) for f in (found, expected))
    assert meta["validation"] == expected_meta["validation"]
    assert np.array_equal(next_batch(root, stage), next_batch(trained, stage))


def test_a_run_that_is_stopped_saves_at_once_and_goes_on_to_the_same_end(trained, tmp_path):
    root = copied(trained, tmp_path)
    request = tiny.request(root, "2", max_steps=6)

    class Stopped(tiny.Heard):
        def progress(self, task, done, total=None, unit=""):
            if done == 4:
                self.ask_to_stop()

    with pytest.raises(Interrupted):
        train(request, Stopped())
    assert newest(root, "2").name == "step-00000004"
    assert load_run(request.run_dir).status == "stopped"
    train(request, tiny.Heard())
    expected, found = newest(trained, "2"), newest(root, "2")
    assert (found / WEIGHTS_NAME).read_bytes() == (expected / WEIGHTS_NAME).read_bytes()


def test_a_damaged_newest_checkpoint_costs_the_steps_since_the_one_before(trained, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(trained, root)
    damaged = newest(root, "2") / "state.pt"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    heard = tiny.Heard()
    train(tiny.request(root, "2", max_steps=6), heard)
    assert "step-00000006 is damaged" in heard.of("warning")[0]["message"]
    expected = newest(trained, "2") / WEIGHTS_NAME
    assert (newest(root, "2") / WEIGHTS_NAME).read_bytes() == expected.read_bytes()
