from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.datasets import inspect, prepare
from pipelines.datasets.config import ExtractRequest, InspectRequest
from pipelines.events import UserError, Work
from pipelines.io.images import read_image
from tests.pipelines.io.video_makers import levels, moving_square


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """A dataset of six videos in two splits, one of them too short; and one that is raw only."""
    raw = tmp_path / "toy" / "raw"
    for number in range(6):
        folder = raw / ("train" if number < 4 else "test")
        folder.mkdir(parents=True, exist_ok=True)
        frames = moving_square(20 if number else 3, width=16, height=16, seed=number)
        labels = '{"texture": "square"}'
        joints = np.zeros((len(frames), 3, 2), np.float32)
        flow = np.zeros((max(0, len(frames) - 4), 2, 16, 16), np.float32)
        path = folder / f"{number}.npz"
        np.savez(path, frames=frames, fps=25.0, labels=labels, joints=joints, flow_4=flow)
    (tmp_path / "other" / "raw").mkdir(parents=True)
    request = ExtractRequest(data_root=tmp_path, name="toy", size_px=16, jobs=1)
    prepare.extract_frames(request, Work())
    return tmp_path


def _ask(function: Any, data_root: Path, name: str | None = "toy", **more: Any) -> dict[str, Any]:
    return function(InspectRequest(data_root=data_root, name=name, **more), Work())


def test_list_shows_every_dataset_and_its_state(data_root: Path) -> None:
    (data_root / "toy" / "prepared" / "32px.tmp").mkdir()
    table = _ask(inspect.list_data, data_root, None)
    assert table["columns"][:4] == ["dataset", "variant", "videos", "frames"]
    states = [(row[0], row[1], row[2], row[-1]) for row in table["rows"]]
    assert states == [
        ("other", "", "", "raw, not prepared"),
        ("toy", "16px", 5, "ready"),
        ("toy", "32px", "", "unfinished"),
    ]
    assert all(len(row) == len(table["columns"]) for row in table["rows"])
    assert len(_ask(inspect.list_data, data_root, "other")["rows"]) == 1


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_list_of_nothing_says_how_to_begin(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no data yet") as caught:
        _ask(inspect.list_data, tmp_path / folder, None)
    assert caught.value.exit_code == 4
    assert caught.value.details["run first"] == "i2v download synthetic"


def test_info_tells_what_a_variant_holds(data_root: Path) -> None:
    facts = dict(_ask(inspect.info, data_root)["rows"])
    assert facts["videos"] == "5 with 100 frames"
    assert facts["train"] == "3 videos, 60 frames"
    assert facts["test"] == "2 videos, 40 frames"
    assert facts["frames"] == "16 x 16, colour, squash"
    assert facts["frames per second"] == "25"
    assert facts["labels"] == "texture"
    assert facts["true motion"] == "to 4 frames later"
    assert facts["per frame"] == "joints"
    assert facts["left out"] == "1 too short"


def test_verify_passes_what_is_whole(data_root: Path) -> None:
    result = _ask(inspect.verify, data_root)
    assert result["lines"] == ["3 files, 5 videos, 161.4 kB: all as they were written"]


def _overwrite(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        old = file.read(1)[0]
        file.seek(place)
        file.write(bytes([old ^ 1]))


def test_verify_names_the_video_of_a_changed_byte(data_root: Path) -> None:
    folder = data_root / "toy" / "prepared" / "16px"
    _overwrite(folder / "frames-000.u8", 16 * 16 * 3 * 25)
    with pytest.raises(UserError, match="'toy' is damaged") as caught:
        _ask(inspect.verify, data_root)
    assert caught.value.exit_code == 1
    assert caught.value.details["problem 1"] == "frames-000.u8 has changed: test/5"
    assert "--rebuild" in caught.value.details["to fix"]


@pytest.mark.parametrize(
    ("name", "size", "problem"),
    [
        ("extra/joints.npy", None, "extra/joints.npy is missing"),
        ("frames-000.u8", 100, "frames-000.u8 has 100 bytes, not 76,800"),
        ("flow_truth-4-000.i16", 0, "flow_truth-4-000.i16 has 0 bytes, not 81,920"),
    ],
)
def test_verify_names_missing_and_short_files(
    data_root: Path, name: str, size: int | None, problem: str
) -> None:
    path = data_root / "toy" / "prepared" / "16px" / name
    if size is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError) as caught:
        _ask(inspect.verify, data_root)
    assert caught.value.details["problem 1"] == problem


def test_verify_notices_an_index_that_does_not_fit(data_root: Path) -> None:
    path = data_root / "toy" / "prepared" / "16px" / "videos.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[1:] + lines[:1]) + "\n")
    with pytest.raises(UserError) as caught:
        _ask(inspect.verify, data_root)
    assert caught.value.details["problem 1"] == "videos.jsonl and rows.npz do not agree"


def test_preview_shows_frames_of_several_videos(data_root: Path) -> None:
    result = _ask(inspect.preview, data_root, num_videos=3, num_frames=4)
    path = data_root / "toy" / "preview-16px.png"
    assert result["path"] == str(path)
    sheet = read_image(path)
    assert sheet.shape[0] == 3 + 3 * (16 + 3)
    assert sheet.shape[1] > 4 * 16 + 50  # labels left of the pictures


def test_preview_goes_where_it_is_asked_to(data_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "pictures" / "look.png"
    assert _ask(inspect.preview, data_root, out_path=out)["path"] == str(out)
    assert read_image(out).ndim == 3


def test_preview_of_grey_frames_is_grey(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    np.save(tmp_path / "raw" / "x.npy", levels(20, width=16, height=16))
    options = {"data_root": tmp_path, "name": "toy", "grey": True, "jobs": 1}
    prepare.extract_frames(ExtractRequest(source=tmp_path / "raw", **options), Work())
    sheet = read_image(Path(_ask(inspect.preview, tmp_path)["path"]))
    assert (sheet[..., 0] == sheet[..., 2]).all()


@pytest.mark.parametrize("function", [inspect.info, inspect.verify, inspect.preview])
def test_what_is_not_prepared_comes_with_the_command_that_prepares_it(
    data_root: Path, function: Any
) -> None:
    for name in ("other", "unknown"):
        with pytest.raises(UserError) as caught:
            _ask(function, data_root, name)
        assert caught.value.exit_code == 4
        assert caught.value.details["run first"] == f"i2v extract-frames {name}"
    with pytest.raises(UserError) as caught:
        _ask(function, data_root, None)
    assert caught.value.exit_code == 2
