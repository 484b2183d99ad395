"""`i2v data` on estimated flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.datasets import inspect
from pipelines.datasets.config import InspectRequest
from pipelines.events import UserError, Work
from pipelines.io.flow_pack import flow_dir
from pipelines.io.flow_packing import VideoWriter, finish, lay_out, make_files, read_report
from pipelines.io.images import read_image
from pipelines.io.video import probe
from tests.pipelines.io.flow_makers import drifting, make_variant

COUNTS = (5, 3)


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """Two videos of 6 and 4 frames with flow of lag 1: two pixels to the right."""
    truth = {"a": {1: np.ones((5, 2, 32, 32), np.float32)}}
    videos = {"a": drifting(6), "b": drifting(4, seed=1)}
    folder = flow_dir(make_variant(tmp_path, videos, truth=truth), "dis", 1)
    layout = lay_out(COUNTS, 32, is_checked=False)
    make_files(folder, layout)
    flow = np.zeros((1, 2, 32, 32), np.float32)
    flow[:, 0] = 2
    for row, count in enumerate(COUNTS):
        with VideoWriter(folder, row, layout.places[row], layout.pair_bytes) as writer:
            writer.add(flow.repeat(count, 0))
            writer.finish({})
    facts = {"lag": 1, "estimator": "dis"}
    finish(folder, layout, [read_report(folder, row) for row in range(2)], facts)
    return tmp_path


def _ask(function: Any, data_root: Path, **more: Any) -> dict[str, Any]:
    return function(InspectRequest(data_root=data_root, name="toy", **more), Work())


def test_preview_shows_flow_below_the_frames_and_as_a_video(data_root: Path) -> None:
    result = _ask(inspect.preview, data_root, flow=True, num_frames=3)
    assert result["path"] == str(data_root / "toy" / "preview-32px-flow-dis-1.png")
    sheet = read_image(Path(result["path"]))
    assert sheet.shape[0] == 3 + 5 * (32 + 3)  # the wheel, and two rows for each video
    to_the_right = sheet[3 + 2 * 35 + 16, -20]
    assert to_the_right[0] == 255 and to_the_right[1] < 30 and to_the_right[2] < 40  # red
    video = probe(Path(result["video_path"]), count_frames=True)
    assert (video.width, video.height, video.num_frames) == (64, 64, 5)


def test_preview_shows_the_true_motion_on_request(data_root: Path) -> None:
    result = _ask(inspect.preview, data_root, flow=True, flow_name="truth")
    assert result["path"].endswith("preview-32px-flow-truth-1.png")
    assert read_image(Path(result["path"])).shape[0] == 3 + 3 * (32 + 3)  # one video has it


@pytest.mark.parametrize(
    ("options", "command"),
    [
        ({"lag": 4}, "i2v estimate-flow toy --variant 32px --estimator dis --lags 4"),
        ({"flow_name": "mine"}, "i2v estimate-flow toy --variant 32px --estimator mine"),
        ({"flow_name": "truth", "lag": 4}, "i2v estimate-flow toy --lags 4"),
    ],
)
def test_flow_that_is_not_there_comes_with_its_command(
    data_root: Path, options: dict[str, Any], command: str
) -> None:
    with pytest.raises(UserError) as caught:
        _ask(inspect.preview, data_root, flow=True, **options)
    assert caught.value.exit_code == 4
    assert caught.value.details["run first"] == command


def test_info_and_verify_know_the_flow(data_root: Path) -> None:
    facts = dict(_ask(inspect.info, data_root)["rows"])
    assert facts["flow by dis"] == "to 1 frames later, 8 pairs, 32 px, up to 2.0 px"
    assert _ask(inspect.verify, data_root)["lines"][1] == "1 files of estimated flow, too"


@pytest.mark.parametrize("size", [100, None])
def test_verify_names_flow_that_has_changed(data_root: Path, size: int | None) -> None:
    path = data_root / "toy" / "prepared" / "32px" / "flow" / "dis" / "lag-1" / "flow-000.i16"
    data = path.read_bytes()
    path.write_bytes(data[:size] if size else bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(UserError, match="flow of 'toy' is damaged") as caught:
        _ask(inspect.verify, data_root)
    assert caught.value.exit_code == 1
    assert caught.value.details["file"] == str(path)
    assert "i2v estimate-flow toy --lags 1 --rebuild" in caught.value.details["to fix"]
