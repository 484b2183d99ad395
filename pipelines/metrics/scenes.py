"""What metrics look at: clips, grouped by the image they start from; and what a metric is.

A metric is an object that is shown every scene once and then asked for its numbers, so that any
number of metrics share one pass: each video is decoded once, each feature network runs once on it.
Shapes: T time, H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.metrics import result

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Clip:
    """A decoded video. frames: uint8 T H W 3, RGB.  features: by name of the extractor.

    start: uint8 H W 3, the image before the first frame, where that is known.
    facts: what meta.json says of this video, such as its pokes.
    """

    name: str
    frames: Frames
    features: Mapping[str, Any] = field(default_factory=dict)
    start: Frames | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    is_real: bool = False


def unit_range(frames: Frames) -> Tensor:
    """uint8 T H W 3 as float32 T 3 H W in [0, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


@dataclass(frozen=True)
class Scene:
    """Videos that start from the same image: the real one, if there is one, and generated ones.

    group: kind of content, such as the name of a texture.
    """

    name: str
    real: Clip | None
    samples: tuple[Clip, ...]
    group: str | None = None


@dataclass(frozen=True)
class Conditions:
    """What all clips of a measurement have in common; becomes part of each number's protocol."""

    num_frames: int
    size_px: tuple[int, int]
    settings: Mapping[str, str | float | bool] = field(default_factory=dict)

    def protocol(
        self,
        num_videos: int,
        *,
        num_reference: int = 0,
        extractor: Extractor | None = None,
        settings: Mapping[str, str | float | bool] | None = None,
    ) -> result.Protocol:
        """The protocol of one number."""
        return result.Protocol(
            num_videos,
            num_reference,
            self.num_frames,
            self.size_px,
            extractor.name if extractor else None,
            extractor.sha256 if extractor else None,
            {**self.settings, **(settings or {})},
        )


class Extractor(Protocol):
    """A feature network. name and sha256 (of its weights) go into protocols."""

    name: str
    sha256: str

    def __call__(self, clips: Sequence[Clip]) -> list[Any]:
        """The features of each clip; how many are computed at once is the extractor's affair."""


@dataclass(frozen=True)
class Resources:
    """What feature networks are made from.

    weights_root: a folder for each download.  weights: places of the user's own, by name.
    is_generated: made-up weights of a seed instead, with which numbers mean nothing.
    tensorflow_python: the interpreter that has TensorFlow.  cache_dir: for files made on the way.
    """

    device: torch.device
    weights_root: Path | None = None
    weights: Mapping[str, Path] = field(default_factory=dict)
    is_generated: bool = False
    tensorflow_python: Path | None = None
    cache_dir: Path | None = None


MakeExtractor = Callable[[Resources], Extractor]


class Metric(Protocol):
    """See the head of this file.

    extractors: how to make those whose features clips must carry, by the name in Clip.features;
    metrics that use the same name share one.  needs_real: real videos must be there.
    needs_pairs: each video must have a real one of its own.  needs_samples: at least two per scene.
    """

    extractors: Mapping[str, MakeExtractor]
    needs_real: bool
    needs_pairs: bool
    needs_samples: bool

    def add(self, scene: Scene) -> None:
        """Look at a scene; keep what the numbers need of it."""

    def results(
        self, conditions: Conditions, extractors: Mapping[str, Extractor]
    ) -> list[result.MetricResult]:
        """The numbers, after the last scene."""

    def state(self) -> Any:
        """What was kept, as JSON: lists, dicts, texts and numbers."""

    def restore(self, states: Sequence[Any]) -> None:
        """Take over what several others kept, each of other scenes."""
