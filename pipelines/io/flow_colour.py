"""Pictures of optical flow: direction as hue, length as saturation (the Middlebury colour wheel).

Still pixels are white, the longest ones have the wheel's full colour (spec: flow, 11).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

UNKNOWN_PX = 1e7
"""A component longer than this marks a pixel whose flow is not known."""

_WHITE = 255.0
_DIMMED = 0.75  # longer than what full colour stands for

# From each of these colours to the next in so many steps, the last one back to the first.
_CORNERS = (
    ((255, 0, 0), 15),  # red
    ((255, 255, 0), 6),  # yellow
    ((0, 255, 0), 4),  # green
    ((0, 255, 255), 11),  # cyan
    ((0, 0, 255), 13),  # blue
    ((255, 0, 255), 6),  # magenta
)


def colour_wheel() -> np.ndarray:
    """The 55 colours of the wheel, from red over yellow, green and blue: float64 [55, 3], 0..255.

    A channel that falls is 255 less the floor of a ramp, so that it differs from one that rises.
    """
    wheel = []
    for (start, num), (end, _) in pairwise((*_CORNERS, _CORNERS[0])):
        ramp = np.floor(255 * np.arange(num) / num)
        step = np.sign(np.subtract(end, start))
        wheel.append(np.asarray(start) + ramp[:, None] * step)
    return np.concatenate(wheel).astype(np.float64)


def flow_colours(flow: np.ndarray, *, max_flow: float | None = None) -> np.ndarray:
    """Flow as colours.

    flow: float [2, H, W] or [T, 2, H, W], x (right) then y (down), any unit. A pixel whose flow is
    not known (NaN, or a component longer than UNKNOWN_PX) becomes black.
    max_flow: length that gets full colour; longer flow is dimmed. Without it the longest flow of
    each map, so that maps do not compare with each other; a map without motion is white.
    Returns uint8 [H, W, 3] or [T, H, W, 3], RGB.
    """
    if flow.ndim == 4:
        maps = [flow_colours(each, max_flow=max_flow) for each in flow]
        return np.stack(maps) if maps else np.zeros((0, *flow.shape[2:], 3), np.uint8)
    # Float32 up to here and float64 after it, as published: whether rounding takes the longest
    # flow over the rim of the wheel, and so dims it, depends on that.
    x, y = flow.astype(np.float32)
    is_unknown = ~((np.abs(x) <= UNKNOWN_PX) & (np.abs(y) <= UNKNOWN_PX))
    x, y = np.where(is_unknown, 0, x), np.where(is_unknown, 0, y)
    longest = np.sqrt(x**2 + y**2).max(initial=0.0) if max_flow is None else max_flow
    full = np.float32(longest or 1.0)
    colours = _colours(x / full, y / full)
    colours[is_unknown] = 0
    return colours


def _colours(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Colours of flow in units of what gets full colour: H W each -> uint8 H W 3."""
    tiny = np.finfo(np.float64).eps  # of the published program: it decides the hue of still pixels
    x, y = x.astype(np.float64) + tiny, y.astype(np.float64) + tiny
    length = np.sqrt(x**2 + y**2)[..., None]
    wheel = colour_wheel() / _WHITE
    turn = (np.arctan2(-y, -x) / np.pi + 1) / 2 * (len(wheel) - 1)
    before = np.floor(turn).astype(np.int64)
    part = (turn - before)[..., None]
    colour = (1 - part) * wheel[before] + part * wheel[(before + 1) % len(wheel)]
    colour = np.where(length <= 1, 1 - length * (1 - colour), colour * _DIMMED)
    return np.floor(_WHITE * colour).astype(np.uint8)
