"""The videos of a page: which stand beside which, and their copies in the page's own folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.events import UserError, Work
from pipelines.files import natural_key, safe_name
from pipelines.io.images import read_image
from pipelines.io.sample_folders import KINDS, SampleFolder, SampleVideo, frame_paths
from pipelines.io.video import probe, read_video, write_mp4

MEDIA = "media"
_PLAYED_BY_BROWSERS = frozenset({".mp4", ".webm"})
_DEFAULT_FPS = 8.0


@dataclass(frozen=True)
class Tile:
    """A video as the page shows it. kind: 'start' for the image; else one of the folder's kinds.

    path, fallback: relative to the page, with forward slashes.  fallback: a gif or picture.
    """

    kind: str
    caption: str
    path: str
    fallback: str | None = None


@dataclass
class SceneRow:
    """Everything that starts from one image."""

    name: str
    group: str | None
    tiles: list[Tile] = field(default_factory=list)


@dataclass(frozen=True)
class Gallery:
    """num_scenes: how many there are, of which the first are in rows."""

    rows: list[SceneRow]
    num_scenes: int


class GalleryMaker:
    """Lays out a page's videos and copies them beside it."""

    def __init__(self, page_dir: Path, *, max_scenes: int, max_samples: int, work: Work) -> None:
        self._page_dir, self._work = page_dir, work
        self._max_scenes, self._max_samples = max_scenes, max_samples
        self._num_copied = 0

    def make(self, folders: Sequence[SampleFolder]) -> Gallery:
        """A row per scene: start image, real video, reconstruction, samples, transfers.

        Where several folders have a scene's real video, the first folder's is shown.
        """
        videos: dict[str, list[tuple[SampleFolder, SampleVideo]]] = {}
        for folder in sorted(folders, key=lambda each: _rank(each.kind)):
            for video in folder.videos:
                videos.setdefault(video.scene, []).append((folder, video))
        names = sorted(videos, key=lambda each: _place(each, _group(videos[each])))
        shown = names[: self._max_scenes]
        rows = []
        for done, name in enumerate(shown, 1):
            rows.append(self._row(name, videos[name]))
            self._work.progress("copy videos", done, len(shown), "scenes")
        return Gallery([each for each in rows if each.tiles], len(names))

    def picture(self, path: Path, name: str) -> str:
        """Copy a picture; its path relative to the page."""
        return self._copy(path, name)

    def _row(self, name: str, videos: list[tuple[SampleFolder, SampleVideo]]) -> SceneRow:
        row = SceneRow(name, _group(videos))
        start = next((v.start for _, v in videos if v.start and v.start.is_file()), None)
        if start:
            row.tiles.append(Tile("start", "start image", self._copy(start, f"{name}-start")))
        counts: dict[Path, int] = {}
        for folder, video in videos:
            counts[folder.path] = counts.get(folder.path, 0) + 1
            is_second_real = folder.kind == "real" and any(e.kind == "real" for e in row.tiles)
            if counts[folder.path] > self._max_samples or is_second_real:
                continue
            try:
                tile = self._tile(folder, video)
                if video.marked and video.marked.is_file():
                    path = self._copy(video.marked, video.marked.stem)
                    row.tiles.append(Tile("start", f"asked of {tile.caption}", path))
                row.tiles.append(tile)
            except UserError as error:
                self._work.warning(f"left out of the page: {error.message} ({video.path})")
        return row

    def _tile(self, folder: SampleFolder, video: SampleVideo) -> Tile:
        caption = str(folder.meta.get("caption") or folder.kind)
        if video.sample is not None:
            caption += f" {video.sample + 1}"
        name = f"{folder.kind}-{video.path.stem}"
        path = self._playable(folder, video, name)
        fallback = video.gif if video.gif and video.gif.is_file() else None
        return Tile(folder.kind, caption, path, self._copy(fallback, name) if fallback else None)

    def _playable(self, folder: SampleFolder, video: SampleVideo, name: str) -> str:
        """A copy that browsers play: most often the file as it is."""
        source = video.path
        if source.suffix.lower() in {*_PLAYED_BY_BROWSERS, ".gif"} and source.is_file():
            return self._copy(source, name)
        fps = float(folder.meta.get("fps") or _DEFAULT_FPS)
        target = self._target(name, ".mp4")
        if source.is_dir():
            write_mp4(target, (read_image(each) for each in frame_paths(source)), fps)
        else:
            write_mp4(target, read_video(source), probe(source).fps or fps)
        return target.relative_to(self._page_dir).as_posix()

    def _copy(self, source: Path, name: str) -> str:
        target = self._target(name, source.suffix.lower())
        shutil.copyfile(source, target)
        return target.relative_to(self._page_dir).as_posix()

    def _target(self, name: str, suffix: str) -> Path:
        self._num_copied += 1
        folder = self._page_dir / MEDIA
        folder.mkdir(exist_ok=True)
        return folder / f"{self._num_copied:04d}-{safe_name(name)}{suffix}"


def _place(name: str, group: str | None) -> tuple[bool, Any, Any]:
    """Sort key: groups by name, then what has no group; numbers in names count as numbers."""
    return group is None, natural_key(group or ""), natural_key(name)


def _rank(kind: str) -> int:
    return KINDS.index(kind) if kind in KINDS else len(KINDS)


def _group(videos: Iterable[tuple[SampleFolder, SampleVideo]]) -> str | None:
    return next((video.group for _, video in videos if video.group), None)
