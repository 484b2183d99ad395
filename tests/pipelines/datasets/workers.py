"""Real workers for tests that kill them: started on a job file, followed by their events."""

from __future__ import annotations

import json
import os
import random
import resource
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.schema import Config, Job

ROOT = Path(__file__).parents[3]
PATIENCE_S = 120.0


class RunningWorker:
    """A worker at its job. record_dir: what it writes down."""

    def __init__(self, job_path: Path, *, file_limit: int | None) -> None:
        self.record_dir = job_path.parent
        self._events, write_end = os.pipe()
        limit = (file_limit, file_limit)
        self.process = subprocess.Popen(
            [sys.executable, "-I", "pipelines/worker.py", str(job_path), str(write_end)],
            cwd=ROOT,
            pass_fds=[write_end],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: (
                None if file_limit is None else resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            ),
        )
        os.close(write_end)

    def wait_for_work(self) -> None:
        """Until it says something for the first time: its imports are behind it."""
        ready, _, _ = select.select([self._events], [], [], PATIENCE_S)
        assert ready, "the worker says nothing"

    def wait(self, timeout_s: float = PATIENCE_S) -> bool:
        """Read what it says, at most so long; returns whether it has ended."""
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select([self._events], [], [], left)
            if ready and not os.read(self._events, 65536):
                self.process.wait(PATIENCE_S)
                return True
        return False

    def kill(self) -> None:
        """SIGKILL, to it alone."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.kill()
        os.close(self._events)

    @property
    def report(self) -> dict[str, Any]:
        """Its result.json."""
        value: dict[str, Any] = json.loads((self.record_dir / "result.json").read_text())
        return value


@contextmanager
def worker(
    root: Path, target: str, request: Config, *, file_limit: int | None = None
) -> Iterator[RunningWorker]:
    """Start a worker that keeps its record below `root`; it is gone when the block ends.

    file_limit: bytes that no file of it may exceed, as on a disk that is full then.
    """
    record_dir = root / "record"
    record_dir.mkdir(parents=True, exist_ok=True)
    kind = type(request)
    job = Job(
        verb="a test",
        target=target,
        config_class=f"{kind.__module__}:{kind.__name__}",
        config=request.model_dump(mode="json"),
        record_dir=record_dir,
    )
    (record_dir / "job.json").write_text(job.model_dump_json())
    running = RunningWorker(record_dir / "job.json", file_limit=file_limit)
    try:
        yield running
    finally:
        running.close()


def duration_s(root: Path, target: str, request: Config) -> float:
    """How long a worker that is left alone works, its imports left out."""
    with worker(root, target, request) as running:
        running.wait_for_work()
        began = time.monotonic()
        assert running.wait()
        assert running.process.returncode == 0, running.report
        return time.monotonic() - began


def kill_at_random(
    root: Path, target: str, request: Config, *, draw: random.Random, longest_s: float
) -> bool:
    """Start a worker and kill it at a random moment; returns whether it was still at work.

    One in ten is killed before it begins, the others at any moment of its work.
    """
    is_early = draw.random() < 0.1
    with worker(root, target, request) as running:
        if is_early:
            time.sleep(draw.uniform(0, 0.3))
        else:
            running.wait_for_work()
            if running.wait(draw.uniform(0, longest_s)):
                assert running.process.returncode == 0, running.report
                return False
        running.kill()
        return True
