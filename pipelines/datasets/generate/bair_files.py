"""Arm clips in the form of the BAIR download: .tfrecords of raw 64 x 64 frames and arm positions.

A file repeats: length (8 bytes), checksum of the length, record, checksum of the record; a record
is a tf.train.Example. Numbers are little-endian, checksums are masked CRC-32C.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.datasets.bair import POSITION_LOW, POSITION_RANGE
from pipelines.datasets.generate import arm
from pipelines.datasets.generate.kinds import KINDS
from pipelines.datasets.generate.scene import Clip, Scene
from pipelines.files import atomic_writer
from pipelines.io.crc32c import masked_crc32c

SIZE_PX, NUM_FRAMES = 64, 30


def write_bair_files(
    raw: Path, *, seed: int = 0, train: tuple[int, ...] = (4, 4), test: int = 4
) -> list[Path]:
    """Write softmotion30_44k/{train,test}/traj_<first>_to_<last>.tfrecords below `raw`.

    train: clips of each training file; the first stands for the file that the splits use for
    validation.  test: clips of the test file.  Returns the paths.
    """
    folder = raw / "softmotion30_44k"
    plan = [("test", 0, test)]
    plan += [("train", 256 * (number + 1), count) for number, count in enumerate(train)]
    paths = []
    for split, first, count in plan:
        path = folder / split / f"traj_{first}_to_{first + 255}.tfrecords"
        clips = (_arm_clip(seed, first + number) for number in range(count))
        write_records(path, map(arm_record, clips))
        paths.append(path)
    return paths


def write_records(path: Path, records: Iterable[bytes]) -> None:
    """Write a TFRecord file, whole or not at all."""
    with atomic_writer(path, "wb") as stream:
        for record in records:
            length = struct.pack("<Q", len(record))
            for part in (length, record):
                stream.write(part)
                stream.write(struct.pack("<I", masked_crc32c(part)))


def arm_record(clip: Clip) -> bytes:
    """The tf.train.Example of one arm clip of NUM_FRAMES frames of SIZE_PX.

    Row and column 0 of every frame are black, as they are in BAIR. The second camera sees the
    mirror image. An action is the way to the next position, in metres, and a 0 for the gripper.
    """
    frames = clip.frames.copy()
    frames[:, 0], frames[:, :, 0] = 0, 0
    positions = POSITION_LOW + POSITION_RANGE * clip.tracks["endeffector_pos"]
    steps = np.diff(positions, axis=0, append=positions[-1:])
    actions = np.concatenate([steps, np.zeros((len(steps), 1), np.float32)], axis=1)
    features = b""
    for t, frame in enumerate(frames):
        mirrored = np.ascontiguousarray(frame[:, ::-1])
        features += _entry(f"{t}/image_aux1/encoded", _bytes_feature(frame.tobytes()))
        features += _entry(f"{t}/image_main/encoded", _bytes_feature(mirrored.tobytes()))
        features += _entry(f"{t}/endeffector_pos", _float_feature(positions[t]))
        features += _entry(f"{t}/action", _float_feature(actions[t]))
    return _field(1, features)


def _arm_clip(seed: int, index: int) -> Clip:
    return arm.generate(Scene(seed, KINDS["arm"].id, index, SIZE_PX, NUM_FRAMES))


def _entry(key: str, feature: bytes) -> bytes:
    return _field(1, _field(1, key.encode()) + _field(2, feature))


def _bytes_feature(value: bytes) -> bytes:
    return _field(1, _field(1, value))


def _float_feature(values: NDArray[np.floating]) -> bytes:
    return _field(2, _field(1, np.asarray(values, "<f4").tobytes()))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return bytes(_varint(number << 3 | 2)) + bytes(_varint(len(content))) + content


def _varint(value: int) -> Iterator[int]:
    while value > 0x7F:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value
