from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from pipelines.events import UserError
from pipelines.training import background, checkpoint
from pipelines.training.checkpoint import (
    STATE_NAME,
    WEIGHTS_NAME,
    find_checkpoint,
    list_checkpoints,
    restore,
    save_checkpoint,
)
from pipelines.training.run_folder import load_run, open_run
from tests.pipelines.training.toy import assert_equal_states, toy_state, train_toy

ROOT = Path(__file__).parents[3]
BOTH = (WEIGHTS_NAME, STATE_NAME)
KILLS = 50


def opened(run_dir: Path):
    return open_run(run_dir, family="toy", stage="1", request={}, fixed=())


@pytest.fixture
def always_in_background(monkeypatch):
    monkeypatch.setattr(checkpoint, "_WORTH_A_COPY", 0)


@pytest.fixture
def folder_in_memory(tmp_path):
    """Where waiting for a disk costs nothing, if there is such a place: a kill loses no pages."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_killed_at_random_moments_the_newest_complete_checkpoint_always_loads(folder_in_memory):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.pipelines.training.killed",
            str(folder_in_memory),
            str(KILLS),
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(steps) == KILLS
    assert steps == sorted(steps), "a step that was on disk is lost"
    assert steps[-1] > 10, "the trainings were killed before they saved anything"


def test_a_clock_that_was_set_back_changes_nothing(tmp_path, monkeypatch):
    state = toy_state()
    for state.step, now in ((1, 2_000_000_000), (2, 1_000_000_000)):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        folder = save_checkpoint(tmp_path, state, keep=2)
        for path in (folder, *folder.iterdir()):
            os.utime(path, (now, now))
    found = find_checkpoint(tmp_path, files=BOTH, warn=pytest.fail)
    assert found is not None and found.name == "step-00000002"


def test_a_save_in_the_background_is_what_the_state_was_then(tmp_path, always_in_background):
    state, then = toy_state(), toy_state()
    with opened(tmp_path):
        train_toy(state, 2)
        train_toy(then, 2)
        save_checkpoint(tmp_path, state, keep=1)
        train_toy(state, 5)
    restored = toy_state()
    restore(list_checkpoints(tmp_path)[0], restored)
    assert_equal_states(restored, then)


def test_a_training_goes_on_while_its_checkpoint_is_written(
    tmp_path, monkeypatch, always_in_background
):
    may_write = threading.Event()
    write = checkpoint._write_files

    def wait_and_write(*arguments):
        assert may_write.wait(20)
        write(*arguments)

    monkeypatch.setattr(checkpoint, "_write_files", wait_and_write)
    state = toy_state()
    with opened(tmp_path):
        folder = save_checkpoint(tmp_path, state, keep=1)
        assert not folder.exists()
        train_toy(state, 2)
        may_write.set()
        assert list_checkpoints(tmp_path) == [folder], "who looks for checkpoints waits for it"


def test_a_disk_that_gets_full_in_the_background_is_told_and_the_run_has_failed(
    tmp_path, monkeypatch, always_in_background
):
    def full(*_):
        raise OSError(28, os.strerror(28))

    state = toy_state()
    with pytest.raises(UserError, match="no space left"), opened(tmp_path):
        save_checkpoint(tmp_path, state, keep=2)
        background.finish(tmp_path)
        monkeypatch.setattr(checkpoint, "_write_files", full)
        state.step = 1
        save_checkpoint(tmp_path, state, keep=2)
    assert load_run(tmp_path).status == "failed"
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000000"]


def test_a_second_training_into_the_same_folder_is_refused(tmp_path):
    with opened(tmp_path), pytest.raises(UserError, match="another process"), opened(tmp_path):
        pass
