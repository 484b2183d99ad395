"""What a training will take, from measured steps: memory, time for 1,000 steps, disk.

conf/costs.yaml has, for each stage that was measured, time and memory as lines over what is in a
batch: clips x frames x side x side of pixels, or clips x poses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import yaml

from i2v_cli import locations

_KEPT_AT_ONCE = 1
"""Checkpoints beyond train.keep while a new one is written."""


def lines_for(
    family: str, stage: str, settings: Mapping[str, Any], *, preset: str | None
) -> list[str]:
    """The estimate in words, one line or two; says so where a stage has not been measured."""
    cost = _cost_of(family, stage)
    if cost is None:
        return [f"# estimate: none, stage {stage} of {family} has not been measured"]
    seconds, memory_mb, disk_mb = estimate(cost, settings)
    count = len(settings["train"].get("devices", ())) or 1
    lines = [
        f"# estimate: {memory_mb / 1e3:.1f} GB of memory, {_duration(1000 * seconds)} per 1,000 "
        f"steps, {disk_mb / 1e3:.2f} GB of disk",
        f"#   from steps measured on {cost['device']} with the networks of preset "
        f"'{cost['preset']}'",
    ]
    if preset != cost["preset"]:
        lines[-1] += "; wider networks take more"
    if count > 1:
        lines[-1] += f"; {count} processes share each batch"
    return lines


def estimate(cost: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[float, float, float]:
    """Seconds of a step, MB of memory beyond the libraries' own, MB of checkpoints."""
    named = {name: float(_value(settings, dotted)) for name, dotted in cost["settings"].items()}
    pixels = named["batch"] * named.get("num_frames", 1.0) * named.get("size_px", 1.0) ** 2
    seconds, memory_mb = (_on_line(cost[name], pixels) for name in ("seconds", "memory_mb"))
    num_kept = settings["train"]["keep"] + _KEPT_AT_ONCE
    return seconds, memory_mb, num_kept * float(cost["checkpoint_mb"])


def _on_line(line: Mapping[str, float], pixels: float) -> float:
    return line["fixed"] + line["per_million"] * pixels / 1e6


def _cost_of(family: str, stage: str) -> Mapping[str, Any] | None:
    path = locations.conf_dir() / "costs.yaml"
    if not path.exists():
        return None
    rows: list[Mapping[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]
    return next((row for row in rows if (row["family"], row["stage"]) == (family, stage)), None)


def _value(settings: Mapping[str, Any], dotted: str) -> Any:
    found: Any = settings
    for part in dotted.split("."):
        found = found[part]
    return found


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{math.ceil(seconds / 3600)} h"
