"""Finds the videos to measure, pairs them with real ones, and decodes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.io.images import read_image
from pipelines.io.sample_folders import (
    SampleFolder,
    SampleVideo,
    frame_paths,
    read_sample_folder,
    sample_folders,
)
from pipelines.io.video import read_video
from pipelines.metrics.config import EvalRequest
from pipelines.metrics.scenes import Clip, Frames

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
    """The folders of an evaluation."""

    generated: SampleFolder
    real: SampleFolder | None


def open_sources(request: EvalRequest) -> Sources:
    """The folders that a request names.

    A run folder stands for its only set of generated videos; the real ones are then its only folder
    of kind `real`, unless the request names another.
    """
    generated = _generated_folder(request.source)
    if request.real is not None:
        return Sources(generated, read_sample_folder(request.real))
    samples_dir = generated.path.parent
    beside = sample_folders(samples_dir.parent) if samples_dir.name == "samples" else []
    real = [each for each in beside if each.kind == "real" and each.path != generated.path]
    return Sources(generated, real[0] if len(real) == 1 else None)


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
        frames = self._read(video.path, None if length is None else length + skip)
        start = frames[0] if skip else self._start_image(video)
        frames = frames[skip:]
        if len(frames) < max(2, length or 0):
            raise UserError(
                f"video '{video.path.name}' has too few frames ({len(frames)})",
                {
                    "file": video.path,
                    "needs": length or 2,
                    "to fix": "remove it, or lower num_frames",
                },
            )
        self._hold_to_one_shape(video.path, frames)
        if start is not None and start.shape != frames.shape[1:]:
            start = None
        return Clip(video.path.name, frames, start=start)

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
        if video.start is None or not video.start.is_file():
            return None
        return np.array(read_image(video.start, size_px=self._request.size_px))

    def _skips_first(self, folder: SampleFolder) -> int:
        if self._request.skip_start_frame is None:
            return int(folder.includes_start_frame)
        return int(self._request.skip_start_frame)

    def _hold_to_one_shape(self, path: Path, frames: Frames) -> None:
        if self._first is None:
            self._first = (path, frames.shape)
        first_path, shape = self._first
        if frames.shape == shape:
            return
        is_length = frames.shape[1:] == shape[1:]
        raise UserError(
            f"videos differ in {'length' if is_length else 'size'}",
            {
                str(first_path): _shape_text(shape),
                str(path): _shape_text(frames.shape),
                "to fix": f"give num_frames={min(len(frames), shape[0])}"
                if is_length
                else f"give size_px={min(*frames.shape[1:3], *shape[1:3])} to resize all",
            },
        )


def _generated_folder(path: Path) -> SampleFolder:
    if not (path / "run.json").is_file():
        return read_sample_folder(path)
    folders = [each for each in sample_folders(path) if each.kind != "real"]
    if not folders:
        raise UserError(
            f"run '{path.name}' has no samples yet",
            {"looked in": path / "samples", "run first": f"i2v sample FAMILY --run {path}"},
            EXIT_NO_DATA,
        )
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
