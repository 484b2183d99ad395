"""Opening a raw video of any kind: fitted frames one by one, and what is known beside them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.datasets.base import RawVideo
from pipelines.datasets.config import ExtractRequest
from pipelines.datasets.processes import Progress
from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.files import natural_key
from pipelines.io.arrays import ArrayClip
from pipelines.io.fitting import Placement, place
from pipelines.io.images import IMAGE_SUFFIXES, fit_image, image_size, open_rgb, to_grey
from pipelines.io.packing import encode_flow
from pipelines.io.video import iter_video, probe

Frames = Generator[np.ndarray, None, None]

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
    """

    original_size: tuple[int, int]
    fps: float | None
    frames: Frames
    labels: Mapping[str, Any] = field(default_factory=dict)
    truth: Callable[[], Truth] = Truth


def open_video(video: RawVideo, request: ExtractRequest, progress: Progress) -> OpenVideo:
    """Start to read a video the way a request says.

    Raises UserError where it cannot be read, here or while its frames are taken.
    """
    openers = {"video": _file, "frames": _folder, "strip": _strip, "array": _array}
    return openers[video.kind](video, request, progress)


def image_paths(folder: Path) -> list[Path]:
    """The images of a frame folder in natural order."""
    names = [name.name for name in folder.iterdir() if name.suffix.lower() in IMAGE_SUFFIXES]
    shown = (name for name in names if not name.startswith("."))
    return [folder / name for name in sorted(shown, key=lambda name: (natural_key(name), name))]


def _file(video: RawVideo, request: ExtractRequest, progress: Progress) -> OpenVideo:
    info = probe(video.path)
    source_fps = request.fps or info.fps or video.fps
    frames = iter_video(
        video.path,
        size_px=request.size_px,
        fit=request.fit,
        fps=request.fps,
        stride=request.stride,
        grey=request.grey,
        first_frame=video.first_frame,
        max_source_frames=video.num_frames,
        keep_damaged=request.keep_damaged,
        info=info,
        progress=progress,
    )
    fps = source_fps / request.stride if source_fps else None
    return OpenVideo((info.width, info.height), fps, frames)


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
            yield _fitted(image, request)
            progress(done / len(chosen))

    return OpenVideo(image_size(paths[0]), fps, frames())


def _strip(video: RawVideo, request: ExtractRequest, progress: Progress) -> OpenVideo:
    image = open_rgb(video.path)
    side = image.height
    chosen, fps = _chosen(video, request, image.width // side, video.fps)
    frames = (
        _fitted(image.crop((number * side, 0, (number + 1) * side, side)), request)
        for number in chosen
    )
    progress(0.5)
    return OpenVideo((side, side), fps, frames)


def _array(video: RawVideo, request: ExtractRequest, progress: Progress) -> OpenVideo:
    clip = ArrayClip(video.path)
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
    return OpenVideo((width, height), fps, frames(), labels=clip.labels(), truth=truth)


def _fitted(image: Image.Image, request: ExtractRequest) -> np.ndarray:
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
