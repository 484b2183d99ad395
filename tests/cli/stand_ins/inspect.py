"""Stands in for `i2v data`."""

from __future__ import annotations

from typing import Any

from pipelines.datasets.config import InspectRequest
from pipelines.events import Work


def list_data(request: InspectRequest, work: Work) -> dict[str, Any]:
    """A table of one dataset."""
    return {"columns": ["dataset", "videos"], "rows": [["synthetic", "96"]]}
