"""Diversity: how far apart different samples made from one image are."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pipelines.features.embedded import UnitMaps
from pipelines.features.perceptual import map_distance
from pipelines.metrics import frame_maps
from pipelines.metrics.config import DiversityProtocol, VideoProtocol
from pipelines.metrics.result import MetricResult, interval_around, mean_and_error
from pipelines.metrics.scenes import Clip, Conditions, Extractor, MakeExtractor, Resources, Scene
from pipelines.metrics.spread import mean_over_pairs
from pipelines.metrics.video_features import LONG, feature_name, torch_i3d

FEATURES = "unit-maps"
_MAX_REAL_PER_GROUP = 6
"""Real videos kept per group for comparison; with their feature maps they are not small."""
_DTI3D_SCALE = 1000.0

Spread = Callable[[Sequence[Clip]], float]


@dataclass(frozen=True)
class Kind:
    """One number. features: name of the extractor that it needs, None for none."""

    name: str
    spread: Spread
    unit: str
    of: str
    features: str | None = None


def build(protocol: DiversityProtocol | None = None) -> Diversity:
    """Without a protocol: pixels and embedded features, over all pairs of samples of a scene."""
    protocol = protocol or DiversityProtocol()
    kinds, extractors = _KINDS[protocol.features](protocol)
    return Diversity(
        kinds, extractors, num_samples=protocol.num_samples, batch_size=protocol.batch_size
    )


class UnitMapsOfClips:
    """The extractor of the embedded perceptual distance."""

    def __init__(self, resources: Resources) -> None:
        self._network = UnitMaps(resources.device)
        self.name, self.sha256 = self._network.name, self._network.sha256

    def __call__(self, clips: Sequence[Clip]) -> list[Any]:
        """Returns maps of each clip, to compare by perceptual.map_distance."""
        return [self._network(each.frames) for each in clips]


def pixel_spread(clips: Sequence[Clip]) -> float:
    """Root of the mean squared pixel difference over all pairs: a share of the pixel range.

    A root, so that it is on the scale of what is seen: twice as far apart reads as twice as much.
    """
    return math.sqrt(mean_over_pairs(clips, squared_pixel_distance))


def feature_spread(clips: Sequence[Clip]) -> float:
    """Mean embedded perceptual distance over all pairs; 0 to 2."""
    return mean_over_pairs(clips, feature_distance)


def squared_pixel_distance(first: Clip, second: Clip) -> float:
    """Mean squared difference of corresponding frames, pixels in [0, 1]."""
    difference = first.frames.astype(np.float32) - second.frames.astype(np.float32)
    return float(np.square(difference).mean(dtype=np.float64)) / 255**2


def feature_distance(first: Clip, second: Clip) -> float:
    """Embedded perceptual distance of corresponding frames, mean over time; 0 to 2."""
    return float(map_distance(first.features[FEATURES], second.features[FEATURES]).mean())


def seen_spread(features: str, clips: Sequence[Clip]) -> float:
    """Mean distance between videos seen through a network, over all pairs."""
    first, *others = (each.features[features] for each in clips)
    return float(np.mean([each.double().mean() for each in first.pair_distances(others)]))


def vector_spread(features: str, scale: float, clips: Sequence[Clip]) -> float:
    """Mean squared difference of the videos' feature vectors over all pairs, times a factor."""

    def between(first: Clip, second: Clip) -> float:
        difference = np.subtract(first.features[features], second.features[features], dtype=float)
        return float(np.square(difference).mean())

    return scale * mean_over_pairs(clips, between)


