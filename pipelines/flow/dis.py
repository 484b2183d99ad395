"""Dense inverse search (Kroeger et al., 2016) by OpenCV: no weights, no graphics card."""

from __future__ import annotations

import cv2
import numpy as np

_FULL_DETAIL_BELOW_PX = 256
"""Smaller frames are matched down to single pixels; larger ones at half size, four times faster."""


class DisEstimator:
    """DIS with the settings that its authors call medium. Grey levels only."""

    name = "dis"
    weights_hash = ""

    def __init__(self) -> None:
        # With more threads the search starts from other neighbours, which changes the numbers.
        cv2.setNumThreads(1)
        self._searches = {
            detail: cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
            for detail in (0, 1)
        }
        for detail, search in self._searches.items():
            search.setFinestScale(detail)

    def flow(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Motion from first to second: uint8 [N H W 3] RGB -> float32 [N 2 H W], pixels, x then y.

        Raises ValueError for frames below 16 px.
        """
        height, width = first.shape[1:3]
        if min(height, width) < 16:
            raise ValueError(f"frames of {width} x {height} are too small to search in")
        search = self._searches[0 if max(height, width) < _FULL_DETAIL_BELOW_PX else 1]
        found = np.empty((len(first), 2, height, width), np.float32)
        for number, (before, after) in enumerate(zip(first, second, strict=True)):
            motion = search.calc(_grey(before), _grey(after), None)
            found[number] = motion.transpose(2, 0, 1)
        return found

    def flow_both_ways(
        self, first: np.ndarray, second: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Motion from first to second, and from second to first."""
        return self.flow(first, second), self.flow(second, first)

    def flow_along(self, frames: np.ndarray, lag: int, *, batch_size: int = 4) -> np.ndarray:
        """Motion from each frame to the one `lag` later; batch_size changes nothing here."""
        return self.flow(frames[:-lag], frames[lag:])


def _grey(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
