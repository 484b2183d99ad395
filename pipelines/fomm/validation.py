"""How well held-out clips are made again from their first frame and their own keypoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from pipelines.clips.rules import Clip
from pipelines.fomm.config import FamilyConfig
from pipelines.fomm.data import PairData
from pipelines.fomm.inference import as_frames, encode, find_keypoints, render
from pipelines.fomm.networks import Networks
from pipelines.nn import image_quality

_BATCH = 8
_CAP_DB = 100.0  # what a frame without any error counts in a mean


@dataclass(frozen=True)
class HeldOut:
    """Held-out clips as a model sees them."""

    data: PairData
    config: FamilyConfig
    device: torch.device

    def __iter__(self) -> Iterator[Tensor]:
        """The clips one by one: T C S S in [0, 1]."""
        for clip in self.data.validation:
            yield self.load(clip)

    def load(self, clip: Clip) -> Tensor:
        """One clip: T C S S in [0, 1]."""
        stored = torch.from_numpy(self.data.clips([clip])[0]).to(self.device)
        return as_frames(stored, self.config.model.num_channels)


@torch.no_grad()
def validate(networks: Networks, held_out: HeldOut) -> dict[str, float]:
    """Errors of the frames after the first, and those of a video that does not move."""
    found: dict[str, list[float]] = {}
    with evaluating(vars(networks)):
        for clip in held_out:
            real, fake = clip[1:], reconstruct(networks, clip)[1:]
            values = {
                "val_l1": (real - fake).abs().mean(),
                "val_psnr": frame_psnr(real, fake).mean(),
                "val_psnr_static": frame_psnr(real, clip[:1]).mean(),
                "val_ssim": image_quality.ssim(2 * real - 1, 2 * fake - 1),
            }
            for name, value in values.items():
                found.setdefault(name, []).append(float(value))
    return {name: fmean(each) for name, each in found.items()}


def reconstruct(networks: Networks, clip: Tensor) -> Tensor:
    """Every frame of a clip, T C S S in [0, 1], from its first one and the frame's keypoints."""
    keypoints = find_keypoints(networks.keypoint_detector, clip, batch_size=_BATCH)
    first = keypoints.map(lambda each: each[:1])
    source = encode(networks.generator, clip[:1], first)
    made = render(networks.generator, source, keypoints, batch_size=_BATCH)
    return torch.cat([each.frames for each in made])


def frame_psnr(real: Tensor, fake: Tensor) -> Tensor:
    """PSNR of each frame in dB, data range 1. real, fake: N C H W; returns N."""
    error = (real - fake).square().mean((1, 2, 3))
    return (10 * torch.log10(1 / error)).clamp_max(_CAP_DB)


@contextmanager
def evaluating(networks: Mapping[str, nn.Module]) -> Iterator[None]:
    """Eval mode within the block, the modes from before it afterwards."""
    modes = {name: network.training for name, network in networks.items()}
    for network in networks.values():
        network.eval()
    try:
        yield
    finally:
        for name, network in networks.items():
            network.train(modes[name])


def spread(clips: Sequence[Clip], count: int) -> list[Clip]:
    """At most `count` of them, from one end to the other."""
    step = max(1, len(clips) // count)
    return list(clips[::step][:count])
