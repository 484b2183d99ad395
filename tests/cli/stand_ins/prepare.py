"""Stands in for `i2v extract-frames`."""

from __future__ import annotations

from typing import Any

from pipelines.datasets.config import ExtractRequest
from pipelines.events import Work
from pipelines.files import write_json


def extract_frames(request: ExtractRequest, work: Work) -> dict[str, Any]:
    """Write the file that says a prepared variant is complete."""
    variant_dir = request.data_root / request.name / "prepared" / f"{request.size_px}px"
    is_done = variant_dir.exists()
    write_json(variant_dir / "index.json", {"size_px": request.size_px})
    return {"variant_dir": str(variant_dir), "is_new": not is_done}
