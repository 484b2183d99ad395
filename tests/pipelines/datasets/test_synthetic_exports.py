"""Generated clips in the forms of BAIR, KTH and Human3.6M."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import cdflib
import h5py
import numpy as np
import pytest

from pipelines.datasets.generate import bair_files, h36m_files, kth_files
from pipelines.datasets.synthetic import generate
from pipelines.io.crc32c import crc32c, masked_crc32c
from pipelines.io.video import probe, read_video


def test_the_checksum_is_crc32c() -> None:
    # The check value of the algorithm's catalogue entry, and the zeros of RFC 3720, B.4.
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"") == 0


@pytest.mark.parametrize("length", [1023, 1024, 1025, 3000])
def test_the_checksum_of_long_data_is_that_of_its_bytes(length: int) -> None:
    data = np.random.default_rng(0).bytes(length)
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    assert crc32c(data) == crc ^ 0xFFFFFFFF


def test_bair_files_hold_raw_frames_and_arm_positions(tmp_path: Path) -> None:
    paths = bair_files.write_bair_files(tmp_path, train=(1, 1), test=2)
    assert [path.relative_to(tmp_path / "softmotion30_44k").as_posix() for path in paths] == [
        "test/traj_0_to_255.tfrecords",
        "train/traj_256_to_511.tfrecords",
        "train/traj_512_to_767.tfrecords",
    ]
    records = [_features(record) for record in _records(paths[0])]
    assert len(records) == 2
    clip = generate("arm", 1, num_frames=30)
    features = records[1]
    assert len(features) == 30 * 4
    for t in (0, 29):
        frame = np.frombuffer(features[f"{t}/image_aux1/encoded"], np.uint8).reshape(64, 64, 3)
        assert not frame[0].any() and not frame[:, 0].any()
        assert np.array_equal(frame[1:, 1:], clip.frames[t, 1:, 1:])
        mirrored = np.frombuffer(features[f"{t}/image_main/encoded"], np.uint8)
        assert np.array_equal(mirrored.reshape(64, 64, 3), frame[:, ::-1])
        position = np.frombuffer(features[f"{t}/endeffector_pos"], "<f4")
        normalised = (position - bair_files.POSITION_LOW) / bair_files.POSITION_RANGE
        assert np.allclose(normalised, clip.tracks["endeffector_pos"][t], atol=1e-5)
    assert len(np.frombuffer(features["3/action"], "<f4")) == 4


def _records(path: Path) -> Iterator[bytes]:
    data, place = path.read_bytes(), 0
    while place < len(data):
        length, crc = struct.unpack_from("<QI", data, place)
        record = data[place + 12 : place + 12 + length]
        assert crc == masked_crc32c(data[place : place + 8])
        assert struct.unpack_from("<I", data, place + 12 + length)[0] == masked_crc32c(record)
        yield record
        place += 16 + length


def _features(record: bytes) -> dict[str, bytes]:
    """Name -> bytes of the one value, or packed floats."""
    (features,) = _fields(record)
    values = {}
    for _, entry in _fields(features[1]):
        (_, key), (_, feature) = _fields(entry)
        ((_, value_list),) = _fields(feature)
        ((_, value),) = _fields(value_list)
        values[key.decode()] = value
    return values


def _fields(data: bytes) -> list[tuple[int, bytes]]:
    fields, place = [], 0
    while place < len(data):
        tag, place = _varint(data, place)
        assert tag & 7 == 2
        length, place = _varint(data, place)
        fields.append((tag >> 3, data[place : place + length]))
        place += length
    return fields


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place


def test_kth_videos_are_small_grey_and_named_like_the_published(tmp_path: Path) -> None:
    paths = kth_files.write_kth_files(tmp_path, persons=(1, 25), scenarios=(2,), num_frames=20)
    assert len(paths) == 6
    path = tmp_path / "person25_handwaving_d2_uncomp.avi"
    assert path in paths
    info = probe(path)
    assert (info.width, info.height, info.fps) == (160, 120, 25)
    frames = read_video(path).astype(int)
    assert len(frames) == 20
    assert np.abs(frames - frames[..., :1]).max() <= 3
    expected = kth_files.kth_clip(25, "handwaving", 2, 20)
    assert np.abs(frames - expected).mean() < 3
    assert np.abs(expected[10].astype(int) - expected[0]).max() > 30
    lines = (tmp_path / "00sequences.txt").read_text().splitlines()
    assert "person01_walking_d2\t\tframes\t1-10, 11-20" in lines


def test_kth_people_stay_inside_the_narrower_picture() -> None:
    for person in (3, 14):
        frames = kth_files.kth_clip(person, "walking", 1, 40).astype(int)
        moving = np.abs(frames - frames[:1]).max(axis=(0, 3)) > 25
        rows = np.nonzero(moving.any(axis=1))[0]
        assert rows[0] > 0 and rows[-1] < 119


@pytest.fixture(scope="module")
def h36m(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("h36m")
    h36m_files.write_h36m_files(root, subjects=(1, 9), num_frames=6)
    return root


def test_h36m_poses_videos_and_images_belong_together(h36m: Path) -> None:
    for subject in ("S1", "S9"):
        poses = list((h36m / "extracted" / subject).glob("Poses*/*.cdf"))
        assert len(poses) == 3 * 2
        for path in poses:
            pose = cdflib.CDF(path).varget("Pose")
            assert pose.shape == (1, 6, 96) and pose.dtype == np.float32
            assert len(read_video(path.parents[1] / "Videos" / f"{path.stem}.mp4")) == 6
    images = h36m / "processed/all/S1/Walking-1/imageSequence/54138969"
    assert sorted(path.name for path in images.iterdir())[0] == "img_000001.jpg"


def test_h36m_annotations_agree_with_poses_and_images(h36m: Path) -> None:
    with h5py.File(h36m / "processed/all/annot_export.h5") as file:
        rows = {name: file[name][:] for name in file}
    assert all(len(values) == 2 * 3 * 2 * 6 for values in rows.values())
    assert set(rows["p_ids"]) == {1, 9} and set(rows["action"]) == {2, 8, 14}
    assert all((h36m / path.decode()).exists() for path in rows["img_paths"])
    assert rows["f_ids"].min() == 1
    chosen = (rows["p_ids"] == 9) & (rows["action"] == 14) & (rows["camera_id"] == 55011271)
    world, matrix = rows["keypoints_3d_world"][chosen], rows["extrinsics_univ"][chosen]
    seen = np.einsum("nij,nkj->nki", matrix[:, :, :3], world) + matrix[:, None, :, 3]
    folder = h36m / "extracted/S9/Poses_D3_Positions_mono_universal"
    pose = cdflib.CDF(folder / "Walking 1.55011271.cdf").varget("Pose")
    assert np.allclose(seen, pose.reshape(-1, 32, 3), atol=0.01)
    f_x, x_0, _, _ = rows["intrinsics_univ"][chosen][0]
    across = f_x * seen[..., 0] / seen[..., 2] + x_0
    assert np.allclose(across, rows["keypoints"][chosen][..., 0], atol=0.01)
    assert np.allclose(rows["norm_keypoints"], rows["keypoints"] / 1000, atol=1e-5)
    heights = np.ptp(world[..., 2], axis=1)
    assert np.all((heights > 1400) & (heights < 2000))
