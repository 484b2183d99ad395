"""Stands in for `i2v report`."""

from __future__ import annotations

from typing import Any

from pipelines.events import Work
from pipelines.files import write_text
from pipelines.report.config import ReportRequest


def report(request: ReportRequest, work: Work) -> dict[str, Any]:
    """Write an empty page."""
    write_text(request.out_dir / "index.html", "<html></html>")
    return {}
