"""Frechet distance over the embedded backbone's frame features.

For when nothing can be downloaded. It looks at single frames, not at motion, through a small
ImageNet network: it is neither FVD nor FID, and its values compare only with each other.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipelines.events import UserError
from pipelines.metrics import frechet
from pipelines.metrics.result import MetricResult
from pipelines.metrics.scenes import Clip, Conditions, Extractor, Scene

FEATURES = "pooled-frames"


def build() -> FrechetEmbedded:
    """All frames of all videos, unbiased covariances."""
    return FrechetEmbedded()


class FrechetEmbedded:
    """Distance between the Gaussians of all generated and of all real frames."""

    needs_real, needs_pairs, needs_samples = True, False, False
    extractors: tuple[str, ...] = (FEATURES,)

    def __init__(self) -> None:
        self._real: list[np.ndarray] = []
        self._fake: list[np.ndarray] = []

    def add(self, scene: Scene) -> None:
        """Keep the features of every frame (0.5 kB each)."""
        clips: list[tuple[list[np.ndarray], Clip]] = [(self._fake, each) for each in scene.samples]
        if scene.real is not None:
            clips.append((self._real, scene.real))
        for kept, clip in clips:
            kept.append(clip.features[FEATURES])

    def results(
        self, conditions: Conditions, extractors: Mapping[str, Extractor]
    ) -> list[MetricResult]:
        """One number; beside it, the distance between two halves of the real videos."""
        for kept, name in ((self._real, "real"), (self._fake, "generated")):
            if len(kept) < 2:
                raise UserError(
                    f"frechet-embedded needs at least two {name} videos, got {len(kept)}",
                    {"to fix": "give more videos, or leave frechet-embedded out"},
                )
        real, fake = np.concatenate(self._real), np.concatenate(self._fake)
        found = frechet.distance(real, fake)
        protocol = conditions.protocol(
            len(self._fake),
            num_reference=len(self._real),
            extractor=extractors[FEATURES],
            settings={"features": f"{real.shape[1]} per frame", "covariance": "unbiased"},
        )
        return [
            MetricResult(
                "frechet-embedded", found.value, "", "lower", protocol,
                references=self._floor(),
                details={"raw": found.raw, "mean term": found.mean_term},
                warnings=tuple(self._warnings(real, fake)),
            )
        ]  # fmt: skip

    def _floor(self) -> dict[str, float]:
        """What two sets of half as many real videos score, if there are enough to halve."""
        if len(self._real) < 4:
            return {}
        halves = (np.concatenate(self._real[start::2]) for start in (0, 1))
        return {"real against real, half of them each": frechet.distance(*halves).value}

    def _warnings(self, real: np.ndarray, fake: np.ndarray) -> list[str]:
        warnings = []
        if min(len(real), len(fake)) < 2 * real.shape[1]:
            warnings.append(
                f"fewer than {2 * real.shape[1]} frames in a set: the value is biased upwards"
            )
        if len(real) != len(fake):
            warnings.append(
                f"sets of unequal size: {len(real)} real and {len(fake)} generated frames"
            )
        return warnings
