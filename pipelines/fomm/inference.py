"""From an image and keypoints to frames: the arithmetic (spec: completion, D)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipelines.clips.frames import from_bytes
from pipelines.fomm.generator import Generated, OcclusionAwareGenerator
from pipelines.fomm.keypoints import KeypointDetector, Keypoints

_GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Source:
    """Images to move, with all that is the same for every frame made from them.

    image: B C S S in [0, 1].  features: B F s s, of the generator's encoder.  keypoints: of B.
    """

    image: Tensor
    features: Tensor
    keypoints: Keypoints

    def of(self, count: int) -> Source:
        """A single image as a batch of `count`; a batch of that size as it is."""
        if len(self.image) == count:
            return self
        return Source(
            self.image.expand(count, -1, -1, -1),
            self.features.expand(count, -1, -1, -1),
            self.keypoints.map(lambda each: each.expand(count, *each.shape[1:])),
        )


def as_frames(pictures: Tensor, num_channels: int) -> Tensor:
    """Stored frames, uint8 ... H W C, as ... num_channels H W in [0, 1].

    Colour becomes grey by its luma, grey becomes colour by repetition.
    """
    frames = from_bytes(pictures)
    channels = frames.shape[-3]
    if channels == num_channels:
        return frames
    if num_channels == 1:
        weights = frames.new_tensor(_GREY).view(3, 1, 1)
        return (frames * weights).sum(-3, keepdim=True)
    return frames.expand(*frames.shape[:-3], num_channels, *frames.shape[-2:])


def to_bytes(frames: Tensor) -> np.ndarray:
    """Frames as they are stored: ... C H W in [0, 1] -> uint8 ... H W 3, grey in all channels."""
    levels = (frames.detach().float() * 255).round().clamp(0, 255).to(torch.uint8)
    if levels.shape[-3] == 1:
        levels = levels.expand(*levels.shape[:-3], 3, *levels.shape[-2:])
    return levels.movedim(-3, -1).contiguous().cpu().numpy()


@torch.inference_mode()
def find_keypoints(detector: KeypointDetector, frames: Tensor, *, batch_size: int) -> Keypoints:
    """Keypoints of any number of frames, N C S S in [0, 1]; so many frames at a time."""
    found = [detector(part) for part in frames.split(batch_size)]
    return joined(found)


@torch.inference_mode()
def encode(generator: OcclusionAwareGenerator, image: Tensor, keypoints: Keypoints) -> Source:
    """Images, B C S S in [0, 1], and their keypoints, ready to be rendered from."""
    return Source(image, generator.encode(image), keypoints)


@torch.inference_mode()
def render(
    generator: OcclusionAwareGenerator, source: Source, driving: Keypoints, *, batch_size: int
) -> Iterator[Generated]:
    """Frames in which the source's keypoints have gone to the driving ones, batch after batch.

    source: of one image, or of one for each of the N driving keypoints.
    """
    for first in range(0, len(driving.value), batch_size):
        part = slice(first, first + batch_size)
        targets = taken(driving, part)
        count = len(targets.value)
        whole = len(source.image) > 1
        base = taken_source(source, part) if whole else source.of(count)
        motion = generator.dense_motion(base.image, base.keypoints, targets)
        yield generator.render(base.image, base.features, motion)


def taken(keypoints: Keypoints, part: slice) -> Keypoints:
    """Those of some frames."""
    return keypoints.map(lambda each: each[part])


def taken_source(source: Source, part: slice) -> Source:
    """Some of several images."""
    return Source(source.image[part], source.features[part], taken(source.keypoints, part))


def joined(parts: list[Keypoints]) -> Keypoints:
    """Keypoints of several batches as one."""
    value = torch.cat([each.value for each in parts])
    jacobians = [each.jacobian for each in parts if each.jacobian is not None]
    return Keypoints(value, torch.cat(jacobians) if jacobians else None)
