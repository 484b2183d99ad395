from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from pipelines.events import Interrupted, UserError
from pipelines.files import read_json
from pipelines.training.checkpoint import WEIGHTS_NAME, load_weights, save_checkpoint
from pipelines.training.run_folder import freeze_weights, load_run, open_run, require_checkpoint
from tests.pipelines.training.toy import toy_state

REQUEST = {"stage": "1", "config": {"size_px": 64, "train": {"seed": 1, "log_every": 10}}}


def opened(run_dir, request=REQUEST, family="toy", stage="1"):
    return open_run(
        run_dir,
        family=family,
        stage=stage,
        request=request,
        fixed=("config.*",),
        free=("*.log_every",),
    )


def test_a_run_folder_tells_what_it_is_and_how_far(tmp_path):
    with opened(tmp_path / "a"):
        assert load_run(tmp_path / "a").status == "running"
    run = load_run(tmp_path / "a", family="toy", stage="1")
    assert (run.family, run.stage, run.status, run.request) == ("toy", "1", "done", REQUEST)


@pytest.mark.parametrize(
    ("error", "status"), [(Interrupted, "stopped"), (ValueError, "failed"), (UserError, "failed")]
)
def test_the_status_says_how_a_training_ended(tmp_path, error, status):
    with pytest.raises(error), opened(tmp_path):
        raise error("x")
    assert load_run(tmp_path).status == status


def test_a_continued_run_may_change_what_does_not_decide_the_result(tmp_path):
    with opened(tmp_path) as changes:
        assert changes == []
    other = {"stage": "1", "config": {"size_px": 64, "train": {"seed": 1, "log_every": 5}}}
    with opened(tmp_path, other) as changes:
        assert changes == ["config.train.log_every: was 10, now 5"]
    assert load_run(tmp_path).request == other


def test_a_continued_run_with_another_setting_is_refused_and_left_as_it_was(tmp_path):
    with opened(tmp_path):
        save_checkpoint(tmp_path, toy_state(), keep=1)
    other = {"stage": "1", "config": {"size_px": 32, "train": {"seed": 1, "log_every": 10}}}
    with pytest.raises(UserError, match="other settings") as caught, opened(tmp_path, other):
        pass
    assert caught.value.details["config.size_px"] == "was 64, now 32"
    assert caught.value.exit_code == 2
    assert load_run(tmp_path).request == REQUEST
    assert load_run(tmp_path).status == "done"


def test_before_its_first_checkpoint_a_run_takes_any_settings(tmp_path):
    with opened(tmp_path):
        pass
    other = {"stage": "1", "config": {"size_px": 32, "train": {"seed": 1, "log_every": 10}}}
    with opened(tmp_path, other) as changes:
        assert changes == ["config.size_px: was 64, now 32"]


def test_a_folder_of_another_family_or_stage_is_refused(tmp_path):
    with opened(tmp_path):
        pass
    with pytest.raises(UserError, match="is of family 'toy', not 'poke'"):
        load_run(tmp_path, family="poke")
    with pytest.raises(UserError, match="is stage 1 of toy, not stage 2"):
        load_run(tmp_path, family="toy", stage="2")
    with pytest.raises(UserError, match="is of family"), opened(tmp_path, family="poke"):
        pass


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(UserError, match="no run folder 'gone'"):
        load_run(tmp_path / "gone")
    with pytest.raises(UserError, match="is not a run folder") as caught:
        load_run(tmp_path)
    assert caught.value.exit_code == 4
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UserError, match="is not a run folder"):
        load_run(tmp_path)


def test_a_run_of_a_newer_format_is_refused(tmp_path):
    with opened(tmp_path):
        pass
    text = (tmp_path / "run.json").read_text().replace('"version": 1', '"version": 2')
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match="format 2"):
        load_run(tmp_path)


HOLD = """
import sys, time
from pathlib import Path
from tests.pipelines.training.test_run_folder import opened
with opened(Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(60)
"""


def test_two_processes_cannot_train_into_one_folder_and_a_killed_one_lets_go(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(UserError, match="another process is training"), opened(tmp_path):
            pass
        assert read_json(tmp_path / "run.json")["status"] == "running"
        other.send_signal(signal.SIGKILL)
        other.wait()
    with opened(tmp_path):
        pass


def test_frozen_weights_are_a_run_of_their_own(tmp_path):
    state = toy_state()
    with opened(tmp_path / "first"):
        folder = save_checkpoint(tmp_path / "first", state, keep=1)
    run = load_run(tmp_path / "first")
    freeze_weights(run, folder, tmp_path / "second" / "frozen" / "first")
    state.step = 5
    save_checkpoint(tmp_path / "first", state, keep=1)
    frozen = load_run(tmp_path / "second" / "frozen" / "first", family="toy", stage="1")
    kept = require_checkpoint(frozen, warn=pytest.fail)
    assert kept.name == "step-00000000"
    load_weights(kept, {"net": toy_state().modules["net"]})
    assert not (kept / "state.pt").exists()
    assert (kept / WEIGHTS_NAME).stat().st_size > 0


def test_a_run_without_a_checkpoint_names_the_next_command(tmp_path):
    with opened(tmp_path):
        pass
    with pytest.raises(UserError, match="no checkpoint yet") as caught:
        require_checkpoint(load_run(tmp_path), warn=pytest.fail)
    assert caught.value.details["run first"] == "i2v train toy --stage 1"
