"""Finds the videos to measure, pairs them with real ones, and decodes them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines import files
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.io.images import fit_image, read_image
from pipelines.io.packed import PackedVideos
from pipelines.io.sample_folders import (
    SampleFolder,
    SampleVideo,
    frame_paths,
    read_sample_folder,
    sample_folders,
)
from pipelines.io.video import probe, read_video
from pipelines.metrics.config import EvalRequest
from pipelines.metrics.run_source import MadeVideos
from pipelines.metrics.scenes import Clip, Frames
from pipelines.metrics.stored_arrays import array_folder, array_frames

_TRAILING_NUMBER = re.compile(r"[-_.]\d+$")


@dataclass(frozen=True)
class PlannedScene:
    """A scene whose videos are known but not decoded yet."""

    name: str
    group: str | None
    real: SampleVideo | None
    samples: tuple[SampleVideo, ...]


@dataclass(frozen=True)
class Sources:
    """The folders of an evaluation. made: makes the videos of a run that has none."""

    generated: SampleFolder
    real: SampleFolder | None
    made: MadeVideos | None = None

    def digest(self, video: SampleVideo) -> str:
        """A hash of what a video shows, whatever its name and place."""
        if self.made is not None and video.path == self.made.run_dir:
            return self.made.digest(video.index or 0)
        return content_digest(video)


def open_sources(request: EvalRequest, source: Path) -> Sources:
    """The folders that a request names; source: its own, or the one to compare with.

    A run folder stands for its only set of generated videos, and without one, or where the request
    says so, for videos made from its evaluation list. The real ones are its only folder of kind
    `real`, unless the request names another.
    """
    is_run = (source / "run.json").is_file()
    if is_run and (request.makes_anew or not _made_before(source)):
        made = MadeVideos(request, source)
        generated, real = made.folders()
        if request.real is None or (request.real / "index.json").is_file():
            return Sources(generated, real, made)  # the list is of these very videos
        return Sources(generated, _real_folder(request), made)
    generated = array_folder(source, "fake") or _generated_folder(source)
    if request.real is not None:
        return Sources(generated, _real_folder(request))
    if beside := array_folder(source, "real"):
        return Sources(generated, beside)
    samples_dir = generated.path.parent
    others = sample_folders(samples_dir.parent) if samples_dir.name == "samples" else []
    found = [each for each in others if each.kind == "real" and each.path != generated.path]
    return Sources(generated, found[0] if len(found) == 1 else None)


def _made_before(run_dir: Path) -> list[SampleFolder]:
    """A run's sets of videos that models made from its data: no real ones, no transfers."""
    return [each for each in sample_folders(run_dir) if each.kind not in ("real", "transfer")]


def _real_folder(request: EvalRequest) -> SampleFolder | None:
    if request.real is None:
        return None
    if (request.real / "index.json").is_file():
        return _prepared_folder(request.real, request.real_split)
    return array_folder(request.real, "real") or read_sample_folder(request.real)


def _prepared_folder(variant_dir: Path, split: str) -> SampleFolder:
    packed = _packed(variant_dir)
    rows = packed.select(split, ("*",), 2)
    if not rows:
        raise UserError(
            f"no videos of the split '{split}' in the prepared frames",
            {"looked in": variant_dir, "to fix": "give real_split=train, val or test"},
            EXIT_NO_DATA,
        )
    videos = tuple(
        SampleVideo(variant_dir, files.safe_name(packed.rows[row].id), index=row) for row in rows
    )
    return SampleFolder(variant_dir, "real", videos)


@lru_cache(maxsize=4)
def _packed(variant_dir: Path) -> PackedVideos:
    return PackedVideos(variant_dir)


def content_digest(video: SampleVideo) -> str:
    """A hash of the files, or the frames, of a video."""
    found = hashlib.sha256()
    if video.index is not None:
        frames = (
            array_frames(video.path, video.index)
            if video.path.is_file()
            else _packed(video.path).stored_frames(video.index)
        )
        found.update(repr(frames.shape).encode())
        found.update(np.ascontiguousarray(frames).tobytes())
    elif video.path.is_file():
        return files.sha256(video.path)
    else:
        for path in frame_paths(video.path):
            found.update(bytes.fromhex(files.sha256(path)))
    return found.hexdigest()