class Diversity:
    """Beside each number stands the same between real videos of one group, if there are two."""

    needs_real, needs_pairs, needs_samples = False, False, True

    def __init__(
        self,
        kinds: Sequence[Kind],
        extractors: Mapping[str, MakeExtractor],
        *,
        num_samples: int | None = None,
        batch_size: int = 1,
    ) -> None:
        self.extractors: Mapping[str, MakeExtractor] = dict(extractors)
        self._batch_size = batch_size
        self._kinds, self._most = tuple(kinds), num_samples
        self._scenes: dict[str, dict[str, float]] = {each.name: {} for each in kinds}
        self._num_samples: dict[str, int] = {}
        self._real: dict[str | None, list[Clip]] = defaultdict(list)
        self._restored: dict[str, list[float]] = {each.name: [] for each in kinds}
        self._num_real = 0
        self._has_groups = False

    def add(self, scene: Scene) -> None:
        """Compare the scene's samples with each other, two by two."""
        samples = scene.samples[: self._most]
        if len(samples) > 1:
            self._num_samples[scene.name] = len(samples)
            for kind in self._kinds:
                self._scenes[kind.name][scene.name] = kind.spread(samples)
        group = self._real[scene.group]
        if scene.real is not None and len(group) < _MAX_REAL_PER_GROUP:
            group.append(scene.real)

    def values(self) -> dict[str, float]:
        """The first number of each scene."""
        scenes = self._scenes[self._kinds[0].name]
        return {name: scenes[name] for name in self._counted()}

    def _counted(self) -> list[str]:
        """The scenes of whole batches, by name; all of them where they fill none."""
        names = sorted(self._num_samples)
        return names[: len(names) // self._batch_size * self._batch_size] or names

    def results(
        self, conditions: Conditions, extractors: Mapping[str, Extractor]
    ) -> list[MetricResult]:
        """One number for each kind."""
        between, num_real, has_groups = self._between_real()
        words = "between real videos" + (" of a kind" if has_groups else "")
        counted, results = self._counted(), []
        for kind in self._kinds:
            scenes = self._scenes[kind.name]
            value, error = mean_and_error([scenes[name] for name in counted])
            groups = between[kind.name]
            references = {words: mean_and_error(groups)[0]} if groups else {}
            protocol = conditions.protocol(
                sum(self._num_samples[name] for name in counted),
                num_reference=num_real,
                extractor=extractors[kind.features] if kind.features else None,
                settings={
                    "images": len(counted),
                    "of": kind.of,
                    "between": "all pairs of samples of an image, frame by frame",
                },
            )
            results.append(
                MetricResult(
                    kind.name, value, kind.unit,
                    "near reference" if references else "higher", protocol,
                    standard_error=error, interval=interval_around(value, error, low=0.0),
                    references=references,
                )
            )  # fmt: skip
        return results

    def state(self) -> Any:
        """Every scene's numbers, and those of the groups of real videos."""
        between, num_real, has_groups = self._between_real()
        return {
            "scenes": self._scenes,
            "samples": self._num_samples,
            "real": between,
            "num_real": num_real,
            "has_groups": has_groups,
        }

    def restore(self, states: Sequence[Any]) -> None:
        """Join what others measured; real videos are compared within each shard only."""
        for each in states:
            self._num_samples |= each["samples"]
            self._num_real += each["num_real"]
            self._has_groups |= each["has_groups"]
            for kind in self._kinds:
                self._scenes[kind.name] |= each["scenes"][kind.name]
                self._restored[kind.name] += each["real"][kind.name]

    def _between_real(self) -> tuple[dict[str, list[float]], int, bool]:
        """For each kind a number per group; videos compared; whether there are several groups."""
        groups = [clips for clips in self._real.values() if len(clips) > 1]
        found = {
            kind.name: self._restored[kind.name] + [kind.spread(clips) for clips in groups]
            for kind in self._kinds
        }
        num_real = self._num_real + sum(len(clips) for clips in groups)
        return found, num_real, self._has_groups or any(self._real)


_Made = tuple[list[Kind], dict[str, MakeExtractor]]


def _embedded(protocol: DiversityProtocol) -> _Made:
    kinds = [
        Kind("diversity (pixels)", pixel_spread, "RMS", "pixels in 0..1"),
        Kind("diversity (embedded)", feature_spread, "", "embedded perceptual distance", FEATURES),
    ]
    return kinds, {FEATURES: UnitMapsOfClips}


def _seen(
    name: str, of: str, features: str, make: MakeExtractor, protocol: DiversityProtocol
) -> _Made:
    return [Kind(name, partial(seen_spread, features), "", of, features)], {features: make}


def _i3d(protocol: DiversityProtocol) -> _Made:
    clips = VideoProtocol(num_frames=protocol.num_frames)
    return _vectors("i3d", feature_name(clips, "fvd i3d"), torch_i3d(clips, "i3d"), 1.0)


def _dti3d(protocol: DiversityProtocol) -> _Made:
    """Of the first 16 frames, which are not repeated where they are fewer; or of exactly 32."""
    clips = VideoProtocol(
        network="dti3d", resize="corners", loops=False, num_frames=protocol.num_frames
    )
    network = "dti3d-32" if protocol.num_frames == LONG else "dti3d-16"
    make = torch_i3d(clips, network)
    return _vectors(network, feature_name(clips, network), make, _DTI3D_SCALE)


def _vectors(network: str, features: str, make: MakeExtractor, scale: float) -> _Made:
    of = f"squared difference of features, times {scale:g}"
    kind = Kind(f"diversity ({network})", partial(vector_spread, features, scale), "", of, features)
    return [kind], {features: make}


_KINDS: Mapping[str, Callable[[DiversityProtocol], _Made]] = {
    "embedded": _embedded,
    "vgg16": partial(
        _seen,
        "diversity (vgg16)",
        "squared difference of five maps",
        "vgg16 maps",
        frame_maps.vgg_diversity,
    ),
    "lpips": partial(_seen, "diversity (lpips)", "LPIPS", "lpips vgg16", frame_maps.lpips("vgg16")),
    "i3d": _i3d,
    "dti3d": _dti3d,
}
