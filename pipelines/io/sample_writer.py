"""Writing folders of videos that pipelines.io.sample_folders reads: mp4, gif, grids, meta.json.

A folder is built beside its place and appears when all of it is there. Where the folder exists
already, its other files stay and meta.json comes last.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.files import natural_key, safe_name, write_json
from pipelines.io.images import contact_sheet, write_png
from pipelines.io.sample_folders import META_NAME
from pipelines.io.video import write_gif, write_mp4

GRID_ROWS, GRID_COLUMNS, GRID_FRAMES = 8, 8, 128
"""How much of a folder its grids show."""

_SHEET_ROWS, _SHEET_COLUMNS = 24, 8
_GAP_PX = 2


class SampleWriter:
    """Writes the videos of one folder as they come. entries: what meta.json will say of each."""

    def __init__(self, folder: Path, *, kind: str, fps: float) -> None:
        """kind: one of sample_folders.KINDS."""
        self.folder, self.kind, self.fps = folder, kind, fps
        self.entries: list[dict[str, Any]] = []

    def add(
        self,
        scene: str,
        frames: np.ndarray,
        *,
        sample: int | None = None,
        start: np.ndarray | None = None,
        marked: np.ndarray | None = None,
        group: str | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Write one video. frames: uint8 T H W 3, without the start frame.

        scene: what videos of one start image share.  sample: which of them it is.
        start: uint8 H W 3, written once per scene.  marked: the same with what was asked drawn on
        it, of this video alone.  facts: more for its entry in meta.json.
        """
        name = scene if sample is None else f"{scene}-s{sample}"
        write_mp4(self.folder / f"{name}.mp4", frames, self.fps)
        write_gif(self.folder / f"{name}.gif", frames, self.fps)
        entry: dict[str, Any] = {"file": f"{name}.mp4", "gif": f"{name}.gif", "scene": scene}
        if sample is not None:
            entry["sample"] = sample
        if group is not None:
            entry["group"] = group
        if start is not None:
            entry["start"] = f"start/{scene}.png"
            if not (self.folder / entry["start"]).exists():
                write_png(self.folder / entry["start"], start)
        if marked is not None:
            entry["marked"] = f"start/{name}-marked.png"
            write_png(self.folder / entry["marked"], marked)
        digest = hashlib.sha256(np.ascontiguousarray(frames).tobytes()).hexdigest()
        self.entries.append(entry | {"frames_sha256": digest} | dict(facts or {}))

    def add_grid(
        self, rows: Sequence[Sequence[np.ndarray]], sheet: Sequence[tuple[str, np.ndarray]]
    ) -> None:
        """Write grid.mp4, videos side by side, and grid.png, some frames of each video in a row.

        rows: videos uint8 T H W 3 of one shape.  sheet: label and video of each row of the picture,
        here with the start frame.
        Of more rows, columns and frames than can be looked at, the first are shown.
        """
        shown = [row[: GRID_COLUMNS + 1] for row in rows[:GRID_ROWS]]
        write_mp4(self.folder / "grid.mp4", tiled(shown), self.fps)
        write_png(self.folder / "grid.png", frame_sheet(sheet[:_SHEET_ROWS]))

    def finish(self, meta: Mapping[str, Any]) -> None:
        """Write meta.json."""
        head = {"version": 1, "kind": self.kind, "includes_start_frame": False, "fps": self.fps}
        write_json(self.folder / META_NAME, head | dict(meta) | {"videos": self.entries})


@contextmanager
def sample_writer(folder: Path, *, kind: str, fps: float) -> Iterator[SampleWriter]:
    """A writer whose files come to `folder` when the block ends well, and vanish otherwise."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as building:
        place = Path(building) / folder.name
        place.mkdir()
        yield SampleWriter(place, kind=kind, fps=fps)
        _publish(place, folder)


def scene_names(texts: Sequence[str]) -> list[str]:
    """A file name for each text, all different: numbered where two would be alike."""
    names: list[str] = []
    taken: set[str] = set()
    for text in texts:
        plain = name = safe_name(text)
        number = 2
        while name.lower() in taken:  # some file systems do not tell A from a
            name, number = f"{plain}-{number}", number + 1
        taken.add(name.lower())
        names.append(name)
    return names


def tiled(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Videos side by side on white, as one video: each uint8 T H W 3, all of one shape."""
    first = rows[0][0][:GRID_FRAMES]
    num_frames, height, width, _ = first.shape
    num_columns = max(len(row) for row in rows)
    shape = (len(rows) * (height + _GAP_PX) - _GAP_PX, num_columns * (width + _GAP_PX) - _GAP_PX)
    canvas = np.full((num_frames, *shape, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, video in enumerate(row):
            top, left = i * (height + _GAP_PX), j * (width + _GAP_PX)
            canvas[:, top : top + height, left : left + width] = video[:num_frames]
    return canvas


def still(image: np.ndarray, num_frames: int) -> np.ndarray:
    """An image, uint8 H W 3, as a video that does not move: T H W 3."""
    return np.broadcast_to(image, (num_frames, *image.shape))


def frame_sheet(videos: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """Frames spread evenly over each video, a row per video, with its label: uint8 H W 3.

    videos: label and frames, the start frame first; the columns are numbered from it, 0.
    """
    num_frames = max(len(video) for _, video in videos)
    chosen = np.unique(np.linspace(0, num_frames - 1, _SHEET_COLUMNS).round().astype(int))
    rows = [[video[i] for i in chosen if i < len(video)] for _, video in videos]
    labels = [label for label, _ in videos]
    return contact_sheet(rows, labels, column_labels=[str(i) for i in chosen])


def _publish(building: Path, folder: Path) -> None:
    if not folder.exists():
        os.replace(building, folder)
        return
    files = [path.relative_to(building) for path in building.rglob("*") if path.is_file()]
    for name in sorted(files, key=lambda each: (each.name == META_NAME, natural_key(str(each)))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(building / name, folder / name)
