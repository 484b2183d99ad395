from __future__ import annotations

import json
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipelines.events import UserError
from pipelines.files import read_json
from pipelines.io.packed import PackedVideos, find_variant
from pipelines.io.packing import PackWriter, Row, encode_flow

SIZE = 8
FACTS = {"dataset": "toy", "variant": "8px"}


def _frames(number: int, count: int, channels: int = 3) -> np.ndarray:
    shape = (count, SIZE, SIZE, channels)
    return np.random.default_rng(number).integers(0, 256, shape, np.uint8)


def _row(number: int, split: str = "train", **more: object) -> Row:
    row = {"id": f"kind{number % 2}/{number:03d}", "source": f"{number}.mp4", "group": "g"}
    return {**row, "split": split, "fps": 25.0, "original_size": [20, 10], "labels": {}, **more}


def _add(writer: PackWriter, number: int) -> None:
    """A video of 3 to 6 frames; every third one has motion, every second one joints."""
    count = 3 + number % 4
    flow = extra = None
    if number % 3 == 0:
        flow = {2: encode_flow(np.full((count - 2, 2, SIZE, SIZE), number / 4, np.float32))}
    if number % 2 == 0:
        extra = {"joints": np.full((count, 5, 2), number, np.float32)}
    row = writer.add(_row(number), _frames(number, count), flow=flow, extra=extra)
    writer.commit({"rows": [row]})


def _finish(writer: PackWriter) -> None:
    writer.finish([row for entry in writer.entries for row in entry["rows"]], FACTS)


def _packed(folder: Path, *, count: int = 9, shard_bytes: int = 2000) -> PackedVideos:
    with PackWriter(folder, size_px=SIZE, channels=3, shard_bytes=shard_bytes) as writer:
        for number in range(count):
            _add(writer, number)
        _finish(writer)
    return PackedVideos(folder)


def test_frames_come_back_as_they_were_packed(tmp_path: Path) -> None:
    packed = _packed(tmp_path / "8px")
    assert (len(packed), packed.size_px, packed.channels) == (9, SIZE, 3)
    for number in range(9):
        count = 3 + number % 4
        assert packed.num_frames[number] == count == packed.rows[number].num_frames
        assert np.array_equal(packed.frames(number, 0, count), _frames(number, count))
        assert np.array_equal(packed.frames(number, 1, 2), _frames(number, count)[1:3])


def test_frames_are_a_copy_that_may_be_changed(tmp_path: Path) -> None:
    packed = _packed(tmp_path / "8px", count=2)
    packed.frames(0, 0, 2)[:] = 0
    assert np.array_equal(packed.frames(0, 0, 2), _frames(0, 3)[:2])


def test_a_video_never_spans_two_files(tmp_path: Path) -> None:
    packed = _packed(tmp_path / "8px", shard_bytes=2000)
    files = sorted(tmp_path.glob("8px/frames-*.u8"))
    assert len(files) > 3
    assert all(path.stat().st_size <= 2000 for path in files)
    assert {row.shard for row in packed.rows} == set(range(len(files)))


def test_a_video_larger_than_a_file_gets_one_of_its_own(tmp_path: Path) -> None:
    packed = _packed(tmp_path / "8px", shard_bytes=300)
    assert [row.shard for row in packed.rows] == list(range(9))
    assert np.array_equal(packed.frames(8, 0, 3), _frames(8, 3))


def test_motion_comes_back_in_pixels_and_nan_where_unknown(tmp_path: Path) -> None:
    motion = np.random.default_rng(0).normal(0, 20, (3, 2, SIZE, SIZE)).astype(np.float32)
    motion[1, :, 2, 3] = np.nan
    motion[2, 0, 0, 0] = 4000
    with PackWriter(tmp_path / "8px", size_px=SIZE, channels=3) as writer:
        row = writer.add(_row(0), _frames(0, 5), flow={2: encode_flow(motion)})
        writer.commit({"rows": [row]})
        _finish(writer)
    packed = PackedVideos(tmp_path / "8px")
    assert packed.flow_lags == [2]
    read = packed.flow(2, 0, 0, 3)
    assert read.dtype == np.float32 and read.shape == motion.shape
    assert np.isnan(read[1, :, 2, 3]).all() and np.isnan(read).sum() == 2
    assert read[2, 0, 0, 0] == pytest.approx(511.98, abs=0.01)  # as far as the format reaches
    read[2, 0, 0, 0] = motion[2, 0, 0, 0]
    assert np.nanmax(np.abs(read - motion)) <= 1 / 128
    assert packed.flow(2, 0, 1).shape == (1, 2, SIZE, SIZE)


