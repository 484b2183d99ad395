"""Opening a raw video of any kind: fitted frames one by one, and what is known beside them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.datasets.base import Crop, Published, RawVideo, Track
from pipelines.datasets.config import ExtractRequest
from pipelines.datasets.processes import Progress
from pipelines.datasets.protocols import resize_rule_of, resized
from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.files import natural_key
from pipelines.io.arrays import ArrayClip
from pipelines.io.fitting import Placement, place
from pipelines.io.images import IMAGE_SUFFIXES, fit_image, image_size, open_rgb, to_grey
from pipelines.io.packing import encode_flow
from pipelines.io.video import VideoInfo, iter_video, probe

Frames = Generator[np.ndarray, None, None]

RATE_TOLERANCE = 0.011
"""Frames per second that differ by less are one rate, rounded in two ways."""

_NOT_EXTRA = ("fps", "labels")


@dataclass(frozen=True)
class Truth:
    """Arrays beside the frames, fitted like them.

    flow: lag in prepared frames -> int16 [n 2 S S] (pipelines.io.packing.encode_flow).
    extra: name -> [T ...], one entry per prepared frame.
    """

    flow: Mapping[int, np.ndarray] = field(default_factory=dict)
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class OpenVideo:
    """A raw video being read.

    original_size: width, height in pixels.  fps: of the prepared frames, None if unknown.
    frames: the prepared frames, uint8 S S C.  truth: asked for when the frames were read.
    source_fps: of the raw frames, None if unknown.
    """

    original_size: tuple[int, int]
    fps: float | None
    frames: Frames
    labels: Mapping[str, Any] = field(default_factory=dict)
    truth: Callable[[], Truth] = Truth
    source_fps: float | None = None


def open_video(video: RawVideo, request: ExtractRequest, progress: Progress) -> OpenVideo:
    """Start to read a video the way a request says.

    Raises UserError where it cannot be read, here or while its frames are taken.
    """
    opener = _OPENERS[video.kind]
    if request.storage == "none" and video.kind != "array":
        opener = _no_frames
    if video.tracks is None:
        return opener(video, request, progress)
    track = video.tracks.read()
    stop = min(track.num_frames, video.first_frame + (video.num_frames or track.num_frames))
    if stop <= video.first_frame:
        raise UserError("nothing is known beside its frames", {"frames": track.num_frames})
    part = replace(video, num_frames=stop - video.first_frame)
    return _beside(track, opener(part, request, progress), part, request)


def _beside(track: Track, opened: OpenVideo, video: RawVideo, request: ExtractRequest) -> OpenVideo:
    """The opened video with the track's entries of just the frames that were taken."""
    taken = 0

    def frames() -> Frames:
        nonlocal taken
        with contextlib.closing(opened.frames):
            for frame in opened.frames:
                taken += 1
                yield frame

    def truth() -> Truth:
        own = opened.truth()
        most = video.num_frames or track.num_frames
        numbers, _ = _chosen(video, request, video.first_frame + most, opened.source_fps)
        places = numbers[np.minimum(np.arange(taken), len(numbers) - 1)]
        picked = {name: np.asarray(values)[places] for name, values in track.arrays.items()}
        return Truth(own.flow, {**own.extra, **picked})

    labels = {**opened.labels, **track.labels}
    return replace(opened, frames=frames(), labels=labels, truth=truth)


def image_paths(folder: Path) -> list[Path]:
    """The images of a frame folder in natural order."""
    names = [name.name for name in folder.iterdir() if name.suffix.lower() in IMAGE_SUFFIXES]
    shown = (name for name in names if not name.startswith("."))
    return [folder / name for name in sorted(shown, key=lambda name: (natural_key(name), name))]


def open_arrays(video: RawVideo) -> ArrayClip:
    """The clip behind a video of kind 'array', or whatever gives frames and arrays like one."""
    clip: ArrayClip = video.clip.open() if video.clip else ArrayClip(video.path)
    return clip


def _file(video: RawVideo, request: ExtractRequest, progress: Progress) -> OpenVideo:
    info = probe(video.path)
    source_fps = request.fps or info.fps or video.fps
    rule = resize_rule_of(request.kind, request.protocol) if request.compat else None
    by_ffmpeg = rule is None or rule.resize[0].filter == "swscale"
    part: dict[str, Any] = {
        "first_frame": video.first_frame,
        "max_source_frames": video.num_frames,
    }
    if video.clock_fps:
        part = {"window_s": _window(video, info)}
    frames = iter_video(
        video.path,
        size_px=request.size_px if by_ffmpeg else None,
        fit=request.fit,
        fps=request.fps,
        stride=request.stride,
        grey=request.grey and rule is None,
        crop=_box(video.crop, info.width, info.height),
        scaler="exact" if rule is None else "plain",
        keep_damaged=request.keep_damaged,
        info=info,
        progress=progress,
        **part,
    )
    if rule is not None:
        frames = _as_published(frames, rule, request)
    fps = source_fps / request.stride if source_fps else None
    raw_fps = info.fps or video.fps
    return OpenVideo((info.width, info.height), fps, frames, source_fps=raw_fps)


