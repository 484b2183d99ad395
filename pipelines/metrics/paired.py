"""Metrics that compare each video, frame by frame, with the real video it should equal."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.events import UserError
from pipelines.metrics.config import PairedProtocol
from pipelines.metrics.result import Better, MetricResult, interval_around, mean_and_error
from pipelines.metrics.scenes import Clip, Conditions, Extractor, MakeExtractor, Scene, unit_range

PerFrame = Callable[[Tensor, Tensor], Tensor]
"""(real T 3 H W, fake T 3 H W), both in [0, 1], to T values."""

Compare = Callable[[Clip, Sequence[Clip]], list[Tensor]]
"""(real video, videos of the same shape) to T values for each of these."""


@dataclass(frozen=True)
class Figure:
    """What a paired metric is called and how to read it. cap: what an infinite value counts."""

    name: str
    unit: str
    better: Better
    settings: Mapping[str, str | float | bool] = field(default_factory=dict)
    cap: float = math.inf


def frame_by_frame(per_frame: PerFrame) -> Compare:
    """A comparison of videos from one of frames."""

    def compare(real: Clip, others: Sequence[Clip]) -> list[Tensor]:
        first = unit_range(real.frames)
        return [per_frame(first, unit_range(each.frames)) for each in others]

    return compare


class PairedMean:
    """Mean over frames, then over the samples of a scene, then over scenes."""

    needs_real, needs_pairs, needs_samples = True, True, False

    def __init__(
        self,
        figure: Figure,
        compare: Compare,
        *,
        protocol: PairedProtocol,
        extractors: Mapping[str, MakeExtractor] | None = None,
    ) -> None:
        self.figure, self._compare, self._protocol = figure, compare, protocol
        self.extractors: Mapping[str, MakeExtractor] = dict(extractors or {})
        self.scenes: dict[str, list[float]] = {}
        self._static: dict[str, float] = {}
        self._num_capped = 0

    def add(self, scene: Scene) -> None:
        """Compare a scene's samples, and a frozen picture, with its real video."""
        if scene.real is None or not scene.samples:
            return
        real = _delayed(scene.real) if self._protocol.real_delay else scene.real
        values = self._compare(real, scene.samples)
        self._num_capped += sum(int((each > self.figure.cap).sum()) for each in values)
        self.scenes[scene.name] = [self._mean(each) for each in values]
        if scene.real.start is not None:
            moving, still = scene.real, scene.real.start[None]
        else:
            moving = replace(scene.real, frames=scene.real.frames[1:])
            still = scene.real.frames[:1]
        if len(moving.frames):
            frozen = replace(scene.real, frames=np.repeat(still, len(moving.frames), axis=0))
            self._static[scene.name] = self._mean(self._compare(moving, [frozen])[0])

    def values(self) -> dict[str, float]:
        """The value of each scene, as the protocol takes it from the scene's samples."""
        best = max if self.figure.better == "higher" else min
        takes_best = self._protocol.samples == "best"
        return {
            name: best(values) if takes_best else sum(values) / len(values)
            for name, values in sorted(self.scenes.items())
        }

    def results(
        self, conditions: Conditions, extractors: Mapping[str, Extractor]
    ) -> list[MetricResult]:
        """One number; beside it, what a frozen first frame would have scored."""
        value, error = mean_and_error(list(self.values().values()))
        details: dict[str, float] = {}
        if self._num_capped:
            details["frames without error"] = self._num_capped
        if self._protocol.samples == "mean" and any(len(e) > 1 for e in self.scenes.values()):
            pick = max if self.figure.better == "higher" else min
            best = [pick(self.scenes[name]) for name in sorted(self.scenes)]
            details["best sample of each scene"], _ = mean_and_error(best)
        static = [self._static[name] for name in sorted(self._static)]
        references = {"static first frame": mean_and_error(static)[0]} if static else {}
        settings = dict(self.figure.settings)
        if self._protocol.samples == "best":
            settings["of each image's samples"] = "the best"
        if self._protocol.real_delay:
            settings["real frames"] = "one earlier than the generated ones"
        used = next(iter(self.extractors), None)
        protocol = conditions.protocol(
            sum(len(each) for each in self.scenes.values()),
            num_reference=len(self.scenes),
            extractor=extractors[used] if used else None,
            settings=settings,
        )
        warnings = ("only one video: its value says little",) if len(self.scenes) < 2 else ()
        return [
            MetricResult(
                self.figure.name, value, self.figure.unit, self.figure.better, protocol,
                standard_error=error, interval=interval_around(value, error),
                references=references, details=details, warnings=warnings,
            )
        ]  # fmt: skip

    def state(self) -> Any:
        """The value of each sample, and of the frozen pictures."""
        return {"scenes": self.scenes, "static": self._static, "capped": self._num_capped}

    def restore(self, states: Sequence[Any]) -> None:
        """Join what others measured."""
        for each in states:
            self.scenes |= each["scenes"]
            self._static |= each["static"]
            self._num_capped += each["capped"]

    def _mean(self, values: Tensor) -> float:
        return float(values.double().clamp(max=self.figure.cap).mean())