def test_what_a_video_does_not_have_is_an_index_error(tmp_path: Path) -> None:
    packed = _packed(tmp_path / "8px")
    joints = packed.extra("joints")
    assert (joints(2, 1, 3) == 2).all() and joints(2, 1, 3).shape == (3, 5, 2)
    calls: list[Callable[[], object]] = [
        lambda: packed.frames(0, 2, 2),
        lambda: packed.frames(0, -1, 1),
        lambda: joints(1, 0, 1),
        lambda: packed.flow(2, 1, 0),
        lambda: packed.flow(2, 0, 1),
    ]
    for call in calls:
        with pytest.raises(IndexError, match="frames from frame"):
            call()
    with pytest.raises(KeyError):
        packed.extra("poses")
    with pytest.raises(KeyError):
        packed.flow(7, 0, 0)


def test_extra_arrays_open_with_numpy_alone(tmp_path: Path) -> None:
    _packed(tmp_path / "8px")
    joints = np.load(tmp_path / "8px" / "extra" / "joints.npy")
    assert joints.shape == (3 + 5 + 3 + 5 + 3, 5, 2)
    assert joints[:, 0, 0].tolist() == [0] * 3 + [2] * 5 + [4] * 3 + [6] * 5 + [8] * 3


def test_select_combines_split_pattern_and_length(tmp_path: Path) -> None:
    with PackWriter(tmp_path / "8px", size_px=SIZE, channels=3) as writer:
        for number, (split, count) in enumerate(
            [("train", 3), ("val", 9), ("train", 9), ("test", 9)]
        ):
            row = writer.add(_row(number, split), _frames(number, count))
            writer.commit({"rows": [row]})
        _finish(writer)
    packed = PackedVideos(tmp_path / "8px")
    assert packed.select() == [0, 1, 2, 3]
    assert packed.select("train") == [0, 2]
    assert packed.select("train", min_frames=4) == [2]
    assert packed.select(include=["kind0/*"]) == [0, 2]
    assert packed.select(include=["*/003", "kind0/000"]) == [0, 3]
    assert packed.select("val", include=["kind0/*"]) == []


def test_an_opened_variant_can_be_sent_to_another_process(tmp_path: Path) -> None:
    packed = _packed(tmp_path / "8px")
    packed.frames(0, 0, 1)
    data = pickle.dumps(packed)
    assert len(data) < 20_000
    assert np.array_equal(pickle.loads(data).frames(3, 0, 6), _frames(3, 6))


def test_a_large_index_opens_at_once(tmp_path: Path) -> None:
    count = 20_000
    with PackWriter(tmp_path / "8px", size_px=SIZE, channels=1) as writer:
        frame = _frames(0, 1, channels=1)
        rows = [writer.add(_row(number), frame) for number in range(count)]
        writer.commit({"rows": rows})
        writer.finish(rows, FACTS)
    started = time.process_time()
    packed = PackedVideos(tmp_path / "8px")
    assert packed.frames(count - 1, 0, 1).shape == (1, SIZE, SIZE, 1)
    assert time.process_time() - started < 0.1
    assert len(packed.select("train", include=["kind1/*"])) == count // 2
    assert len(packed.rows) == count


