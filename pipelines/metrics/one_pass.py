"""The pass over all videos: each is decoded once and each network sees it once, for all metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from pipelines.events import UserError
from pipelines.metrics.feature_set import FeatureSet
from pipelines.metrics.frechet_set import GENERATED, REAL, SHUFFLED, STILL, FrechetMetric
from pipelines.metrics.result import MetricResult
from pipelines.metrics.scenes import Clip, Conditions, Extractor, Metric, Resources, Scene

_CLIPS_CPU, _CLIPS_GPU = 8, 32
"""Decoded clips that wait to be seen together; more would only take memory."""

Known = Mapping[str, Mapping[str, FeatureSet]]
"""Features of real videos that are there already: by name of the extractor, by side."""


class OnePass:
    """Takes scenes one after another; afterwards the metrics have what they need."""

    def __init__(
        self,
        metrics: Sequence[Metric],
        extractors: Mapping[str, Extractor],
        device: torch.device,
        *,
        known: Known | None = None,
        has_baselines: bool = False,
        seed: int = 0,
    ) -> None:
        self.metrics, self.extractors, self._device = metrics, extractors, device
        self._seed, self._has_baselines = seed, has_baselines
        self._distances: list[FrechetMetric] = [
            each for each in metrics if isinstance(each, FrechetMetric)
        ]
        others = [each for each in metrics if not isinstance(each, FrechetMetric)]
        self._of_scenes = {name for each in others for name in each.extractors}
        self.sides: dict[str, dict[str, FeatureSet]] = {
            each.features: dict((known or {}).get(each.features, {})) for each in self._distances
        }
        self._known = frozenset(name for name, sides in self.sides.items() if REAL in sides)
        self._waiting: list[Scene] = []
        self._most = _CLIPS_GPU if device.type == "cuda" else _CLIPS_CPU

    @property
    def needs_real_frames(self) -> bool:
        """Whether real videos must be decoded at all."""
        return len(self._distances) < len(self.metrics) or len(self._known) < len(self.sides)

    def add(self, scene: Scene) -> None:
        """A decoded scene."""
        if scene.real is not None:
            scene = replace(scene, real=replace(scene.real, is_real=True))
        self._waiting.append(scene)
        if sum(len(each.samples) + 1 for each in self._waiting) >= self._most:
            self._see()

    def results(self, conditions: Conditions) -> list[MetricResult]:
        """All numbers of all metrics, after the last scene."""
        self.finish()
        return [
            found for each in self.metrics for found in each.results(conditions, self.extractors)
        ]

    def finish(self) -> None:
        """See what still waits, and hand the features of whole sets to the distances."""
        if self._waiting:
            self._see()
        for each in self._distances:
            each.sides, each.seed = self.sides[each.features], self._seed

    def _see(self) -> None:
        scenes, self._waiting = self._waiting, []
        features: dict[tuple[int, int], dict[str, Any]] = {}
        for name, extract in self.extractors.items():
            places = [
                (i, j)
                for i, scene in enumerate(scenes)
                for j in range(-1, len(scene.samples))
                if self._is_seen(name, scene, j)
            ]
            clips = [_clip(scenes[i], j) for i, j in places]
            for place, clip, values in zip(
                places, clips, extract(clips) if clips else [], strict=True
            ):
                _require_finite(values, clip, extract)
                features.setdefault(place, {})[name] = values
        for i, scene in enumerate(scenes):
            self._show(scene, features, i)

    def _is_seen(self, name: str, scene: Scene, place: int) -> bool:
        if place >= 0:
            return True
        return scene.real is not None and (name in self._of_scenes or name not in self._known)

    def _show(
        self, scene: Scene, features: Mapping[tuple[int, int], Mapping[str, Any]], number: int
    ) -> None:
        samples = tuple(
            replace(each, features=features.get((number, j), {}))
            for j, each in enumerate(scene.samples)
        )
        real = scene.real and replace(scene.real, features=features.get((number, -1), {}))
        scene = replace(scene, real=real, samples=samples)
        for metric in self.metrics:
            metric.add(scene)
        for name in self.sides:
            self._gather(name, scene)

    def _gather(self, name: str, scene: Scene) -> None:
        """Put the features of a scene's videos into the sets that they belong to."""
        for number, sample in enumerate(scene.samples):
            self._side(name, GENERATED).add(f"{scene.name}/{number:03d}", sample.features[name])
        if scene.real is None or name in self._known:
            return
        rows = scene.real.features[name]
        self._side(name, REAL).add(scene.name, rows)
        if not self._has_baselines:
            return
        if len(rows) > 1:  # a row per frame: a still video repeats the first, shuffling is nothing
            still = np.repeat(rows[:1], len(rows), axis=0)
            self._side(name, STILL).add(scene.name, still)
            return
        for side, frames in self._altered(scene.real):
            (found,) = self.extractors[name]([replace(scene.real, frames=frames)])
            self._side(name, side).add(scene.name, found)

    def _altered(self, real: Clip) -> list[tuple[str, np.ndarray]]:
        """The baselines of a real video: it stands still; its frames are shuffled."""
        first = real.frames[:1] if real.start is None else real.start[None]
        order = np.random.default_rng([self._seed, *real.name.encode()])
        return [
            (STILL, np.repeat(first, len(real.frames), axis=0)),
            (SHUFFLED, real.frames[order.permutation(len(real.frames))]),
        ]

    def _side(self, name: str, side: str) -> FeatureSet:
        return self.sides[name].setdefault(side, FeatureSet())


def load_extractors(
    metrics: Sequence[Metric], resources: Resources | torch.device
) -> dict[str, Extractor]:
    """The feature networks that the metrics need, each once."""
    if isinstance(resources, torch.device):
        resources = Resources(resources)
    makers = {name: make for each in metrics for name, make in dict(each.extractors).items()}
    return {name: make(resources) for name, make in makers.items()}


def _clip(scene: Scene, place: int) -> Clip:
    clip = scene.real if place < 0 else scene.samples[place]
    assert clip is not None
    return clip


def _require_finite(values: Any, clip: Clip, extract: Extractor) -> None:
    parts = values if isinstance(values, list) else [values]
    arrays = [each for each in parts if isinstance(each, np.ndarray | torch.Tensor)]
    if all(bool(torch.isfinite(torch.as_tensor(each)).all()) for each in arrays):
        return
    raise UserError(
        f"the features of '{clip.name}' are not finite",
        {
            "features": extract.name,
            "to fix": "look at the video; if it is sound, try --device cpu",
        },
    )