PerBatch = Callable[[Tensor, Tensor], Tensor]
"""(real N 3 H W, fake N 3 H W) of all frames of a batch of videos, in [0, 1], to one value."""


class BatchMean:
    """One value for each batch of videos, then their mean, as some published code has it."""

    needs_real, needs_pairs, needs_samples = True, True, False

    def __init__(self, figure: Figure, measure: PerBatch, *, batch_size: int) -> None:
        self.figure, self._measure, self._batch_size = figure, measure, batch_size
        self.extractors: Mapping[str, MakeExtractor] = {}
        self._pending: list[tuple[Tensor, Tensor]] = []
        self._batches: list[float] = []
        self._num_videos = 0

    def add(self, scene: Scene) -> None:
        """Keep a batch's videos until there are enough of them."""
        if scene.real is None:
            return
        real = unit_range(scene.real.frames)
        for each in scene.samples:
            self._pending.append((real, unit_range(each.frames)))
            self._num_videos += 1
            if len(self._pending) == self._batch_size:
                self._flush()

    def results(
        self, conditions: Conditions, extractors: Mapping[str, Extractor]
    ) -> list[MetricResult]:
        """One number."""
        if self._pending:
            self._flush()
        value, error = mean_and_error(self._batches)
        protocol = conditions.protocol(
            self._num_videos, num_reference=self._num_videos, settings=self.figure.settings
        )
        return [
            MetricResult(
                self.figure.name, value, self.figure.unit, self.figure.better, protocol,
                standard_error=error, interval=interval_around(value, error),
            )
        ]  # fmt: skip

    def state(self) -> Any:
        """Refused: batches would be others than those of the whole."""
        raise UserError(
            f"{self.figure.name} with a value per batch cannot be measured in shards",
            {"to fix": "leave it out, or choose a protocol without batches"},
        )

    def restore(self, states: Sequence[Any]) -> None:
        """See state."""

    def _flush(self) -> None:
        real, fake = (torch.cat(each) for each in zip(*self._pending, strict=True))
        self._batches.append(min(float(self._measure(real, fake)), self.figure.cap))
        self._pending = []


def measured_range(real: Tensor, fake: Tensor) -> Tensor:
    """What the values of either span, as one published system has it."""
    return torch.maximum(real.max() - real.min(), fake.max() - fake.min()).double()


def _delayed(real: Clip) -> Clip:
    """The real video one frame earlier: its start frame first, its last frame gone."""
    if real.start is None:
        raise UserError(
            f"the start frame of '{real.name}' is not known, and the protocol needs it",
            {"to fix": "choose a protocol without delay"},
        )
    return replace(real, frames=np.concatenate([real.start[None], real.frames[:-1]]))
