"""Pose sequences of Human3.6M beside its videos: from cdf files or from the annotation file.

What a prepared video gets, one entry per frame:
  joints_world_m   float32 17 3   metres in the room, where the cameras are known
  joints_camera_m  float32 17 3   metres in the camera's axes, where they are not
  joints_h36m      float32 17 2   fractions of width and height, where the cameras are known
and, where the cameras are known, the labels extrinsics (3 x 4, translation in mm), intrinsics (f_x,
x_0, f_y, y_0 in pixels of a picture of image_size) and image_size (width, height).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.datasets.base import Track
from pipelines.datasets.h36m_annotations import AnnotatedTake, Annotations
from pipelines.datasets.h36m_camera import Camera, project, to_world
from pipelines.datasets.h36m_metadata import read_cameras
from pipelines.datasets.h36m_takes import Take
from pipelines.events import EXIT_NO_DATA, UserError

NUM_JOINTS = 32
JOINTS_KEPT = (1, 2, 3, 6, 7, 8, 11, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
"""Of the 32: right hip, knee, foot; left; spine, thorax, neck, nose, head; left shoulder, elbow,
wrist; right."""

MM_PER_M = 1000.0


@dataclass(frozen=True)
class PoseFile:
    """The poses in a cdf file, in the camera's axes, and the camera's parameters if they are known.

    metadata: the dataset's metadata.xml, None where it is not at hand.
    """

    path: Path
    take: Take
    metadata: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The pose file and the file of the cameras."""
        return (self.path, self.metadata) if self.metadata else (self.path,)

    def read(self) -> Track:
        """Poses of all frames. Raises UserError where the file is not a pose file."""
        seen = read_pose_file(self.path)[:, JOINTS_KEPT]
        if self.metadata is None:
            return Track(len(seen), {"joints_camera_m": (seen / MM_PER_M).astype(np.float32)})
        camera = read_cameras(self.metadata)[self.take.subject, self.take.camera]
        return _track(to_world(seen, camera.extrinsics), camera)


@dataclass(frozen=True)
class AnnotatedPoses:
    """The rows of a take in the annotation file."""

    path: Path
    rows: AnnotatedTake

    @property
    def files(self) -> tuple[Path, ...]:
        """The annotation file."""
        return (self.path,)

    def read(self) -> Track:
        """Poses of all frames. Raises UserError where the rows do not fit together."""
        with Annotations(self.path) as annotations:
            world, camera = annotations.read(self.rows)
        return _track(world[:, JOINTS_KEPT], camera)


def read_pose_file(path: Path) -> np.ndarray:
    """The poses in a cdf file: float64 T 32 3, millimetres.

    Raises UserError with exit code 4 when it is not a cdf file, or its variable Pose has not the
    shape (1, T, 96), or holds anything but finite numbers.
    """
    import cdflib  # in the environment `data` only

    try:
        values = np.asarray(cdflib.CDF(path).varget("Pose"))
    except Exception as problem:  # its reader fails on damaged files in any way
        raise _unusable(path, f"{type(problem).__name__}: {problem}") from problem
    if values.ndim != 3 or values.shape[0] != 1 or values.shape[2] != NUM_JOINTS * 3:
        raise _unusable(path, f"Pose has the shape {values.shape}, not (1, T, {NUM_JOINTS * 3})")
    if values.dtype.kind != "f" or not np.isfinite(values).all():
        raise _unusable(path, "Pose holds something else than finite numbers")
    return values.astype(np.float64).reshape(-1, NUM_JOINTS, 3)


def _track(world_mm: np.ndarray, camera: Camera) -> Track:
    _, pixels = project(world_mm, camera.extrinsics, camera.intrinsics)
    arrays = {
        "joints_world_m": (world_mm / MM_PER_M).astype(np.float32),
        "joints_h36m": (pixels / camera.size_px).astype(np.float32),
    }
    labels = {
        "extrinsics": camera.extrinsics.tolist(),
        "intrinsics": camera.intrinsics.tolist(),
        "image_size": list(camera.size_px),
    }
    return Track(len(world_mm), arrays, labels)


def _unusable(path: Path, reason: str) -> UserError:
    return UserError(
        f"cannot read the poses in '{path.name}'",
        {
            "path": path,
            "reason": " ".join(reason.split())[:300],
            "to fix": "unpack the pose archive again, or download it again if that does not help",
        },
        EXIT_NO_DATA,
    )
