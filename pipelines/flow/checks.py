"""How far flow can be trusted: forward against backward motion, and against the true motion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

MOVING_PX = 0.5
"""A pixel whose true motion is longer moves."""


def agreement(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Where going forward and back again returns to the start: bool [N H W].

    forward, backward: float32 [N 2 H W] pixels. With b the backward flow where the forward flow f
    leads, |f + b|^2 < 0.01 (|f|^2 + |b|^2) + 0.5. A pixel that leaves the picture does not agree.
    """
    height, width = forward.shape[2:]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    agrees = np.empty((len(forward), height, width), bool)
    for number, (ahead, back) in enumerate(zip(forward, backward, strict=True)):
        to_x, to_y = x + ahead[0], y + ahead[1]
        planes = np.ascontiguousarray(back.transpose(1, 2, 0))
        there = cv2.remap(planes, to_x, to_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        there = there.transpose(2, 0, 1)
        gap = np.square(ahead + there).sum(axis=0)
        lengths = np.square(ahead).sum(axis=0) + np.square(there).sum(axis=0)
        is_inside = (to_x >= 0) & (to_x <= width - 1) & (to_y >= 0) & (to_y <= height - 1)
        agrees[number] = (gap < 0.01 * lengths + 0.5) & is_inside
    return agrees


@dataclass(frozen=True)
class FlowError:
    """Distances between estimated and true motion, in pixels, summed over moving pixels.

    zero_sum: the same for the estimate that nothing moves.
    """

    num_pixels: int = 0
    distance_sum: float = 0.0
    zero_sum: float = 0.0

    @property
    def endpoint_px(self) -> float | None:
        """Mean distance (end-point error); None where nothing moves."""
        return self.distance_sum / self.num_pixels if self.num_pixels else None

    @property
    def zero_px(self) -> float | None:
        """Mean distance of no motion at all."""
        return self.zero_sum / self.num_pixels if self.num_pixels else None

    def as_values(self) -> dict[str, float | int]:
        """As plain JSON values."""
        return {
            "num_pixels": self.num_pixels,
            "distance_sum": round(self.distance_sum, 4),
            "zero_sum": round(self.zero_sum, 4),
        }


def flow_error(estimated: np.ndarray, truth: np.ndarray) -> FlowError:
    """Compare flow with the true motion, both float32 [N 2 H W] in pixels, nan: not known.

    Only pixels whose true motion is known and longer than MOVING_PX count.
    """
    lengths = np.sqrt(np.square(truth).sum(axis=1))
    moves = lengths > MOVING_PX  # nan does not
    distances = np.sqrt(np.square(estimated - truth).sum(axis=1))
    counted = moves & ~np.isnan(distances)
    return FlowError(
        int(counted.sum()),
        float(distances[counted].sum(dtype=np.float64)),
        float(lengths[counted].sum(dtype=np.float64)),
    )


def total(errors: Iterable[Mapping[str, float]]) -> FlowError:
    """The sum over `as_values` of several."""
    listed = list(errors)
    return FlowError(
        int(sum(each["num_pixels"] for each in listed)),
        float(sum(each["distance_sum"] for each in listed)),
        float(sum(each["zero_sum"] for each in listed)),
    )
