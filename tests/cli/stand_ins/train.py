"""Stands in for `i2v train cinn`: leaves the same files in the run folder, learns nothing."""

from __future__ import annotations

import time
from typing import Any

import yaml

from pipelines.cinn.config import TrainRequest
from pipelines.events import Interrupted, UserError, Work
from pipelines.files import folder_lock, write_json, write_text


def train(request: TrainRequest, work: Work) -> dict[str, Any]:
    """Ten steps, a checkpoint at the end; `train.seed` 1 waits to be stopped, 2 fails at once."""
    with folder_lock(request.run_dir):
        settings = request.model_dump(mode="json")
        write_text(request.run_dir / "config.yaml", yaml.safe_dump(settings))
        _record(request, "running")
        if request.config.train.seed == 2:
            _record(request, "failed")
            raise UserError("training diverged")
        _checkpoint(request, 5)
        if request.config.train.seed == 1:
            _wait(request, work)
        _checkpoint(request, request.max_steps or 10)
        _record(request, "done")
    return {"step": request.max_steps or 10}


def _wait(request: TrainRequest, work: Work) -> None:
    (request.run_dir / "waiting").touch()
    try:
        time.sleep(600)
    except Interrupted:
        _record(request, "stopped")
        raise


def _record(request: TrainRequest, status: str) -> None:
    record = {"family": "cinn", "stage": request.stage, "version": 1, "status": status}
    write_json(request.run_dir / "run.json", record)


def _checkpoint(request: TrainRequest, step: int) -> None:
    write_json(request.run_dir / "checkpoints" / f"step-{step:08d}" / "meta.json", {"step": step})
