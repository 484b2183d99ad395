"""Two sources measured on the same real videos: is the one better, or is it chance?

The interval is of the difference, video by video or from the same subsets of videos, and so is
narrower than the two intervals suggest: what makes a start image hard is hard for both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.metrics.frechet_set import FrechetMetric
from pipelines.metrics.result import interval_around, mean_and_error, short
from pipelines.metrics.scenes import Metric

if TYPE_CHECKING:
    from pipelines.metrics.evaluate import Measured


def differences(first: Measured, second: Measured) -> dict[str, Any]:
    """A table: metric, both values, second minus first with its 95 % interval, what that means."""
    columns = ["metric", first.label, second.label, "difference", "95 % interval", "verdict"]
    rows, found = [], []
    results = zip(first.results(), second.results(), strict=True)
    values = {a.metric: (a, b.value) for a, b in results}
    for name in first.metrics:
        pair = _difference(first.metrics[name], second.metrics[name])
        mine = next(
            (key for key in values if key == name or key.startswith(name.partition("/")[0])), name
        )
        result, other = values[mine]
        delta, error = pair if pair is not None else (other - result.value, None)
        interval = interval_around(delta, error)
        verdict = _verdict(interval, result.better)
        between = " to ".join(short(end) for end in interval) if interval else ""
        rows.append([mine, short(result.value), short(other), short(delta), between, verdict])
        found.append(
            {
                "metric": mine,
                "first": result.value,
                "second": other,
                "difference": delta,
                "interval": interval,
                "verdict": verdict,
            }
        )
    return {"columns": columns, "rows": rows, "differences": found}


def _difference(first: Metric, second: Metric) -> tuple[float, float | None] | None:
    """Second minus first and its standard error; None where no pairs are known."""
    if isinstance(first, FrechetMetric) and isinstance(second, FrechetMetric):
        return second.paired_spread(first)
    if not (hasattr(first, "values") and hasattr(second, "values")):
        return None
    mine, theirs = first.values(), second.values()
    shared = sorted(mine.keys() & theirs.keys())
    return mean_and_error([theirs[name] - mine[name] for name in shared]) if shared else None


def _verdict(interval: tuple[float, float] | None, better: str) -> str:
    if interval is None:
        return "too few videos to tell"
    if interval[0] <= 0 <= interval[1]:
        return "no difference beyond chance"
    if better == "near reference":
        return "they differ"
    is_higher = interval[0] > 0
    return "the second is better" if is_higher == (better == "higher") else "the first is better"