def _folder(video: RawVideo, request: ExtractRequest, progress: Progress) -> OpenVideo:
    paths = image_paths(video.path)
    if not paths:
        raise UserError("no images", {"folder": video.path}, EXIT_NO_DATA)
    chosen, fps = _chosen(video, request, len(paths), video.fps)

    def frames() -> Frames:
        for done, number in enumerate(chosen, 1):
            try:
                image = open_rgb(paths[number])
            except UserError:
                if request.keep_damaged and done > 1:
                    return
                raise
            yield _fitted(_cropped(image, video.crop), request)
            progress(done / len(chosen))

    return OpenVideo(image_size(paths[0]), fps, frames(), source_fps=video.fps)


def _image(video: RawVideo, request: ExtractRequest, progress: Progress) -> OpenVideo:
    image = open_rgb(video.path)
    return OpenVideo(image.size, None, (each for each in (_fitted(image, request),)))


def _strip(video: RawVideo, request: ExtractRequest, progress: Progress) -> OpenVideo:
    image = open_rgb(video.path)
    side = image.height
    chosen, fps = _chosen(video, request, image.width // side, video.fps)
    frames = (
        _fitted(image.crop((number * side, 0, (number + 1) * side, side)), request)
        for number in chosen
    )
    progress(0.5)
    return OpenVideo((side, side), fps, frames, source_fps=video.fps)


def _array(video: RawVideo, request: ExtractRequest, progress: Progress) -> OpenVideo:
    clip = open_arrays(video)
    total, height, width, channels = clip.shape
    chosen, fps = _chosen(video, request, total, clip.fps() or video.fps)

    def frames() -> Frames:
        wanted = iter(chosen.tolist())
        number = next(wanted, None)
        for position, frame in enumerate(clip.frames()):
            while number == position:  # more than once where fps is higher than the clip's
                picture = Image.fromarray(frame if channels == 3 else frame[..., 0])
                yield _fitted(picture, request)
                number = next(wanted, None)
            if number is None:
                return
            progress(position / total)

    target = place(width, height, request.size_px, fit=request.fit)
    truth = partial(_truth, clip, chosen, target)
    return OpenVideo(
        (width, height),
        fps,
        frames(),
        labels=clip.labels(),
        truth=truth,
        source_fps=clip.fps() or video.fps,
    )


def _no_video(video: RawVideo, request: ExtractRequest, progress: Progress) -> OpenVideo:
    raise UserError(
        "no video and no images", {"to fix": "get its video too, or give --storage none"}
    )


def _no_frames(video: RawVideo, request: ExtractRequest, progress: Progress) -> OpenVideo:
    """Frames without channels, as many as there are entries beside them."""
    if video.tracks is None or video.num_frames is None:
        raise UserError("nothing but frames is known of it", {"to fix": "leave out --storage none"})
    chosen, fps = _chosen(video, request, video.first_frame + video.num_frames, video.fps)
    empty = np.empty((request.size_px, request.size_px, 0), np.uint8)
    return OpenVideo((0, 0), fps, (empty for _ in chosen), source_fps=video.fps)


_OPENERS = {
    "video": _file,
    "frames": _folder,
    "strip": _strip,
    "array": _array,
    "image": _image,
    "tracks": _no_video,
}


def _window(video: RawVideo, info: VideoInfo) -> tuple[float, float]:
    """From and before, in seconds; half a frame early, so that no rounding moves a border."""
    clock_fps = video.clock_fps or 1.0
    fps = _exact_rate(info.fps or clock_fps)
    scale = 1.0 if abs(fps - clock_fps) < RATE_TOLERANCE else fps / clock_fps
    first = math.ceil(video.first_frame * scale - 1e-6)
    end_frame = video.first_frame + (video.num_frames or 0)
    last = math.ceil(end_frame * scale - 1e-6) if video.num_frames else math.inf
    return max(0.0, (first - 0.5) / fps), min((last - 0.5) / fps, 1e6)


def _exact_rate(fps: float) -> float:
    """The rate that ffmpeg writes with two decimals, where it is one of television's."""
    television = round(fps * 1.001) * 1000 / 1001
    return television if round(television, 2) == fps else fps


def _box(crop: Crop | None, width: int, height: int) -> tuple[int, int, int, int] | None:
    """Left, top, width, height of a crop in frames of this size, cut at their borders.

    Raises UserError where nothing of it is inside.
    """
    if crop is None:
        return None
    across, down = width / crop.width, height / crop.height
    left, right = (min(max(int(x * across), 0), width) for x in (crop.left, crop.right))
    top, bottom = (min(max(int(y * down), 0), height) for y in (crop.top, crop.bottom))
    if right <= left or bottom <= top:
        raise UserError(
            "its box lies outside the frame",
            {
                "box": f"{crop.left}-{crop.top}-{crop.right}-{crop.bottom}",
                "frame": f"{width} x {height}",
            },
            EXIT_NO_DATA,
        )
    return left, top, right - left, bottom - top


def _cropped(image: Image.Image, crop: Crop | None) -> Image.Image:
    box = _box(crop, *image.size)
    if box is None:
        return image
    left, top, width, height = box
    return image.crop((left, top, left + width, top + height))


def _as_published(frames: Frames, rule: Published, request: ExtractRequest) -> Frames:
    with contextlib.closing(frames):
        for frame in frames:
            yield _published(frame, rule, request)


def _published(frame: np.ndarray, rule: Published, request: ExtractRequest) -> np.ndarray:
    height, width = frame.shape[:2]
    if request.fit == "center-crop" and height != width:
        left, top, width, height = place(width, height, request.size_px, fit=request.fit).crop
        frame = frame[top : top + height, left : left + width]
    return resized(frame, request.size_px, rule=rule, grey=request.grey)


def _fitted(image: Image.Image, request: ExtractRequest) -> np.ndarray:
    if request.compat:
        rule = resize_rule_of(request.kind, request.protocol)
        return _published(np.asarray(image.convert("RGB")), rule, request)
    fitted = np.asarray(fit_image(image, request.size_px, fit=request.fit))
    if fitted.ndim == 2:
        fitted = np.repeat(fitted[..., None], 1 if request.grey else 3, axis=2)
    return to_grey(fitted) if request.grey and fitted.shape[2] == 3 else fitted


def _chosen(
    video: RawVideo, request: ExtractRequest, total: int, source_fps: float | None
) -> tuple[np.ndarray, float | None]:
    """Numbers of the source frames to keep, in order, and the rate at which they then follow.

    Images have no rate: a rate that is asked for is then taken as theirs.
    """
    stop = total if video.num_frames is None else min(total, video.first_frame + video.num_frames)
    numbers = np.arange(video.first_frame, stop)
    fps = request.fps or source_fps
    if request.fps and source_fps and request.fps != source_fps:
        count = int(np.floor(len(numbers) * request.fps / source_fps + 1e-9))
        nearest = np.floor(np.arange(count) * (source_fps / request.fps) + 0.5).astype(int)
        numbers = numbers[np.minimum(nearest, len(numbers) - 1)]
    return numbers[:: request.stride], fps / request.stride if fps else None


def _truth(clip: ArrayClip, chosen: np.ndarray, target: Placement) -> Truth:
    total, height, width, _ = clip.shape
    steps = np.unique(np.diff(chosen))
    flow, extra = {}, {}
    for name in clip.names:
        lag = name.removeprefix("flow_")
        if name.startswith("flow_") and lag.isdecimal():
            # Only where frames follow at equal steps, and the lag is a number of such steps.
            if len(steps) == 1 and steps[0] > 0 and int(lag) % steps[0] == 0:
                values = _flow(clip, name)
                known = chosen[chosen < min(total - int(lag), len(values))]
                flow[int(lag) // int(steps[0])] = _fit_flow(values[known], target)
        elif name not in _NOT_EXTRA and name.isidentifier():
            values = clip.array(name)
            if values.ndim and len(values) == total and values.dtype.kind in "biuf":
                is_map = values.shape[1:3] == (height, width)
                picked = values[chosen]
                extra[name] = _sampled(picked, target, axis=1) if is_map else picked
    return Truth(flow, extra)


def _flow(clip: ArrayClip, name: str) -> np.ndarray:
    values = clip.array(name)
    if values.ndim != 4 or values.shape[1:] != (2, *clip.shape[1:3]) or values.dtype.kind != "f":
        raise UserError(f"{name} is {values.dtype} {values.shape}, not float T-lag 2 H W")
    return values


def _fit_flow(flow: np.ndarray, target: Placement) -> np.ndarray:
    scale = np.array([target.scaled[0] / target.crop[2], target.scaled[1] / target.crop[3]])
    scaled = flow.astype(np.float32) * scale.astype(np.float32)[:, None, None]
    return encode_flow(_sampled(scaled, target, axis=2))


def _sampled(values: np.ndarray, target: Placement, *, axis: int) -> np.ndarray:
    """Maps with height and width at `axis` and the next, fitted by taking the nearest value."""
    left, top, width, height = target.crop
    if values.shape[axis : axis + 2] == (height, width) == target.scaled[::-1]:
        return values
    columns = left + ((np.arange(target.scaled[0]) + 0.5) * width / target.scaled[0]).astype(int)
    rows = top + ((np.arange(target.scaled[1]) + 0.5) * height / target.scaled[1]).astype(int)
    picked = np.take(np.take(values, rows, axis=axis), columns, axis=axis + 1)
    if target.fills_square:
        return picked
    size, (x, y) = target.size_px, target.offset
    borders = [(0, 0)] * values.ndim
    borders[axis] = (y, size - y - target.scaled[1])
    borders[axis + 1] = (x, size - x - target.scaled[0])
    return np.pad(picked, borders)
