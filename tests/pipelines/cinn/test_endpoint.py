"""Endpoint control: what a flow is told while it trains, what a user may ask, and the picture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.cinn.config import SampleRequest
from pipelines.cinn.flow import endpoint_code
from pipelines.cinn.sample import load, sample
from pipelines.cinn.train import train
from pipelines.clips.rules import Clip
from pipelines.events import UserError
from pipelines.io.images import read_image, write_png
from pipelines.io.packed import PackedVideos
from tests.pipelines.cinn import tiny

CONTROL = {"is_controlled": True, "endpoint_in_image": True}


def controlled(root: Path, **changes: Any) -> dict[str, Any]:
    """Fields of a request to train a controlled flow on the squares with known places."""
    return tiny.changed(stage2=CONTROL | changes, data={"dataset": "placed"})


@pytest.fixture(scope="module")
def control_root(trained, tmp_path_factory) -> Path:
    """The trained stages beside a controlled flow, trained for four steps."""
    root = tmp_path_factory.mktemp("control")
    shutil.copytree(trained / "runs", root / "runs", ignore=shutil.ignore_patterns("2"))
    tiny.prepare_squares(root / "data", name="placed", has_places=True)
    config = controlled(root, allow_other_data=True)
    train(tiny.request(root, "2", config=config, max_steps=4), tiny.Heard())
    return root


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("image") / "arm.png"
    write_png(path, tiny.moving_square(1, 1, size_px=64)[0])
    return path


def sampled(root: Path, image: Path, out_dir: Path, **changes: Any) -> dict[str, Any]:
    fields = {
        "run_dir": root / "runs" / "2",
        "images": (image,),
        "out_dir": out_dir,
        "num": 3,
        "frames": tiny.NUM_FRAMES,
        "device": "cpu",
    }
    sample(SampleRequest.model_validate(fields | changes), tiny.Heard())
    return json.loads((out_dir / "meta.json").read_text())


def test_a_flow_is_trained_on_where_its_clips_end(control_root, monkeypatch):
    from pipelines.cinn import endpoint

    videos = PackedVideos(control_root / "data" / "placed" / "prepared" / f"{tiny.SIZE_PX}px")
    config = load(control_root / "runs" / "2", torch.device("cpu"), warn=pytest.fail).config
    clips = [Clip(0, 2), Clip(1, 0)]
    found = endpoint.endpoints_of(videos, clips, 9, config.stage2)
    expected = [tiny.square_place(videos.ids[0], 10), tiny.square_place(videos.ids[1], 8)]
    assert np.allclose(found[:, :2], expected, atol=1e-6)
    assert (found[:, 2] == 0).all()


def test_a_controlled_run_logs_trains_and_validates(control_root):
    meta = json.loads(
        (control_root / "runs" / "2" / "checkpoints" / "step-00000004" / "meta.json").read_text()
    )
    assert np.isfinite(meta["validation"]["val_loss"])
    assert (control_root / "runs" / "2" / "samples" / "sample" / "grid.png").is_file()


@pytest.mark.parametrize(
    ("endpoint", "unit", "fractions"),
    [((0.25, 0.5), "fraction", (0.25, 0.5)), ((16, 32), "px", (16.5 / 64, 32.5 / 64))],
)
def test_pixels_of_the_given_image_and_fractions_are_understood(
    control_root, image, tmp_path, endpoint, unit, fractions
):
    meta = sampled(control_root, image, tmp_path / "out", endpoint=endpoint, endpoint_unit=unit)
    assert meta["endpoints"]["arm"] == pytest.approx([*fractions, 0])
    assert "--endpoint" in meta["command"]


def test_the_endpoint_changes_the_video_and_the_seed_still_does(control_root, image, tmp_path):
    found = {
        name: [
            v["frames_sha256"]
            for v in sampled(control_root, image, tmp_path / name, **asked)["videos"]
        ]
        for name, asked in {
            "a": {"endpoint": (0.15, 0.15)},
            "same": {"endpoint": (0.15, 0.15)},
            "other": {"endpoint": (0.85, 0.85)},
        }.items()
    }
    assert found["a"] == found["same"]
    assert len({*found["a"], *found["other"]}) == 6


def test_the_picture_shows_every_samples_last_frame_with_the_endpoint_marked(
    control_root, image, tmp_path
):
    sampled(control_root, image, tmp_path / "out", endpoint=(0.5, 0.5), num=12)
    sheet = read_image(tmp_path / "out" / "last-frames.png")
    marks = (sheet == (255, 40, 200)).all(-1)
    assert marks.any()
    # a start frame and twelve last frames: ten in the first row, three in the second
    rows = np.flatnonzero(np.diff(marks.any(1).astype(int)) == 1)
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({}, "must be told where"),
        ({"endpoint": (64, 3), "endpoint_unit": "px"}, "column 64 lies outside the image"),
        ({"endpoint": (3, -1), "endpoint_unit": "px"}, "row -1 lies outside the image"),
        ({"endpoint": (0.5, 1.5)}, r"0\.5,1\.5 lies outside the image"),
        ({"endpoint": (0.5, 0.5, 0.5)}, "3 numbers"),
    ],
)
def test_an_endpoint_that_cannot_be_is_refused(control_root, image, tmp_path, asked, problem):
    with pytest.raises(UserError, match=problem) as caught:
        sampled(control_root, image, tmp_path / "out", **asked)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_a_model_without_control_refuses_an_endpoint(trained, image, tmp_path):
    with pytest.raises(UserError, match="cannot be told"):
        sampled(trained, image, tmp_path / "out", endpoint=(0.5, 0.5))


def test_data_without_places_is_refused_by_name(trained, tmp_path):
    shutil.copytree(trained / "runs", tmp_path / "runs", ignore=shutil.ignore_patterns("2"))
    tiny.prepare_squares(tmp_path / "data")
    config = tiny.changed(stage2=CONTROL)
    with pytest.raises(UserError, match="no array 'endeffector_pos'"):
        train(tiny.request(tmp_path, "2", config=config), tiny.Heard())


def test_positions_outside_the_reach_count_as_its_edge():
    codes = endpoint_code(torch.tensor([[-0.5, 0.0, 1.0], [2.0, 0.999, 0.05]]))
    assert codes.view(2, 3, 10).argmax(-1).tolist() == [[0, 0, 9], [9, 9, 0]]
