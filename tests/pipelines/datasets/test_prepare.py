from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.datasets import prepare
from pipelines.datasets.config import ExtractRequest
from pipelines.events import Interrupted, UserError, Work, read_events
from pipelines.io.images import read_image
from pipelines.io.packed import PackedVideos
from pipelines.io.packing import PackWriter
from pipelines.io.video import read_video
from tests.pipelines.io.video_makers import encode, ffmpeg, levels, moving_square, numbers
from tests.pipelines.jobs import PATIENCE_S, running, wait_until

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos of 20 frames in two folders."""
    raw = tmp_path_factory.mktemp("clips")
    for number in range(6):
        frames = moving_square(20, width=64, height=48, seed=number)
        encode(raw / f"shot{number // 3}" / f"clip{number}.mp4", frames)
    return raw


def _request(data_root: Path, source: Path, **options: Any) -> ExtractRequest:
    usual = {"name": "toy", "size_px": 16, "jobs": 1, "min_frames": 5}
    return ExtractRequest(data_root=data_root, source=source, **{**usual, **options})


def _extract(data_root: Path, source: Path, **options: Any) -> PackedVideos:
    result = prepare.extract_frames(_request(data_root, source, **options), Work())
    return PackedVideos(Path(result["variant_dir"]))


def _bytes(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _rejected(packed: PackedVideos) -> dict[str, tuple[str, str]]:
    text = (packed.dir / "rejected.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    return {row["id"]: (row["reason"], row["detail"]) for row in rows}


def _says(data_root: Path, request: ExtractRequest) -> list[str]:
    """What a run tells the user: log lines and warnings."""
    record = data_root / f"events{time.monotonic_ns()}.jsonl"
    record.parent.mkdir(exist_ok=True)
    prepare.extract_frames(request, Work(record=record))
    events = list(read_events(record))
    return [each.get("text") or each.get("message") or "" for each in events]


# What is written


def test_prepared_frames_are_the_frames_of_the_videos(tmp_path: Path, clips: Path) -> None:
    packed = _extract(tmp_path, clips)
    assert packed.dir == tmp_path / "toy" / "prepared" / "16px-min5"
    assert packed.ids == [f"shot{n // 3}/clip{n}" for n in range(6)]
    for number, row in enumerate(packed.rows):
        source = clips / row.source
        assert (row.num_frames, row.fps, row.original_size) == (20, 25, (64, 48))
        assert np.array_equal(packed.frames(number, 0, 20), read_video(source, size_px=16))


def test_a_second_run_does_nothing_and_says_so(tmp_path: Path, clips: Path) -> None:
    packed = _extract(tmp_path, clips)
    before = {path: path.stat().st_mtime_ns for path in packed.dir.rglob("*")}
    said = _says(tmp_path, _request(tmp_path, clips))
    assert any("already prepared" in line for line in said)
    assert {path: path.stat().st_mtime_ns for path in packed.dir.rglob("*")} == before


def test_done_work_stays_done_when_the_raw_folder_is_gone(tmp_path: Path, clips: Path) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(clips, raw)
    _extract(tmp_path, raw)
    shutil.rmtree(raw)
    assert any("is gone" in line for line in _says(tmp_path, _request(tmp_path, raw)))
    with pytest.raises(UserError):
        _extract(tmp_path, raw, rebuild=True)


def test_one_and_two_processes_give_the_same_bytes(tmp_path: Path, clips: Path) -> None:
    one = _extract(tmp_path / "one", clips, jobs=1)
    two = _extract(tmp_path / "two", clips, jobs=2)
    assert _bytes(one.dir) == _bytes(two.dir)


def test_other_options_go_to_another_folder(tmp_path: Path, clips: Path) -> None:
    names = [
        _extract(tmp_path, clips, **options).dir.name
        for options in ({}, {"size_px": 8}, {"fps": 12.5}, {"grey": True, "fit": "pad"})
    ]
    assert names == ["16px-min5", "8px-min5", "16px-fps12.5-min5", "16px-pad-grey-min5"]
    unnamed = [
        _request(tmp_path, clips, **each).variant_name() for each in ({"seed": 1}, {"seed": 2})
    ]
    assert len({*names, *unnamed}) == 6


# Every kind of raw video


def test_images_arrays_and_strips_give_the_same_frames_as_their_pictures(tmp_path: Path) -> None:
    frames = moving_square(8, width=24, height=24)
    raw = tmp_path / "raw"
    (raw / "folder").mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(raw / "folder" / f"img{number + 3}.png")
    (raw / "strips").mkdir()
    Image.fromarray(np.concatenate(list(frames), axis=1)).save(raw / "strips" / "strip.png")
    (raw / "arrays").mkdir()
    np.save(raw / "arrays" / "plain.npy", frames)
    np.savez_compressed(raw / "arrays" / "packed.npz", frames=frames, fps=10.0)
    packed = _extract(tmp_path, raw)
    assert packed.ids == ["arrays/packed", "arrays/plain", "folder", "strips/strip"]
    expected = np.stack(
        [read_image(raw / "folder" / f"img{n + 3}.png", size_px=16) for n in range(8)]
    )
    for row in range(4):
        assert np.array_equal(packed.frames(row, 0, 8), expected)
    assert [row.fps for row in packed.rows] == [10, None, None, None]


def test_grey_has_one_channel_for_every_kind(tmp_path: Path) -> None:
    frames = levels(6, width=16, height=16)
    raw = tmp_path / "raw"
    encode(raw / "videos" / "v.mp4", frames)
    np.save(raw / "colour.npy", frames)
    np.save(raw / "grey.npy", frames[..., 0])
    packed = _extract(tmp_path, raw, grey=True)
    assert packed.channels == 1
    for row in range(3):
        assert packed.frames(row, 0, 6).shape == (6, 16, 16, 1)
        assert numbers(packed.frames(row, 0, 6)) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("kind", ["video", "array"])
def test_stride_and_fps_mean_the_same_for_videos_and_arrays(tmp_path: Path, kind: str) -> None:
    raw, frames = tmp_path / "raw", levels(20, width=16, height=16)
    raw.mkdir()
    if kind == "video":
        encode(raw / "x.mp4", frames, fps=20)
    else:
        np.savez(raw / "x.npz", frames=frames, fps=20.0)
    strided = _extract(tmp_path, raw, stride=3)
    assert numbers(strided.frames(0, 0, 7)) == [0, 3, 6, 9, 12, 15, 18]
    assert strided.rows[0].fps == pytest.approx(20 / 3)
    slower = _extract(tmp_path, raw, fps=10)
    assert slower.num_frames[0] == 10 and slower.rows[0].fps == 10
    assert numbers(slower.frames(0, 0, 10)) == list(range(0, 20, 2))


def test_truth_is_carried_along_and_scaled_with_the_frames(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    count, size = 12, 32
    flow = np.zeros((count - 4, 2, size, size), np.float32)
    flow[:, 0], flow[:, 1] = 6, np.arange(count - 4)[:, None, None]
    flow[:, :, :, :16] = np.nan
    joints = np.arange(count, dtype=np.float32)[:, None, None] * np.ones((1, 3, 2), np.float32)
    ids = np.zeros((count, size, size), np.uint8)
    ids[:, :, 16:] = 7
    arrays = {"flow_4": flow, "joints": joints, "leaf_ids": ids, "about": np.array(["x"])}
    labels = json.dumps({"direction": 0.5, "kind": "arm"})
    frames = moving_square(count, width=size, height=size)
    np.savez(raw / "clip.npz", frames=frames, labels=labels, fps=25.0, **arrays)

    packed = _extract(tmp_path, raw)
    assert packed.rows[0].labels == {"direction": 0.5, "kind": "arm"}
    assert (packed.flow_lags, packed.extra_names) == ([4], ["joints", "leaf_ids"])
    read = packed.flow(4, 0, 0, 8)
    assert np.isnan(read[..., :8]).all()
    assert (read[:, 0, :, 8:] == 3).all()  # half the size, half the motion
    assert (read[:, 1, 0, 8] == np.arange(8) / 2).all()
    assert np.array_equal(packed.extra("joints")(0, 0, count), joints)
    assert np.array_equal(np.unique(packed.extra("leaf_ids")(0, 3, 1)), [0, 7])

    every_second = _extract(tmp_path, raw, stride=2)
    assert every_second.flow_lags == [2]
    assert every_second.flow(2, 0, 0, 4)[:, 1, 0, 8].tolist() == [0, 1, 2, 3]
    assert every_second.extra("joints")(0, 0, 6)[:, 0, 0].tolist() == [0, 2, 4, 6, 8, 10]

    every_third = _extract(tmp_path, raw, stride=3, min_frames=4)
    assert every_third.flow_lags == []


def test_motion_over_a_cut_or_beyond_the_end_is_not_kept(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    frames = np.concatenate([moving_square(6, seed=1), moving_square(9, seed=2)])[:, :24, :24]
    flow = {
        f"flow_{lag}": np.arange(15 - lag, dtype=np.float32)[:, None, None, None]
        * np.ones((1, 2, 24, 24), np.float32)
        for lag in (4, 8, 14)
    }
    np.savez(raw / "x.npz", frames=frames, flow_20=np.zeros((0, 2, 24, 24), np.float32), **flow)
    packed = _extract(tmp_path, raw, scene_cut=20.0, size_px=24)
    assert packed.num_frames.tolist() == [6, 9]
    assert packed.flow_lags == [4, 8]
    assert packed.flow(4, 0, 0, 2)[:, 0, 0, 0].tolist() == [0, 1]
    assert packed.flow(4, 1, 0, 5)[:, 0, 0, 0].tolist() == [6, 7, 8, 9, 10]
    assert packed.flow(8, 1, 0)[0, 0, 0, 0] == 6
    for row, lag, start in ((0, 4, 2), (0, 8, 0), (1, 4, 5)):
        with pytest.raises(IndexError):
            packed.flow(lag, row, start)


def test_images_beside_the_packed_frames_hold_the_same_pixels(tmp_path: Path, clips: Path) -> None:
    packed = _extract(tmp_path, clips)
    request = _request(tmp_path, clips, write_images=True)
    images = Path(prepare.extract_frames(request, Work())["images_dir"])
    assert len(list(images.rglob("*.png"))) == 6 * 20
    frame = read_image(images / "shot1" / "clip4" / "frame_00007.png")
    assert np.array_equal(frame, packed.frames(4, 7, 1)[0])
    said = _says(tmp_path, request)
    assert any("images are already there" in line for line in said)


# Splits


def _splits(packed: PackedVideos) -> dict[str, str]:
    return {row.id: row.split for row in packed.rows}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty short arrays of ten sources."""
    raw = tmp_path_factory.mktemp("many")
    for number in range(30):
        np.save(raw / f"source{number // 3}#{number % 3}.npy", levels(6, width=8, height=8))
    return raw


