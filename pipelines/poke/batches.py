"""From stored clips and their flow to what a training step sees: augmented frames and a poke."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pipelines.clips.colour import (
    BLENDED,
    BRIGHTNESS,
    CONTRAST,
    HUE,
    SATURATION,
    ColourRanges,
    colour_jitter,
    draw_colour,
)
from pipelines.clips.frames import from_bytes, normalise
from pipelines.clips.geometry import GeometryRanges, draw_geometry, move_flow, move_frames
from pipelines.nn.whole_batch import uniform_rows
from pipelines.poke import pokes
from pipelines.poke.config import AugmentConfig, FamilyConfig, PokeConfig
from pipelines.poke.steps import Batch


def training_batch(
    arrays: Mapping[str, Tensor],
    config: FamilyConfig,
    *,
    augmentation: torch.Generator | None,
    drawing: torch.Generator,
) -> Batch:
    """arrays: see data.Arrays, on the device.  augmentation: None for clips as they are.

    drawing: decides the pokes; on the CPU, so that they are the same on every device.
    """
    frames = as_clips(arrays["frames"])
    flow, foreground = arrays["flow"], arrays.get("foreground")
    if augmentation is not None:
        frames, flow, foreground = _augmented(
            frames, flow, foreground, config.augment, augmentation
        )
    flow = flow.nan_to_num(0.0)
    settings = config.poke
    ground = _poke_ground(flow, foreground, settings, arrays.get("reach"))
    uniform = uniform_rows((len(frames), settings.max_pokes + 3), drawing)
    poke = draw_pokes(flow, settings, uniform, foreground=ground)
    is_still = arrays["is_still"]
    if bool(is_still.any()):
        of_background = _background_pokes(flow, ground, settings, uniform)
        poke = torch.where(is_still.view(-1, 1, 1, 1), of_background, poke)
    weights = _weights(flow, foreground) if settings.crops_to_foreground else None
    return Batch(normalise(frames), poke, weights)


def draw_pokes(
    flow: Tensor, settings: PokeConfig, uniform: Tensor, *, foreground: Tensor | None = None
) -> Tensor:
    """Poke maps, B 2 S S, from flow B 2 S S in pixels.

    uniform: B N+1 or more in [0, 1): one for each of at most N pokes, then one for how many.
    foreground: bool B S S, where they may sit.  A clip in which everything moves alike gets none.
    """
    size_px, most = flow.shape[-1], settings.max_pokes
    places = pokes.candidates(flow, margin_px=_margin(settings, size_px), foreground=foreground)
    picked = pokes.pick(places, uniform[:, :most].contiguous())
    count = 1 + (uniform[:, most] * most).long().to(flow.device)
    is_left_out = torch.arange(most, device=flow.device) >= count.unsqueeze(1)
    picked = torch.where(is_left_out.unsqueeze(2), -1, picked)
    return pokes.poke_map(
        picked,
        pokes.values_at(flow, picked),
        size_px=size_px,
        patch_px=settings.patch_px,
        flow=flow if settings.keeps_flow_patch else None,
    )


def as_clips(frames: Tensor) -> Tensor:
    """Stored frames, uint8 ... H W C with C 1 or 3, as ... 3 H W in [0, 1]."""
    return from_bytes(frames.expand(*frames.shape[:-1], 3))


def _augmented(
    frames: Tensor,
    flow: Tensor,
    foreground: Tensor | None,
    config: AugmentConfig,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Colour and place, one draw for all that belongs to a clip (section 7.3).

    Two faults of the published augmentation are mended: vectors turn with the picture, and the hue
    changes as much one way as the other.
    """
    size_px, num_clips = frames.shape[-1], len(frames)
    colour = draw_colour(_colours(config), num_clips, generator)
    frames = colour_jitter(frames, colour.factors, colour.order, BLENDED)
    drawn = draw_geometry(_places(config), num_clips, size_px=size_px, generator=generator)
    frames = move_frames(frames, drawn, interpolation="nearest")
    flow = move_flow(flow.unsqueeze(1), drawn)[:, 0]
    if foreground is not None:
        masks = foreground.unsqueeze(2).float()
        foreground = move_frames(masks, drawn, interpolation="nearest")[:, :, 0] > 0.5
    return frames, flow, foreground


def _colours(config: AugmentConfig) -> ColourRanges:
    return ColourRanges(
        brightness=_around_one(config.brightness),
        contrast=_around_one(config.contrast),
        saturation=_around_one(config.saturation),
        hue=(-config.hue, config.hue),
        chance=config.colour,
        order=(BRIGHTNESS, CONTRAST, HUE, SATURATION),
    )


def _places(config: AugmentConfig) -> GeometryRanges:
    return GeometryRanges(
        horizontal_flip=config.horizontal_flip,
        chance=config.geometry,
        turn_deg=(-config.rotation_deg, config.rotation_deg),
        shift=(config.translation / 2, config.translation / 2),
    )


def _around_one(reach: float) -> tuple[float, float]:
    return 1 - reach, 1 + reach


def _background_pokes(
    flow: Tensor, ground: Tensor | None, settings: PokeConfig, uniform: Tensor
) -> Tensor:
    """Pokes of what does not move, as long as a poke of what does."""
    size_px = flow.shape[-1]
    margin_px = _margin(settings, size_px)
    where = pokes.background_places(flow, margin_px=margin_px, foreground=ground)
    source = pokes.strong_places(flow, margin_px=margin_px)
    places = pokes.pick(where, uniform[:, :1].contiguous())
    values = pokes.values_at(flow, pokes.pick(source, uniform[:, -2:-1].contiguous()))
    return pokes.poke_map(places, values, size_px=size_px, patch_px=settings.patch_px)


def _poke_ground(
    flow: Tensor, foreground: Tensor | None, settings: PokeConfig, reach: Tensor | None
) -> Tensor | None:
    """Where pokes sit, B S S: on the first frame's mask, or on what moves, or anywhere.

    reach: 2, pixels; a poke's length lies between them.
    """
    ground = None
    if settings.foreground != "none":
        ground = foreground[:, 0] if foreground is not None else pokes.moving_foreground(flow)
    if reach is None:
        return ground
    length = torch.linalg.vector_norm(flow, dim=1)
    fits = (length > reach[0]) & (length < reach[1])
    return fits if ground is None else fits & ground


def _weights(flow: Tensor, foreground: Tensor | None) -> Tensor:
    """Weights of pixels, B S S, from the masks of three frames, or else from the flow."""
    masks = pokes.moving_foreground(flow).unsqueeze(1) if foreground is None else foreground
    return torch.stack([pokes.box_weights(each) for each in masks])


def _margin(settings: PokeConfig, size_px: int) -> int:
    """Pixels along the border that are never poked, as published: the patch's size."""
    return min(settings.patch_px, size_px // 4)
