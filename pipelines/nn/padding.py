"""Sizes that a network does not take: pad before it, crop after it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F


def pad_to_multiple(
    frames: Tensor, multiple: int, *, at_least: int = 1
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Frames with their borders repeated outwards, half on each side, and the way back.

    frames: B C H W.  at_least: smallest side of the result, itself a multiple.
    Returns B C H' W', and a function that crops any ... H' W' to ... H W.
    """
    height, width = frames.shape[-2:]
    top, bottom = _margins(height, multiple, at_least)
    left, right = _margins(width, multiple, at_least)
    if not any((top, bottom, left, right)):
        return frames, lambda maps: maps

    def crop(maps: Tensor) -> Tensor:
        return maps[..., top : top + height, left : left + width]

    return F.pad(frames, (left, right, top, bottom), mode="replicate"), crop


def _margins(side: int, multiple: int, at_least: int) -> tuple[int, int]:
    missing = max(at_least, -(-side // multiple) * multiple) - side
    return missing // 2, missing - missing // 2
