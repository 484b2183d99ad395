"""Flow without weights: how fast DIS is, and what the stage around it costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipelines.events import Work
from pipelines.flow.config import EstimateRequest
from pipelines.flow.dis import DisEstimator
from pipelines.flow.estimate import estimate_flow
from tests.benchmarks.rows import Measurement, Settings, interleaved, ratios
from tests.pipelines.io.flow_makers import drifting, make_variant

LAG = 1


def measure(settings: Settings) -> Iterator[Measurement]:
    """Pairs per second on one core at two sizes, then the whole stage with one process."""
    estimator = DisEstimator()
    for size_px, aim in ((256, 50.0), (512, None)):
        num_pairs = 4 if settings.quick else 20
        frames = drifting(num_pairs + 1, size_px=size_px, step=(3, 2))
        taken = [_processor_s(estimator, frames) for _ in range(settings.repeats + 1)][1:]
        rates = [num_pairs / each for each in taken]
        note = "of processor time, one thread: what a core does that has nothing else to do"
        yield Measurement(
            f"DIS, {size_px} x {size_px}, one core", rates, "pairs/s", at_least=aim, note=note
        )
    yield from _stage(settings, estimator)


def _processor_s(estimator: DisEstimator, frames: np.ndarray) -> float:
    start = time.process_time()
    estimator.flow(frames[:-1], frames[1:])
    return time.process_time() - start


def _stage(settings: Settings, estimator: DisEstimator) -> Iterator[Measurement]:
    num_videos, num_frames = (2, 8) if settings.quick else (4, 32)
    videos = {
        f"v{number}": drifting(num_frames, size_px=256, step=(number, 2), seed=number)
        for number in range(num_videos)
    }
    make_variant(settings.scratch_dir, videos, name="bench")
    num_pairs = num_videos * (num_frames - LAG)

    def alone() -> None:
        for frames in videos.values():
            estimator.flow(frames[:-LAG], frames[LAG:])

    bare, whole, checked = interleaved(
        [
            alone,
            lambda: _estimate(settings.scratch_dir, check=False),
            lambda: _estimate(settings.scratch_dir, check=True),
        ],
        repeats=settings.repeats,
    )
    note = "reading, fixed-point numbers, checksums, fsync included"
    name = "estimate-flow, dis, 256 x 256, one process"
    yield Measurement(name, [num_pairs / each for each in whole], "pairs/s", note=note)
    yield Measurement(
        f"{name}, both ways", [num_pairs / each for each in checked], "pairs/s", note=note
    )
    yield Measurement("DIS alone over the stage, time", ratios(bare, whole), "x", at_least=0.5)


def _estimate(data_root: Path, *, check: bool) -> None:
    request = EstimateRequest(
        data_root=data_root,
        name="bench",
        lags=(LAG,),
        check=check,
        flow_name="checked" if check else "plain",
        workers_per_device=1,
        rebuild=True,
    )
    estimate_flow(request, Work())
