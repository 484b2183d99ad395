"""Opening a prepared variant of 100,000 videos: what every training and every loader process does
before its first clip."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.io.packed import PackedVideos
from pipelines.io.packing import PackWriter
from tests.benchmarks.rows import Measurement, Settings, apart

NUM_VIDEOS, NUM_FRAMES, SIZE_PX = 100_000, 17, 8
AT_ONCE = 1000


def measure(settings: Settings) -> Iterator[Measurement]:
    """Time and memory to open it, choose videos, and read a clip and a row of labels."""
    num_videos = NUM_VIDEOS // 50 if settings.quick else NUM_VIDEOS
    folder = settings.scratch_dir / "8px"
    _prepare(folder, num_videos)
    runs = [apart(_open, str(folder), num_videos) for _ in range(settings.repeats)]
    times, grown = zip(*(run.result for run in runs), strict=True)
    name = f"open an index of {num_videos:,} videos"
    yield Measurement(name, times, "s", at_most=1.0, note="until the first clip is there")
    note = "how much the peak grows beyond the imports"
    yield Measurement(f"{name}: memory", grown, "MB", at_most=200.0, note=note)


def _prepare(folder: Path, num_videos: int) -> None:
    frames = np.zeros((NUM_FRAMES, SIZE_PX, SIZE_PX, 1), np.uint8)
    extra = {"joints": np.zeros((NUM_FRAMES, 2), np.float32)}
    with PackWriter(folder, size_px=SIZE_PX, channels=1) as writer:
        for first in range(0, num_videos, AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, num_videos))
            rows = [writer.add(_row(number), frames, extra=extra) for number in numbers]
            writer.commit({"rows": rows})
        packed = [row for entry in writer.entries for row in entry["rows"]]
        writer.finish(packed, {"dataset": "many", "variant": folder.name})


def _row(number: int) -> dict[str, Any]:
    name = f"action {number % 7}/train/person_{number // 10:05d}_take_{number:06d}"
    labels = {"action": f"action {number % 7}", "subject": number % 25, "take": number}
    facts = {"id": name, "source": f"{name}.mp4", "group": f"person {number // 10}"}
    return {**facts, "split": "train", "fps": 25.0, "original_size": [640, 480], "labels": labels}


def _open(folder: str, num_videos: int) -> tuple[float, float]:
    """Seconds, and megabytes that the process's peak has grown by."""
    before, start = _peak_mb(), time.perf_counter()
    packed = PackedVideos(Path(folder))
    rows = packed.select("train", ("action [0-5]*",), NUM_FRAMES)
    clip = packed.frames(rows[-1], 0, NUM_FRAMES)
    labels = packed.rows[rows[-1]].labels
    taken = time.perf_counter() - start
    assert clip.shape[0] == NUM_FRAMES and labels["take"] == rows[-1] and len(packed) == num_videos
    return taken, _peak_mb() - before


def _peak_mb() -> float:
    """The most memory that this process has had, read where Linux tells it."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the system does not tell how much memory a process has")
