from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import torch

from pipelines.events import UserError
from pipelines.training import checkpoint
from pipelines.training.checkpoint import (
    STATE_NAME,
    WEIGHTS_NAME,
    find_best_checkpoint,
    find_checkpoint,
    list_checkpoints,
    load_weights,
    restore,
    save_checkpoint,
)
from tests.pipelines.training.toy import assert_equal_states, toy_state, train_toy

BOTH = (WEIGHTS_NAME, STATE_NAME)


def silent(message: str) -> None:
    pass


def steps_on_disk(run_dir) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in list_checkpoints(run_dir)]


def test_a_restored_state_equals_the_saved_one_and_trains_on_alike(tmp_path):
    state = toy_state()
    train_toy(state, 3)
    folder = save_checkpoint(tmp_path, state, keep=2)
    other = toy_state()
    train_toy(other, 5)
    restore(folder, other)
    assert_equal_states(state, other)
    train_toy(state, 6)
    train_toy(other, 6)
    assert_equal_states(state, other)


def test_the_state_file_needs_no_trust(tmp_path):
    folder = save_checkpoint(tmp_path, toy_state(), keep=1)
    stored = torch.load(folder / STATE_NAME, weights_only=True)
    assert set(stored) == {"optimizers", "generators", "scalars", "step"}


def test_only_the_newest_are_kept(tmp_path):
    state = toy_state()
    for state.step in (1, 2, 9, 10, 11):
        save_checkpoint(tmp_path, state, keep=2)
    assert steps_on_disk(tmp_path) == [11, 10]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "step-00000010",
        "step-00000011",
    ]


def scored(value: float, metric: str = "fvd") -> dict[str, object]:
    return {"score": {"metric": metric, "value": value}}


def test_the_best_checkpoint_is_kept_and_found_however_old_it_is(tmp_path):
    state = toy_state()
    for state.step, value in ((1, 30.0), (2, 10.0), (3, 20.0), (4, 25.0), (5, 40.0)):
        save_checkpoint(tmp_path, state, keep=2, about=scored(value))
    assert steps_on_disk(tmp_path) == [5, 4, 2]
    assert find_best_checkpoint(tmp_path, warn=pytest.fail).name == "step-00000002"
    assert find_checkpoint(tmp_path, files=BOTH, warn=pytest.fail).name == "step-00000005"


def test_without_scores_the_newest_checkpoint_is_the_best(tmp_path):
    state = toy_state()
    for state.step in (1, 2):
        save_checkpoint(tmp_path, state, keep=2)
    assert find_best_checkpoint(tmp_path, warn=pytest.fail).name == "step-00000002"


def test_scores_of_another_metric_than_the_newest_do_not_count(tmp_path):
    state = toy_state()
    for state.step, value, metric in ((1, 0.1, "l1"), (2, 50.0, "fvd"), (3, 60.0, "fvd")):
        save_checkpoint(tmp_path, state, keep=3, about=scored(value, metric))
    assert find_best_checkpoint(tmp_path, warn=pytest.fail).name == "step-00000002"


def test_a_damaged_best_checkpoint_gives_way_to_the_next_best(tmp_path):
    state = toy_state()
    for state.step, value in ((1, 30.0), (2, 10.0), (3, 20.0)):
        folder = save_checkpoint(tmp_path, state, keep=3, about=scored(value))
        if state.step == 2:
            (folder / WEIGHTS_NAME).write_bytes(b"broken")
    heard: list[str] = []
    assert find_best_checkpoint(tmp_path, warn=heard.append).name == "step-00000003"
    assert "step-00000002 is damaged" in heard[0]


def test_what_a_killed_process_left_half_written_is_ignored_and_cleared(tmp_path):
    state = toy_state()
    save_checkpoint(tmp_path, state, keep=2)
    leftover = tmp_path / "checkpoints" / ".step-00000005.abc.part"
    leftover.mkdir()
    (leftover / WEIGHTS_NAME).write_bytes(b"half")
    assert steps_on_disk(tmp_path) == [0]
    state.step = 7
    save_checkpoint(tmp_path, state, keep=2)
    assert not leftover.exists()


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / WEIGHTS_NAME).write_bytes(
            (folder / WEIGHTS_NAME).read_bytes()[:-7]
        ),
        lambda folder: (folder / STATE_NAME).unlink(),
        lambda folder: (folder / "meta.json").write_text('{"step": 2, "fil'),
        lambda folder: (folder / "meta.json").unlink(),
        lambda folder: (folder / STATE_NAME).write_bytes(
            (folder / STATE_NAME).read_bytes()[:-1] + b"\x01"
        ),
    ],
    ids=["truncated", "missing", "torn meta", "no meta", "one changed byte"],
)
def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(tmp_path, harm):
    state = toy_state()
    for state.step in (1, 2):
        save_checkpoint(tmp_path, state, keep=2)
    newest, older = list_checkpoints(tmp_path)
    harm(newest)
    warnings: list[str] = []
    assert find_checkpoint(tmp_path, files=BOTH, warn=warnings.append) == older
    assert len(warnings) == 1
    assert str(newest) in warnings[0]
    with pytest.raises(UserError, match="checkpoint is damaged") as caught:
        restore(newest, toy_state())
    assert caught.value.details["checkpoint"] == str(newest)
    harm(older)
    with pytest.raises(UserError, match="checkpoint is damaged"):
        find_checkpoint(tmp_path, files=BOTH, warn=silent)


