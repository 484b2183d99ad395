"""Diversity: how far apart different samples made from one image are."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pipelines.features.perceptual import map_distance
from pipelines.metrics.result import MetricResult, mean_and_error
from pipelines.metrics.scenes import Clip, Conditions, Extractor, Scene

FEATURES = "unit-maps"
_MAX_REAL_PER_GROUP = 6
"""Real videos kept per group for comparison; with their feature maps they are not small."""

PairDistance = Callable[[Clip, Clip], float]
Spread = Callable[[Sequence[Clip]], float]


def build() -> Diversity:
    """Over pixels and over features, each over all pairs of samples of a scene."""
    return Diversity()


def pixel_spread(clips: Sequence[Clip]) -> float:
    """Root of the mean squared pixel difference over all pairs: a share of the pixel range.

    A root, so that it is on the scale of what is seen: twice as far apart reads as twice as much.
    """
    return math.sqrt(_mean_over_pairs(clips, squared_pixel_distance))


def feature_spread(clips: Sequence[Clip]) -> float:
    """Mean embedded perceptual distance over all pairs; 0 to 2."""
    return _mean_over_pairs(clips, feature_distance)


def squared_pixel_distance(first: Clip, second: Clip) -> float:
    """Mean squared difference of corresponding frames, pixels in [0, 1]."""
    difference = first.frames.astype(np.float32) - second.frames.astype(np.float32)
    return float(np.square(difference).mean(dtype=np.float64)) / 255**2


def feature_distance(first: Clip, second: Clip) -> float:
    """Embedded perceptual distance of corresponding frames, mean over time; 0 to 2."""
    return float(map_distance(first.features[FEATURES], second.features[FEATURES]).mean())


class Diversity:
    """Beside each number stands the same between real videos of one group, if there are two."""

    needs_real, needs_pairs, needs_samples = False, False, True
    extractors: tuple[str, ...] = (FEATURES,)

    def __init__(self) -> None:
        self._spreads: Mapping[str, Spread] = {
            "diversity (pixels)": pixel_spread,
            "diversity (embedded)": feature_spread,
        }
        self._scenes: dict[str, list[float]] = {name: [] for name in self._spreads}
        self._num_samples: list[int] = []
        self._real: dict[str | None, list[Clip]] = defaultdict(list)

    def add(self, scene: Scene) -> None:
        """Compare the scene's samples with each other, two by two."""
        if len(scene.samples) > 1:
            self._num_samples.append(len(scene.samples))
            for name, spread in self._spreads.items():
                self._scenes[name].append(spread(scene.samples))
        group = self._real[scene.group]
        if scene.real is not None and len(group) < _MAX_REAL_PER_GROUP:
            group.append(scene.real)

    def results(
        self, conditions: Conditions, extractors: Mapping[str, Extractor]
    ) -> list[MetricResult]:
        """Two numbers: root mean squared pixel difference, and embedded perceptual distance."""
        real_groups = [clips for clips in self._real.values() if len(clips) > 1]
        kind = "between real videos" + (" of a kind" if any(self._real) else "")
        results = []
        for name, spread in self._spreads.items():
            value, error = mean_and_error(self._scenes[name])
            references = {}
            if real_groups:
                references[kind] = mean_and_error([spread(clips) for clips in real_groups])[0]
            uses_features = spread is feature_spread
            protocol = conditions.protocol(
                sum(self._num_samples),
                num_reference=sum(len(clips) for clips in real_groups),
                extractor=extractors[FEATURES] if uses_features else None,
                settings={
                    "images": len(self._num_samples),
                    "of": "embedded perceptual distance" if uses_features else "pixels in 0..1",
                    "between": "all pairs of samples of an image, frame by frame",
                },
            )
            results.append(
                MetricResult(
                    name, value, "" if uses_features else "RMS",
                    "near reference" if references else "higher", protocol,
                    standard_error=error, references=references,
                )
            )  # fmt: skip
        return results


def _mean_over_pairs(clips: Sequence[Clip], between: PairDistance) -> float:
    values = [between(first, second) for first, second in itertools.combinations(clips, 2)]
    return sum(values) / len(values)
