"""Reading clips stored as .npy and .npz arrays, frame by frame; see pipelines.datasets.base."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from pipelines.events import EXIT_NO_DATA, UserError

MAX_FRAME_PIXELS = 100_000_000
_FRAMES = "frames"


class ArrayClip:
    """A clip in a file of arrays, opened; nothing but headers is read until it is asked for.

    shape: T, H, W, C of the frames, C is 1 or 3.  names: the other arrays of the file.
    """

    def __init__(self, path: Path) -> None:
        """Raises UserError with exit code 4 when the file holds no frames as they should be."""
        self._path = path
        try:
            self._members = _members(path)
            self._frames = self._members.pop(_frames_name(self._members))
            with self._open(self._frames) as stream:
                shape, fortran_order, dtype = _header(stream)
        except (OSError, ValueError, zipfile.BadZipFile, EOFError) as problem:
            raise self._unusable(str(problem)) from problem
        if dtype != np.uint8:
            raise self._unusable(f"frames are {dtype}, not uint8")
        if fortran_order:
            raise self._unusable("frames lie in Fortran order; save np.ascontiguousarray(frames)")
        if len(shape) == 3:
            shape = (*shape, 1)
        if len(shape) != 4 or shape[3] not in (1, 3) or min(shape) < 1:
            raise self._unusable(f"frames have the shape {shape}, not T H W 3, T H W 1 or T H W")
        if shape[1] * shape[2] > MAX_FRAME_PIXELS:
            raise self._unusable(f"{shape[2]} x {shape[1]} pixels are too many")
        self.shape = shape
        self.names = sorted(self._members)

    def frames(self) -> Iterator[np.ndarray]:
        """The frames one after another, uint8 H W C."""
        size = int(np.prod(self.shape[1:]))
        with self._open(self._frames) as stream:
            _header(stream)
            for number in range(self.shape[0]):
                data = stream.read(size)
                if len(data) < size:
                    raise self._unusable(f"it ends within frame {number}")
                yield np.frombuffer(data, np.uint8).reshape(self.shape[1:])

    def array(self, name: str) -> np.ndarray:
        """Another array of the file, whole."""
        try:
            with self._open(self._members[name]) as stream:
                return npy.read_array(stream, allow_pickle=False)
        except (OSError, ValueError, zipfile.BadZipFile, EOFError) as problem:
            raise self._unusable(f"{name}: {problem}") from problem

    def fps(self) -> float | None:
        """Frames per second, None where the file does not say."""
        return float(self.array("fps")) if "fps" in self._members else None

    def labels(self) -> dict[str, Any]:
        """The JSON object kept with the clip, empty where there is none."""
        if "labels" not in self._members:
            return {}
        text = str(self.array("labels"))
        try:
            labels = json.loads(text)
        except json.JSONDecodeError as problem:
            raise self._unusable(f"labels: {problem}") from problem
        if not isinstance(labels, dict):
            raise self._unusable("labels are not a JSON object")
        return labels

    def _open(self, member: str) -> IO[bytes]:
        if not member:
            return self._path.open("rb")
        # The archive's own file stays open until the member is closed.
        with zipfile.ZipFile(self._path) as archive:
            return archive.open(member)

    def _unusable(self, reason: str) -> UserError:
        return UserError(
            f"cannot read the array '{self._path.name}'",
            {"path": self._path, "reason": " ".join(reason.split())},
            EXIT_NO_DATA,
        )


def _members(path: Path) -> dict[str, str]:
    """Name of an array -> its member in the archive; a .npy file is frames and nothing else."""
    if path.suffix.lower() == ".npy":
        return {_FRAMES: ""}
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
    return {name.removesuffix(".npy"): name for name in names}


def _frames_name(members: dict[str, str]) -> str:
    """The array 'frames', or the only one there is."""
    if _FRAMES in members:
        return _FRAMES
    if len(members) == 1:
        return next(iter(members))
    raise ValueError(f"no array 'frames' among {', '.join(sorted(members)) or 'nothing'}")


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(stream)
    if version == (1, 0):
        return npy.read_array_header_1_0(stream)
    return npy.read_array_header_2_0(stream)
