"""Motion energy: how much a pixel changes from one frame to the next, on average."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipelines.metrics.result import MetricResult, mean_and_error
from pipelines.metrics.scenes import Conditions, Extractor, Frames, Scene


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
    extractors: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._scenes: list[list[float]] = []
        self._real: list[float] = []

    def add(self, scene: Scene) -> None:
        """Measure a scene's samples and its real video."""
        if scene.samples:
            self._scenes.append([energy(each.frames) for each in scene.samples])
        if scene.real is not None:
            self._real.append(energy(scene.real.frames))

    def results(
        self, conditions: Conditions, extractors: Mapping[str, Extractor]
    ) -> list[MetricResult]:
        """One number, and its ratio to that of the real videos where there are any."""
        value, error = mean_and_error([sum(each) / len(each) for each in self._scenes])
        references, details = {}, {}
        if self._real:
            references["real videos"], _ = mean_and_error(self._real)
            if references["real videos"] > 0:
                details["ratio to real videos"] = value / references["real videos"]
        protocol = conditions.protocol(
            sum(len(each) for each in self._scenes),
            num_reference=len(self._real),
            settings={"data range": 1, "lag": "1 frame"},
        )
        return [
            MetricResult(
                "motion-energy", value, "", "near reference", protocol,
                standard_error=error, references=references, details=details,
            )
        ]  # fmt: skip
