"""Items that take a moment, so that a machine can be lost while it has one."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pipelines.datasets.extraction import Task, extract
from pipelines.datasets.processes import Progress

SECONDS = 1.5


def slow_extract(task: Task, progress: Progress) -> None:
    """Extract a video, after a line in a file that says which one was begun, and on which node."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    log_path = Path(os.environ["I2V_TEST_BEGUN"])
    with log_path.open("a") as stream:
        stream.write(f"{task.number} {node}\n")
    time.sleep(SECONDS)
    extract(task, progress)
