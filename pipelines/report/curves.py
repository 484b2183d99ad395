"""Loss curves of a run, from its record of events."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["training", "held-out", "reference"]

_MAX_POINTS = 1000
_HELD_OUT = "val_"
_REFERENCE = "_static"
"""A held-out number of the baseline that does nothing: the start frame, repeated."""
_SPEED = "seconds_per_step"


@dataclass
class Series:
    """One line of a chart. values: None where the number was not finite."""

    role: Role
    steps: list[float] = field(default_factory=list)
    values: list[float | None] = field(default_factory=list)


@dataclass
class Chart:
    """The lines that belong under one heading, such as a loss in training and on held-out clips."""

    name: str
    series: list[Series] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The name as words."""
        return self.name.replace("_", " ")

    def to_json(self) -> dict[str, Any]:
        """What the page's script draws."""
        lines = [
            {
                "role": each.role,
                "steps": each.steps,
                "values": [None if v is None else float(f"{v:.6g}") for v in each.values],
            }
            for each in self.series
        ]
        return {"title": self.title, "series": lines}


def charts(events: Iterable[Mapping[str, Any]]) -> list[Chart]:
    """The charts of a record, in the order in which their numbers first appeared; speed last.

    Training that was resumed from an earlier step repeats some steps: the later numbers count.
    """
    lines: dict[str, Series] = {}
    for event in events:
        if event.get("event") != "metric":
            continue
        for name, value in event["values"].items():
            line = lines.setdefault(name, Series(_role(name)))
            _append(line, event["step"], value)
    found: dict[str, Chart] = {}
    for name, line in lines.items():
        base = name.removeprefix(_HELD_OUT).removesuffix(_REFERENCE)
        found.setdefault(base, Chart(base)).series.append(_thinned(line))
    return sorted(found.values(), key=lambda each: each.name == _SPEED)


def training_seconds(events: Iterable[Mapping[str, Any]]) -> float | None:
    """Time spent in training steps, None when the record does not say."""
    total, last_step = 0.0, 0
    for event in events:
        if event.get("event") == "metric" and event["values"].get(_SPEED) is not None:
            total += event["values"][_SPEED] * max(event["step"] - last_step, 0)
            last_step = event["step"]
    return total or None


def _role(name: str) -> Role:
    if name.endswith(_REFERENCE):
        return "reference"
    return "held-out" if name.startswith(_HELD_OUT) else "training"


def _append(line: Series, step: float, value: float | None) -> None:
    while line.steps and line.steps[-1] >= step:
        line.steps.pop()
        line.values.pop()
    line.steps.append(step)
    line.values.append(value)


def _thinned(line: Series) -> Series:
    """At most so many points as a screen has columns, each the mean of its neighbours."""
    if len(line.steps) <= _MAX_POINTS:
        return line
    size = -(-len(line.steps) // _MAX_POINTS)
    thin = Series(line.role)
    for start in range(0, len(line.steps), size):
        values = [each for each in line.values[start : start + size] if each is not None]
        thin.steps.append(line.steps[start : start + size][-1])
        thin.values.append(statistics.fmean(values) if values else None)
    return thin
