"""Stands in for `i2v sample cinn` and `i2v transfer cinn`."""

from __future__ import annotations

from typing import Any

from pipelines.cinn.config import SampleRequest, TransferRequest
from pipelines.events import Work
from pipelines.files import write_json


def sample(request: SampleRequest, work: Work) -> dict[str, Any]:
    """Write down what was asked for."""
    write_json(request.out_dir / "meta.json", request.model_dump(mode="json"))
    return {"num_videos": request.num * len(request.images)}


def transfer(request: TransferRequest, work: Work) -> dict[str, Any]:
    """Write down what was asked for."""
    write_json(request.out_dir / "meta.json", request.model_dump(mode="json"))
    return {"num_videos": len(request.images)}
