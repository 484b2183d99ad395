"""What a measurement returns: a number together with the protocol it was measured under."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, Literal

FEW_VIDEOS = 256
"""Below, a distance between sets says little."""
_NORMAL_95 = 1.96

ENDLESS = "with endless videos (line in 1/n)"
"""The detail that tells how far a small number of videos moves a number; tables show it too."""

Better = Literal["higher", "lower", "near reference"]


@dataclass(frozen=True)
class Protocol:
    """Everything that must be equal before two numbers may be compared.

    num_videos: videos measured.  num_reference: real videos they were measured against, 0 for none.
    num_frames: frames per video.  size_px: (width, height) of the frames as measured, 0 of poses.
    extractor, extractor_sha256: the feature network and the hash of its weights, if there is one.
    settings: what the metric itself leaves open, such as the data range.
    """

    num_videos: int
    num_reference: int
    num_frames: int
    size_px: tuple[int, int]
    extractor: str | None = None
    extractor_sha256: str | None = None
    settings: Mapping[str, str | float | bool] = field(default_factory=dict)

    def __str__(self) -> str:
        width, height = self.size_px
        against = (
            f" against {_count(self.num_reference, 'real video')}" if self.num_reference else ""
        )
        parts = [
            f"{_count(self.num_videos, 'video')}{against}",
            f"{self.num_frames} frames of {width} x {height} px"
            if width
            else f"{self.num_frames} poses each",
        ]
        if self.extractor:
            parts.append(f"{self.extractor} ({(self.extractor_sha256 or 'no hash')[:8]})")
        parts += [f"{name} {value}" for name, value in self.settings.items()]
        return ", ".join(parts)


@dataclass(frozen=True)
class MetricResult:
    """One number and what it takes to read it.

    better: whether a higher or a lower value is better, or one near the reference.
    standard_error: of the mean over videos, where the value is one.
    interval: 95 %, how far chance in the choice of videos goes; None with too few of them.
    references: the same number for something known, such as the real videos themselves.
    details: further numbers, such as the value before clipping.
    """

    metric: str
    value: float
    unit: str
    better: Better
    protocol: Protocol
    standard_error: float | None = None
    interval: tuple[float, float] | None = None
    references: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All of it, with the versions of the libraries that had a part in it."""
        return {**asdict(self), "protocol_text": str(self.protocol), "versions": versions()}

    def row(self) -> list[str]:
        """Text for a table: metric, value, interval, references, unit, protocol."""
        shown = dict(self.references)
        if ENDLESS in self.details:
            shown[ENDLESS] = self.details[ENDLESS]
        references = "; ".join(f"{name} {short(value)}" for name, value in shown.items())
        between = " to ".join(short(end) for end in self.interval) if self.interval else ""
        return [self.metric, short(self.value), between, references, self.unit, str(self.protocol)]


def short(value: float) -> str:
    """A number with four significant digits, without an exponent where that stays readable."""
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.3e}"
    decimals = 4 if abs(value) < 1 else 3 if abs(value) < 10 else 2
    return f"{value:.{decimals}f}"


def interval_around(
    value: float, standard_error: float | None, *, low: float = -math.inf
) -> tuple[float, float] | None:
    """The 95 % interval of a value that scatters normally; not below `low`."""
    if standard_error is None or not math.isfinite(standard_error):
        return None
    return max(value - _NORMAL_95 * standard_error, low), value + _NORMAL_95 * standard_error


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean of independent values and its standard error, None for fewer than two."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None
    return mean, statistics.stdev(values, mean) / math.sqrt(len(values))


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of the interpreter and of the libraries that compute."""
    found = {"python": platform.python_version()}
    for name in ("torch", "torchvision", "numpy", "lpips"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
