"""Flow in the published folder layout: <video>/prediction_<first>_<second>.flow.npy.

Frame numbers are those of the raw video: a variant with a stride of n has every n-th.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from pipelines.events import EXIT_NO_DATA, UserError, Work
from pipelines.files import fingerprint
from pipelines.io.flow_files import SUFFIXES, Format, read_flow, write_flow
from pipelines.io.flow_pack import FlowPack
from pipelines.io.packed import PackedVideos


def pair_name(first: int, second: int, form: Format = "npy") -> str:
    """The name of a pair's file, from the numbers of its frames."""
    return f"prediction_{first}_{second}{SUFFIXES[form]}"


def find_folder(files_dir: Path, video_id: str) -> Path | None:
    """The folder of a video: its id below files_dir, or its last part alone; None: not there."""
    for name in (video_id, PurePosixPath(video_id).name):
        if (files_dir / name).is_dir():
            return files_dir / name
    return None


def read_pair(folder: Path, first: int, second: int) -> np.ndarray | None:
    """The flow of a pair: float32 [2 H W], None where there is no file.

    Raises UserError for a file that cannot be read.
    """
    forms: tuple[Format, ...] = ("npy", "flo", "kitti")
    for form in forms:
        path = folder / pair_name(first, second, form)
        if path.exists():
            return read_flow(path)
    return None


def files_state(files_dir: Path, packed: PackedVideos) -> str:
    """A short hash of which files are there, how large, and from when.

    Raises UserError with exit code 4 when there are none for any video.
    """
    if not files_dir.is_dir():
        raise UserError(
            f"no folder '{files_dir.name}'",
            {"looked in": files_dir.parent, "to fix": "give the folder that holds the videos'"},
            EXIT_NO_DATA,
        )
    found = []
    for video_id in packed.ids:
        folder = find_folder(files_dir, video_id)
        for path in sorted(folder.glob("prediction_*")) if folder else ():
            facts = path.stat()
            found.append((video_id, path.name, facts.st_size, facts.st_mtime_ns))
    if not found:
        raise UserError(
            f"no flow in '{files_dir.name}' for any video",
            {
                "looked for": files_dir / packed.ids[0] / pair_name(0, 10),
                "to fix": "give the folder that holds one folder per video",
            },
            EXIT_NO_DATA,
        )
    return fingerprint(found)


def export_flow(
    packed: PackedVideos, pack: FlowPack, out_dir: Path, *, form: Format, work: Work
) -> int:
    """Write every valid pair as a file of its own; returns how many.

    The flow keeps its stored size, in pixels of that size.
    """
    stride = int(packed.index.get("stride", 1))
    task = f"write files, lag {pack.lag}"
    total = int(pack.counts.sum())
    done = written = 0
    for row, video_id in enumerate(packed.ids):
        is_valid = pack.pairs(row)["is_valid"]
        for start in range(int(pack.counts[row])):
            done += 1
            if is_valid[start]:
                name = pair_name(start * stride, (start + pack.lag) * stride, form)
                write_flow(out_dir / video_id / name, pack.flow(row, start)[0], form=form)
                written += 1
            work.progress(task, done, total, "pairs")
    return written
