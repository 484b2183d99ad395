from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from pipelines.datasets import bair
from pipelines.datasets.base import RawVideo, Rejected
from pipelines.datasets.protocols import follow
from pipelines.events import UserError
from pipelines.io.crc32c import masked_crc32c
from pipelines.io.tfrecords import (
    DamagedRecord,
    frames_of,
    parse_example,
    read_record,
    record_places,
)
from tests.pipelines.datasets import published_makers
from tests.pipelines.datasets.preparing import (
    litter,
    prepared,
    reasons,
    rejected,
    splits,
    with_images,
)

FIRST_TEST = Path("softmotion30_44k/test/traj_0_to_255.tfrecords")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_makers.bair(tmp_path_factory.mktemp("bair"))


@pytest.fixture
def own_raw(raw: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(raw, tmp_path / "raw"))


def test_frames_positions_and_actions_are_those_of_the_records(raw: Path, tmp_path: Path) -> None:
    packed = prepared(tmp_path, "bair", raw, size_px=64)
    assert packed.ids[:3] == [
        *("test/traj_0_to_255/1", "test/traj_0_to_255/2", "eval/traj_256_to_511/1")
    ]
    path = raw / FIRST_TEST
    for row, place in enumerate(record_places(path)):
        features = parse_example(read_record(path, place))
        frames = frames_of(features, "{t}/image_aux1/encoded", (64, 64, 3))
        assert np.array_equal(packed.frames(row, 0, 30), frames)
        assert not frames[:, 0].any() and not frames[:, :, 0].any()
        metres = packed.extra("endeffector_pos_m")(row, 0, 30)
        assert np.array_equal(metres[7], features["7/endeffector_pos"])
        fractions = packed.extra("endeffector_pos")(row, 0, 30)
        assert np.allclose(fractions * bair.POSITION_RANGE + bair.POSITION_LOW, metres, atol=1e-6)
        assert np.array_equal(packed.extra("action")(row, 29, 1)[0], features["29/action"])


def test_the_published_splits_are_by_file(raw: Path, tmp_path: Path) -> None:
    by_cinn = splits(prepared(tmp_path, "bair", raw))
    assert by_cinn == {
        **{f"test/traj_0_to_255/{n}": "test" for n in (1, 2)},
        **{f"eval/traj_256_to_511/{n}": "val" for n in (1, 2)},
        **{f"train/traj_512_to_767/{n}": "train" for n in (1, 2, 3)},
    }
    by_svg = splits(prepared(tmp_path, "bair", raw, protocol="svg"))
    assert set(by_svg.values()) == {"train", "test"}
    assert by_svg["eval/traj_256_to_511/1"] == "train"


def test_a_whole_download_has_the_published_numbers(tmp_path: Path) -> None:
    header = struct.pack("<Q", 4)
    record = header + struct.pack("<I", masked_crc32c(header)) + bytes(8)
    for number in range(170):
        first = number * 256
        folder = tmp_path / "softmotion30_44k" / ("train" if number else "test")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"traj_{first}_to_{first + 255}.tfrecords").write_bytes(record * 256)
    found = list(follow(bair.layout(tmp_path), "bair", None))
    assert not [each for each in found if isinstance(each, Rejected)]
    counts = {name: 0 for name in ("train", "val", "test")}
    for each in found:
        assert isinstance(each, RawVideo) and each.split
        counts[each.split] += 1
    assert counts == {"train": 168 * 256, "val": 256, "test": 256}


def test_files_that_are_not_there_are_reported(raw: Path, own_raw: Path, tmp_path: Path) -> None:
    left_out = rejected(prepared(tmp_path, "bair", raw))
    assert len(left_out) == 170 - 3
    assert left_out["traj_768_to_1023"] == ("missing", "published but not there")
    shutil.rmtree(own_raw / "softmotion30_44k" / "train")  # the test part alone is a known choice
    packed = prepared(tmp_path / "other", "bair", own_raw)
    assert set(splits(packed).values()) == {"test"}
    assert reasons(packed) == {}


def test_what_a_download_leaves_beside_the_data_is_passed_over(
    raw: Path, own_raw: Path, tmp_path: Path
) -> None:
    litter(own_raw)
    (own_raw / "softmotion30_44k/train/traj_768_to_1023.tfrecords.part").write_bytes(b"half")
    assert splits(prepared(tmp_path, "bair", own_raw)) == splits(
        prepared(tmp_path / "clean", "bair", raw)
    )