def test_parts_are_drawn_once_and_for_all_by_the_seed(tmp_path: Path, many: Path) -> None:
    splits = _splits(_extract(tmp_path, many))
    counts = {name: list(splits.values()).count(name) for name in ("train", "val", "test")}
    assert counts == {"train": 24, "val": 3, "test": 3}
    assert _splits(_extract(tmp_path / "again", many)) == splits
    assert _splits(_extract(tmp_path / "other", many, seed=1)) != splits


def test_the_80_20_split_of_the_first_order_motion_model_is_reproduced(
    tmp_path: Path, many: Path
) -> None:
    packed = _extract(tmp_path, many, split=(0.8, 0.0, 0.2))
    tested = [row for row in range(30) if packed.rows[row].split == "test"]
    # train_test_split(range(30), random_state=0, test_size=0.2) of scikit-learn 1.x
    assert tested == sorted([2, 28, 13, 10, 26, 24])


def test_a_group_never_straddles_two_splits(tmp_path: Path, many: Path) -> None:
    for seed in range(4):
        packed = _extract(
            tmp_path, many, split_by="group", group_regex="(.*)#", seed=seed, split=(0.6, 0.2, 0.2)
        )
        splits: dict[str, set[str]] = {}
        for row in packed.rows:
            assert row.group == row.id.split("#")[0]
            splits.setdefault(row.group, set()).add(row.split)
        assert all(len(each) == 1 for each in splits.values())
        assert sorted(next(iter(each)) for each in splits.values()) == (
            ["test"] * 2 + ["train"] * 6 + ["val"] * 2
        )


