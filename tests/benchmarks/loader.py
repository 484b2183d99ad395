"""Clips per second from packed frames, by one process, by each rule that clips are drawn by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.clips.batches import Reading, clip_batches, load_batch, training_batches
from pipelines.clips.colour import BLENDED, ColourRanges, colour_jitter, draw_colour
from pipelines.clips.frames import from_bytes
from pipelines.clips.geometry import GeometryRanges, draw_geometry, move_flow, move_frames
from pipelines.clips.rules import ClipRule, FrameClips, FramePairs, PoseClips, VideoClips
from pipelines.clips.sampler import ClipSampler
from pipelines.io.packed import PackedVideos
from pipelines.io.packing import PackWriter, encode_flow
from tests.benchmarks.rows import Measurement, Settings, cpu_clock, interleaved, seconds

NUM_VIDEOS, VIDEO_FRAMES, LAG = 200, 80, 10
SIZE_PX, NUM_FRAMES, BATCH = 64, 16, 10
ENOUGH_CLIPS = 1000

RULES: dict[str, tuple[ClipRule, Reading]] = {
    "anywhere": (VideoClips(NUM_FRAMES), Reading()),
    "from every frame, step 2": (FrameClips(NUM_FRAMES, 2), Reading()),
    "from every frame, with flow": (FrameClips(NUM_FRAMES), Reading(flows={LAG: 1})),
    "poses of 51 frames": (PoseClips(51, 1), Reading(has_frames=False, extras=["joints"])),
    "pairs of frames": (FramePairs(), Reading()),
}


def measure(settings: Settings) -> Iterator[Measurement]:
    """Reading by each rule, reading in the background of other work, augmentation."""
    torch.set_num_threads(1)
    videos = _prepare(settings.scratch_dir / "64px")
    num_batches = 5 if settings.quick else 100
    for name, (rule, reading) in RULES.items():
        read = partial(_read, videos, _sampler(videos, rule), reading, num_batches)
        taken = interleaved([read], repeats=settings.repeats, clock=cpu_clock)[0]
        rates = [num_batches * BATCH / each for each in taken]
        note = "per core, by the time spent"
        yield Measurement(f"read clips {name}", rates, "clips/s", at_least=ENOUGH_CLIPS, note=note)
    yield from _in_background(settings, videos)
    yield from _augmentation(settings, videos)


def _in_background(settings: Settings, videos: PackedVideos) -> Iterator[Measurement]:
    """How long a training step of some 50 ms waits for its batch."""
    sampler = _sampler(videos, VideoClips(NUM_FRAMES))
    weights = torch.rand(512, 512)
    waits = []
    batches = training_batches(videos, sampler, batch_size=BATCH, first_batch=0)
    with closing(batches):
        next(batches)
        for _ in range(settings.repeats * 4):
            for _ in range(10):
                torch.linalg.multi_dot([weights] * 3)
            waits += seconds(lambda: next(batches), repeats=1, warmups=0)
    waits = [1000 * each for each in waits]
    note = f"batches of {BATCH}, read while the step before runs"
    yield Measurement("a step waits for its batch", waits, "ms", note=note)


def _augmentation(settings: Settings, videos: PackedVideos) -> Iterator[Measurement]:
    """Colours and geometry of a batch with its flow, by one thread."""
    plan = _sampler(videos, FrameClips(11)).plan(0, BATCH)
    batch = load_batch(videos, plan, reading=Reading(flows={LAG: 1}))
    assert batch.frames is not None
    frames, flow = torch.from_numpy(batch.frames), torch.from_numpy(batch.flows[LAG])
    generator = torch.Generator().manual_seed(0)
    colours = ColourRanges((0.6, 1.4), (0.5, 1.5), (0.6, 1.4), (-0.15, 0.3), chance=0.8)
    moves = GeometryRanges(chance=0.8, turn_deg=(-15, 15), shift=(0.05, 0.05))

    def colour() -> None:
        draws = draw_colour(colours, BATCH, generator)
        colour_jitter(from_bytes(frames), draws.factors, draws.order, BLENDED)

    def geometry() -> None:
        draws = draw_geometry(moves, BATCH, size_px=SIZE_PX, generator=generator)
        move_frames(from_bytes(frames), draws, interpolation="nearest")
        move_flow(flow, draws)

    works = (lambda: from_bytes(frames), colour, geometry)
    repeats = settings.repeats * 3
    for name, taken in zip(
        ("bytes to numbers", "colours", "geometry, frames and flow"),
        interleaved(works, repeats=repeats, clock=cpu_clock),
        strict=True,
    ):
        note = "clips of 11 frames, one thread"
        yield Measurement(name, [BATCH / each for each in taken], "clips/s", note=note)


def _prepare(folder: Path) -> PackedVideos:
    random = np.random.default_rng(0)
    shape = (VIDEO_FRAMES, SIZE_PX, SIZE_PX, 3)
    frames = random.integers(0, 256, shape, np.uint8)
    motion = random.normal(size=(VIDEO_FRAMES - LAG, 2, SIZE_PX, SIZE_PX)).astype(np.float32)
    flow, joints = {LAG: encode_flow(motion)}, {"joints": np.zeros((VIDEO_FRAMES, 51), np.float32)}
    with PackWriter(folder, size_px=SIZE_PX, channels=3) as writer:
        for number in range(NUM_VIDEOS):
            row = writer.add(_row(number), np.roll(frames, number, 0), flow=flow, extra=joints)
            writer.commit({"rows": [row]})
        rows = [row for entry in writer.entries for row in entry["rows"]]
        writer.finish(rows, {"dataset": "many", "variant": folder.name})
    return PackedVideos(folder)


def _row(number: int) -> dict[str, Any]:
    name = f"video/{number:04d}"
    facts = {"id": name, "source": name, "group": name, "split": "train", "labels": {}}
    return facts | {"fps": 25.0, "original_size": [SIZE_PX, SIZE_PX]}


def _sampler(videos: PackedVideos, rule: ClipRule) -> ClipSampler:
    rows = videos.select("train")
    return ClipSampler(rows, videos.num_frames[rows] - LAG, rule, seed=0)


def _read(videos: PackedVideos, sampler: ClipSampler, reading: Reading, count: int) -> None:
    batches = clip_batches(videos, sampler, batch_size=BATCH, first_batch=0, reading=reading)
    with closing(batches):
        for _ in islice(batches, count):
            pass
