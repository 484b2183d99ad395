"""Generated clips as .npz files, in the arrays that pipelines.datasets.base lists.

frames, mask and tracks as they are in Clip; flow_<lag> float16 T-lag 2 H W; visible_<lag> bool;
flow_from_start, visible_from_start where a kind has them; labels (JSON text); fps.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pipelines.datasets.generate.scene import FPS, Clip
from pipelines.files import atomic_writer

# Measured on all kinds at 64 px: a clip of 1.9 to 2.5 MB shrinks to 0.1 to 0.7 MB in 3 to 15 ms;
# level 6 takes twice the time for a sixth less.
_LEVEL = 1


def write_clip(path: Path, clip: Clip, *, settings_id: str) -> None:
    """Write a clip as a whole file, or nothing. settings_id: kept with it, see written_with."""
    with atomic_writer(path, "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
        for name, values in arrays_of(clip).items():
            member = zipfile.ZipInfo(f"{name}.npy")  # a fixed date: equal clips are equal files
            content = io.BytesIO()
            npy.write_array(content, np.asarray(values, order="C"), allow_pickle=False)
            archive.writestr(member, content.getvalue(), zipfile.ZIP_DEFLATED, _LEVEL)
        archive.comment = settings_id.encode()


def arrays_of(clip: Clip) -> Mapping[str, NDArray[np.generic]]:
    """Name -> array of everything in a clip's file."""
    arrays: dict[str, NDArray[np.generic]] = {"frames": clip.frames, **clip.maps, **clip.tracks}
    for lag, flow in clip.flow.items():
        arrays[f"flow_{lag}"] = flow.astype(np.float16)
        arrays[f"visible_{lag}"] = clip.visible[lag]
    for name, values in clip.extra.items():
        half = values.dtype == np.float32 and values.ndim == 4
        arrays[name] = values.astype(np.float16) if half else values
    arrays["labels"] = np.array(json.dumps(clip.labels))
    arrays["fps"] = np.array(FPS)
    return arrays


def written_with(path: Path) -> str | None:
    """The settings_id of a complete clip; None where there is no file, or a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.comment.decode()
    except (OSError, zipfile.BadZipFile):
        return None
