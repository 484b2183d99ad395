"""Reading videos frame by frame, and writing mp4 and gif, through ffmpeg.

Frames come over a pipe, one at a time: memory does not grow with the length of a video. Rotation
stored in a file is applied. Equal files give equal frames on every machine.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import PIPE
from typing import IO, Any, Literal

import ffmpeg
import numpy as np

from pipelines.datasets.config import Fit
from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.io.ffmpeg import Process, command
from pipelines.io.fitting import Placement, place
from pipelines.io.images import to_grey

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif"})

_INPUT = {
    # A playlist that calls itself .mp4 must not make ffmpeg open other files.
    "protocol_whitelist": "fd",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpeg,mpegts,mpegvideo,"
    "ogg,asf,flv,h264,hevc,m4v",
    "threads": 1,
}

# Without these flags the scaler takes short cuts that make frames 1.5 levels too dark.
_EXACT = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
_RESIZE = {"flags": _EXACT, "param0": 0, "param1": 0.5}

# What ffmpeg prints of a damaged file even where it then exits with 0.
_DAMAGE = re.compile(
    r"ended prematurely|exceeds max length|invalid as first byte|LZW decode failed|partial file"
    r"|error while decoding|damaged at|corrupt (?:decoded|input)|Invalid data found"
)
_STREAM = re.compile(r" {2}Stream #0:(?P<index>\d+)[^:]*: (?P<kind>\w+): (?P<rest>.*)")
_DURATION = re.compile(r" {2}Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)")
_SIZE = re.compile(r", (\d{1,5})x(\d{1,5})(?=[ ,]|$)")
_ASPECT = re.compile(r"\bSAR (\d+):(\d+)")
_RATE = re.compile(r", (\d+(?:\.\d+)?)(k?) (?:fps|tbr)\b")
_ROTATION = re.compile(r"rotation of (-?\d+(?:\.\d+)?) degrees")
_ALPHA = re.compile(r", (?:yuva|gbrap|rgba|bgra|argb|abgr|ya8|ya16|pal8)")


class DamagedVideo(UserError):
    """A video that cannot be decoded to its end; the frames before the damage were given out."""


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about its pictures.

    width, height: pixels as shown; rotation (clockwise, 0, 90, 180 or 270 degrees) is applied.
    pixel_aspect: width of a pixel over its height.  fps: average, None if unknown.
    duration_s: None if unknown.  num_frames: None unless they were counted.
    """

    width: int
    height: int
    fps: float | None
    duration_s: float | None
    rotation: int
    pixel_aspect: float
    has_audio: bool
    has_alpha: bool
    stream_index: int
    num_frames: int | None = None


def probe(path: Path, *, count_frames: bool = False) -> VideoInfo:
    """What a video file holds. count_frames decodes it whole, since headers may be wrong.

    Raises UserError with exit code 4 when it is missing, not a video, or holds only sound.
    """
    arguments = command(ffmpeg.input("fd:", **_INPUT).output("-"), loglevel="info")
    # Not told what to write, ffmpeg describes the input and ends.
    del arguments[arguments.index("fd:") + 1 :]
    with _opened(path) as source, Process(arguments, stdin=source) as process:
        process.finish()
        info = _parse(path, process.messages)
    return replace(info, num_frames=_count(path, info)) if count_frames else info


