"""The annotation file annot_export.h5 of the behaviour model: one row per image of every camera.

Columns, all with the same number of rows N:
  img_paths           bytes   relative to the folder that holds `processed`
  p_ids               int     subject: 1, 5, 6, 7, 8, 9, 11
  action, subaction   int     2..16 and 1..2
  camera_id           int     the camera's number
  f_ids               int     frame, counted from 1
  image_size          N 2     width, height
  keypoints           N 32 2  pixels;  norm_keypoints: the same over the image size
  keypoints_3d_world  N 32 3  mm in the room;  keypoints_3d_univ: mm in the camera's axes
  intrinsics_univ     N 4     f_x, x_0, f_y, y_0 in pixels
  extrinsics_univ     N 3 4   [R | t], t in mm
Rows of one video lie together and in order.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.datasets.h36m_camera import Camera, project
from pipelines.datasets.h36m_takes import Take
from pipelines.events import EXIT_NO_DATA, UserError

FILE_NAME = "annot_export.h5"

_WHO = ("p_ids", "action", "subaction", "camera_id")
_SHAPES: Mapping[str, tuple[int, ...]] = {
    **{name: () for name in (*_WHO, "f_ids")},
    **{"image_size": (2,), "keypoints_3d_world": (32, 3)},
    **{"intrinsics_univ": (4,), "extrinsics_univ": (3, 4)},
}
"""What is read, and the shape of a row."""


@dataclass(frozen=True)
class AnnotatedTake:
    """Rows first .. first + count - 1."""

    take: Take
    first: int
    count: int


class Annotations:
    """An annotation file, opened for reading; close it or use it in a `with` block."""

    def __init__(self, path: Path) -> None:
        """Raises UserError with exit code 4 when the file has not the columns it must have."""
        import h5py  # in the environment `data` only; the layout is looked at elsewhere too

        self.path = path
        try:
            self._file = h5py.File(path, "r")
        except OSError as problem:
            raise self._wrong(f"it is not a whole HDF5 file ({problem})") from problem
        try:
            self._check()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Annotations:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def takes(self) -> list[AnnotatedTake]:
        """What each stretch of rows shows, in the order of the file.

        Raises UserError when the rows of one video lie in several places.
        """
        who = np.stack([self._column(name) for name in _WHO], axis=1).astype(np.int64)
        if not len(who):
            return []
        starts = np.flatnonzero(np.r_[True, (who[1:] != who[:-1]).any(axis=1)])
        counts = np.diff(np.r_[starts, len(who)])
        takes = [Take(*values) for values in who[starts].tolist()]
        if len(set(takes)) < len(takes):
            twice = next(take for number, take in enumerate(takes) if take in takes[:number])
            raise self._wrong(f"rows of {tuple(twice)} lie in several places")
        places = zip(takes, starts.tolist(), counts.tolist(), strict=True)
        return [AnnotatedTake(*place) for place in places]

    def read(self, rows: AnnotatedTake) -> tuple[np.ndarray, Camera]:
        """The joints in the room (float64 T 32 3, mm) and the camera of a take.

        Raises UserError when frames are missing or numbers are not finite.
        """
        part = slice(rows.first, rows.first + rows.count)
        frames = self._column("f_ids", part)
        if not np.array_equal(frames, np.arange(1, rows.count + 1)):
            raise self._wrong(f"f_ids of {tuple(rows.take)} do not count from 1 without gaps")
        world = self._column("keypoints_3d_world", part).astype(np.float64)
        width, height = self._column("image_size", part)[0].tolist()
        camera = Camera(
            self._column("extrinsics_univ", part)[0].astype(np.float64),
            self._column("intrinsics_univ", part)[0].astype(np.float64),
            (width, height),
        )
        known = (world, camera.extrinsics, camera.intrinsics)
        if not all(np.isfinite(values).all() for values in known) or min(width, height) <= 0:
            raise self._wrong(f"numbers of {tuple(rows.take)} are not finite")
        return world, camera

    def _check(self) -> None:
        import h5py

        missing = [name for name in _SHAPES if not isinstance(self._file.get(name), h5py.Dataset)]
        if missing:
            raise self._wrong(f"it has no {', '.join(missing)}")
        num_rows = len(self._file["p_ids"]) if self._file["p_ids"].ndim else 0
        for name, shape in _SHAPES.items():
            column = self._file[name]
            if column.shape != (num_rows, *shape) or column.dtype.kind not in "iuf":
                told = f"{column.dtype} {column.shape}"
                raise self._wrong(f"{name} is {told}, not {num_rows} rows of the shape {shape}")

    def _column(self, name: str, part: slice = slice(None)) -> np.ndarray:
        try:
            return np.asarray(self._file[name][part])
        except OSError as problem:
            raise self._wrong(f"{name} cannot be read ({problem})") from problem

    def _wrong(self, reason: str) -> UserError:
        return UserError(
            f"'{self.path.name}' is not an annotation file that this version reads",
            {
                "path": self.path,
                "reason": " ".join(reason.split())[:300],
                "to fix": "get it again with i2v download h36m, or remove it to use the pose files",
            },
            EXIT_NO_DATA,
        )


@dataclass(frozen=True)
class TakeToWrite:
    """What is written of a take: joints T 32 3 in mm of the room, T image paths, the camera."""

    take: Take
    world_mm: np.ndarray
    image_paths: Sequence[str]
    camera: Camera


def write_annotations(path: Path, takes: Sequence[TakeToWrite]) -> None:
    """Write an annotation file, whole or not at all."""
    import h5py

    parts = [_rows(take) for take in takes]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        made = Path(folder) / path.name
        with h5py.File(made, "w") as file:
            for name in parts[0]:
                file.create_dataset(name, data=np.concatenate([part[name] for part in parts]))
        os.replace(made, path)


def _rows(each: TakeToWrite) -> dict[str, np.ndarray]:
    """The rows of one take, by column."""
    count, camera = len(each.world_mm), each.camera
    seen, pixels = project(each.world_mm, camera.extrinsics, camera.intrinsics)
    size = np.array(camera.size_px)
    fixed = {
        **dict(zip(_WHO, each.take, strict=True)),
        "image_size": size.astype(np.int64),
        "intrinsics_univ": camera.intrinsics.astype(np.float32),
        "extrinsics_univ": camera.extrinsics.astype(np.float32),
    }
    repeated = {name: np.repeat(np.asarray(value)[None], count, 0) for name, value in fixed.items()}
    return repeated | {
        "img_paths": np.array([text.encode() for text in each.image_paths]),
        "f_ids": np.arange(1, count + 1),
        "keypoints": pixels.astype(np.float32),
        "norm_keypoints": (pixels / size).astype(np.float32),
        "keypoints_3d_world": each.world_mm.astype(np.float32),
        "keypoints_3d_univ": seen.astype(np.float32),
    }