def test_a_damaged_newer_checkpoint_does_not_push_out_the_sound_ones(tmp_path):
    state = toy_state()
    for state.step in (3, 6):
        save_checkpoint(tmp_path, state, keep=2)
    (list_checkpoints(tmp_path)[0] / WEIGHTS_NAME).write_bytes(b"")
    state.step = 4
    save_checkpoint(tmp_path, state, keep=1)
    found = find_checkpoint(tmp_path, files=BOTH, warn=silent)
    assert found is not None
    assert found.name == "step-00000004"


def test_sampling_does_not_need_the_optimizers(tmp_path):
    folder = save_checkpoint(tmp_path, toy_state(), keep=1)
    (folder / STATE_NAME).unlink()
    assert find_checkpoint(tmp_path, files=(WEIGHTS_NAME,), warn=silent) == folder


def test_a_run_without_checkpoints_has_none(tmp_path):
    assert find_checkpoint(tmp_path, files=BOTH, warn=silent) is None


def test_one_network_can_be_loaded_alone(tmp_path):
    state = toy_state()
    folder = save_checkpoint(tmp_path, state, keep=1)
    net = torch.nn.Linear(4, 1)
    load_weights(folder, {"net": net})
    assert torch.equal(net.weight, state.modules["net"].weight)


@pytest.mark.parametrize(
    ("modules", "reason"),
    [
        ({"net": torch.nn.Linear(5, 1)}, r"net.weight is \[1, 4\], not \[1, 5\]"),
        ({"other": torch.nn.Linear(4, 1)}, "it has no other.weight"),
        ({"net": torch.nn.Linear(4, 1, bias=False)}, "its net.bias is unknown"),
    ],
)
def test_weights_of_other_networks_are_refused(tmp_path, modules, reason):
    folder = save_checkpoint(tmp_path, toy_state(), keep=1)
    with pytest.raises(UserError, match="does not fit") as caught:
        load_weights(folder, modules)
    assert re.search(reason, caught.value.details["reason"])


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    state = toy_state()
    save_checkpoint(tmp_path, state, keep=1)
    state.step = 1
    with torch.no_grad():
        state.modules["net"].weight[0, 2] = float("inf")
    with pytest.raises(UserError, match=r"diverged at step 1: weight net\.weight"):
        save_checkpoint(tmp_path, state, keep=1)
    assert steps_on_disk(tmp_path) == [0]


FULL_DISK = """
import resource, sys
from pathlib import Path
from pipelines.events import UserError
from pipelines.training.checkpoint import save_checkpoint
from tests.pipelines.training.toy import toy_state, toy_batches, toy_step
import torch
state = toy_state(width=40_000)
toy_step(state, torch.from_numpy(next(toy_batches(0, width=40_000))))
save_checkpoint(Path(sys.argv[1]), toy_state(), keep=2)
state.step = 1
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    save_checkpoint(Path(sys.argv[1]), state, keep=1)
except UserError as error:
    print(error.message)
"""


@pytest.mark.parametrize("limit", [100_000, 1_000_000], ids=["in the weights", "in the state"])
def test_a_full_disk_is_named_and_leaves_the_older_checkpoint_intact(tmp_path, limit):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), str(limit)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "no space left on the disk for a checkpoint", done.stderr
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-00000000"]
    restore(list_checkpoints(tmp_path)[0], toy_state())


def test_too_little_free_space_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
    usage = checkpoint.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(UserError, match="no space left") as caught:
        save_checkpoint(tmp_path, toy_state(), keep=1)
    assert "are free" in caught.value.details["reason"]


def test_meta_names_the_files_and_what_the_caller_adds(tmp_path):
    folder = save_checkpoint(tmp_path, toy_state(), keep=1, about={"validation": {"psnr": 20.5}})
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["validation"] == {"psnr": 20.5}
    assert meta["files"][WEIGHTS_NAME]["bytes"] == (folder / WEIGHTS_NAME).stat().st_size
