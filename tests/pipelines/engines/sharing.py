"""What holds for every job whose items may be made by several calls."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.events import Work

Job = Callable[[Any, Work], dict[str, Any]]


def folder_bytes(folder: Path) -> dict[str, bytes]:
    """Name -> content of all files in a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def written(job: Job, request: Any) -> dict[str, bytes]:
    """What a job writes into its folder, which is then deleted."""
    job(request, Work())
    found = folder_bytes(request.out_dir)
    shutil.rmtree(request.out_dir)
    return found


def check_shards(job: Job, request: Any, *, total: int) -> None:
    """Shards in any order and a last call give the files of one call."""
    whole = written(job, request)
    assert "meta.json" in whole
    for shard in ("1/2", "0/2"):
        job(request.model_copy(update={"shard": shard}), Work())
    parts = request.out_dir.with_name(f"{request.out_dir.name}.parts")
    assert not request.out_dir.exists()
    assert len(list(parts.rglob("*.npy"))) == total
    assert written(job, request) == whole
    assert not parts.exists()