def iter_video(
    path: Path,
    *,
    size_px: int | None = None,
    fit: Fit = "squash",
    fps: float | None = None,
    stride: int = 1,
    grey: bool = False,
    first_frame: int = 0,
    max_source_frames: int | None = None,
    window_s: tuple[float, float] | None = None,
    crop: tuple[int, int, int, int] | None = None,
    scaler: Literal["exact", "plain"] = "exact",
    max_frames: int | None = None,
    keep_damaged: bool = False,
    info: VideoInfo | None = None,
    progress: Callable[[float], None] | None = None,
) -> Generator[np.ndarray, None, None]:
    """The frames of a video one by one, uint8 H W 3 (H W 1 if grey), decoded while iterating.

    size_px: make frames square as `fit` says; as they are when None.
    fps: constant frames per second, by repeating and leaving out; None takes each frame once, also
    where the time between them varies.  stride: then keep every n-th frame.
    first_frame, max_source_frames: the part of the file to read, in its own frames.
    window_s: the part by time, from and before, in seconds; the file is not read up to there.
    crop: left, top, width, height of the part of each frame that counts, in pixels as shown.
    scaler: plain gives the pixels of ffmpeg's usual short cuts, which are those of OpenCV's reader.
    max_frames: frames to yield at most.
    keep_damaged: end quietly where a file is damaged; else DamagedVideo is raised at that point.
    info: what `probe` said, to save asking again.  progress: called with the part of the file read.
    Close the iterator if you leave it early. Raises UserError as `probe` does.
    """
    info = info or probe(path)
    left, top, width, height = crop or (0, 0, info.width, info.height)
    target = Placement((0, 0, width, height), (width, height), (0, 0), 0)
    if size_px:
        target = place(width, height, size_px, fit=fit, pixel_aspect=info.pixel_aspect)
    x, y, width, height = target.crop
    target = replace(target, crop=(left + x, top + y, width, height))
    seek = {"ss": f"{window_s[0]:.6f}"} if window_s else {}
    stream = ffmpeg.input("fd:", **_INPUT, **seek)[str(info.stream_index)]
    if window_s:
        stream = stream.filter("trim", end=f"{window_s[1] - window_s[0]:.6f}")
    stream = _timed(stream, first_frame, max_source_frames, fps=fps, stride=stride)
    stream = _placed(stream, info, target, scaler=scaler)
    limit = {} if max_frames is None else {"frames:v": max_frames}
    output = stream.output("pipe:1", format="rawvideo", fps_mode="passthrough", **limit)
    width, height = (size_px, size_px) if size_px else target.scaled
    frames = _decoded(
        path,
        command(output, "-xerror", "-filter_complex_threads", "1"),
        (height, width, 4 if info.has_alpha else 3),
        keep_damaged=keep_damaged,
        progress=progress,
    )
    with contextlib.closing(frames):
        for frame in frames:
            opaque = _on_white(frame) if info.has_alpha else frame
            yield to_grey(opaque) if grey else opaque


def read_video(
    path: Path,
    *,
    size_px: int | None = None,
    fit: Fit = "squash",
    fps: float | None = None,
    stride: int = 1,
    grey: bool = False,
    first_frame: int = 0,
    scaler: Literal["exact", "plain"] = "exact",
    max_frames: int | None = None,
    keep_damaged: bool = False,
) -> np.ndarray:
    """The frames of a video as one array, uint8 T H W 3 (T H W 1 if grey); options of iter_video.

    Raises UserError with exit code 4 also when there is no frame.
    """
    frames = list(
        iter_video(
            path,
            size_px=size_px,
            fit=fit,
            fps=fps,
            stride=stride,
            grey=grey,
            first_frame=first_frame,
            scaler=scaler,
            max_frames=max_frames,
            keep_damaged=keep_damaged,
        )
    )
    if not frames:
        raise _undecodable(path, "it has no frame to give")
    return np.stack(frames)


def write_mp4(path: Path, frames: Iterable[np.ndarray], fps: float, *, crf: int = 17) -> None:
    """Write a video that every browser plays (h264, yuv420p), whole or not at all.

    frames: uint8 H W 3 or H W 1 each, all of one size; odd sizes get their last row or column
    twice.  crf: 0 lossless-like to 51 worst.  Equal frames give equal bytes.
    """

    def output(stream: Any, name: str) -> Any:
        stream = stream.filter(
            "scale", flags=_EXACT, out_color_matrix="bt709", out_range="tv"
        ).filter("format", "yuv420p")
        return stream.output(
            name,
            vcodec="libx264",
            crf=crf,
            preset="medium",
            threads=1,  # the bytes depend on it
            movflags="+faststart",
            colorspace="bt709",
            color_primaries="bt709",
            color_trc="bt709",
            color_range="tv",
            map_metadata=-1,
            fflags="+bitexact",
            **{"flags:v": "+bitexact"},
        )

    _write(path, (_even(frame) for frame in frames), fps, "clip.mp4", output)


