"""RESULTS.md: the newest row of every measurement as a table, drawn from results.jsonl."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.benchmarks.rows import is_met

Row = Mapping[str, Any]

_HEAD = """# Measurements

Written by `python -m tests.benchmarks --write-results` from the rows in `results.jsonl`.
A value is the median of several; the spread is from the smallest to the largest.
"""

FOLDER = Path(__file__).resolve().parent


def keep_and_write(rows: Sequence[Row], folder: Path = FOLDER) -> Path:
    """Put new rows in the place of all older ones of the same benchmarks on the same hardware.

    Returns the path of RESULTS.md, written again from all rows.
    """
    kept_path = folder / "results.jsonl"
    lines = kept_path.read_text(encoding="utf-8").splitlines() if kept_path.exists() else []
    measured = {_place(row) for row in rows}
    older = [row for row in map(json.loads, lines) if _place(row) not in measured]
    # stable, so that the rows of a benchmark stay in the order in which it measures them
    every = sorted([*older, *rows], key=_place)
    kept_path.write_text("".join(f"{json.dumps(row)}\n" for row in every), encoding="utf-8")
    results_path = folder / "RESULTS.md"
    results_path.write_text(results_page(every), encoding="utf-8")
    return results_path


def results_page(rows: Sequence[Row]) -> str:
    """Markdown: a table per benchmark and machine."""
    parts = [_HEAD]
    for _, group in groupby(rows, _place):
        parts.append(_table(list(group)))
    return "\n".join(parts)


def _place(row: Row) -> tuple[str, str, int, str]:
    hardware = row["hardware"]
    return row["benchmark"], hardware["cpu"], hardware["cores"], hardware["gpu"] or ""


def _table(rows: Sequence[Row]) -> str:
    hardware = rows[0]["hardware"]
    machine = f"{hardware['cpu']}, {hardware['cores']} cores"
    if hardware["gpu"]:
        machine += f", {hardware['gpu']}"
    versions: dict[str, str] = {}
    for row in rows:
        versions |= row["versions"]
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    dates = sorted({row["measured"] for row in rows})
    lines = [
        f"## {rows[0]['benchmark']}\n",
        f"{machine}. {told}. Measured {dates[-1]}, load {_loads(rows)}.\n",
        "| what | value | spread | unit | aim | peak memory, MB | note |",
        "| --- | ---: | --- | --- | --- | ---: | --- |",
        *map(_line, rows),
    ]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    low, high = row["spread"]
    memory = f"{row['peak_memory_mb']:.0f}"
    if row["peak_gpu_memory_mb"] is not None:
        memory += f", GPU {row['peak_gpu_memory_mb']:.0f}"
    spread = f"{low:g} to {high:g}" if row["repeats"] > 1 else ""
    cells = (row["name"], f"{row['value']:g}", spread, row["unit"], _aim(row), memory, row["note"])
    return f"| {' | '.join(cells)} |"


def _aim(row: Row) -> str:
    aims = [("at least", row["at_least"]), ("at most", row["at_most"])]
    told = " and ".join(f"{word} {value:g}" for word, value in aims if value is not None)
    return f"{told}: {'met' if is_met(row) else 'missed'}" if told else ""


def _loads(rows: Sequence[Row]) -> str:
    loads = [row["hardware"]["load"] for row in rows]
    return f"{min(loads):g} to {max(loads):g}"
