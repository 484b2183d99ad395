"""Boards show what the record says: every scalar, picture and video, once."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipelines.events import UserError, Work
from pipelines.io.images import write_png
from pipelines.io.video import write_mp4
from pipelines.schema import LogConfig
from pipelines.training.tracking import FOLDER_NAME, RECORD_NAME, Tracker

FRAMES = np.random.default_rng(0).integers(0, 255, (4, 32, 48, 3), np.uint8)


def recorded(run_dir: Path) -> Work:
    return Work(record=run_dir / RECORD_NAME)


def shown(run_dir: Path) -> EventAccumulator:
    board = EventAccumulator(str(run_dir / FOLDER_NAME), size_guidance={"scalars": 0, "images": 0})
    return board.Reload()


def curve(run_dir: Path, name: str) -> list[tuple[int, float]]:
    return [(each.step, round(each.value, 6)) for each in shown(run_dir).Scalars(name)]


def test_every_term_of_the_record_becomes_a_curve(tmp_path):
    work = recorded(tmp_path)
    tracker = Tracker(tmp_path, LogConfig())
    work.metric(2, {"loss": 1.5, "kl": 0.25, "penalty": float("nan")})
    tracker.draw()
    work.metric(4, {"loss": 1.25})
    work.metric(4, {"val_l1": 0.5})
    tracker.close()
    assert curve(tmp_path, "training/loss") == [(2, 1.5), (4, 1.25)]
    assert curve(tmp_path, "training/kl") == [(2, 0.25)]
    assert curve(tmp_path, "validation/l1") == [(4, 0.5)]
    assert "training/penalty" not in shown(tmp_path).Tags()["scalars"]


def test_a_continued_training_repeats_nothing_and_waits_for_whole_lines(tmp_path):
    work = recorded(tmp_path)
    work.metric(1, {"loss": 1.0})
    Tracker(tmp_path, LogConfig()).close()
    with (tmp_path / RECORD_NAME).open("a") as stream:
        stream.write('{"event": "metric", "time": 1, "step": 2, "val')
    tracker = Tracker(tmp_path, LogConfig())
    tracker.draw()
    with (tmp_path / RECORD_NAME).open("a") as stream:
        stream.write('ues": {"loss": 2.0}}\n')
    tracker.close()
    assert curve(tmp_path, "training/loss") == [(1, 1.0), (2, 2.0)]


def test_grids_are_shown_as_picture_and_as_moving_video(tmp_path):
    folder = tmp_path / "samples" / "reconstruction"
    write_png(folder / "grid.png", FRAMES[0])
    write_mp4(folder / "grid.mp4", FRAMES, 8)
    work = recorded(tmp_path)
    work.metric(7, {"loss": 1.0})
    for name in ("grid.png", "grid.mp4"):
        work.artifact(folder / name, "grid")
    work.artifact(folder, "videos")
    Tracker(tmp_path, LogConfig()).close()
    (picture,) = shown(tmp_path).Images("reconstruction")
    (video,) = shown(tmp_path).Images("reconstruction video")
    assert (picture.step, picture.width, picture.height) == (7, 48, 32)
    assert picture.encoded_image_string == (folder / "grid.png").read_bytes()
    assert video.encoded_image_string.startswith(b"GIF8")


def test_without_boards_nothing_is_written(tmp_path):
    recorded(tmp_path).metric(1, {"loss": 1.0})
    Tracker(tmp_path, LogConfig(tensorboard=False)).close()
    assert [path.name for path in tmp_path.iterdir()] == [RECORD_NAME]


def test_a_missing_wandb_is_said_with_the_way_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="'wandb' is not in this environment") as caught:
        Tracker(tmp_path, LogConfig(wandb=True))
    assert caught.value.exit_code == 3
    assert "pip install wandb" in caught.value.details["to fix"]


def test_wandb_gets_the_same_terms_and_files(tmp_path, monkeypatch):
    logged: list[tuple[dict[str, Any], int]] = []
    ended: list[bool] = []
    run = types.SimpleNamespace(
        log=lambda values, step: logged.append((values, step)), finish=lambda: ended.append(True)
    )
    asked: dict[str, Any] = {}
    stand_in = types.ModuleType("wandb")
    stand_in.init = lambda **given: asked.update(given) or run  # type: ignore[attr-defined]
    stand_in.Image = stand_in.Video = Path  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    write_png(tmp_path / "grid.png", FRAMES[0])
    work = recorded(tmp_path)
    work.metric(3, {"loss": 2.0})
    work.artifact(tmp_path / "grid.png", "grid")
    Tracker(tmp_path, LogConfig(wandb=True, wandb_project="clouds")).close()
    assert logged == [({"training/loss": 2.0}, 3), ({tmp_path.name: tmp_path / "grid.png"}, 3)]
    assert (asked["project"], asked["resume"], ended) == ("clouds", "allow", [True])
