"""Frechet distance over the embedded backbone's frame features.

For when nothing can be downloaded. It looks at single frames, not at motion, through a small
ImageNet network: it is neither FVD nor FID, and its values compare only with each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.features.embedded import PooledFrames
from pipelines.metrics.frechet_set import FrechetMetric, Rules
from pipelines.metrics.scenes import Clip, Resources

FEATURES = "pooled-frames"


def build() -> FrechetMetric:
    """All frames of all videos, unbiased covariances."""
    return FrechetMetric("frechet-embedded", FEATURES, PooledClips, unit="frame", rules=Rules())


class PooledClips:
    """The embedded backbone's vector of each frame: T 112."""

    def __init__(self, resources: Resources) -> None:
        self._network = PooledFrames(resources.device)
        self.name, self.sha256 = self._network.name, self._network.sha256

    def __call__(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        """Returns float32 T 112 for each clip."""
        return [self._network(each.frames) for each in clips]
