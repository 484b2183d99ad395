"""What a trained world does: how well videos are made again, and what its keypoints follow."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipelines.datasets.generate.arm import LINK_LENGTHS
from pipelines.events import Work
from pipelines.fomm.sample import Animator, load
from pipelines.io.packed import PackedVideos

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Reconstruction:
    """Means over unseen videos: PSNR in dB of what is made of the first frame, and of it alone."""

    made: float
    static: float

    @property
    def gain(self) -> float:
        """How much better than a picture that stands still."""
        return self.made - self.static


def measure_reconstruction(videos: PackedVideos, run: Path, kind: str) -> Reconstruction:
    """Make unseen videos again from their first frames and each frame's own keypoints."""
    animator = load(run, CPU, warn=_fail)
    made, static = [], []
    for frames in _unseen(videos, kind):
        made.append(_psnr(frames[1:], animator.reconstruct(frames)))
        static.append(_psnr(frames[1:], np.broadcast_to(frames[:1], frames[1:].shape)))
    return Reconstruction(float(np.mean(made)), float(np.mean(static)))


def measure_following(videos: PackedVideos, run: Path, kind: str) -> dict[str, float]:
    """For each moving part its correlation with the keypoint that follows it, each another one.

    Positions in unseen videos, each video's mean taken off, x and y together: 1 says that keypoint
    and part move alike everywhere. Which keypoint follows which part is chosen once for all videos
    of arms; digits change from video to video, so there it is chosen for each video.
    """
    animator = load(run, CPU, warn=_fail)
    rows = videos.select("test", [f"{kind}/*"])
    tracks = [_keypoints(animator, videos, row) for row in rows]
    return _following(tracks, [_parts(videos, row, kind) for row in rows], kind)


def measure_blind_following(videos: PackedVideos, kind: str) -> dict[str, float]:
    """The same of nine points that know exactly where both parts are, but not which is which.

    They are the middle, the corners of the box around both, and whichever part is the leftmost,
    uppermost, rightmost and lowest: what follows better tells the parts apart.
    """
    parts = [_parts(videos, row, kind) for row in videos.select("test", [f"{kind}/*"])]
    return _following([_blind(each) for each in parts], parts, kind)


def _following(
    tracks: Sequence[np.ndarray], parts: Sequence[np.ndarray], kind: str
) -> dict[str, float]:
    """By part's name; tracks: of each video T K 2.  parts: of each video T P 2."""
    tracks, parts = [_centred(each) for each in tracks], [_centred(each) for each in parts]
    names = ("elbow", "effector") if kind == "arm" else ("first digit", "second digit")
    if kind == "arm":
        found = _best(np.concatenate(tracks), np.concatenate(parts))
    else:
        each = [_best(track, part) for track, part in zip(tracks, parts, strict=True)]
        found = np.mean(each, axis=0)
    return dict(zip(names, found.tolist(), strict=True))


def _blind(parts: np.ndarray) -> np.ndarray:
    """Nine points, T 9 2, that do not change when the two parts, T 2 2, change places."""
    low, high = parts.min(axis=1), parts.max(axis=1)
    corners = [np.stack([x[:, 0], y[:, 1]], axis=1) for x in (low, high) for y in (low, high)]
    order = np.argsort(parts, axis=1)
    outermost = [
        parts[np.arange(len(parts)), order[:, end, axis]] for end in (0, 1) for axis in (0, 1)
    ]
    return np.stack([parts.mean(axis=1), *corners, *outermost], axis=1)


def _best(track: np.ndarray, part: np.ndarray) -> np.ndarray:
    """The highest correlations, P, with one keypoint for each part. track: T K 2.  part: T P 2."""
    product = np.einsum("tkc,tpc->pk", track, part)
    scale = np.sqrt(np.square(part).sum((0, 2)))[:, None] * np.sqrt(np.square(track).sum((0, 2)))
    correlation = product / np.maximum(scale, 1e-9)
    choices = itertools.permutations(range(correlation.shape[1]), len(correlation))
    chosen = max(choices, key=lambda each: correlation[range(len(each)), each].min())
    return correlation[range(len(chosen)), chosen]


def _keypoints(animator: Animator, videos: PackedVideos, row: int) -> np.ndarray:
    frames = videos.frames(row, 0, int(videos.num_frames[row]))
    return animator.find(animator.frames(frames)).value.numpy()


def _parts(videos: PackedVideos, row: int, kind: str) -> np.ndarray:
    """Where the parts are, T P 2, fractions of the frame."""
    count = int(videos.num_frames[row])
    if kind != "arm":
        return videos.extra("centres")(row, 0, count)
    effector = videos.extra("endeffector_pos")(row, 0, count)[:, :2]
    angle = videos.extra("joint_angles")(row, 0, count)[:, 1:]
    forearm = LINK_LENGTHS[1] * np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    return np.stack([effector - forearm, effector], axis=1)


def _centred(track: np.ndarray) -> np.ndarray:
    return track - track.mean(axis=0)


def _unseen(videos: PackedVideos, kind: str) -> list[np.ndarray]:
    rows = videos.select("test", [f"{kind}/*"])
    return [videos.frames(row, 0, int(videos.num_frames[row])) for row in rows]


def _psnr(real: np.ndarray, made: np.ndarray) -> float:
    """Mean over frames, dB."""
    error = np.square(real.astype(np.float32) - made).mean(axis=(1, 2, 3))
    return float((10 * np.log10(255**2 / np.maximum(error, 1e-4))).mean())


def _fail(message: str) -> None:
    raise AssertionError(message)


class Quiet(Work):
    """A job that nobody listens to."""

    def _emit(self, event: str, keep: bool = True, **fields: object) -> None:
        pass
