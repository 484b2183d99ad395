"""Videos in the arrays that the published evaluation stores: real_samples.npy, fake_samples.npy.

uint8, batches x 16 x T x H x W x 3 (or without batches); number n of one file belongs to number n
of the other. Files of single videos, T x H x W x 3, are taken one by one.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.files import natural_key
from pipelines.io.sample_folders import SampleFolder, SampleVideo

_FULL = 1.001
"""Values beyond are not those of a picture in [-1, 1]; the published check has the same slack."""


def array_folder(path: Path, kind: str) -> SampleFolder | None:
    """The videos of `<kind>_samples*.npy`, or of all .npy files; None where there is none.

    kind: real or fake. path: a folder, or the file itself.
    """
    if path.is_file() and path.suffix == ".npy":
        found = [path]
    elif path.is_dir():
        paths = sorted(path.glob("*.npy"), key=lambda each: natural_key(each.name))
        found = [each for each in paths if each.name.startswith(f"{kind}_samples")]
        if not found and not any("_samples" in each.name for each in paths):
            found = paths if kind == "fake" else []
    else:
        found = []
    videos: list[SampleVideo] = []
    for file in found:
        is_named = "_samples" in file.name
        count = len(_opened(file))
        for index in range(count):
            number = f"{len(videos):05d}"
            scene = number if is_named else (file.stem if count == 1 else f"{file.stem}-{index}")
            videos.append(SampleVideo(file, scene, index=index))
    if not videos:
        return None
    return SampleFolder(path, "real" if kind == "real" else "sample", tuple(videos))


def array_frames(path: Path, index: int) -> np.ndarray:
    """One video of a file, uint8 T H W C.

    Floats are taken for pictures in [-1, 1]. Raises UserError when they go beyond, or are not
    numbers.
    """
    frames = np.array(_opened(path)[index])  # a copy: the file itself cannot be written to
    if frames.dtype == np.uint8:
        return frames
    if not np.isfinite(frames).all() or np.abs(frames).max() > _FULL:
        raise UserError(
            f"video {index} of '{path.name}' has values that no picture has",
            {
                "file": path,
                "values": f"{np.nanmin(frames):g} to {np.nanmax(frames):g}",
                "expected": "bytes, or floats in [-1, 1]",
            },
        )
    return np.asarray(((frames.clip(-1, 1) + 1) * 127.5).round(), np.uint8)


@lru_cache(maxsize=8)
def _opened(path: Path) -> np.ndarray:
    """All videos of a file, N T H W C, read from disk as they are needed."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _unusable(path, str(error)) from error
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise _unusable(path, f"its values are {array.dtype}, not bytes or floats")
    if array.ndim == 4:
        array = array[None]
    if array.ndim not in (5, 6) or array.shape[-1] not in (1, 3) or 0 in array.shape:
        raise _unusable(path, f"its shape is {array.shape}, not (batches, 16, T, H, W, 3)")
    return np.asarray(array.reshape(-1, *array.shape[-4:])) if array.ndim == 6 else array


def _unusable(path: Path, reason: str) -> UserError:
    return UserError(
        f"'{path.name}' holds no videos", {"file": path, "reason": reason}, EXIT_NO_DATA
    )
