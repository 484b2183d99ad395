"""Takes of the walker in space in the form of Human3.6M: videos, poses, images and annotations.

Below the given folder:
  extracted/S<k>/Videos/<take>.<camera>.mp4                                  50 frames per second
  extracted/S<k>/Poses_D3_Positions_mono_universal/<take>.<camera>.cdf       Pose, (1, T, 96) mm
  processed/all/S<k>/<action>-<sub>/imageSequence/<camera>/img_000001.jpg    counted from 1
  processed/all/annot_export.h5                                              one row per image
  metadata.xml                                                               the cameras
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from cdflib.cdfwrite import CDF
from PIL import Image

from pipelines.datasets import h36m_camera
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
from pipelines.datasets.h36m_annotations import FILE_NAME, TakeToWrite, write_annotations
from pipelines.datasets.h36m_metadata import NUM_SUBJECTS
from pipelines.datasets.h36m_takes import FPS, SUBJECTS, Take
from pipelines.files import write_text
from pipelines.io.video import write_mp4


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
    takes: list[TakeToWrite] = []
    for subject in subjects:
        for action in ACTIONS:
            for view in _views(seed, subject, action, num_frames, size_px):
                folder = root / "extracted" / f"S{subject}"
                name = f"{action.file}.{view.camera.id}"
                write_mp4(folder / "Videos" / f"{name}.mp4", view.frames, FPS)
                poses = folder / "Poses_D3_Positions_mono_universal" / f"{name}.cdf"
                write_pose_file(poses, view.camera_mm)
                takes.append(_to_write(view, _write_images(root, view)))
    write_metadata(root / "metadata.xml")
    path = root / "processed" / "all" / FILE_NAME
    write_annotations(path, takes)
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


def _write_images(root: Path, view: View) -> list[str]:
    """Write the frames as JPEG files; returns their paths relative to root."""
    take = f"{view.action.name}-{SUBACTION}"
    folder = Path("processed", "all", f"S{view.subject}", take, "imageSequence")
    folder = folder / str(view.camera.id)
    (root / folder).mkdir(parents=True, exist_ok=True)
    paths = [folder / f"img_{number:06d}.jpg" for number in range(1, len(view.frames) + 1)]
    for path, frame in zip(paths, view.frames, strict=True):
        Image.fromarray(frame).save(root / path, quality=95)
    return [path.as_posix() for path in paths]


def _to_write(view: View, image_paths: list[str]) -> TakeToWrite:
    """One view as the annotation file has it."""
    return TakeToWrite(
        Take(view.subject, view.action.id, SUBACTION, view.camera.id),
        view.world_mm,
        image_paths,
        h36m_camera.Camera(
            view.camera.extrinsics,
            np.array(view.camera.intrinsics),
            (NATIVE_SIZE_PX, NATIVE_SIZE_PX),
        ),
    )


def write_metadata(path: Path) -> None:
    """Write the cameras as metadata.xml has them; two of the four are there twice."""
    filmed = [camera for camera in CAMERAS for _ in range(2)]
    outer = [[*_angles(camera.rotation), *_place(camera)] for camera in filmed]
    numbers = [number for numbers in outer for _ in range(NUM_SUBJECTS) for number in numbers]
    for camera in filmed:
        numbers += [camera.focal_px, camera.focal_px, *camera.centre_px, 0, 0, 0, 0, 0]
    order = (54138969, 60457274, 55011271, 58860488)
    ids = "".join(f"<camera>{number}</camera>" for number in order)
    text = " ".join(f"{number:.9g}" for number in numbers)
    write_text(
        path, f"<data><dbcameras><index2id>{ids}</index2id></dbcameras><w0>[{text}]</w0></data>"
    )


def _angles(rotation: Floats) -> list[float]:
    """The angles of Rx Ry Rz."""
    turn = rotation.astype(np.float64)
    return [
        float(np.arctan2(-turn[1, 2], turn[2, 2])),
        float(np.arcsin(turn[0, 2])),
        float(np.arctan2(-turn[0, 1], turn[0, 0])),
    ]


def _place(camera: Camera) -> list[float]:
    """Where the camera stands, in mm."""
    return [float(value) for value in -camera.rotation.T @ camera.translation_mm]
