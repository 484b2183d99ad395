"""Motion energy: how much a pixel changes from one frame to the next, on average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.metrics.result import MetricResult, interval_around, mean_and_error
from pipelines.metrics.scenes import Conditions, Extractor, Frames, MakeExtractor, Scene


def build() -> MotionEnergy:
    """Mean absolute difference of neighbouring frames, in the range 0 to 1."""
    return MotionEnergy()


def energy(frames: Frames) -> float:
    """frames: uint8 T H W 3, T >= 2.  Returns the mean of |frame[t+1] - frame[t]|, range 0 to 1."""
    steps = np.diff(frames.astype(np.int16), axis=0)
    return float(np.abs(steps).mean(dtype=np.float64)) / 255


class MotionEnergy:
    """Mean over the samples of a scene, then over scenes; beside it, that of the real videos."""

    needs_real, needs_pairs, needs_samples = False, False, False

    def __init__(self) -> None:
        self.extractors: Mapping[str, MakeExtractor] = {}
        self._scenes: dict[str, list[float]] = {}
        self._real: dict[str, float] = {}

    def add(self, scene: Scene) -> None:
        """Measure a scene's samples and its real video."""
        if scene.samples:
            self._scenes[scene.name] = [energy(each.frames) for each in scene.samples]
        if scene.real is not None:
            self._real[scene.name] = energy(scene.real.frames)

    def values(self) -> dict[str, float]:
        """The mean over the samples of each scene."""
        return {name: sum(each) / len(each) for name, each in sorted(self._scenes.items())}

    def results(
        self, conditions: Conditions, extractors: Mapping[str, Extractor]
    ) -> list[MetricResult]:
        """One number, and its ratio to that of the real videos where there are any."""
        value, error = mean_and_error(list(self.values().values()))
        references, details = {}, {}
        if self._real:
            references["real videos"], _ = mean_and_error(list(self._real.values()))
            if references["real videos"] > 0:
                details["ratio to real videos"] = value / references["real videos"]
        protocol = conditions.protocol(
            sum(len(each) for each in self._scenes.values()),
            num_reference=len(self._real),
            settings={"data range": 1, "lag": "1 frame"},
        )
        return [
            MetricResult(
                "motion-energy", value, "", "near reference", protocol,
                standard_error=error, interval=interval_around(value, error, low=0.0),
                references=references, details=details,
            )
        ]  # fmt: skip

    def state(self) -> Any:
        """The energy of every video."""
        return {"scenes": self._scenes, "real": self._real}

    def restore(self, states: Sequence[Any]) -> None:
        """Join what others measured."""
        for each in states:
            self._scenes |= each["scenes"]
            self._real |= each["real"]