def plan_scenes(sources: Sources) -> list[PlannedScene]:
    """Generated videos by scene, with the real video if there is one; then the other real ones."""
    real = {each.scene: each for each in sources.real.videos} if sources.real else {}
    samples: dict[str, list[SampleVideo]] = {}
    for video in sources.generated.videos:
        samples.setdefault(_matching_scene(video, real), []).append(video)
    scenes = []
    for name in [*samples, *(name for name in real if name not in samples)]:
        mine, original = samples.get(name, []), real.get(name)
        group = next((each.group for each in (original, *mine) if each and each.group), None)
        scenes.append(PlannedScene(name, group, original, tuple(mine)))
    return scenes


def require_pairs(scenes: Sequence[PlannedScene], sources: Sources, metric: str) -> None:
    """UserError unless every generated video has a real one."""
    alone = [each for each in scenes if each.samples and each.real is None]
    if not alone:
        return
    num_videos = sum(len(each.samples) for each in scenes)
    num_alone = sum(len(each.samples) for each in alone)
    raise UserError(
        f"{num_alone} of {num_videos} videos have no real video to compare with",
        {
            "metric": metric,
            "first": alone[0].samples[0].path,
            "looked in": sources.real.path if sources.real else "no folder of real videos",
            "to fix": "give --real a folder whose files have the same names",
        },
        EXIT_NO_DATA,
    )


def require_samples(scenes: Sequence[PlannedScene], sources: Sources, metric: str) -> None:
    """UserError unless some image has two generated videos."""
    if any(len(each.samples) > 1 for each in scenes):
        return
    raise UserError(
        f"{metric} compares several samples of one image, but each image has only one",
        {
            "looked in": sources.generated.path,
            "names": "samples of one image are called NAME-s0, NAME-s1, ...",
            "run first": "i2v sample with --num 2 or more",
        },
        EXIT_NO_DATA,
    )


def require_two(scenes: Sequence[PlannedScene], sources: Sources, metric: str) -> None:
    """UserError unless there are two videos on either side."""
    sides = {
        "generated": (sum(len(each.samples) for each in scenes), sources.generated),
        "real": (sum(each.real is not None for each in scenes), sources.real),
    }
    for name, (count, folder) in sides.items():
        if count < 2 and folder is not None:
            raise UserError(
                f"{metric} needs at least two {name} videos, got {count}",
                {
                    "looked in": folder.path,
                    "there is": ", ".join(name_of(each) for each in folder.videos) or "none",
                    "to fix": f"give more videos, or leave {metric} out",
                },
            )


