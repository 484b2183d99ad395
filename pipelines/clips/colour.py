"""Colour augmentation of whole clips, batched on the device: one draw for all frames of a clip.

Two sets of operations are in use. `ADDED`, that of kornia 0.5: brightness adds, contrast multiplies
without a mean, saturation and hue are those of HSV. `BLENDED`, that of torchvision: brightness
multiplies, contrast and saturation blend with the frame's mean grey and with its grey picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.nn.whole_batch import uniform_rows

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
NEUTRAL = (1.0, 1.0, 1.0, 0.0)
"""Factors that change nothing."""

_EPS = 1e-6
_GREY = (0.2989, 0.587, 0.114)

Operation = Callable[[Tensor, Tensor], Tensor]
"""(clips B T C H W in [0, 1], factor B 1 1 1) -> clips."""


@dataclass(frozen=True)
class ColourRanges:
    """From which range each factor is drawn; all four neutral with the chance 1 - `chance`.

    brightness, contrast, saturation: factors, 1 changes nothing.  hue: turns, 0 changes nothing.
    order: which operation comes first, second, ...; None: another order for every clip.
    """

    brightness: tuple[float, float] = (1.0, 1.0)
    contrast: tuple[float, float] = (1.0, 1.0)
    saturation: tuple[float, float] = (1.0, 1.0)
    hue: tuple[float, float] = (0.0, 0.0)
    chance: float = 1.0
    order: Sequence[int] | None = None


@dataclass(frozen=True)
class ColourDraws:
    """What is done to each of B clips.

    factors: B 4, of brightness, contrast, saturation, hue.  order: B 4, which of them comes first,
    second, ...
    """

    factors: Tensor
    order: Tensor


def draw_colour(ranges: ColourRanges, num_clips: int, generator: torch.Generator) -> ColourDraws:
    """Draws for a batch, on the generator's device."""
    device = generator.device
    drawn = uniform_rows((num_clips, 9), generator)
    limits = (ranges.brightness, ranges.contrast, ranges.saturation, ranges.hue)
    low, high = drawn.new_tensor(limits).unbind(dim=1)
    is_changed = drawn[:, 8:] < ranges.chance
    factors = torch.where(is_changed, low + drawn[:, :4] * (high - low), drawn.new_tensor(NEUTRAL))
    if ranges.order is None:
        return ColourDraws(factors, drawn[:, 4:8].argsort(dim=1))
    return ColourDraws(factors, torch.tensor(ranges.order, device=device).expand(num_clips, 4))


def colour_jitter(
    clips: Tensor, factors: Tensor, order: Tensor, operations: Sequence[Operation] | None = None
) -> Tensor:
    """The four operations on each clip in the clip's own order.

    clips: B T 3 H W in [0, 1]; of B T 1 H W, which has no colour, brightness and contrast change.
    factors, order: B 4.  operations: ADDED (also if None) or BLENDED.  Returns new clips in [0, 1].
    """
    clips = clips.clone()
    is_changed = factors != factors.new_tensor(NEUTRAL)
    if clips.shape[2] == 1:
        is_changed[:, SATURATION:] = False
    for turn in range(4):
        for kind, operation in enumerate(operations or ADDED):
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
    high, low = (each.unsqueeze(2) for each in _extremes(clips))
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
    red, green, blue = clips.unbind(dim=2)
    value, lowest = _extremes(clips)
    spread = value - lowest
    safe = torch.where(spread == 0, torch.ones_like(spread), spread)
    from_red, from_green = (green - blue) / safe, 2 + (blue - red) / safe
    from_blue = 4 + (red - green) / safe
    hue = torch.where(red == value, from_red, torch.where(green == value, from_green, from_blue))
    return torch.remainder(hue / 6, 1.0), spread / (value + _EPS), value


def _extremes(clips: Tensor) -> tuple[Tensor, Tensor]:
    """The largest and the smallest channel of each pixel: B T H W each.

    Pairwise, because reductions over so short a dimension take ten times as long.
    """
    red, green, blue = clips.unbind(dim=2)
    highest = torch.maximum(torch.maximum(red, green), blue)
    return highest, torch.minimum(torch.minimum(red, green), blue)


def _multiplied_brightness(clips: Tensor, factor: Tensor) -> Tensor:
    return (clips * factor.unsqueeze(-1)).clamp_(0, 1)


def _blended_contrast(clips: Tensor, factor: Tensor) -> Tensor:
    """Towards the mean grey of each frame, or away from it."""
    return _blended(clips, _grey(clips).mean(dim=(-1, -2), keepdim=True), factor)


def _blended_saturation(clips: Tensor, factor: Tensor) -> Tensor:
    return _blended(clips, _grey(clips), factor)


def _blended(clips: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(other.expand_as(clips), clips, factor.unsqueeze(-1)).clamp_(0, 1)


def _grey(clips: Tensor) -> Tensor:
    """B T C H W -> B T 1 H W."""
    if clips.shape[2] == 1:
        return clips
    weights = clips.new_tensor(_GREY).view(3, 1, 1)
    return (clips * weights).sum(dim=2, keepdim=True)


ADDED: tuple[Operation, ...] = (_brightness, _contrast, _saturation, _hue)
BLENDED: tuple[Operation, ...] = (
    _multiplied_brightness,
    _blended_contrast,
    _blended_saturation,
    _hue,
)
