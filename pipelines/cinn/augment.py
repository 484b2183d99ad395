"""Training augmentation of whole clips, batched on the device: one draw per clip (spec: cinn, 5).

The colour jitter is the one the published models were trained with (kornia 0.5): brightness adds,
contrast multiplies without a mean, in an order of its own for every clip. The crop is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.cinn.config import AugmentConfig
from pipelines.clips.colour import NEUTRAL, colour_jitter
from pipelines.clips.frames import normalise, resize
from pipelines.nn.whole_batch import uniform_rows


@dataclass(frozen=True)
class AugmentDraws:
    """What is done to each of B clips."""

    flip: Tensor  # B, bool
    crop: Tensor  # B 2, row and column of the crop's corner after the flip
    factors: Tensor  # B 4: brightness, contrast, saturation (1: unchanged), hue in turns (0)
    order: Tensor  # B 4, which of the four comes first, second, ...


def draw_augmentation(
    config: AugmentConfig, num_clips: int, generator: torch.Generator
) -> AugmentDraws:
    """Draws for a batch, on the generator's device."""

    def uniform(rows: int, *rest: int) -> Tensor:
        return uniform_rows((rows, *rest), generator)

    flip = uniform(num_clips) < config.horizontal_flip
    margin = config.crop_margin_px
    crop = (uniform(num_clips, 2) * (margin + 1)).long().clamp_(max=margin)
    amounts = uniform(num_clips, 4) * 2 - 1
    ranges = (config.brightness, config.contrast, config.saturation, config.hue)
    factors = amounts.new_tensor(NEUTRAL) + amounts * amounts.new_tensor(ranges)
    return AugmentDraws(flip, crop, factors, uniform(num_clips, 4).argsort(dim=1))


def augment(clips: Tensor, size_px: int, config: AugmentConfig, draws: AugmentDraws) -> Tensor:
    """Resize, flip, crop, jitter, normalise.

    clips: B T 3 H W in [0, 1].  Returns B T 3 S S in [-1, 1].
    """
    margin = config.crop_margin_px
    clips = resize(clips, size_px + margin)
    clips = _flip_and_crop(clips, size_px, draws)
    if config.brightness or config.contrast or config.saturation or config.hue:
        clips = colour_jitter(clips, draws.factors, draws.order)
    return normalise(clips)


def prepare(clips: Tensor, size_px: int) -> Tensor:
    """The same without augmentation: resize, normalise. B T 3 H W in [0, 1] -> B T 3 S S."""
    return normalise(resize(clips, size_px))


def _flip_and_crop(clips: Tensor, size_px: int, draws: AugmentDraws) -> Tensor:
    flipped = clips.clone() if bool(draws.flip.any()) else clips
    for i, is_flipped in enumerate(draws.flip.tolist()):
        if is_flipped:
            flipped[i] = clips[i].flip(-1)
    if clips.shape[-1] == size_px:
        return flipped
    cropped = [
        clip[..., row : row + size_px, column : column + size_px]
        for clip, (row, column) in zip(flipped, draws.crop.tolist(), strict=True)
    ]
    return torch.stack(cropped)
