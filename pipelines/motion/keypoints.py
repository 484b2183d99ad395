"""Keypoints that a fomm found in prepared videos, kept beside them and used by every motion model.

<prepared variant>/keypoints/<first digits of the fomm's hash>/<split>.npz:
  value float32 N K 2, jacobian float32 N K 2 2 (all frames of all videos, one after the other),
  offsets int64 V+1 (where each video begins), ids V, fomm (SHA-256 of the weights that found them).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError, Work
from pipelines.files import atomic_writer
from pipelines.fomm.sample import Animator
from pipelines.io.packed import PackedVideos

_FIELDS = ("value", "jacobian", "offsets", "ids", "fomm")
_FRAMES_AT_ONCE = 256
_DIGITS = 12


@dataclass(frozen=True)
class KeypointClips:
    """Keypoints of several videos: value N K 2, jacobian N K 2 2; video v is at offsets[v:v+2]."""

    value: np.ndarray
    jacobian: np.ndarray
    offsets: np.ndarray
    ids: tuple[str, ...]
    fomm: str

    @property
    def lengths(self) -> np.ndarray:
        """Frames of each video."""
        return np.diff(self.offsets)

    @property
    def num_keypoints(self) -> int:
        """Keypoints per frame."""
        return int(self.value.shape[1])


def store_dir(variant_dir: Path, fomm: str) -> Path:
    """Where the keypoints of a fomm lie, by the hash of its weights."""
    return variant_dir / "keypoints" / fomm[:_DIGITS]


def keypoints_of(
    animator: Animator, videos: PackedVideos, rows: Sequence[int], path: Path, work: Work
) -> KeypointClips:
    """What is stored at `path`, after it has been extracted if it is not there yet.

    Raises UserError when what is there was found by another fomm or lacks one of the videos.
    """
    if not path.is_file():
        write_keypoints(path, extract(animator, videos, rows, work))
        work.log(f"keypoints of {len(rows)} videos: {path}")
    found = read_keypoints(path, fomm=animator.checkpoint["sha256"])
    missing = {videos.ids[row] for row in rows} - set(found.ids)
    if missing:
        raise UserError(
            f"the stored keypoints lack {len(missing)} of the videos",
            {"file": path, "such as": min(missing), "to fix": "remove the file: it is made again"},
            EXIT_USAGE,
        )
    return selected(found, [videos.ids[row] for row in rows])


def extract(
    animator: Animator, videos: PackedVideos, rows: Sequence[int], work: Work
) -> KeypointClips:
    """Find the keypoints of every frame of some videos."""
    if not animator.has_jacobian:
        raise UserError(
            "the fomm finds no jacobians, which motion models need",
            {
                "fomm": animator.run.path,
                "to fix": "train one with model.keypoints.has_jacobian=true",
            },
            EXIT_USAGE,
        )
    values, jacobians = [], []
    for done, row in enumerate(rows, 1):
        length = int(videos.num_frames[row])
        for first in range(0, length, _FRAMES_AT_ONCE):
            pictures = videos.frames(row, first, min(_FRAMES_AT_ONCE, length - first))
            found = animator.find(animator.frames(pictures))
            assert found.jacobian is not None
            values.append(found.value.cpu().numpy())
            jacobians.append(found.jacobian.cpu().numpy())
        work.progress("find keypoints", done, len(rows), "videos")
    lengths = [int(videos.num_frames[row]) for row in rows]
    return KeypointClips(
        np.concatenate(values),
        np.concatenate(jacobians),
        np.concatenate([[0], np.cumsum(lengths)]),
        tuple(videos.ids[row] for row in rows),
        animator.checkpoint["sha256"],
    )


def write_keypoints(path: Path, clips: KeypointClips) -> None:
    """Write a file, whole or not at all."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        value=clips.value.astype(np.float32),
        jacobian=clips.jacobian.astype(np.float32),
        offsets=clips.offsets.astype(np.int64),
        ids=np.array(clips.ids),
        fomm=np.array(clips.fomm),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(path, "wb") as stream:
        stream.write(buffer.getvalue())


def read_keypoints(path: Path, *, fomm: str) -> KeypointClips:
    """Read a file; UserError when it is damaged or another fomm's. fomm: SHA-256 of its weights."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in _FIELDS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        missing = isinstance(error, FileNotFoundError)
        raise UserError(
            f"no keypoints '{path.name}'" if missing else f"'{path.name}' holds no keypoints",
            {"looked in": path, "to fix": "leave the option out: they are found again"},
            EXIT_NO_DATA,
        ) from error
    found_by = str(arrays["fomm"])
    if found_by != fomm:
        raise UserError(
            "the keypoints were found by another fomm than the one that shall render",
            {
                "file": path,
                "found by": found_by[:_DIGITS],
                "to render": fomm[:_DIGITS],
                "to fix": "give the fomm run they are from, or leave the option out",
            },
            EXIT_USAGE,
        )
    return KeypointClips(
        arrays["value"],
        arrays["jacobian"],
        arrays["offsets"],
        tuple(str(each) for each in arrays["ids"]),
        found_by,
    )


def selected(clips: KeypointClips, ids: Sequence[str]) -> KeypointClips:
    """Some of the videos, in an order."""
    if tuple(ids) == clips.ids:
        return clips
    place = {name: number for number, name in enumerate(clips.ids)}
    spans = [clips.offsets[place[name] : place[name] + 2] for name in ids]
    taken = np.concatenate([np.arange(*span) for span in spans])
    lengths = [int(stop - start) for start, stop in spans]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return KeypointClips(clips.value[taken], clips.jacobian[taken], offsets, tuple(ids), clips.fomm)
