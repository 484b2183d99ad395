"""RESULTS.md: what the last run of each learning test measured, a section per family."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path

from pipelines.files import write_text

PATH = Path(__file__).parent / "RESULTS.md"
_HEAD = "# What the families learn\n\nWritten by `make learn`; each section by its last run.\n"


def record(family: str, rows: Sequence[tuple[str, str, str]], *, minutes: float) -> None:
    """Replace a family's section. rows: what was measured, the number, what is wanted."""
    text = PATH.read_text(encoding="utf-8") if PATH.exists() else _HEAD
    lines = [
        f"## {family}",
        "",
        f"{time.strftime('%Y-%m-%d')}, {minutes:.0f} min, {os.cpu_count()} CPU cores "
        f"({platform.machine()})",
        "",
        "| measured | found | wanted |",
        "| --- | --- | --- |",
        *(f"| {what} | {found} | {wanted} |" for what, found, wanted in rows),
        "",
    ]
    section = "\n".join(lines)
    older = re.compile(rf"^## {re.escape(family)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    text = older.sub("", text).rstrip() + "\n\n" + section
    write_text(PATH, text)
