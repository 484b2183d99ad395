"""Small true video files for tests, made with the ffmpeg that the code under test uses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from pipelines.io.ffmpeg import program

CODECS = {
    ".mp4": ("libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart"),
    ".m4v": ("libx264", "-pix_fmt", "yuv420p", "-f", "mp4"),
    ".mov": ("libx264", "-pix_fmt", "yuv420p"),
    ".mkv": ("libx264", "-pix_fmt", "yuv420p"),
    ".webm": ("libvpx-vp9", "-pix_fmt", "yuv420p", "-deadline", "realtime", "-cpu-used", "8"),
    ".avi": ("mpeg4", "-q:v", "2"),
    ".gif": ("gif",),
}


def ffmpeg(*arguments: str | Path, data: bytes = b"") -> None:
    """Run ffmpeg; its complaint is the test's failure."""
    start = [program(), "-hide_banner", "-loglevel", "error", "-y"]
    done = subprocess.run([*start, *map(str, arguments)], input=data, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def encode(
    path: Path, frames: np.ndarray, *, fps: float = 25, options: tuple[str, ...] = ()
) -> Path:
    """Write uint8 T H W 3 in the usual codec of the file's suffix."""
    height, width = frames.shape[1:3]
    source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps))
    codec = CODECS[path.suffix.lower()]
    path.parent.mkdir(parents=True, exist_ok=True)
    target = f"file:{path.absolute()}"
    ffmpeg(*source, "-i", "-", "-c:v", *codec, *options, target, data=frames.tobytes())
    return path


def levels(count: int, *, width: int = 32, height: int = 24) -> np.ndarray:
    """Plain frames whose grey level tells their number: 20, 30, 40, ..."""
    values = (20 + 10 * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(values[:, None, None, None], (count, height, width, 3)).copy()


def numbers(frames: np.ndarray) -> list[int]:
    """Which frames of `levels` these are."""
    return [round((float(frame.mean()) - 20) / 10) for frame in frames]


def moving_square(
    count: int, *, width: int = 32, height: int = 24, seed: int = 0, speed: int = 1
) -> np.ndarray:
    """A bright square moving right over a plain background; seed gives the colours."""
    colours = np.random.default_rng(seed).integers(0, 256, (2, 3), np.uint8)
    frames = np.broadcast_to(colours[0], (count, height, width, 3)).copy()
    for number, frame in enumerate(frames):
        left = (2 + number * speed) % (width - 8)
        frame[8:16, left : left + 8] = colours[1]
    return frames


def photo_like(count: int, *, width: int, height: int) -> np.ndarray:
    """Smooth colours with fine detail, drifting: what a resize filter shows its faults on."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    frames = []
    for number in range(count):
        waves = np.sin((x + 3 * number) / 5) * np.cos(y / 7), np.sin((x + y) / 11), np.cos(x / 3)
        frames.append(np.stack([110 + 80 * wave for wave in waves], axis=-1))
    return np.stack(frames).astype(np.uint8)