def write_gif(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Write an endless gif with a palette made for these frames, whole or not at all.

    frames: uint8 H W 3 or H W 1 each, all of one size. fps: a gif cannot show more than 50.
    """

    def output(stream: Any, name: str) -> Any:
        both = stream.filter_multi_output("split")
        palette = both[0].filter("palettegen", stats_mode="full", reserve_transparent=0)
        dithered = ffmpeg.filter([both[1], palette], "paletteuse", dither="sierra2_4a")
        return dithered.output(name, loop=0, fflags="+bitexact", **{"flags:v": "+bitexact"})

    _write(path, (_rgb(frame) for frame in frames), min(fps, 50), "clip.gif", output)


def _timed(
    stream: Any, first_frame: int, max_source_frames: int | None, *, fps: float | None, stride: int
) -> Any:
    if max_source_frames is not None:
        end = first_frame + max_source_frames
        stream = stream.filter("trim", start_frame=first_frame, end_frame=end)
    elif first_frame:
        stream = stream.filter("trim", start_frame=first_frame)
    if fps is not None:
        stream = stream.filter("fps", f"{fps:.6f}", round="near")
    if stride > 1:
        stream = stream.filter("select", f"not(mod(n,{stride}))")
    return stream


def _placed(stream: Any, info: VideoInfo, target: Placement, *, scaler: str) -> Any:
    left, top, width, height = target.crop
    if (width, height) != (info.width, info.height):
        stream = stream.filter("crop", width, height, left, top, exact=1)
    # By way of planes, for which ffmpeg has fast code; the pixels are the same.
    layouts = ["gbrap", "rgba"] if info.has_alpha else ["gbrp", "rgb24"]
    if scaler == "exact":
        stream = stream.filter("scale", *target.scaled, **_RESIZE)
    else:
        stream = stream.filter("scale", *target.scaled, flags="bicubic")
        layouts = layouts[1:]
    for layout in layouts:
        stream = stream.filter("format", layout)
    if target.size_px and not target.fills_square:
        stream = stream.filter("pad", target.size_px, target.size_px, *target.offset)
    return stream


def _decoded(
    path: Path,
    arguments: list[str],
    shape: tuple[int, int, int],
    *,
    keep_damaged: bool,
    progress: Callable[[float], None] | None,
) -> Generator[np.ndarray, None, None]:
    with _opened(path) as source, Process(arguments, stdin=source, stdout=PIPE) as process:
        size = max(1, os.fstat(source.fileno()).st_size)
        num_frames = 0
        while True:
            frame = np.empty(shape, np.uint8)
            if process.read_into(frame.reshape(-1)) < frame.size:
                break
            num_frames += 1
            yield frame
            if progress:
                # ffmpeg shares our file offset, so it shows how far it has read.
                progress(min(1.0, os.lseek(source.fileno(), 0, os.SEEK_CUR) / size))
        status, messages = process.finish(), process.messages
        is_damaged = status != 0 or any(_DAMAGE.search(line) for line in messages)
        is_read = os.lseek(source.fileno(), 0, os.SEEK_CUR) >= size
        is_damaged = is_damaged or (is_read and _gif_is_cut_off(source))
    if num_frames == 0 and status != 0:
        raise _undecodable(path, _reason(messages))
    if is_damaged and not keep_damaged:
        raise DamagedVideo(
            f"the video '{path.name}' is damaged after {num_frames} frames",
            {"path": path, "ffmpeg says": _reason(messages), "to fix": "get the file again"},
            EXIT_NO_DATA,
        )


def _gif_is_cut_off(source: IO[bytes]) -> bool:
    source.seek(0)
    if not source.read(6).startswith(b"GIF8"):
        return False
    source.seek(-min(64, source.seek(0, os.SEEK_END)), os.SEEK_END)
    return not source.read().rstrip(b"\0").endswith(b"\x3b")


def _count(path: Path, info: VideoInfo) -> int:
    stream = ffmpeg.input("fd:", **_INPUT)[str(info.stream_index)]
    arguments = command(
        stream.output("-", format="null", fps_mode="passthrough"), "-progress", "pipe:1"
    )
    with _opened(path) as source, Process(arguments, stdin=source, stdout=PIPE) as process:
        counts = re.findall(r"^frame=\s*(\d+)", process.read_text(), re.MULTILINE)
    return int(counts[-1]) if counts else 0


def _opened(path: Path) -> IO[bytes]:
    try:
        source = path.open("rb")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as problem:
        raise UserError(f"no video '{path.name}'", {"looked for": path}, EXIT_NO_DATA) from problem
    except OSError as problem:
        raise _undecodable(path, problem.strerror or str(problem)) from problem
    if os.fstat(source.fileno()).st_size == 0:
        source.close()
        raise _undecodable(path, "the file is empty")
    return source


def _parse(path: Path, messages: Sequence[str]) -> VideoInfo:
    pictures: list[str] = []
    kinds, duration_s, index, is_first = set(), None, 0, False
    for line in messages:
        if stream := _STREAM.match(line):
            shows = stream["kind"] == "Video" and "(attached pic)" not in stream["rest"]
            is_first = shows and not pictures
            kinds.add("Video" if shows else stream["kind"])
            if is_first:
                pictures, index = [f", {stream['rest']}"], int(stream["index"])
        elif is_first:
            pictures.append(line)
        elif found := _DURATION.match(line):
            hours, minutes, seconds = found.groups()
            duration_s = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if "Audio" in kinds and not pictures:
        raise UserError(f"no pictures in '{path.name}', only sound", {"path": path}, EXIT_NO_DATA)
    size = _SIZE.search(pictures[0]) if pictures else None
    if size is None:
        raise _undecodable(path, _reason(messages))
    return _info(pictures, (int(size[1]), int(size[2])), duration_s, "Audio" in kinds, index)


def _info(
    lines: list[str],
    size: tuple[int, int],
    duration_s: float | None,
    has_audio: bool,
    index: int,
) -> VideoInfo:
    width, height = size
    aspect = _ASPECT.search(lines[0])
    pixel_aspect = int(aspect[1]) / int(aspect[2]) if aspect and aspect[1] != "0" else 1.0
    turned = [found for line in lines if (found := _ROTATION.search(line))]
    rotation = round(-float(turned[0][1]) / 90) * 90 % 360 if turned else 0
    if rotation in (90, 270):
        width, height, pixel_aspect = height, width, 1 / pixel_aspect
    rate = _RATE.search(lines[0])
    return VideoInfo(
        width=width,
        height=height,
        fps=float(rate[1]) * (1000 if rate[2] else 1) if rate else None,
        duration_s=duration_s,
        rotation=rotation,
        pixel_aspect=pixel_aspect,
        has_audio=has_audio,
        has_alpha=_ALPHA.search(lines[0]) is not None,
        stream_index=index,
    )


def _reason(messages: Sequence[str]) -> str:
    """The line of ffmpeg that tells most, without the addresses of its parts."""
    lines = [
        re.sub(r"^(\[[^\]]*\] ?)+", "", line) for line in messages if line[:1] not in (" ", "")
    ]
    telling = [line for line in lines if _DAMAGE.search(line) or "not found" in line]
    return (telling or lines or ["nothing"])[0]


def _undecodable(path: Path, reason: str) -> UserError:
    return UserError(
        f"cannot decode the video '{path.name}'",
        {"path": path, "reason": reason, "to fix": "play it; if it does not play, get it again"},
        EXIT_NO_DATA,
    )


def _on_white(frame: np.ndarray) -> np.ndarray:
    """uint8 H W 4 -> H W 3."""
    colour, alpha = frame[..., :3], frame[..., 3:].astype(np.uint16)
    if alpha.min() == 255:
        return np.ascontiguousarray(colour)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _rgb(frame: np.ndarray) -> np.ndarray:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] not in (1, 3):
        raise ValueError(f"a frame must be uint8 H W 3 or H W 1, not {frame.dtype} {frame.shape}")
    return np.broadcast_to(frame, (*frame.shape[:2], 3))


def _even(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    return np.pad(_rgb(frame), ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _write(
    path: Path,
    frames: Iterator[np.ndarray],
    fps: float,
    name: str,
    output: Callable[[Any, str], Any],
) -> None:
    """Encode into a folder beside `path`, then give the file its name."""
    first = next(frames, None)
    if first is None:
        raise ValueError("a video needs at least one frame")
    height, width = first.shape[:2]
    source = ffmpeg.input(
        "pipe:0", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=f"{fps:.6g}"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        made = Path(folder).absolute() / name
        arguments = command(output(source, f"file:{made}"), loglevel="error")
        with Process(arguments, stdin=PIPE) as process:
            with contextlib.suppress(BrokenPipeError):  # its own words tell more
                for frame in itertools.chain([first], frames):
                    if frame.shape != first.shape:
                        raise ValueError("all frames of a video must have one size")
                    process.write(frame)
            if process.finish() != 0:
                raise _cannot_write(path, process.messages)
        with made.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(made, path)


def _cannot_write(path: Path, messages: Sequence[str]) -> Exception:
    if any(os.strerror(errno.ENOSPC) in line for line in messages):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    return UserError(
        f"cannot write the video '{path.name}'", {"path": path, "ffmpeg says": _reason(messages)}
    )
