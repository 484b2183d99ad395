"""What a user can get wrong: one clear message, the right exit code, nothing half-written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import TINY, Answer, Desk


def expect_error(answer: Answer, code: int, *words: str) -> None:
    """The message has style: what happened on one line, labelled details below, no traceback."""
    assert answer.code == code, answer.err
    assert answer.err.lstrip().startswith("error: ") or "\nerror: " in answer.err
    assert "Traceback" not in answer.err
    for word in words:
        assert word in answer.err, answer.err


@pytest.fixture
def other_runs(desk: Desk, tmp_path: Path) -> Path:
    """A copy of the stage-2 run that a test may damage."""
    copy = tmp_path / "damaged"
    shutil.copytree(desk.run_dir("2"), copy)
    return copy


def test_unknown_names_are_answered_with_the_nearest_one(desk: Desk) -> None:
    expect_error(desk.i2v("train", "cin", "--stage", "1"), 2, "'cin'", "cinn")
    expect_error(desk.i2v("train", "cinn", "--stage", "1", "--preset", "tyny"), 2, "tiny")
    expect_error(desk.i2v("download", "synthetik"), 2, "synthetic")
    misspelt = desk.i2v("train", "cinn", "--stage", "1", *TINY, "stage1.batchsize=4", "--name", "x")
    expect_error(misspelt, 2, "batchsize", "batch_size")
    bound = desk.i2v("train", "cinn", "--stage", "1", *TINY, "stage1.batch_size=0", "--name", "x")
    expect_error(bound, 2, "stage1.batch_size")
    assert not (desk.path / "runs" / "x").exists()


def test_data_that_is_not_there_names_the_command_that_makes_it(desk: Desk) -> None:
    answer = desk.i2v("train", "cinn", "--stage", "1", *TINY, "data.dataset=nothing", "--name", "y")
    expect_error(answer, 4, "nothing", "i2v extract-frames")


def test_folders_that_are_missing_or_empty_are_named(desk: Desk, tmp_path: Path) -> None:
    expect_error(desk.i2v("extract-frames", tmp_path / "absent"), 4, "absent")
    (tmp_path / "empty").mkdir()
    expect_error(desk.i2v("extract-frames", tmp_path / "empty"), 4, "empty")
    assert not (desk.path / "data" / "empty" / "prepared" / "64px").exists()


def test_an_image_that_cannot_be_read_is_named(desk: Desk, tmp_path: Path) -> None:
    broken = tmp_path / "broken photo.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    answer = desk.i2v(
        "sample", "cinn", "--run", desk.run_dir("2"), "--image", broken, "--out", tmp_path / "out"
    )
    expect_error(answer, 4, "broken photo.png")
    assert not (tmp_path / "out").exists()


def test_a_run_of_another_stage_cannot_be_sampled(
    desk: Desk, start_images: list[Path], tmp_path: Path
) -> None:
    answer = desk.i2v(
        "sample", "cinn", "--run", desk.run_dir("1"), "--image", start_images[0], "--out",
        tmp_path / "out",
    )  # fmt: skip
    assert answer.code in (2, 4)
    expect_error(answer, answer.code, "stage")
    assert not (tmp_path / "out").exists()


def test_a_truncated_checkpoint_is_told_apart_from_a_sound_one(
    desk: Desk, other_runs: Path, start_images: list[Path], tmp_path: Path
) -> None:
    for weights in other_runs.glob("checkpoints/*/weights.safetensors"):
        weights.write_bytes(weights.read_bytes()[:1000])
    answer = desk.i2v(
        "sample", "cinn", "--run", other_runs, "--image", start_images[0], "--out",
        tmp_path / "out",
    )  # fmt: skip
    expect_error(answer, 4, "checkpoint", "weights.safetensors")


@pytest.mark.parametrize("asked", [("--frames", "0"), ("--frames", "-3"), ("frames=0",)])
def test_a_video_without_frames_is_refused_before_anything_starts(
    desk: Desk, start_images: list[Path], tmp_path: Path, asked: tuple[str, ...]
) -> None:
    answer = desk.i2v(
        "sample", "cinn", "--run", desk.run_dir("2"), "--image", start_images[0], *asked,
        "--out", tmp_path / "out",
    )  # fmt: skip
    expect_error(answer, 2, "frames", f"must be at least 1, not {asked[-1].split('=')[-1]}")
    assert not (tmp_path / "out").exists()


def test_a_short_source_of_motion_is_refused(
    desk: Desk, start_images: list[Path], tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(3):
        shutil.copy(start_images[0], frames / f"{number}.png")
    answer = desk.i2v(
        "transfer", "cinn", "--run", desk.run_dir("2"), "--source", frames,
        "--image", start_images[0], "--out", tmp_path / "out",
    )  # fmt: skip
    expect_error(answer, 4, "3 frames")