class Decoder:
    """Decodes videos under a request's settings and holds all of them to one shape."""

    def __init__(self, request: EvalRequest, sources: Sources) -> None:
        self._request = request
        self._skips = {
            id(folder): self._skips_first(folder)
            for folder in (sources.generated, sources.real)
            if folder
        }
        self._sources = sources
        self._first: tuple[Path, tuple[int, ...]] | None = None

    @property
    def fps(self) -> float | None:
        """Frames per second of the generated videos, where something says so."""
        told = self._sources.generated.meta.get("fps")
        if told is not None:
            return float(told)
        first = self._sources.generated.videos[0]
        is_video = first.index is None and first.path.is_file()
        return probe(first.path).fps if is_video else None

    @property
    def shape(self) -> tuple[int, ...]:
        """T H W 3 of all clips; known after the first."""
        assert self._first is not None
        return self._first[1]

    def decode(self, video: SampleVideo, folder: SampleFolder) -> Clip:
        """A clip of the evaluation's length and size.

        Raises UserError, naming the file, when it is too short or its shape is not the others'.
        """
        skip = self._skips[id(folder)]
        length = self._request.num_frames
        frames = self._frames_of(video, None if length is None else length + skip)
        start = frames[0] if skip else self._start_image(video)
        frames = frames[skip:]
        if len(frames) < max(2, length or 0):
            raise UserError(
                f"video '{name_of(video)}' has too few frames ({len(frames)})",
                {
                    "file": video.path,
                    "needs": length or 2,
                    "to fix": "remove it, or lower num_frames",
                },
            )
        self.hold_to(video.path, frames.shape)
        if start is not None and start.shape != frames.shape[1:]:
            start = None
        return Clip(name_of(video), frames, start=start, facts=self._facts(video))

    def _facts(self, video: SampleVideo) -> Mapping[str, Any]:
        made = self._sources.made
        if made is None or video.path != made.run_dir:
            return video.facts
        return made.facts(video.index or 0)

    def _frames_of(self, video: SampleVideo, max_frames: int | None) -> Frames:
        if video.index is None:
            return self._read(video.path, max_frames)
        if self._sources.made is not None and video.path == self._sources.made.run_dir:
            frames = self._sources.made.frames(video.index)[:max_frames]
        elif video.path.is_file():
            frames = array_frames(video.path, video.index)[:max_frames]
        else:
            packed = _packed(video.path)
            count = packed.rows[video.index].num_frames
            frames = packed.frames(video.index, 0, min(count, max_frames or count))
        if frames.shape[-1] == 1:
            frames = np.repeat(frames, 3, axis=-1)
        return self._resized(frames)

    def _resized(self, frames: Frames) -> Frames:
        size_px = self._request.size_px
        if size_px is None or frames.shape[1:3] == (size_px, size_px):
            return frames
        images = [fit_image(Image.fromarray(each), size_px, fit="squash") for each in frames]
        return np.stack([np.asarray(each) for each in images])

    def _read(self, path: Path, max_frames: int | None) -> Frames:
        size_px = self._request.size_px
        if path.is_file():
            return read_video(path, size_px=size_px, max_frames=max_frames)
        images = [read_image(each, size_px=size_px) for each in frame_paths(path)[:max_frames]]
        if len({each.shape for each in images}) > 1:
            raise UserError(
                f"the images of '{path.name}' differ in size",
                {"folder": path, "to fix": "give size_px=64, or another size, to resize all"},
            )
        return np.stack(images)

    def _start_image(self, video: SampleVideo) -> Frames | None:
        if self._sources.made is not None and video.path == self._sources.made.run_dir:
            return self._resized(self._sources.made.start(video.index or 0)[None])[0]
        if video.start is None or not video.start.is_file():
            return None
        return np.array(read_image(video.start, size_px=self._request.size_px))

    def _skips_first(self, folder: SampleFolder) -> int:
        if self._request.skip_start_frame is None:
            return int(folder.includes_start_frame)
        return int(self._request.skip_start_frame)

    def hold_to(self, path: Path, new: tuple[int, ...]) -> None:
        """UserError unless videos of this shape, T H W 3, go with those that were decoded."""
        if self._first is None:
            self._first = (path, new)
        first_path, shape = self._first
        if new == shape:
            return
        is_length = new[1:] == shape[1:]
        raise UserError(
            f"videos differ in {'length' if is_length else 'size'}",
            {
                str(first_path): _shape_text(shape),
                str(path): _shape_text(new),
                "to fix": f"give num_frames={min(new[0], shape[0])}"
                if is_length
                else f"give size_px={min(*new[1:3], *shape[1:3])} to resize all",
            },
        )


def name_of(video: SampleVideo) -> str:
    """What to call a video in messages."""
    return video.path.name if video.index is None else f"{video.path.name}[{video.index}]"


def _generated_folder(path: Path) -> SampleFolder:
    if not (path / "run.json").is_file():
        return read_sample_folder(path)
    folders = _made_before(path)
    if len(folders) > 1:
        raise UserError(
            f"run '{path.name}' has {len(folders)} sets of videos",
            {
                "there are": ", ".join(each.path.name for each in folders),
                "to fix": f"give one of them, such as --source {folders[-1].path}",
            },
            EXIT_USAGE,
        )
    return folders[0]


def _matching_scene(video: SampleVideo, real: dict[str, SampleVideo]) -> str:
    """The scene under which a real video is found: the video's own, or that without number."""
    name = video.path.stem if video.path.is_file() else video.path.name
    for candidate in (video.scene, name, _TRAILING_NUMBER.sub("", video.scene)):
        if candidate in real:
            return candidate
    return video.scene


def _shape_text(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} frames of {shape[2]} x {shape[1]} px"