@pytest.mark.parametrize("protocol", ["cinn", "svg"])
def test_the_published_folders_of_images_are_written_and_read_again(
    raw: Path, tmp_path: Path, protocol: str
) -> None:
    options = {"size_px": 64, "protocol": protocol}
    packed = prepared(tmp_path, "bair", raw, **options)
    images = with_images(tmp_path, "bair", raw, **options)
    first = "0.png" if protocol == "cinn" else "000.png"
    assert (images / "eval" / "traj_256_to_511" / "1" / first).is_file()
    again = prepared(tmp_path / "again", "bair", images, **options)
    assert splits(again) == splits(packed)
    place = {video: row for row, video in enumerate(again.ids)}
    for row, video in enumerate(packed.ids):
        assert np.array_equal(again.frames(place[video], 0, 30), packed.frames(row, 0, 30))
    if protocol == "cinn":
        table = images / "test" / "traj_0_to_255" / "2" / "endeffector_positions.csv"
        assert np.loadtxt(table, delimiter=",").shape == (30, 3)
        for name in ("endeffector_pos", "endeffector_pos_m"):
            read = again.extra(name)(place["test/traj_0_to_255/2"], 0, 30)
            assert np.array_equal(read, packed.extra(name)(1, 0, 30))


def test_one_and_two_processes_give_the_same_bytes(raw: Path, tmp_path: Path) -> None:
    one = prepared(tmp_path / "one", "bair", raw, jobs=1)
    two = prepared(tmp_path / "two", "bair", raw, jobs=2)
    for path in sorted(one.dir.rglob("*")):
        if path.is_file():
            other = two.dir / path.relative_to(one.dir)
            assert other.read_bytes() == path.read_bytes(), path.name


# Damage


@pytest.mark.parametrize("kept_bytes", [3, 12, 700_000])
def test_a_file_that_is_cut_off_keeps_its_whole_records(
    own_raw: Path, tmp_path: Path, kept_bytes: int
) -> None:
    path = own_raw / FIRST_TEST
    first, second = record_places(path)
    data = path.read_bytes()
    path.write_bytes(data[: second.first_byte - 12 + kept_bytes])
    packed = prepared(tmp_path, "bair", own_raw)
    assert "test/traj_0_to_255/1" in packed.ids and len(packed) == 6
    reason, detail = rejected(packed)["test/traj_0_to_255/2"]
    assert reason == "damaged"
    assert f"the file ends after {kept_bytes:,} bytes of it" in detail
    assert read_record(path, first) == data[12 : 12 + first.num_bytes]


def test_a_wrong_checksum_costs_its_own_record_only(own_raw: Path, tmp_path: Path) -> None:
    path = own_raw / FIRST_TEST
    first, _ = record_places(path)
    data = bytearray(path.read_bytes())
    data[first.first_byte + 5000] ^= 4
    path.write_bytes(bytes(data))
    packed = prepared(tmp_path, "bair", own_raw)
    assert "test/traj_0_to_255/2" in packed.ids and len(packed) == 6
    reason, detail = rejected(packed)["test/traj_0_to_255/1"]
    assert reason == "damaged" and "record 0" in detail and "checksum is wrong" in detail


def test_a_wrong_length_is_not_believed(own_raw: Path, tmp_path: Path) -> None:
    path = own_raw / FIRST_TEST
    data = bytearray(path.read_bytes())
    data[0:8] = struct.pack("<Q", 2**62)
    path.write_bytes(bytes(data))
    packed = prepared(tmp_path, "bair", own_raw)
    assert len(packed) == 5
    assert "checksum of its length" in rejected(packed)["test/traj_0_to_255/1"][1]


def test_a_record_that_is_no_episode_is_rejected(own_raw: Path, tmp_path: Path) -> None:
    record = b"\x0a\x03abc"
    length = struct.pack("<Q", len(record))
    parts = [length, struct.pack("<I", masked_crc32c(length))]
    parts += [record, struct.pack("<I", masked_crc32c(record))]
    path = own_raw / FIRST_TEST
    path.write_bytes(b"".join(parts))
    reason, detail = rejected(prepared(tmp_path, "bair", own_raw))["test/traj_0_to_255/1"]
    assert reason == "unreadable" and "not a BAIR episode" in detail


def test_a_reader_says_which_record_of_which_file(own_raw: Path) -> None:
    path = own_raw / FIRST_TEST
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedRecord) as error:
        list(record_places(path))
    assert error.value.message == "record 1 of 'traj_0_to_255.tfrecords' is damaged"
    assert error.value.details["to fix"] == "get the file again"


def test_a_folder_without_episodes_names_the_download(tmp_path: Path) -> None:
    litter(tmp_path)
    with pytest.raises(UserError) as error:
        list(bair.layout(tmp_path))
    assert error.value.exit_code == 4
    assert "i2v download bair" in error.value.details["run first"]
