"""What a trained world does: what codes and endpoints are good for, where arms end, skies drift."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines.cinn.augment import prepare
from pipelines.cinn.endpoint import endpoints_of
from pipelines.cinn.inference import condition, sample_video, transfer_motion
from pipelines.cinn.losses import flow_loss
from pipelines.cinn.preview import to_bytes
from pipelines.cinn.sample import Sampler, load
from pipelines.clips.batches import load_clips
from pipelines.clips.frames import from_bytes
from pipelines.clips.rules import Clip
from pipelines.events import Work
from pipelines.io.packed import PackedVideos
from tests.learning.measures import arm_base, effector_place, horizontal_drift

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
    clips = _test_clips(videos, "arm/*", num_clips, starts=(0,))
    frames = load_clips(videos, clips, num_frames + 1)
    asked = endpoints_of(videos, clips, num_frames + 1, controlled.config.stage2)
    starts = _starts(controlled, frames[:, 0])
    places = asked[:, :2].numpy()
    base = base_of_arm(videos, clips[0].row)

    def distances(last_frames: np.ndarray) -> np.ndarray:
        found = np.stack([effector_place(frame, base) for frame in last_frames])
        return np.hypot(*(found - places).T)

    return ControlResult(
        controlled=distances(_sampled(controlled, starts, asked)[:, -1]),
        uncontrolled=distances(_sampled(free, starts, None)[:, -1]),
        real=distances(frames[:, -1]),
    )


def base_of_arm(videos: PackedVideos, row: int) -> np.ndarray:
    """Where the arm of a video is fixed, column and row as fractions of the frame."""
    place = videos.extra("endeffector_pos")(row, 0, 1)[0, :2]
    return arm_base(place, videos.extra("joint_angles")(row, 0, 1)[0])


def measure_reconstruction(videos: PackedVideos, run: Path, *, num_clips: int = 32) -> float:
    """Mean absolute error of a video that does not move, over that of unseen clips decoded again.

    run: a stage 2 on arms, whose stage 1 is measured.
    """
    sampler, frames = _unseen_arms(videos, run, num_clips)
    assert sampler.model.encoder is not None
    with torch.inference_mode():
        mean, _ = sampler.model.encoder(frames[:, 1:])
        decoded = sampler.model.decoder(frames[:, 0], mean)
    still = (frames[:, 1:] - frames[:, :1]).abs().mean()
    return float(still / (frames[:, 1:] - decoded).abs().mean())


def measure_use_of_endpoints(
    videos: PackedVideos, run: Path, *, num_clips: int = 32
) -> tuple[float, float]:
    """Losses of a controlled flow on unseen clips: told where they end, and where others end."""
    sampler, frames = _unseen_arms(videos, run, num_clips)
    clips = _test_clips(videos, "arm/*", num_clips, starts=(0,))
    ends = endpoints_of(videos, clips, frames.shape[1], sampler.config.stage2)
    assert sampler.model.encoder is not None
    found = []
    with torch.inference_mode():
        mean, _ = sampler.model.encoder(frames[:, 1:])
        for told in (ends, ends.roll(num_clips // 2, dims=0)):
            known = condition(sampler.model.embedder, frames[:, 0], told)
            found.append(float(flow_loss(*sampler.model.flow(mean, known))[0]))
    return found[0], found[1]


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


def _unseen_arms(videos: PackedVideos, run: Path, count: int) -> tuple[Sampler, Tensor]:
    """A model of arms, and clips that no stage has seen: B 1+T 3 S S in [-1, 1]."""
    sampler = load(run, CPU, warn=_fail)
    clips = _test_clips(videos, "arm/*", count, starts=(0,))
    frames = load_clips(videos, clips, sampler.config.stage1.num_frames + 1)
    return sampler, torch.stack([_starts(sampler, each) for each in frames])


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
