"""`i2v train`: run folders that are made, continued, left alone, refused and replaced."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import yaml

from tests.cli.checkouts import PATIENCE_S, Workplace, wait_until

TRAIN = ("train", "cinn", "--stage")


@pytest.fixture
def prepared(workplace: Workplace) -> Workplace:
    """A workplace with frames to train on."""
    workplace.prepare()
    return workplace


def _status(run_dir: Path) -> str:
    return str(json.loads((run_dir / "run.json").read_text())["status"])


def _steps(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "checkpoints").iterdir())


def test_a_training_makes_a_run_folder_named_after_stage_and_preset(prepared: Workplace) -> None:
    done = prepared.i2v(*TRAIN, "1", "--preset", "demo")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "runs/cinn-stage1-demo\n"
    assert done.stderr.endswith("next: i2v train cinn --stage ae --preset demo\n")
    assert _status(prepared.runs / "cinn-stage1-demo") == "done"


def test_a_run_without_preset_is_named_after_its_dataset(workplace: Workplace) -> None:
    workplace.prepare("mine")
    done = workplace.i2v(*TRAIN, "ae", "--dataset", "mine", "ae.epochs=3")
    assert done.stdout == "runs/cinn-ae-mine\n"
    assert done.stderr.endswith("next: i2v train cinn --stage 2 --dataset mine ae.epochs=3\n")


def test_layers_win_in_the_order_defaults_preset_file_setting_option(
    prepared: Workplace,
) -> None:
    file = prepared.place / "mine.yaml"
    file.write_text("train: {seed: 5, keep: 5}\nstage1: {decoder_width: 5, batch_size: 5}\n")
    words = ("--preset", "demo", "--config", str(file), "--dry-run", "--seed", "7")
    envelope = prepared.json(*TRAIN, "1", *words, "train.seed=6", "stage1.batch_size=6")
    config = envelope["result"]["request"]["config"]
    assert config["train"]["seed"] == 7
    assert config["stage1"]["batch_size"] == 6
    assert config["stage1"]["decoder_width"] == 5
    assert config["train"]["keep"] == 5
    assert config["perceptual"]["backbone"] == "efficientnet-lite0"
    assert config["stage2"]["is_controlled"] is False


def test_dry_run_shows_what_is_missing_and_makes_nothing(workplace: Workplace) -> None:
    done = workplace.i2v(*TRAIN, "2", "--preset", "demo", "--dry-run")
    assert done.returncode == 0
    shown = done.stdout.splitlines()
    assert "# missing: prepared frames for dataset 'synthetic': data/synthetic/prepared" in shown
    assert "# missing: trained run of stage ae to build on: runs/cinn-ae-demo/checkpoints" in shown
    assert "# writes: run folder: runs/cinn-stage2-demo" in shown
    assert yaml.safe_load(done.stdout)["stage"] == "2"
    assert not workplace.runs.exists()


def test_a_finished_run_is_left_alone(prepared: Workplace) -> None:
    prepared.i2v(*TRAIN, "1")
    log_path = prepared.runs / "cinn-stage1-synthetic" / "job.json"
    before = log_path.stat().st_mtime_ns
    done = prepared.i2v(*TRAIN, "1")
    assert done.returncode == 0
    assert "already done" in done.stderr
    assert done.stdout == "runs/cinn-stage1-synthetic\n"
    assert log_path.stat().st_mtime_ns == before


def test_a_finished_run_goes_on_when_more_steps_are_asked_for(prepared: Workplace) -> None:
    prepared.i2v(*TRAIN, "1", "--max-steps", "8")
    done = prepared.i2v(*TRAIN, "1", "--max-steps", "9")
    assert "continuing the run 'cinn-stage1-synthetic' from step 8" in done.stderr
    assert "step-00000009" in _steps(prepared.runs / "cinn-stage1-synthetic")


def test_an_interrupted_run_is_continued_by_the_same_command(prepared: Workplace) -> None:
    run_dir = prepared.runs / "cinn-stage1-synthetic"
    process = prepared.start(*TRAIN, "1", "train.seed=1")
    wait_until((run_dir / "waiting").exists, "the training has begun")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "the newest checkpoint in runs/cinn-stage1-synthetic" in err
    assert "run the same command again" in err
    assert _status(run_dir) == "stopped"
    again = prepared.start(*TRAIN, "1", "train.seed=1")
    wait_until(lambda: _status(run_dir) == "running", "the training goes on")
    again.send_signal(signal.SIGINT)
    _, err = again.communicate(timeout=PATIENCE_S)
    assert "continuing the run 'cinn-stage1-synthetic' from step 5" in err


def test_two_trainings_in_one_run_folder_are_refused(prepared: Workplace) -> None:
    run_dir = prepared.runs / "cinn-stage1-synthetic"
    process = prepared.start(*TRAIN, "1", "train.seed=1")
    wait_until((run_dir / "waiting").exists, "the training has begun")
    for words in (("train.seed=1",), ("--overwrite",)):
        done = prepared.i2v(*TRAIN, "1", *words)
        assert done.returncode == 2
        assert "is being trained by another process" in done.stderr
    assert prepared.i2v("runs", "rm", run_dir.name, "--yes").returncode == 2
    assert "running" in prepared.i2v("runs", "list").stdout
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)


def test_other_settings_for_a_run_that_has_learned_are_refused(prepared: Workplace) -> None:
    prepared.i2v(*TRAIN, "1")
    done = prepared.i2v(*TRAIN, "1", "stage1.batch_size=3", "train.seed=7")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: the run 'cinn-stage1-synthetic' was started with other settings",
        "  stage1.batch_size   was 10, now 3",
        "  train.seed          was 42, now 7",
        "  to go on with it    add --resume and leave the settings out",
        "  to keep it          give another --name",
        "  to replace it       add --overwrite",
    ]


def test_settings_that_decide_nothing_may_change(prepared: Workplace) -> None:
    prepared.i2v(*TRAIN, "1")
    done = prepared.i2v(*TRAIN, "1", "--device", "cpu", "train.log_every=3", "train.keep=9")
    assert done.returncode == 0, done.stderr


def test_resume_takes_the_settings_from_the_run(prepared: Workplace) -> None:
    prepared.i2v(*TRAIN, "1", "--max-steps", "8", "stage1.batch_size=3", "--name", "small")
    done = prepared.i2v(*TRAIN, "1", "--name", "small", "--resume", "--max-steps", "9")
    assert done.returncode == 0, done.stderr
    request = yaml.safe_load((prepared.runs / "small" / "config.yaml").read_text())
    assert request["config"]["stage1"]["batch_size"] == 3
    assert request["max_steps"] == 9


def test_overwrite_replaces_a_run(prepared: Workplace) -> None:
    run_dir = prepared.runs / "cinn-stage1-synthetic"
    prepared.i2v(*TRAIN, "1", "--max-steps", "8")
    done = prepared.i2v(*TRAIN, "1", "train.seed=7", "--overwrite", "--max-steps", "6")
    assert done.returncode == 0, done.stderr
    assert _steps(run_dir) == ["step-00000005", "step-00000006"]
    assert [path.name for path in prepared.runs.iterdir()] == [run_dir.name]


def test_overwrite_replaces_a_damaged_run_too(prepared: Workplace) -> None:
    run_dir = prepared.runs / "cinn-stage1-synthetic"
    run_dir.mkdir(parents=True)
    (run_dir / "run.json").write_text("{")
    assert prepared.i2v(*TRAIN, "1").returncode == 1
    assert prepared.i2v(*TRAIN, "1", "--overwrite").returncode == 0
    assert _status(run_dir) == "done"


def test_a_run_is_put_back_when_what_should_replace_it_fails_at_once(prepared: Workplace) -> None:
    run_dir = prepared.runs / "cinn-stage1-synthetic"
    prepared.i2v(*TRAIN, "1", "--max-steps", "8")
    done = prepared.i2v(*TRAIN, "1", "train.seed=2", "--overwrite")
    assert done.returncode == 1
    assert _steps(run_dir) == ["step-00000005", "step-00000008"]
    assert _status(run_dir) == "done"
    assert [path.name for path in prepared.runs.iterdir()] == [run_dir.name]


def test_a_run_that_has_learned_nothing_gives_way_to_other_settings(prepared: Workplace) -> None:
    assert prepared.i2v(*TRAIN, "1", "train.seed=2").returncode == 1
    assert prepared.i2v(*TRAIN, "1", "train.seed=3").returncode == 0


def test_a_run_of_another_stage_is_not_touched(prepared: Workplace) -> None:
    prepared.i2v(*TRAIN, "1", "--name", "x")
    done = prepared.i2v(*TRAIN, "ae", "--name", "x")
    assert done.returncode == 2
    assert "the run 'x' holds stage 1 of cinn" in done.stderr


def test_stage_2_takes_the_runs_of_the_same_preset(prepared: Workplace) -> None:
    for stage in ("1", "ae", "2"):
        done = prepared.i2v(*TRAIN, stage, "--preset", "demo")
        assert done.returncode == 0, done.stderr
    request = json.loads((prepared.runs / "cinn-stage2-demo" / "job.json").read_text())["config"]
    assert request["stage1_run"] == str(prepared.runs / "cinn-stage1-demo")
    assert request["ae_run"] == str(prepared.runs / "cinn-ae-demo")
    assert done.stderr.endswith("next: i2v sample cinn --run cinn-stage2-demo --image FILE\n")


def test_stage_2_names_the_stage_that_is_missing_and_how_to_train_it(prepared: Workplace) -> None:
    prepared.i2v(*TRAIN, "1", "--preset", "demo")
    done = prepared.i2v(*TRAIN, "2", "--preset", "demo")
    assert done.returncode == 4
    assert done.stderr.splitlines() == [
        "error: no trained run of stage ae to build on",
        "  looked in   runs/cinn-ae-demo/checkpoints",
        "  run first   i2v train cinn --stage ae --preset demo",
        "  or          name another run with --ae-run",
    ]


def test_stage_2_takes_the_runs_that_are_named_and_checks_their_stage(
    prepared: Workplace,
) -> None:
    prepared.i2v(*TRAIN, "1", "--name", "first")
    named = prepared.i2v(*TRAIN, "ae", "--name", "second")
    assert named.stderr.endswith("next: i2v train cinn --stage 2 --ae-run second\n")
    swapped = prepared.i2v(*TRAIN, "2", "--stage1-run", "second", "--ae-run", "second")
    assert swapped.returncode == 2
    assert "--stage1-run: run 'second' holds stage ae, not 1" in swapped.stderr
    done = prepared.i2v(*TRAIN, "2", "--stage1-run", "first", "--ae-run", "second")
    assert done.returncode == 0, done.stderr


def test_the_config_of_a_run_folder_is_enough_to_run_again(prepared: Workplace) -> None:
    prepared.i2v(*TRAIN, "1", "stage1.batch_size=3")
    config = prepared.runs / "cinn-stage1-synthetic" / "config.yaml"
    done = prepared.i2v(*TRAIN, "1", "--config", str(config), "--name", "again")
    assert done.returncode == 0, done.stderr
    request = json.loads((prepared.runs / "again" / "job.json").read_text())["config"]
    assert request["config"]["stage1"]["batch_size"] == 3
