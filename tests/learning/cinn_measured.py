"""What a trained world does: where controlled arms end, and which way skies drift."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines.cinn.augment import prepare
from pipelines.cinn.endpoint import endpoints_of
from pipelines.cinn.inference import sample_video, transfer_motion
from pipelines.cinn.preview import to_bytes
from pipelines.cinn.sample import Sampler, load
from pipelines.clips.batches import load_clips
from pipelines.clips.frames import from_bytes
from pipelines.clips.rules import Clip
from pipelines.events import Work
from pipelines.io.packed import PackedVideos
from tests.learning.measures import effector_place, horizontal_drift

CPU = torch.device("cpu")
_BATCH = 16


@dataclass(frozen=True)
class ControlResult:
    """Distances, as fractions of the frame, of effectors in last frames to the asked endpoints."""

    controlled: np.ndarray
    uncontrolled: np.ndarray
    real: np.ndarray  # of the real clips whose endpoints were asked for: how well they are found

    @property
    def factor(self) -> float:
        """How many times nearer control brings the arm, on average."""
        return float(self.uncontrolled.mean() / self.controlled.mean())


def measure_control(
    videos: PackedVideos, *, controlled_run: Path, free_run: Path, num_clips: int = 32
) -> ControlResult:
    """Animate start frames of clips that no stage has seen towards where those clips really end."""
    controlled, free = (load(run, CPU, warn=_fail) for run in (controlled_run, free_run))
    num_frames = controlled.config.stage1.num_frames
    clips = _test_clips(videos, "arm/*", num_clips, starts=(0, 4, 8))
    frames = load_clips(videos, clips, num_frames + 1)
    asked = endpoints_of(videos, clips, num_frames + 1, controlled.config.stage2)
    starts = _starts(controlled, frames[:, 0])
    places = asked[:, :2].numpy()

    def distances(last_frames: np.ndarray) -> np.ndarray:
        found = np.stack([effector_place(frame) for frame in last_frames])
        return np.hypot(*(found - places).T)

    return ControlResult(
        controlled=distances(_sampled(controlled, starts, asked)[:, -1]),
        uncontrolled=distances(_sampled(free, starts, None)[:, -1]),
        real=distances(frames[:, -1]),
    )


def measure_drift_of_samples(
    videos: PackedVideos, run: Path, *, num_samples: int = 64
) -> np.ndarray:
    """Drifts, in frame widths per frame, of many samples of one unseen clip's start frame."""
    sampler = load(run, CPU, warn=_fail)
    (clip,) = _test_clips(videos, "clouds/*", 1, starts=(0,))
    start = _starts(sampler, load_clips(videos, [clip], 1)[:, 0])
    made = _sampled(sampler, start.expand(num_samples, -1, -1, -1), None)
    return np.array([_drift(to_bytes(start[0]), video) for video in made])


def measure_transfer(
    videos: PackedVideos, run: Path, *, num_pairs: int = 32
) -> tuple[np.ndarray, np.ndarray]:
    """Drifts of unseen source clips, and of their motion on start frames of other clips."""
    sampler = load(run, CPU, warn=_fail)
    length = sampler.config.stage1.num_frames
    sources = _test_clips(videos, "clouds/*", num_pairs, starts=(0,))
    targets = [*sources[1:], sources[0]]  # the next video's scene is another one
    source_frames = load_clips(videos, sources, length + 1)
    target_frames = load_clips(videos, targets, 1)[:, 0]
    theirs, ours = [], []
    for source, target in zip(source_frames, target_frames, strict=True):
        start = _starts(sampler, target[None])
        query = _starts(sampler, source)[None]
        video = to_bytes(transfer_motion(sampler.model, query, start, length)[0])
        theirs.append(horizontal_drift(source))
        ours.append(_drift(target, video))
    return np.array(theirs), np.array(ours)


def _sampled(sampler: Sampler, starts: Tensor, endpoint: Tensor | None) -> np.ndarray:
    """One sample for each start frame: uint8 B T S S 3."""
    length = sampler.config.stage1.num_frames
    residual = torch.cat([sampler.residual(0, number, 0) for number in range(len(starts))])
    made = []
    for first in range(0, len(starts), _BATCH):
        part = slice(first, first + _BATCH)
        asked = None if endpoint is None else endpoint[part]
        video = sample_video(sampler.model, starts[part], residual[part], length, endpoint=asked)
        made.append(to_bytes(video))
    return np.concatenate(made)


def _test_clips(
    videos: PackedVideos, include: str, count: int, *, starts: tuple[int, ...]
) -> list[Clip]:
    rows = videos.select("test", [include])
    return [Clip(rows[n % len(rows)], starts[n % len(starts)]) for n in range(count)]


def _starts(sampler: Sampler, frames: np.ndarray) -> Tensor:
    """Stored frames, uint8 B H W 3, as start frames B 3 S S."""
    return prepare(from_bytes(torch.from_numpy(frames))[None], sampler.size_px)[0]


def _drift(start: np.ndarray, video: np.ndarray) -> float:
    return horizontal_drift(np.concatenate([start[None], video]))


def _fail(message: str) -> None:
    raise AssertionError(message)


class Quiet(Work):
    """A job that nobody listens to."""

    def _emit(self, event: str, keep: bool = True, **fields: object) -> None:
        pass
