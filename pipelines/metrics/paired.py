"""Metrics that compare each video, frame by frame, with the real video it should equal."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from pipelines.metrics.result import Better, MetricResult, mean_and_error
from pipelines.metrics.scenes import Conditions, Extractor, Scene, unit_range

PerFrame = Callable[[Tensor, Tensor], Tensor]
"""(real T 3 H W, fake T 3 H W), both in [0, 1], to T values."""


class PairedMean:
    """Mean over frames, then over the samples of a scene, then over scenes.

    cap: what an infinite value (a frame without error) counts in a mean.
    """

    needs_real, needs_pairs, needs_samples = True, True, False
    extractors: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        per_frame: PerFrame,
        *,
        unit: str,
        better: Better,
        settings: Mapping[str, str | float | bool],
        cap: float = math.inf,
    ) -> None:
        self._name, self._per_frame, self._unit, self._better = name, per_frame, unit, better
        self._settings, self._cap = settings, cap
        self._scenes: list[list[float]] = []
        self._static: list[float] = []
        self._num_capped = 0

    def add(self, scene: Scene) -> None:
        """Compare a scene's samples, and a frozen picture, with its real video."""
        if scene.real is None or not scene.samples:
            return
        real = unit_range(scene.real.frames)
        values = [self._per_frame(real, unit_range(each.frames)) for each in scene.samples]
        self._num_capped += sum(int((each > self._cap).sum()) for each in values)
        self._scenes.append([self._mean(each) for each in values])
        if scene.real.start is not None:
            moving, still = real, unit_range(scene.real.start[None])
        else:
            moving, still = real[1:], real[:1]
        if len(moving):
            self._static.append(self._mean(self._per_frame(moving, still.expand_as(moving))))

    def results(
        self, conditions: Conditions, extractors: Mapping[str, Extractor]
    ) -> list[MetricResult]:
        """One number; beside it, what a frozen first frame would have scored."""
        value, error = mean_and_error([sum(each) / len(each) for each in self._scenes])
        details: dict[str, float] = {}
        if self._num_capped:
            details["frames without error"] = self._num_capped
        if any(len(each) > 1 for each in self._scenes):
            pick = max if self._better == "higher" else min
            details["best sample of each scene"], _ = mean_and_error(
                [pick(each) for each in self._scenes]
            )
        references = {"static first frame": mean_and_error(self._static)[0]} if self._static else {}
        protocol = conditions.protocol(
            sum(len(each) for each in self._scenes),
            num_reference=len(self._scenes),
            settings=self._settings,
        )
        warnings = ("only one video: its value says little",) if len(self._scenes) < 2 else ()
        return [
            MetricResult(
                self._name, value, self._unit, self._better, protocol,
                standard_error=error, references=references, details=details,
                warnings=warnings,
            )
        ]  # fmt: skip

    def _mean(self, values: Tensor) -> float:
        return float(values.double().clamp(max=self._cap).mean())
