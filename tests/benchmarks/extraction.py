"""extract-frames on one large video, beside the published way and beside ffmpeg alone.

The published way asks OpenCV for one frame after the other by its number. Every such question
decodes from the key frame before it on; so a few frames, spread evenly, tell what all would take.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2

from pipelines.datasets.config import ExtractRequest
from pipelines.datasets.prepare import extract_frames
from pipelines.events import Work
from pipelines.io.ffmpeg import program
from tests.benchmarks.rows import Measurement, Settings, apart, cpu_clock, interleaved, ratios

SIDE_PX, SIZE_PX = 1024, 256
FPS = 30
SECONDS, LONGER = 30, 4
KEY_FRAME_EVERY = 250
NUM_SEEKS = 12
ENOUGH_MB = 500.0


def measure(settings: Settings) -> Iterator[Measurement]:
    """Frames per second of each way, and the memory of a worker for a short and a long video."""
    seconds = 4 if settings.quick else SECONDS
    num_frames = seconds * FPS
    folder = settings.scratch_dir / "raw"
    folder.mkdir()
    video = folder / "video.mkv"
    _make_video(video, seconds)
    num_seeks = 3 if settings.quick else NUM_SEEKS
    seeks = [round((i + 0.5) * num_frames / num_seeks) for i in range(num_seeks)]
    works = (
        partial(_extract, folder, settings.scratch_dir / "data"),
        partial(_decode_alone, video),
        partial(_seek, video, seeks, settings.scratch_dir),
    )
    ours, decoding, seeking = interleaved(works, repeats=settings.repeats, warmups=0)
    seeking = [taken * num_frames / num_seeks for taken in seeking]
    what = f"{seconds} s of {SIDE_PX} x {SIDE_PX} to {SIZE_PX} x {SIZE_PX}"
    note = f"from {num_seeks} frames, key frames every {KEY_FRAME_EVERY}"
    yield Measurement(f"{what}, extract-frames", _rates(num_frames, ours), "frames/s")
    yield Measurement(f"{what}, ffmpeg alone", _rates(num_frames, decoding), "frames/s")
    yield Measurement(
        f"{what}, one seek per frame", _rates(num_frames, seeking), "frames/s", note=note
    )
    yield Measurement("over one seek per frame", ratios(seeking, ours), "x", at_least=10)
    yield Measurement("share of ffmpeg's own speed", ratios(decoding, ours), "x", at_least=0.5)
    spent = interleaved(works[:2], repeats=settings.repeats, warmups=0, clock=cpu_clock)
    name = "share of ffmpeg's own speed per core"
    note = "by the time spent on all cores, which other programs do not change much"
    yield Measurement(name, ratios(spent[1], spent[0]), "x", at_least=0.5, note=note)
    yield from _memory(settings, folder, video, seconds)


def _memory(settings: Settings, folder: Path, video: Path, seconds: int) -> Iterator[Measurement]:
    note = "Python and ffmpeg together, each at its peak"
    for length in (seconds, LONGER * seconds):
        if length > seconds:
            _lengthen(video, LONGER)
        run = apart(_extract, folder, settings.scratch_dir / f"memory-{length}")
        peak_mb = run.peak_mb + run.largest_child_mb
        yield Measurement(
            f"memory of a worker, {length} s",
            [peak_mb],
            "MB",
            at_most=ENOUGH_MB,
            note=note,
            peak_mb=peak_mb,
        )


def _make_video(path: Path, seconds: int) -> None:
    picture = f"mandelbrot=size={SIDE_PX}x{SIDE_PX}:rate={FPS}"
    _ffmpeg(
        *("-f", "lavfi", "-i", picture, "-t", str(seconds), "-pix_fmt", "yuv420p"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-g", str(KEY_FRAME_EVERY), str(path)),
    )


def _lengthen(path: Path, times: int) -> None:
    longer = path.with_name("longer.mkv")
    _ffmpeg("-stream_loop", str(times - 1), "-i", str(path), "-c", "copy", str(longer))
    os.replace(longer, path)


def _extract(folder: Path, data_root: Path) -> None:
    request = ExtractRequest(
        data_root=data_root, name="large", source=folder, size_px=SIZE_PX, jobs=1, rebuild=True
    )
    result = extract_frames(request, Work())
    assert result["num_videos"] >= 1


def _decode_alone(video: Path) -> None:
    scale = f"scale={SIZE_PX}:{SIZE_PX}"
    _ffmpeg("-i", str(video), "-vf", scale, "-pix_fmt", "rgb24", "-f", "null", "-")


def _seek(video: Path, numbers: list[int], folder: Path) -> None:
    capture = cv2.VideoCapture(str(video))
    for number in numbers:
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        is_read, frame = capture.read()
        assert is_read
        small = cv2.resize(frame, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_LINEAR)
        cv2.imwrite(str(folder / f"frame_{number}.png"), small)
    capture.release()


def _ffmpeg(*arguments: str) -> None:
    subprocess.run([program(), "-v", "error", "-nostdin", "-y", *arguments], check=True)


def _rates(num_frames: int, seconds: list[float]) -> list[float]:
    return [num_frames / each for each in seconds]
