"""How long a frame of generated data takes, kind by kind, with its true motion.

The aims are the times that the formulas took when they were first written down, on one core.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from pipelines.datasets.generate.kinds import KINDS
from pipelines.datasets.synthetic import generate
from tests.benchmarks.rows import Measurement, Settings, cpu_clock, interleaved

NUM_FRAMES = 32

ENOUGH_MS = {
    64: {
        "fire": 1.1,
        "clouds": 1.0,
        "waterfall": 1.6,
        "vegetation": 9.2,
        "plant": 3.0,
        "arm": 0.9,
        "walker": 0.8,
    },
    128: {
        "fire": 8.5,
        "clouds": 3.4,
        "waterfall": 5.7,
        "vegetation": 13.0,
        "plant": 7.3,
        "arm": 2.7,
        "walker": 2.6,
    },
}
"""Side in pixels -> kind -> milliseconds per frame."""


def measure(settings: Settings) -> Iterator[Measurement]:
    """Clips of 32 frames, one core; each value is the mean over a few clips."""
    clips = 1 if settings.quick else 3
    for size_px, aims in ENOUGH_MS.items():
        for kind in KINDS:
            make = partial(_make, kind, clips, size_px)
            taken = interleaved([make], repeats=settings.repeats, clock=cpu_clock)[0]
            values = [1000 * each / (clips * NUM_FRAMES) for each in taken]
            name = f"{kind}, {size_px} px"
            note = "by the time spent on a core"
            yield Measurement(name, values, "ms/frame", at_most=aims.get(kind), note=note)


def _make(kind: str, num_clips: int, size_px: int) -> None:
    for index in range(num_clips):
        generate(kind, index, size_px=size_px, num_frames=NUM_FRAMES)
