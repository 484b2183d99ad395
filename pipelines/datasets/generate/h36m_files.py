"""Takes of the walker in space in the form of Human3.6M: videos, poses, images and annotations.

Below the given folder:
  extracted/S<k>/Videos/<take>.<camera>.mp4                                  50 frames per second
  extracted/S<k>/Poses_D3_Positions_mono_universal/<take>.<camera>.cdf       Pose, (1, T, 96) mm
  processed/all/S<k>/<action>-<sub>/imageSequence/<camera>/img_000001.jpg    counted from 1
  processed/all/annot_export.h5                                              one row per image
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from cdflib.cdfwrite import CDF
from numpy.typing import NDArray
from PIL import Image

from pipelines.datasets.generate.kinds import KINDS
from pipelines.datasets.generate.scene import Bytes, Floats, Scene
from pipelines.datasets.generate.skeleton import NUM_IDENTITIES, person
from pipelines.datasets.generate.walker_3d import (
    CAMERAS,
    NATIVE_SIZE_PX,
    Camera,
    film,
    joints_32,
    perform,
)
from pipelines.io.video import write_mp4

FPS = 50.0
SUBJECTS = (1, 5, 6, 7, 8, 9, 11)


class Action(NamedTuple):
    """An action of Human3.6M that our people know. file: its takes' name, the same for everyone."""

    name: str
    id: int
    file: str
    ours: str


ACTIONS = (
    Action("Directions", 2, "Directions 1", "wave"),
    Action("Purchases", 8, "Purchases 1", "box"),
    Action("Walking", 14, "Walking 1", "walk"),
)
SUBACTION = 1


class View(NamedTuple):
    """One camera's part of a take: frames T S S 3, and joints T 32 3 in mm of the world."""

    subject: int
    action: Action
    camera: Camera
    frames: Bytes
    world_mm: Floats

    @property
    def camera_mm(self) -> Floats:
        """The joints in the camera's axes, T 32 3."""
        return self.world_mm @ self.camera.rotation.T + self.camera.translation_mm


def write_h36m_files(
    root: Path,
    *,
    seed: int = 0,
    subjects: Iterable[int] = SUBJECTS,
    num_frames: int = 50,
    size_px: int = 64,
) -> Path:
    """Write takes of every action for some subjects; returns the path of annot_export.h5.

    Pixels in the annotations are those of the NATIVE_SIZE_PX picture, as image_size says there,
    also where the images are smaller.
    """
    rows: list[dict[str, NDArray[np.generic]]] = []
    for subject in subjects:
        for action in ACTIONS:
            for view in _views(seed, subject, action, num_frames, size_px):
                folder = root / "extracted" / f"S{subject}"
                name = f"{action.file}.{view.camera.id}"
                write_mp4(folder / "Videos" / f"{name}.mp4", view.frames, FPS)
                poses = folder / "Poses_D3_Positions_mono_universal" / f"{name}.cdf"
                write_pose_file(poses, view.camera_mm)
                rows.append(_annotate(view, _write_images(root, view)))
    path = root / "processed" / "all" / "annot_export.h5"
    _write_annotations(path, rows)
    return path


def write_pose_file(path: Path, joints_mm: Floats) -> None:
    """Write T 32 3 in mm as a CDF file with one variable, Pose, of shape (1, T, 96)."""
    flat = joints_mm.reshape(1, len(joints_mm), -1).astype(np.float32)
    spec = {
        "Variable": "Pose",
        "Data_Type": 44,  # CDF_FLOAT
        "Num_Elements": 1,
        "Rec_Vary": True,
        "Dim_Sizes": list(flat.shape[1:]),
        "Compress": 6,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        made = Path(folder) / "pose.cdf"
        with CDF(made) as file:
            file.write_var(spec, var_data=flat)
        os.replace(made, path)


def _views(
    seed: int, subject: int, action: Action, num_frames: int, size_px: int
) -> Iterable[View]:
    number = subject * 100 + action.id
    scene = Scene(seed, KINDS["walker_3d"].id, number, size_px, num_frames)
    body = person(scene, subject % NUM_IDENTITIES)
    _, movement = perform(scene, body, action=action.ours)
    for camera in CAMERAS:
        place = replace(scene, index=camera.id)
        frames, _, _ = film(place, body, movement, camera)
        yield View(subject, action, camera, frames, joints_32(movement) * (1000 * body.height))


def _write_images(root: Path, view: View) -> list[bytes]:
    """Write the frames as JPEG files; returns their paths relative to root."""
    take = f"{view.action.name}-{SUBACTION}"
    folder = Path("processed", "all", f"S{view.subject}", take, "imageSequence")
    folder = folder / str(view.camera.id)
    (root / folder).mkdir(parents=True, exist_ok=True)
    paths = [folder / f"img_{number:06d}.jpg" for number in range(1, len(view.frames) + 1)]
    for path, frame in zip(paths, view.frames, strict=True):
        Image.fromarray(frame).save(root / path, quality=95)
    return [path.as_posix().encode() for path in paths]


def _annotate(view: View, image_paths: list[bytes]) -> dict[str, NDArray[np.generic]]:
    """The rows of annot_export.h5 for one view, by column."""
    count = len(view.frames)
    pixels, _ = view.camera.see(view.world_mm)
    size = np.array([NATIVE_SIZE_PX, NATIVE_SIZE_PX])
    fixed: dict[str, object] = {
        "p_ids": view.subject,
        "action": view.action.id,
        "subaction": SUBACTION,
        "camera_id": view.camera.id,
        "image_size": size,
        "intrinsics_univ": np.array(view.camera.intrinsics, np.float32),
        "extrinsics_univ": view.camera.extrinsics,
    }
    repeated = {name: np.repeat(np.asarray(value)[None], count, 0) for name, value in fixed.items()}
    return repeated | {
        "img_paths": np.array(image_paths),
        "f_ids": np.arange(1, count + 1),
        "keypoints": pixels.astype(np.float32),
        "norm_keypoints": (pixels / size).astype(np.float32),
        "keypoints_3d_world": view.world_mm.astype(np.float32),
        "keypoints_3d_univ": view.camera_mm.astype(np.float32),
    }


def _write_annotations(path: Path, rows: list[dict[str, NDArray[np.generic]]]) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        made = Path(folder) / path.name
        with h5py.File(made, "w") as file:
            for name in rows[0]:
                file.create_dataset(name, data=np.concatenate([row[name] for row in rows]))
        os.replace(made, path)
