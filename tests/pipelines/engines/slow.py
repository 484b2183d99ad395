"""Extraction on a cluster of which a node will be lost while it has an item."""

from __future__ import annotations

import time
from pathlib import Path

from pipelines.datasets.extraction import Task, extract
from pipelines.datasets.processes import Progress

PATIENCE_S = 240.0


def extract_unless_doomed(task: Task, progress: Progress) -> None:
    """Extract a video, once the doomed node has one too; that node never ends.

    Beside the data root, doomed.txt has the node's name and begun.txt a line for each video that
    was begun, with its node's.
    """
    import ray

    node = ray.get_runtime_context().get_node_id()
    folder = Path(task.request.data_root).parent
    doomed, begun_path = (folder / "doomed.txt").read_text(), folder / "begun.txt"
    with begun_path.open("a") as stream:
        stream.write(f"{task.number} {node}\n")
    end = time.monotonic() + PATIENCE_S
    while node == doomed or doomed not in begun_path.read_text():
        time.sleep(0.02)
        assert time.monotonic() < end, "the node was not lost"
    extract(task, progress)
