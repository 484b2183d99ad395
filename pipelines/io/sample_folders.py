"""Folders of videos that belong together, and the meta.json that says what they are.

Written by whatever makes videos (sampling, transfer, reconstructions, real clips to compare with);
read by metrics and reports. Without a meta.json the names of the files have to say enough.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.files import natural_key, read_json
from pipelines.io.images import IMAGE_SUFFIXES
from pipelines.io.video import VIDEO_SUFFIXES

META_NAME = "meta.json"
KINDS = ("real", "reconstruction", "sample", "transfer")

_SAMPLE_MARK = re.compile(r"^(?P<scene>.+)[-_.](?:s|sample[-_]?)(?P<sample>\d+)$")


@dataclass(frozen=True)
class SampleVideo:
    """One video: a file, a folder of frames, or (index) one of many in a file or prepared folder.

    scene: videos of one scene start from the same image (a real clip, its reconstruction, samples).
    sample: index among the scene's samples.  group: kind of content, such as a texture's name.
    marked: the start image with what was asked of this video drawn on it, such as a poke.
    facts: all that meta.json says of it, such as pokes.
    """

    path: Path
    scene: str
    sample: int | None = None
    group: str | None = None
    gif: Path | None = None
    start: Path | None = None
    marked: Path | None = None
    index: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SampleFolder:
    """A folder of videos. meta: the content of its meta.json, empty without one."""

    path: Path
    kind: str
    videos: tuple[SampleVideo, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def includes_start_frame(self) -> bool:
        """Whether the first frame of each video is the image it was made from."""
        return bool(self.meta.get("includes_start_frame", False))


def read_sample_folder(path: Path) -> SampleFolder:
    """The videos of a folder, in the order of meta.json or of their names.

    Raises UserError when the folder is missing, has no videos, or lists some that are not there.
    """
    if not path.is_dir():
        raise UserError(
            f"no folder '{path.name}'",
            {"looked for": path, "to fix": "give a folder of videos, or a run folder"},
            EXIT_NO_DATA,
        )
    meta = _read_meta(path)
    videos = _listed_videos(path, meta) if "videos" in meta else _found_videos(path)
    if not videos:
        raise UserError(
            f"no videos in folder '{path.name}'",
            {
                "looked in": path,
                "looked for": f"{' '.join(sorted(VIDEO_SUFFIXES))}, or folders of images",
                "to fix": "give the folder that holds the videos themselves",
            },
            EXIT_NO_DATA,
        )
    kind = str(meta.get("kind") or _kind_from_name(path.name))
    return SampleFolder(path, kind, tuple(videos), meta)


def sample_folders(run_dir: Path) -> list[SampleFolder]:
    """Every readable folder of videos under a run's `samples/`, oldest first."""
    folders = []
    for path in sorted(_subfolders(run_dir / "samples"), key=lambda each: each.stat().st_mtime_ns):
        try:
            folders.append(read_sample_folder(path))
        except UserError:
            continue
    return folders


def scene_of(name: str) -> tuple[str, int | None]:
    """Scene and sample index in a video's name: 'cat-s3' is sample 3 of 'cat'."""
    match = _SAMPLE_MARK.match(name)
    return (match["scene"], int(match["sample"])) if match else (name, None)


def is_frame_folder(path: Path) -> bool:
    """Whether a folder is one video, a frame per image."""
    return len(frame_paths(path)) > 1 and not any(_is_video(each) for each in path.iterdir())


def frame_paths(path: Path) -> list[Path]:
    """The images of a frame folder, frame 2 before frame 10."""
    images = (each for each in path.iterdir() if each.suffix.lower() in IMAGE_SUFFIXES)
    return sorted((each for each in images if each.is_file()), key=lambda e: natural_key(e.name))


def _read_meta(path: Path) -> dict[str, Any]:
    file = path / META_NAME
    if not file.is_file():
        return {}
    try:
        meta = read_json(file)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _damaged(file, str(error)) from error
    if not isinstance(meta, dict):
        raise _damaged(file, "it is not a JSON object")
    return meta


def _listed_videos(path: Path, meta: Mapping[str, Any]) -> list[SampleVideo]:
    videos = []
    try:
        for entry in meta["videos"]:
            scene, sample = scene_of(_stem(entry["file"]))
            videos.append(
                SampleVideo(
                    _inside(path, entry["file"]),
                    scene=str(entry.get("scene") or scene),
                    sample=int(entry["sample"]) if entry.get("sample") is not None else sample,
                    group=str(entry["group"]) if entry.get("group") else None,
                    gif=_inside(path, entry["gif"]) if entry.get("gif") else None,
                    start=_inside(path, entry["start"]) if entry.get("start") else None,
                    marked=_inside(path, entry["marked"]) if entry.get("marked") else None,
                    facts=entry,
                )
            )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path / META_NAME, f"its list of videos is not right ({error!r})") from error
    missing = [each.path for each in videos if not each.path.exists()]
    if missing:
        raise UserError(
            f"{len(missing)} videos that meta.json lists are not there",
            {"first missing": missing[0], "to fix": f"restore it, or remove {path / META_NAME}"},
            EXIT_NO_DATA,
        )
    return videos


def _found_videos(root: Path) -> list[SampleVideo]:
    found: dict[str, SampleVideo] = {}
    for path in _walk(root):
        name = (
            _stem(path.relative_to(root).as_posix())
            if path.is_file()
            else (path.relative_to(root).as_posix())
        )
        if name in found:  # the same video in two forms, such as mp4 and gif
            continue
        scene, sample = scene_of(name)
        group = name.rsplit("/", 1)[0] if "/" in name else None
        gif = path.with_suffix(".gif")
        found[name] = SampleVideo(
            path, scene, sample, group, gif=gif if gif != path and gif.is_file() else None
        )
    return list(found.values())


def _walk(folder: Path) -> list[Path]:
    """Videos and frame folders below a folder, by name; a gif after a video of the same name."""
    here = [each for each in folder.iterdir() if not each.name.startswith(".")]
    files = sorted(
        (each for each in here if _is_video(each)),
        key=lambda each: (natural_key(each.stem), each.suffix.lower() == ".gif"),
    )
    for each in sorted((e for e in here if e.is_dir()), key=lambda e: natural_key(e.name)):
        files += [each] if is_frame_folder(each) else _walk(each)
    return files


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def _stem(name: str) -> str:
    folder, _, leaf = name.rpartition("/")
    stem = leaf.rsplit(".", 1)[0] if "." in leaf.lstrip(".") else leaf
    return f"{folder}/{stem}" if folder else stem


def _inside(root: Path, name: str) -> Path:
    path = root / name
    if Path(name).is_absolute() or not path.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"'{name}' is outside the folder")
    return path


def _subfolders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return [each for each in path.iterdir() if each.is_dir() and not each.name.startswith(".")]


def _kind_from_name(name: str) -> str:
    beginnings = {"real": "real", "recon": "reconstruction", "transfer": "transfer"}
    lowered = name.lower()
    return next((kind for start, kind in beginnings.items() if lowered.startswith(start)), "sample")


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(
        "meta.json of a folder of videos cannot be read",
        {"file": path, "reason": reason, "to fix": "correct it, or remove it"},
    )
