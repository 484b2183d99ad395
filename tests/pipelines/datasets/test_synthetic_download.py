"""`download synthetic`: its files, interruptions, changed settings, and the list of clips."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.datasets import synthetic
from pipelines.datasets.base import RawVideo, Rejected
from pipelines.datasets.config import DownloadRequest
from pipelines.datasets.synthetic import FIRST_INDEX, download, generate, layout
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, Interrupted, UserError, Work
from pipelines.files import folder_lock
from pipelines.io.arrays import ArrayClip

PATIENCE_S = 120.0
ROOT = Path(__file__).resolve().parents[3]
FEW = {"train": 3, "val": 1, "test": 2}


@pytest.fixture(autouse=True)
def few_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"train": 5, "val": 1, "test": 2}
    monkeypatch.setattr(synthetic, "PRESET_COUNTS", {"tiny": FEW, "default": more})


class _StopsAfterTwo(Work):
    def progress(self, task: str, done: float, *args: object, **kwargs: object) -> None:
        if done == 2:
            raise Interrupted


def _request(root: Path, **changes: object) -> DownloadRequest:
    settings = {"kinds": ("fire",), "preset": "tiny", "size_px": 32, "num_frames": 4} | changes
    return DownloadRequest(data_root=root, **settings)


def _written(root: Path) -> dict[str, int]:
    """Clip -> time of its last change."""
    raw = root / "synthetic" / "raw"
    return {str(path.relative_to(raw)): path.stat().st_mtime_ns for path in raw.rglob("*.npz")}


def test_a_download_writes_the_clips_of_the_preset_and_says_what_comes_next(tmp_path: Path) -> None:
    result = download(_request(tmp_path, kinds=("fire", "arm")), Work())
    assert result["clips"] == {"fire": FEW, "arm": FEW}
    assert (result["made"], result["kept"]) == (12, 0)
    assert result["next"] == "i2v extract-frames synthetic"
    assert Path(result["path"]) == tmp_path / "synthetic" / "raw"
    assert result["size_bytes"] == sum(path.stat().st_size for path in tmp_path.rglob("*.npz"))
    assert "arm/test/00001.npz" in _written(tmp_path)


def test_a_clip_file_holds_the_clip_with_its_truth(tmp_path: Path) -> None:
    download(_request(tmp_path, kinds=("arm",), num_frames=12), Work())
    path = tmp_path / "synthetic/raw/arm/val/00000.npz"
    expected = generate("arm", FIRST_INDEX["val"], size_px=32, num_frames=12)
    with np.load(path) as file:
        assert np.array_equal(file["frames"], expected.frames)
        assert np.array_equal(file["mask"], expected.maps["mask"])
        assert np.array_equal(file["visible_10"], expected.visible[10])
        assert np.allclose(file["flow_10"], expected.flow[10], rtol=1e-3)
        assert np.array_equal(file["endeffector_pos"], expected.tracks["endeffector_pos"])
    clip = ArrayClip(path)
    assert clip.shape == (12, 32, 32, 3)
    assert clip.labels() == json.loads(json.dumps(expected.labels))
    assert clip.fps() == synthetic.SPEC.fps


def test_a_second_run_makes_nothing(tmp_path: Path) -> None:
    download(_request(tmp_path), Work())
    before = _written(tmp_path)
    result = download(_request(tmp_path), Work())
    assert (result["made"], result["kept"]) == (0, 6)
    assert _written(tmp_path) == before


def test_processes_make_the_same_files_as_one(tmp_path: Path) -> None:
    download(_request(tmp_path / "one"), Work())
    download(_request(tmp_path / "two", jobs=2), Work())
    for name in _written(tmp_path / "one"):
        paths = [tmp_path / each / "synthetic/raw" / name for each in ("one", "two")]
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_an_interrupted_download_goes_on_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        download(_request(tmp_path), _StopsAfterTwo())
    before = _written(tmp_path)
    assert len(before) == 2
    listed = list(layout(tmp_path / "synthetic" / "raw"))
    assert sum(isinstance(each, Rejected) for each in listed) == 4
    assert download(_request(tmp_path), Work())["kept"] == 2
    assert before.items() <= _written(tmp_path).items()


def test_a_killed_download_leaves_no_process_and_goes_on(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from pipelines.datasets.config import DownloadRequest\n"
        "from pipelines.datasets.synthetic import download\n"
        "from pipelines.events import Work\n"
        "if __name__ == '__main__':\n"
        f"    download(DownloadRequest(data_root={str(tmp_path)!r}, kinds=('fire',), jobs=2,\n"
        "        preset='tiny', size_px=128, num_frames=20), Work())\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, str(script)], env=environment, start_new_session=True
    )
    try:
        _wait_until(lambda: len(_written(tmp_path)) >= 3)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    _wait_until(lambda: not _group_lives(process.pid))
    before = _written(tmp_path)
    assert 3 <= len(before) < 96
    result = download(_request(tmp_path, size_px=128, num_frames=20), Work())
    complete = {name for name in before if int(Path(name).stem) < FEW[name.split("/")[1]]}
    assert result["kept"] == len(complete)
    assert before.items() <= _written(tmp_path).items()
    assert not list(tmp_path.rglob("*.part"))
    for path in tmp_path.rglob("*.npz"):
        with np.load(path) as file:
            assert file["frames"].shape == (20, 128, 128, 3)


def _wait_until(happened: object) -> None:
    until = time.monotonic() + PATIENCE_S
    while not happened():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.02)


def _group_lives(number: int) -> bool:
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_two_downloads_into_one_folder_do_not_mix(tmp_path: Path) -> None:
    raw = tmp_path / "synthetic" / "raw"
    raw.mkdir(parents=True)
    with folder_lock(raw), pytest.raises(UserError, match="another process"):
        download(_request(tmp_path), Work())


def test_a_damaged_clip_is_made_again(tmp_path: Path) -> None:
    download(_request(tmp_path), Work())
    path = tmp_path / "synthetic/raw/fire/train/00001.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert download(_request(tmp_path), Work())["made"] == 1
    assert path.read_bytes() == whole


def test_a_larger_preset_adds_to_what_is_there(tmp_path: Path) -> None:
    download(_request(tmp_path), Work())
    result = download(_request(tmp_path, preset="default"), Work())
    assert (result["made"], result["kept"]) == (2, 6)
    again = download(_request(tmp_path), Work())
    assert again["made"] == 0 and again["clips"]["fire"]["train"] == 5
    assert len(list(_videos(tmp_path))) == 8


def test_a_smaller_preset_after_an_interrupted_larger_one_is_complete(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        download(_request(tmp_path, preset="default"), _StopsAfterTwo())
    download(_request(tmp_path), Work())
    assert len(list(_videos(tmp_path))) == 6


@pytest.mark.parametrize("change", [{"size_px": 48}, {"num_frames": 5}, {"seed": 1}, {"ood": True}])
def test_other_settings_are_noticed_before_anything_is_touched(
    tmp_path: Path, change: dict[str, object]
) -> None:
    download(_request(tmp_path), Work())
    before = _written(tmp_path)
    with pytest.raises(UserError, match="'fire' were generated with other settings") as caught:
        download(_request(tmp_path, kinds=("arm", "fire"), **change), Work())
    assert caught.value.exit_code == EXIT_USAGE
    assert next(iter(change)) in caught.value.details
    assert "--force" in caught.value.details["to fix"]
    assert _written(tmp_path) == before


def test_a_kind_of_other_settings_does_not_hinder_another_kind(tmp_path: Path) -> None:
    download(_request(tmp_path), Work())
    download(_request(tmp_path, kinds=("clouds",), size_px=48), Work())
    videos = list(layout(tmp_path / "synthetic" / "raw"))
    assert len(videos) == 12


def test_force_replaces_clips_of_other_settings(tmp_path: Path) -> None:
    download(_request(tmp_path, preset="default"), Work())
    result = download(_request(tmp_path, size_px=48, force=True), Work())
    assert result["made"] == 6 and result["clips"]["fire"] == FEW
    assert len(_written(tmp_path)) == 6
    for video in layout(tmp_path / "synthetic" / "raw"):
        assert np.load(video.path)["frames"].shape[1] == 48


def test_an_interrupted_replacement_goes_on_without_force(tmp_path: Path) -> None:
    download(_request(tmp_path), Work())
    with pytest.raises(Interrupted):
        download(_request(tmp_path, seed=9, force=True), _StopsAfterTwo())
    result = download(_request(tmp_path, seed=9), Work())
    assert (result["made"], result["kept"]) == (4, 2)
    seeds = {ArrayClip(video.path).labels()["seed"] for video in layout(Path(result["path"]))}
    assert seeds == {9}


def test_clips_whose_list_was_lost_are_adopted_only_with_equal_settings(tmp_path: Path) -> None:
    download(_request(tmp_path), Work())
    (tmp_path / "synthetic/raw/download.json").unlink()
    with pytest.raises(UserError, match="other settings"):
        download(_request(tmp_path, seed=3), Work())
    assert download(_request(tmp_path), Work())["kept"] == 6


def test_held_out_test_clips_are_faster_than_all_others(tmp_path: Path) -> None:
    download(_request(tmp_path, kinds=("clouds",), ood=True), Work())
    speeds: dict[str | None, list[float]] = {"train": [], "val": [], "test": []}
    for video in layout(tmp_path / "synthetic" / "raw"):
        speeds[video.split].append(ArrayClip(video.path).labels()["speed"])
    assert max(speeds["train"] + speeds["val"]) < min(speeds["test"])


def test_progress_counts_every_clip(tmp_path: Path) -> None:
    stream = io.StringIO()
    download(_request(tmp_path), Work(stream))
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert {event["total"] for event in events} == {6}
    assert events[-1]["done"] == 6 and events[-1]["unit"] == "clips"


def test_a_disk_that_is_too_small_is_noticed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 1000))
    with pytest.raises(UserError, match="not enough space") as caught:
        download(_request(tmp_path), Work())
    assert "--kinds" in caught.value.details["to fix"]
    assert not _written(tmp_path)


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="called 'fires'") as caught:
        download(_request(tmp_path, kinds=("fires",)), Work())
    assert caught.value.exit_code == EXIT_USAGE


def test_a_folder_without_clips_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no generated clips") as caught:
        layout(tmp_path)
    assert caught.value.exit_code == EXIT_NO_DATA
    assert caught.value.details["run first"] == "i2v download synthetic"


def test_a_damaged_list_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "download.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        layout(tmp_path)


def test_the_layout_names_splits_and_keeps_views_of_a_take_together(tmp_path: Path) -> None:
    download(_request(tmp_path, kinds=("walker_3d", "fire")), Work())
    videos = list(_videos(tmp_path))
    assert [video.id for video in videos[:2]] == ["fire/train/00000", "fire/train/00001"]
    assert {video.split for video in videos} == {"train", "val", "test"}
    assert all(video.path.exists() and video.kind == "array" for video in videos)
    groups = [video.group for video in videos if video.id.startswith("walker_3d/train")]
    assert groups[0] == groups[1] != groups[2]
    others = [video.group for video in videos if not video.id.startswith("walker_3d")]
    assert len(set(others)) == len(others)


def _videos(root: Path) -> Iterator[RawVideo]:
    for each in layout(root / "synthetic" / "raw"):
        assert isinstance(each, RawVideo)
        yield each
