"""RESULTS.md: what the last full run of each family's learning test measured, a section per family.

A family's test module tells its name as FAMILY, trains in a fixture of its own that asks for
`findings` (conftest.py), and adds a row for each number that it measures:

    findings.add("what was measured", f"{value:.2f}", "at least 2")

The section is written after the module's last test, in the full form (`make learn`) only. The short
form, which `make test` runs, has fewer steps and thresholds of its own: see `is_full`.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from pipelines.files import write_text

PATH = Path(__file__).parent / "RESULTS.md"
LENGTH_VARIABLE = "I2V_LEARN"
"""`full` trains long enough for the numbers of RESULTS.md; anything else means the short form."""

FOLDER_VARIABLE = "I2V_LEARN_DIR"
"""A folder to keep data and runs in, one folder per family; another call goes on with them."""

_HEAD = "# What the families learn\n\nWritten by `make learn`; each section by its last run.\n"
_SECTION = re.compile(r"^## (?P<family>.+?)\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


class Row(NamedTuple):
    """One line of a family's table, as it will be read."""

    what: str
    found: str
    wanted: str


@dataclass
class Findings:
    """What the tests of one family measured, and since when."""

    family: str
    rows: list[Row] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    note: str = ""

    def add(self, what: str, found: str, wanted: str) -> None:
        """Keep a line for the family's table; before the assert, so that a miss is told too."""
        self.rows.append(Row(what, found, wanted))

    def folder(self, factory: pytest.TempPathFactory) -> Path:
        """Where to train: a temporary folder, or a kept one, of which the table then tells."""
        kept = os.environ.get(FOLDER_VARIABLE)
        if kept is None:
            return factory.mktemp(self.family)
        folder = Path(kept).resolve() / self.family
        if folder.exists():
            self.note = "went on with kept runs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def minutes(self) -> float:
        """Time since the beginning, training included."""
        return (time.monotonic() - self.started) / 60


def is_full() -> bool:
    """Whether to train in full: `make learn`. Otherwise the short form, within `make test`."""
    return os.environ.get(LENGTH_VARIABLE) == "full"


def record(
    family: str, rows: Sequence[Row], *, minutes: float, note: str = "", path: Path = PATH
) -> None:
    """Replace a family's section; families stand in the order of their names."""
    took = f"{minutes:.0f} min" + (f" ({note})" if note else "")
    text = path.read_text(encoding="utf-8") if path.exists() else _HEAD
    sections = {found["family"]: found[0].rstrip() for found in _SECTION.finditer(text)}
    sections[family] = "\n".join(
        [
            f"## {family}",
            "",
            f"{time.strftime('%Y-%m-%d')}, {took}, {os.cpu_count()} CPU cores "
            f"({platform.machine()}), load {os.getloadavg()[0]:.1f}",
            "",
            "| measured | found | wanted |",
            "| --- | --- | --- |",
            *(f"| {row.what} | {row.found} | {row.wanted} |" for row in rows),
        ]
    )
    parts = [_HEAD, *(f"{sections[name]}\n" for name in sorted(sections))]
    write_text(path, "\n".join(parts))
