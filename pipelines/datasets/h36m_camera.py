"""Cameras of Human3.6M: from the world to a camera and to pixels, and back. numpy only.

World and camera coordinates are millimetres in the files and metres in training, and a camera's
axes are x right, y down, z ahead. Both directions hold in any unit that the translation has too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.datasets.h36m_takes import NATIVE_SIZE_PX


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    extrinsics: 3 4, [R | t] with x_camera = R x_world + t, t in mm.
    intrinsics: f_x, x_0, f_y, y_0 in pixels of a picture of size_px (width, height).
    """

    extrinsics: np.ndarray
    intrinsics: np.ndarray
    size_px: tuple[float, float]


def project(
    world: np.ndarray, extrinsics: np.ndarray, intrinsics: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Points in the camera's axes (... 3) and in pixels (... 2), both float64.

    world: ... 3.  extrinsics: 3 4, translation in the unit of world.  intrinsics: f_x, x_0, f_y,
    y_0 in pixels. Lens distortion is left out, as published.
    """
    matrix = np.asarray(extrinsics, np.float64)
    focal_x, centre_x, focal_y, centre_y = np.asarray(intrinsics, np.float64)
    camera = np.asarray(world, np.float64) @ matrix[:, :3].T + matrix[:, 3]
    scaled = camera[..., :2] / camera[..., 2:]
    return camera, scaled * [focal_x, focal_y] + [centre_x, centre_y]


def to_world(camera_points: np.ndarray, extrinsics: np.ndarray) -> np.ndarray:
    """Points in a camera's axes (... 3) in the world's: the other direction of `project`."""
    matrix = np.asarray(extrinsics, np.float64)
    # Rows times R is the transpose of R^T times columns; R is a rotation.
    return (np.asarray(camera_points, np.float64) - matrix[:, 3]) @ matrix[:, :3]


def rotation(angles: np.ndarray) -> np.ndarray:
    """R = Rx(a1) Ry(a2) Rz(a3), 3 3, from three angles in radians."""
    (cos_x, cos_y, cos_z), (sin_x, sin_y, sin_z) = np.cos(angles), np.sin(angles)
    around_x = np.array([[1, 0, 0], [0, cos_x, -sin_x], [0, sin_x, cos_x]])
    around_y = np.array([[cos_y, 0, sin_y], [0, 1, 0], [-sin_y, 0, cos_y]])
    around_z = np.array([[cos_z, -sin_z, 0], [sin_z, cos_z, 0], [0, 0, 1]])
    return np.asarray(around_x @ around_y @ around_z)


def camera_from_numbers(outer: np.ndarray, inner: np.ndarray, camera: int) -> Camera:
    """The camera that the numbers of metadata.xml describe.

    outer: three angles in radians, then its place in the world in mm.  inner: f_x, f_y, c_x, c_y,
    ... (distortion, not used).  camera: its number, for the size of its pictures.
    """
    turn = rotation(outer[:3])
    extrinsics = np.concatenate([turn, (-turn @ outer[3:6])[:, None]], axis=1)
    intrinsics = np.array([inner[0], inner[2], inner[1], inner[3]])
    return Camera(extrinsics, intrinsics, NATIVE_SIZE_PX[camera])
