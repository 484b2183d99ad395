"""Camera parameters from the file metadata.xml that comes with Human3.6M."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from pipelines.datasets.h36m_camera import Camera, camera_from_numbers
from pipelines.datasets.h36m_takes import CAMERAS
from pipelines.events import EXIT_NO_DATA, UserError

MAX_BYTES = 16 * 2**20

NUM_SUBJECTS = 11
NUM_NUMBERS = 300
OUTER, INNER = 6, 9
"""Numbers of each (camera, subject), then of each camera."""


def read_cameras(path: Path) -> dict[tuple[int, int], Camera]:
    """(subject, camera number) -> camera, for all eleven subjects.

    Raises UserError with exit code 4 when the file is not what the dataset comes with.
    """
    root = _parsed(path)
    numbers = _numbers(path, root)
    order = _camera_order(path, root)
    inner = numbers[NUM_SUBJECTS * len(CAMERAS) * OUTER :].reshape(len(CAMERAS), INNER)
    outer = numbers[: NUM_SUBJECTS * len(CAMERAS) * OUTER]
    outer = outer.reshape(len(CAMERAS), NUM_SUBJECTS, OUTER)
    return {
        (subject, camera): camera_from_numbers(outer[place, subject - 1], inner[place], camera)
        for place, camera in enumerate(order)
        for subject in range(1, NUM_SUBJECTS + 1)
    }


def _parsed(path: Path) -> ElementTree.Element:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _wrong(path, "it is too large")
        data = path.read_bytes()
        if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
            raise _wrong(path, "it declares entities, which the dataset's file does not")
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as problem:
        raise _wrong(path, str(problem)) from problem


def _numbers(path: Path, root: ElementTree.Element) -> np.ndarray:
    """The 300 camera parameters."""
    texts = (root.findtext("w0") or "").replace("[", " ").replace("]", " ").replace(",", " ")
    try:
        numbers = [float(text) for text in texts.split()]
    except ValueError as problem:
        raise _wrong(path, f"w0: {problem}") from None
    if len(numbers) != NUM_NUMBERS or not all(map(math.isfinite, numbers)):
        raise _wrong(path, f"w0 holds {len(numbers)} numbers, not {NUM_NUMBERS} finite ones")
    return np.array(numbers)


def _camera_order(path: Path, root: ElementTree.Element) -> list[int]:
    """Camera numbers in the order of w0."""
    listed = root.find("dbcameras/index2id")
    if listed is None:
        return list(CAMERAS)
    texts = [(each.text or "").strip() for each in listed]
    missing = [str(camera) for camera in CAMERAS if str(camera) not in texts]
    if missing:
        noun = "camera" if len(missing) == 1 else "cameras"
        raise _wrong(path, f"{noun} {', '.join(missing)} not in dbcameras/index2id")
    if len(texts) != len(CAMERAS):
        raise _wrong(path, f"dbcameras/index2id lists {len(texts)} cameras, not {len(CAMERAS)}")
    return [int(text) for text in texts]


def _wrong(path: Path, reason: str) -> UserError:
    return UserError(
        "metadata.xml is not the one that Human3.6M comes with",
        {
            "path": path,
            "reason": " ".join(reason.split()),
            "to fix": "put the dataset's own file there, or remove it to use annot_export.h5",
        },
        EXIT_NO_DATA,
    )
