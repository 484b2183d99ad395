"""What happens to both frames of a pair alike: flip, turn, size, colour (spec: completion, E).

All draws are batched; colours are not rounded to bytes in between, as the published code does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipelines.clips.colour import BLENDED, ColourDraws, ColourRanges, colour_jitter, draw_colour
from pipelines.clips.geometry import Geometry, GeometryRanges, draw_geometry, move_frames
from pipelines.fomm.config import AugmentConfig
from pipelines.nn.whole_batch import uniform_rows


@dataclass(frozen=True)
class Augmentation:
    """What is done to each pair of a batch."""

    geometry: Geometry
    colour: ColourDraws


def draw_augmentation(
    config: AugmentConfig, num_pairs: int, *, size_px: int, generator: torch.Generator
) -> Augmentation:
    """Draws for a batch."""
    ranges = GeometryRanges(
        horizontal_flip=config.horizontal_flip,
        time_flip=config.time_flip,
        turn_deg=(-config.rotation_deg, config.rotation_deg),
        scale=config.resize,
    )
    geometry = draw_geometry(ranges, num_pairs, size_px=size_px, generator=generator)
    colour = draw_colour(_colour_ranges(config), num_pairs, generator)
    return Augmentation(_cropped(geometry, generator), colour)


def augment(pairs: Tensor, draws: Augmentation) -> Tensor:
    """pairs: B 2 C S S in [0, 1]; the same comes out, changed."""
    moved = move_frames(pairs, draws.geometry, padding="edge", interpolation="nearest")
    factors = draws.colour.factors.to(pairs.device)
    return colour_jitter(moved, factors, draws.colour.order, BLENDED)


def _cropped(geometry: Geometry, generator: torch.Generator) -> Geometry:
    """A frame that got larger is cropped anywhere; one that got smaller stays in the middle."""
    drawn = uniform_rows((len(geometry.shift), 2), generator)
    scale = torch.linalg.det(geometry.matrix).abs().sqrt().unsqueeze(1)
    reach = ((scale - 1) * geometry.size_px / 2).clamp_min(0).floor()
    return replace(geometry, shift=((drawn * 2 - 1) * reach).round())


def _colour_ranges(config: AugmentConfig) -> ColourRanges:
    def around_one(width: float) -> tuple[float, float]:
        return max(0.0, 1 - width), 1 + width

    return ColourRanges(
        brightness=around_one(config.brightness),
        contrast=around_one(config.contrast),
        saturation=around_one(config.saturation),
        hue=(-config.hue, config.hue),
    )
