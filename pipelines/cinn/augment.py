"""Training augmentation of whole clips, batched on the device: one draw per clip (spec: cinn, 5).

The colour jitter is the one the published models were trained with (kornia 0.5): brightness adds,
contrast multiplies without a mean, in an order of its own for every clip. The crop is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.cinn.config import AugmentConfig

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
_EPS = 1e-6
_NEUTRAL = (1.0, 1.0, 1.0, 0.0)  # factors that change nothing


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

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=generator.device)

    flip = uniform(num_clips) < config.horizontal_flip
    margin = config.crop_margin_px
    crop = (uniform(num_clips, 2) * (margin + 1)).long().clamp_(max=margin)
    amounts = uniform(num_clips, 4) * 2 - 1
    ranges = (config.brightness, config.contrast, config.saturation, config.hue)
    factors = amounts.new_tensor(_NEUTRAL) + amounts * amounts.new_tensor(ranges)
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


def from_bytes(frames: Tensor) -> Tensor:
    """Stored frames as numbers. uint8 ... H W 3 -> float32 ... 3 H W in [0, 1]."""
    return frames.movedim(-1, -3).to(torch.float32).div_(255)


def normalise(frames: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1]."""
    return frames * 2 - 1


def resize(clips: Tensor, size_px: int) -> Tensor:
    """Bilinear, corners not aligned, no antialiasing: ... 3 H W -> ... 3 S S."""
    if clips.shape[-2:] == (size_px, size_px):
        return clips
    frames = clips.flatten(0, -4)
    frames = F.interpolate(frames, size=(size_px, size_px), mode="bilinear", align_corners=False)
    return frames.view(*clips.shape[:-2], size_px, size_px)


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


def colour_jitter(clips: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """The four operations on each clip in the clip's own order.

    clips: B T 3 H W in [0, 1].  factors, order: B 4.  Returns new clips in [0, 1].
    """
    clips = clips.clone()
    is_changed = factors != factors.new_tensor(_NEUTRAL)
    for turn in range(4):
        for kind, operation in enumerate(_OPERATIONS):
            # decided where the draws are, so that a GPU is not waited for
            chosen = torch.nonzero((order[:, turn] == kind) & is_changed[:, kind]).flatten()
            if len(chosen):
                factor = factors[chosen, kind].to(clips).view(-1, 1, 1, 1)
                chosen = chosen.to(clips.device)
                clips[chosen] = operation(clips[chosen], factor)
    return clips


def _brightness(clips: Tensor, factor: Tensor) -> Tensor:
    return (clips + (factor.unsqueeze(-1) - 1)).clamp_(0, 1)


def _contrast(clips: Tensor, factor: Tensor) -> Tensor:
    return (clips * factor.unsqueeze(-1)).clamp_(0, 1)


def _saturation(clips: Tensor, factor: Tensor) -> Tensor:
    """Multiply the HSV saturation, at most up to 1. factor: B 1 1 1.

    Hue and value stay, so every channel keeps its share of the way from value to minimum.
    """
    low, high = clips.aminmax(dim=2, keepdim=True)
    saturation = (high - low) / (high + _EPS)
    wanted = (saturation * factor.unsqueeze(-1)).clamp_(0, 1)
    share = (high - clips) / (high - low).clamp_min(torch.finfo(clips.dtype).tiny)
    return high * (1 - wanted * share)


def _hue(clips: Tensor, factor: Tensor) -> Tensor:
    """Turn the HSV hue. factor: B 1 1 1, in turns."""
    hue, saturation, value = _to_hsv(clips)
    hue = torch.remainder(hue + factor, 1.0) * 6
    # n-th channel: value - value * saturation * clamp(min(k, 4 - k), 0, 1), k = (n + hue) mod 6
    offsets = hue.new_tensor([5.0, 3.0, 1.0]).view(3, 1, 1)
    k = torch.remainder(offsets + hue.unsqueeze(2), 6.0)
    share = torch.minimum(k, 4 - k).clamp_(0, 1)
    return value.unsqueeze(2) * (1 - saturation.unsqueeze(2) * share)


def _to_hsv(clips: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """B T 3 H W in [0, 1] -> hue (in turns), saturation, value, B T H W each, in [0, 1]."""
    value, largest = clips.max(dim=2)
    spread = value - clips.amin(dim=2)
    red, green, blue = clips.unbind(dim=2)
    safe = torch.where(spread == 0, torch.ones_like(spread), spread)
    from_red, from_green = (green - blue) / safe, 2 + (blue - red) / safe
    from_blue = 4 + (red - green) / safe
    hue = torch.where(largest == 0, from_red, torch.where(largest == 1, from_green, from_blue))
    return torch.remainder(hue / 6, 1.0), spread / (value + _EPS), value


_OPERATIONS = (_brightness, _contrast, _saturation, _hue)