def test_the_index_says_what_is_in_the_folder(tmp_path: Path) -> None:
    packed = _packed(tmp_path / "8px")
    index = packed.index
    assert (index["dataset"], index["num_videos"], index["num_frames"]) == ("toy", 9, 39)
    assert index["splits"]["train"] == {"videos": 9, "frames": 39}
    on_disk = {
        path.relative_to(packed.dir).as_posix(): path.stat().st_size
        for path in packed.dir.rglob("*")
        if path.suffix in (".u8", ".i16", ".npy")
    }
    assert {name: file["bytes"] for name, file in index["files"].items()} == on_disk
    lines = (packed.dir / "videos.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == packed.ids


def test_resuming_after_any_commit_gives_the_bytes_of_an_uninterrupted_run(tmp_path: Path) -> None:
    _packed(tmp_path / "whole")
    for stop in range(9):
        folder = tmp_path / f"stopped{stop}"
        with PackWriter(folder, size_px=SIZE, channels=3, shard_bytes=2000) as writer:
            for number in range(stop):
                _add(writer, number)
            writer.add(_row(99), _frames(99, 4))  # packed, but never committed
        with (folder / "journal.jsonl").open("a") as journal:
            journal.write('{"entry": {"rows": [{"id"')  # killed while writing
        with PackWriter(folder, size_px=SIZE, channels=3, shard_bytes=2000) as writer:
            assert len(writer.entries) == stop
            for number in range(stop, 9):
                _add(writer, number)
            _finish(writer)
        for path in sorted((tmp_path / "whole").rglob("*.*")):
            other = folder / path.relative_to(tmp_path / "whole")
            assert path.read_bytes() == other.read_bytes(), (stop, path.name)


def test_data_that_never_reached_the_disk_makes_the_writer_start_over(tmp_path: Path) -> None:
    with PackWriter(tmp_path, size_px=SIZE, channels=3) as writer:
        for number in range(3):
            _add(writer, number)
    with (tmp_path / "frames-000.u8").open("r+b") as file:
        file.truncate(100)
    with PackWriter(tmp_path, size_px=SIZE, channels=3) as writer:
        assert writer.entries == []


def test_bytes_that_changed_on_the_disk_are_noticed_before_the_index_is_written(
    tmp_path: Path,
) -> None:
    with PackWriter(tmp_path, size_px=SIZE, channels=3) as writer:
        for number in range(3):
            _add(writer, number)
        with (tmp_path / "frames-000.u8").open("r+b") as file:
            file.seek(1000)
            file.write(b"\0\0\0\0")
        with pytest.raises(UserError, match="does not give back") as caught:
            _finish(writer)
    assert caught.value.details["video"] == "kind1/001"
    assert not (tmp_path / "index.json").exists()


def test_an_extra_array_of_another_kind_is_refused_and_nothing_is_packed(tmp_path: Path) -> None:
    with PackWriter(tmp_path, size_px=SIZE, channels=3) as writer:
        _add(writer, 0)
        with pytest.raises(ValueError, match="joints"):
            writer.add(_row(1), _frames(1, 3), extra={"joints": np.zeros((3, 4, 2), np.float32)})
        with pytest.raises(ValueError, match="frames are"):
            writer.add(_row(1), _frames(1, 3, channels=1))
        _add(writer, 2)
        _finish(writer)
    packed = PackedVideos(tmp_path)
    assert np.array_equal(packed.frames(1, 0, 5), _frames(2, 5))


def test_rows_are_read_one_by_one_like_a_list(tmp_path: Path) -> None:
    packed = _packed(tmp_path / "8px")
    assert len(packed.rows) == 9 and [row.id for row in packed.rows] == packed.ids
    assert packed.rows[-1] == packed.rows[8] and packed.rows[2:4] == [
        packed.rows[2],
        packed.rows[3],
    ]
    assert packed.rows[3].flow == {2: (0, 1, 4)} and packed.rows[3].original_size == (20, 10)
    with pytest.raises(IndexError):
        packed.rows[9]
    assert len(pickle.dumps(packed)) < 5000


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    _packed(tmp_path / "toy" / "prepared" / "8px", count=2)
    return tmp_path


def test_the_only_variant_is_found_without_its_name(data_root: Path) -> None:
    expected = data_root / "toy" / "prepared" / "8px"
    assert find_variant(data_root, "toy") == find_variant(data_root, "toy", "8px") == expected


def test_of_several_variants_one_must_be_named(data_root: Path) -> None:
    prepared = data_root / "toy" / "prepared"
    shutil.copytree(prepared / "8px", prepared / "16px")
    assert find_variant(data_root, "toy", "16px") == prepared / "16px"
    with pytest.raises(UserError, match="several variants") as caught:
        find_variant(data_root, "toy")
    assert caught.value.exit_code == 2
    assert caught.value.details["variants"] == "8px, 16px"
    assert str(caught.value.details["to fix"]).endswith("data.variant=8px")
    with pytest.raises(UserError) as caught:
        find_variant(data_root, "toy", to_choose="--variant {name}")
    assert str(caught.value.details["to fix"]).endswith("--variant 8px")


def test_missing_frames_come_with_the_command_that_makes_them(data_root: Path) -> None:
    (data_root / "other" / "prepared" / "64px.tmp").mkdir(parents=True)
    for dataset, variant in (("nothing", None), ("other", None), ("toy", "9px")):
        with pytest.raises(UserError, match=f"'{dataset}'") as caught:
            find_variant(data_root, dataset, variant)
        assert caught.value.exit_code == 4
        assert caught.value.details["run first"] == f"i2v extract-frames {dataset}"
    with pytest.raises(UserError) as caught:
        find_variant(data_root, "other")
    assert caught.value.details["unfinished"] == "64px"


def test_a_folder_that_is_no_variant_or_of_a_later_format_is_refused(data_root: Path) -> None:
    with pytest.raises(UserError, match="no prepared frames here"):
        PackedVideos(data_root)
    path = data_root / "toy" / "prepared" / "8px" / "index.json"
    path.write_text(json.dumps(read_json(path) | {"version": 99}))
    with pytest.raises(UserError, match="does not read") as caught:
        PackedVideos(path.parent)
    assert "i2v-packed 99" in caught.value.details["format"]