def test_groups_without_a_pattern_are_the_folders(tmp_path: Path, clips: Path) -> None:
    splits = _splits(_extract(tmp_path, clips, split_by="group", split=(0.5, 0.0, 0.5)))
    assert len({splits[f"shot0/clip{n}"] for n in range(3)}) == 1
    assert len(set(splits.values())) == 2


def test_a_time_split_cuts_every_video_in_order(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    encode(raw / "x.mp4", levels(20, width=16, height=16))
    packed = _extract(tmp_path, raw, split_by="time", split=(0.5, 0.2, 0.3), min_frames=4)
    assert _splits(packed) == {"x~train": "train", "x~val": "val", "x~test": "test"}
    shown = [numbers(packed.frames(n, 0, packed.num_frames[n])) for n in range(3)]
    assert shown == [list(range(10)), list(range(10, 14)), list(range(14, 20))]


def test_a_part_in_time_that_is_too_short_is_reported(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    encode(raw / "x.mp4", levels(20, width=16, height=16))
    packed = _extract(tmp_path, raw, split_by="time")
    assert packed.ids == ["x~train"]
    reasons = _rejected(packed)
    assert reasons.keys() == {"x~val", "x~test"}
    assert reasons["x~val"] == ("too short", "2 frames, fewer than 5")


def test_train_always_has_a_video(tmp_path: Path) -> None:
    for count, expected in ((1, ["train"]), (2, ["test", "train"]), (3, ["test", "train", "val"])):
        raw = tmp_path / f"raw{count}"
        raw.mkdir()
        for number in range(count):
            np.save(raw / f"{number}.npy", levels(6, width=8, height=8))
        packed = _extract(tmp_path / str(count), raw)
        assert sorted(_splits(packed).values()) == expected


def test_an_empty_split_is_warned_about(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    encode(raw / "x.mp4", levels(6, width=16, height=16))
    said = _says(tmp_path, _request(tmp_path, raw))
    assert any("no video is left for val and test; --split-by time" in line for line in said)


def test_splits_of_the_folder_are_kept(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for split in ("train", "eval", "test"):
        (raw / split).mkdir(parents=True)
        np.save(raw / split / "a.npy", levels(6, width=8, height=8))
    packed = _extract(tmp_path, raw)
    assert _splits(packed) == {"eval/a": "val", "test/a": "test", "train/a": "train"}


# Choosing what is worth keeping


def test_scenes_become_videos_of_their_own_and_stay_in_one_split(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    scenes = [moving_square(count, seed=seed) for seed, count in ((1, 8), (2, 3), (5, 9))]
    encode(raw / "x.mkv", np.concatenate(scenes), options=("-crf", "10"))
    packed = _extract(tmp_path, raw, scene_cut=20.0)
    assert packed.ids == ["x~scene000", "x~scene002"]
    assert packed.num_frames.tolist() == [8, 9]
    assert _rejected(packed) == {"x~scene001": ("too short", "3 frames, fewer than 5")}
    assert len(set(_splits(packed).values())) == 1
    whole = read_video(raw / "x.mkv", size_px=16)
    assert np.array_equal(packed.frames(1, 0, 9), whole[11:])


def test_fast_motion_is_not_a_scene_cut(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    flicker = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
    np.save(raw / "x.npy", flicker)
    assert _extract(tmp_path, raw, scene_cut=20.0).num_frames.tolist() == [12]


def test_static_videos_are_left_out(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    np.save(raw / "moves.npy", moving_square(8, width=16, height=16, speed=2))
    np.save(raw / "rests.npy", np.full((8, 16, 16, 3), 90, np.uint8))
    packed = _extract(tmp_path, raw, drop_static=0.5)
    assert packed.ids == ["moves"]
    assert _rejected(packed)["rests"] == ("static", "changes by 0.00 levels, less than 0.5")


# Bad input


def test_what_cannot_be_used_is_reported_and_the_rest_is_prepared(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    noise = np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3), np.uint8)
    good = encode(raw / "good.mp4", noise)
    raw.joinpath("empty.mp4").touch()
    raw.joinpath("text.avi").write_text("no video" * 500)
    raw.joinpath("cut.mp4").write_bytes(good.read_bytes()[: good.stat().st_size * 2 // 3])
    encode(raw / "one frame.mp4", levels(1))
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.2", "-c:a", "aac", raw / "sound.mp4")
    (raw / "arrays").mkdir()
    np.save(raw / "arrays" / "float.npy", np.zeros((6, 8, 8, 3)))
    np.savez(raw / "arrays" / "nothing.npz", a=np.zeros(3), b=np.zeros(3))
    np.savez(raw / "arrays" / "flow.npz", frames=levels(6), flow_2=np.zeros((4, 2, 9, 9), "f4"))
    (raw / "arrays" / "torn.npz").write_bytes(b"PK\x03\x04 torn")
    (raw / "frames").mkdir()
    for number in range(6):
        Image.new("RGB", (8, 8)).save(raw / "frames" / f"{number}.png")
    (raw / "frames" / "4.png").write_bytes(b"no image")

    packed = _extract(tmp_path, raw)
    assert packed.ids == ["good"]
    reasons = _rejected(packed)
    assert {name: reason for name, (reason, _) in reasons.items()} == {
        "arrays/float": "unreadable",
        "arrays/flow": "unreadable",
        "arrays/nothing": "unreadable",
        "arrays/torn": "unreadable",
        "cut": "damaged",
        "empty": "unreadable",
        "frames": "unreadable",
        "one frame": "too short",
        "sound": "unreadable",
        "text": "unreadable",
    }
    assert "only sound" in reasons["sound"][1]
    assert "the file is empty" in reasons["empty"][1]
    assert "not uint8" in reasons["arrays/float"][1]
    assert "4.png" in reasons["frames"][1]
    assert "flow_2" in reasons["arrays/flow"][1]


def test_frames_before_the_damage_are_kept_on_request(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    noise = np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3), np.uint8)
    whole = encode(raw / "cut.mp4", noise)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    packed = _extract(tmp_path, raw, keep_damaged=True)
    assert 10 < packed.num_frames[0] < 30


def test_odd_names_go_through_to_images(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    names = ["two words", "line\nbreak", "ünï 雪", "-i", "a:b*c?", "Case", "case", "dot."]
    for name in names:
        encode(raw / f"{name}.mp4", levels(6, width=16, height=16))
    result = prepare.extract_frames(_request(tmp_path, raw, write_images=True), Work())
    packed = PackedVideos(Path(result["variant_dir"]))
    expected = ["-i", "a:b*c?", "Case", "case", "dot.", "line%0Abreak", "two words", "ünï 雪"]
    assert sorted(packed.ids) == sorted(expected)
    folders = [path.name for path in Path(result["images_dir"]).iterdir() if path.is_dir()]
    assert len({name.casefold() for name in folders}) == len(names)
    assert not any(set('<>:"\\|?*') & set(name) or name.endswith(".") for name in folders)


@pytest.mark.parametrize(
    ("make", "message", "remedy"),
    [
        (lambda raw: None, "no folder 'raw'", "give the folder"),
        (lambda raw: raw.mkdir(), "nothing to prepare in 'raw'", "another folder"),
        (
            lambda raw: encode(raw / "x.mp4", levels(3)),
            "no usable video in 'raw'",
            "lower --min-frames",
        ),
        (
            lambda raw: (raw.mkdir(), (raw / "x.mp4").write_text("?")),
            "no usable video in 'raw'",
            "videos that play",
        ),
    ],
    ids=["missing", "empty", "too short", "unreadable"],
)
def test_nothing_to_prepare_is_an_error_and_leaves_nothing(
    tmp_path: Path, make: Callable[[Path], object], message: str, remedy: str
) -> None:
    make(tmp_path / "raw")
    with pytest.raises(UserError, match=message) as caught:
        _extract(tmp_path / "data", tmp_path / "raw")
    assert caught.value.exit_code == 4
    assert remedy in caught.value.details["to fix"]
    left = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert left == []


def test_an_unknown_layout_is_a_usage_error(tmp_path: Path, clips: Path) -> None:
    with pytest.raises(UserError, match="no raw layout is known for 'prepare'") as caught:
        _extract(tmp_path, clips, kind="prepare")
    assert caught.value.exit_code == 2


def test_a_disk_that_is_too_small_is_noticed_before_the_work(
    tmp_path: Path, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match="not enough disk space") as caught:
        _extract(tmp_path, clips)
    assert caught.value.exit_code == 1
    assert caught.value.details["free"].endswith(" kB")


def test_the_disk_estimate_is_near_the_truth(tmp_path: Path, clips: Path, many: Path) -> None:
    from pipelines.datasets.inventory import estimate_bytes, take_inventory

    for source in (clips, many):
        request = _request(tmp_path, source)
        estimate = estimate_bytes(take_inventory(source, "custom", Work()), request)
        packed = _extract(tmp_path / source.name, source)
        true = sum(file["bytes"] for file in packed.index["files"].values())
        assert 0.8 * true < estimate < 1.3 * true


# Changes


def test_changed_files_are_noticed_and_replace_the_old_when_complete(
    tmp_path: Path, clips: Path
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(clips, raw)
    old = _extract(tmp_path, raw)
    encode(raw / "new.mp4", levels(8))
    said = _says(tmp_path, _request(tmp_path, raw))
    assert any("files in raw have changed" in line for line in said)
    new = PackedVideos(old.dir)
    assert new.ids == ["new", *old.ids]
    assert old.frames(2, 0, 1).shape == (1, 16, 16, 3)  # who has the old one open keeps it
    assert sorted(path.name for path in old.dir.parent.iterdir()) == [old.dir.name]


def test_a_rewritten_file_of_the_same_size_is_noticed(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    np.save(raw / "x.npy", levels(6, width=16, height=16))
    assert numbers(_extract(tmp_path, raw).frames(0, 0, 2)) == [0, 1]
    np.save(raw / "x.npy", levels(6, width=16, height=16)[::-1].copy())
    assert numbers(_extract(tmp_path, raw).frames(0, 0, 2)) == [5, 4]


def test_other_settings_for_a_named_variant_are_refused_unless_it_is_to_be_rebuilt(
    tmp_path: Path, clips: Path
) -> None:
    before = _extract(tmp_path, clips, variant="mine")
    with pytest.raises(UserError, match="made with other settings") as caught:
        _extract(tmp_path, clips, variant="mine", grey=True)
    assert caught.value.exit_code == 2
    assert caught.value.details["changed 1"] == "grey: False before, True now"
    assert PackedVideos(before.dir).channels == 3
    assert _extract(tmp_path, clips, variant="mine", grey=True, rebuild=True).channels == 1


def test_another_folder_under_the_same_name_is_refused(
    tmp_path: Path, clips: Path, many: Path
) -> None:
    _extract(tmp_path, clips)
    with pytest.raises(UserError, match="made from another folder") as caught:
        _extract(tmp_path, many)
    assert caught.value.exit_code == 2
    assert "--name" in caught.value.details["to fix"]


def test_a_folder_that_was_moved_is_still_the_same(tmp_path: Path, clips: Path) -> None:
    shutil.copytree(clips, tmp_path / "here")
    _extract(tmp_path, tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    said = _says(tmp_path, _request(tmp_path, tmp_path / "there"))
    assert any("already prepared" in line for line in said)


# Interruption


def _commits(building: Path) -> int:
    path = building / "journal.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture(scope="module")
def slow_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five videos that take a while: there is time to kill."""
    raw = tmp_path_factory.mktemp("slow")
    for number in range(5):
        noise = f"testsrc2=s=640x480:r=25:d={2 + number % 3}"
        ffmpeg(
            "-f",
            "lavfi",
            "-i",
            noise,
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            raw / f"{number}.mp4",
        )
    return raw


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, slow_clips: Path) -> dict[str, bytes]:
    return _bytes(_extract(tmp_path_factory.mktemp("whole"), slow_clips).dir)


@pytest.mark.parametrize(
    ("jobs", "commits"), [(1, 0), (2, 1), (1, 3)], ids=["at the start", "early", "late"]
)
def test_killed_at_any_moment_and_run_again_gives_the_same_bytes(
    tmp_path: Path, slow_clips: Path, uninterrupted: dict[str, bytes], jobs: int, commits: int
) -> None:
    request = _request(tmp_path, slow_clips, jobs=jobs)
    building = tmp_path / "toy" / "prepared" / f"{request.variant_name()}.tmp"
    with running(prepare.extract_frames, request) as process:
        wait_until(lambda: (building / "parts").exists(), process)
        wait_until(lambda: _commits(building) >= commits, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = _commits(building)
        assert not (building / "index.json").exists()
        assert _nobody_reads(slow_clips)
    packed = _extract(tmp_path, slow_clips, jobs=jobs)
    assert commits <= kept < 5
    assert _bytes(packed.dir) == uninterrupted
    assert [path.name for path in building.parent.iterdir()] == [packed.dir.name]


def test_killed_between_the_last_steps_gives_the_same_bytes(
    tmp_path: Path,
    slow_clips: Path,
    uninterrupted: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the index, and between the index and the new name of the folder."""

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    for target, name in ((PackWriter, "finish"), (prepare, "_publish")):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, killed)
            with pytest.raises(Killed):
                _extract(tmp_path, slow_clips)
    decoded: list[object] = []
    monkeypatch.setattr(prepare, "extract", decoded.append)
    assert _bytes(_extract(tmp_path, slow_clips).dir) == uninterrupted
    assert decoded == []


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_at_once_keeps_what_is_done_and_leaves_no_process(
    tmp_path: Path,
    slow_clips: Path,
    uninterrupted: dict[str, bytes],
    jobs: int,
    number: signal.Signals,
) -> None:
    request = _request(tmp_path, slow_clips, jobs=jobs)
    building = tmp_path / "toy" / "prepared" / f"{request.variant_name()}.tmp"
    with running(prepare.extract_frames, request) as process:
        wait_until(lambda: _commits(building) >= 1, process)
        os.killpg(process.pid, number)  # as a terminal does
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode != 0 and Interrupted.__name__ in errors
        assert _nobody_reads(slow_clips)
        assert 1 <= _commits(building) < 5
    assert _bytes(_extract(tmp_path, slow_clips).dir) == uninterrupted


def _nobody_reads(raw: Path) -> bool:
    """Whether all processes go that have a file of the folder as their standard input."""
    if not Path("/proc/self/fd").exists():
        return True
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        readers = 0
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                readers += os.readlink(process / "fd" / "0").startswith(str(raw))
        if not readers:
            return True
        time.sleep(0.05)
    return False


def test_an_interrupted_preparation_with_other_files_starts_over(
    tmp_path: Path, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(clips, raw)
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "_finish", lambda *_: (_ for _ in ()).throw(Interrupted))
        with pytest.raises(Interrupted):
            _extract(tmp_path, raw)
    shutil.copy(clips / "shot1" / "clip5.mp4", raw / "shot0" / "clip0.mp4")
    packed = _extract(tmp_path, raw)
    assert np.array_equal(packed.frames(0, 0, 20), packed.frames(5, 0, 20))


def test_two_preparations_of_one_variant_do_not_meet(tmp_path: Path, clips: Path) -> None:
    from pipelines.files import folder_lock

    building = tmp_path / "toy" / "prepared" / f"{_request(tmp_path, clips).variant_name()}.tmp"
    building.mkdir(parents=True)
    with folder_lock(building), pytest.raises(UserError, match="by another process"):
        _extract(tmp_path, clips)


# Work as others see it


@pytest.mark.parametrize("jobs", [1, 2])
def test_progress_rises_to_its_total(tmp_path: Path, clips: Path, jobs: int) -> None:
    shown: list[tuple[float, float]] = []

    class Watched(Work):
        def progress(
            self, task: str, done: float, total: float | None = None, unit: str = ""
        ) -> None:
            assert total is not None
            if task == "extract frames":
                assert unit == "MB"
                shown.append((done, total))

    prepare.extract_frames(_request(tmp_path, clips, jobs=jobs), Watched())
    done = [each for each, _ in shown]
    assert done == sorted(done) and shown[-1][0] == shown[-1][1] > 0
    assert len(done) >= 6


def _crash(task: Any, progress: object) -> None:
    if task.video.id.endswith("clip1"):
        os.kill(os.getpid(), signal.SIGSEGV)
    from pipelines.datasets.extraction import extract

    extract(task, progress)  # type: ignore[arg-type]


def test_a_file_that_crashes_its_reader_costs_only_itself(
    tmp_path: Path, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "extract", _crash)
    packed = _extract(tmp_path, clips, jobs=2)
    assert len(packed) == 5
    assert _rejected(packed) == {
        "shot0/clip1": ("unreadable", "the process that read it died (SIGSEGV)")
    }


def _run_out_of_memory(task: Any, progress: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_fails_the_job_with_a_remedy(
    tmp_path: Path, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "extract", _run_out_of_memory)
    with pytest.raises(UserError, match="a process was killed") as caught:
        _extract(tmp_path, clips, jobs=2)
    assert "--jobs" in caught.value.details["to fix"]


# Real clips, where the sample folder is


def _sample_folder() -> Path:
    return Path(os.environ.get("I2V_SAMPLE_DATA", ROOT.parent / "shared" / "data"))


@pytest.mark.skipif(
    not _sample_folder().is_dir(), reason="no sample clips; name their folder in I2V_SAMPLE_DATA"
)
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("bair", {"test/traj_0_to_255/1": 30, "test/traj_0_to_255/27": 30}),
        ("kth", {"kth_00195": 40}),
        ("plants", {"flower_opening": 150}),
        ("textures", {"fire_pot0": 260}),
        ("taichi", {"driving1": 458, "driving2": 280}),
        ("landscape", {"transfer/sample7": 33, "transfer/sample12": 33}),
        ("i3d", {"v_CricketShot_g04_c01_rgb": 79}),
    ],
)
def test_real_clips_are_prepared_whole(tmp_path: Path, name: str, counts: dict[str, int]) -> None:
    source = _sample_folder() / name
    if not source.is_dir():
        pytest.skip(f"the sample folder has no {name}")
    packed = _extract(tmp_path, source, size_px=64)
    found = dict(zip(packed.ids, packed.num_frames.tolist(), strict=True))
    assert counts.items() <= found.items()
    for row in range(len(packed)):
        frames = packed.frames(row, 0, 2).astype(int)
        assert frames.std() > 10  # a picture, not a plain colour
