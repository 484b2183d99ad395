"""A job of the pipelines in a process of its own, for tests that interrupt or kill it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipelines.events import Work

PATIENCE_S = 120.0
"""How long a test waits for what must happen, on a machine however slow."""
ROOT = Path(__file__).parents[2]
_CODE = """
import importlib, sys
from pipelines.events import Work
job, request, text = sys.argv[1:]
def found(name):
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
if __name__ == "__main__":
    work = Work()
    work.install_signal_handlers()
    found(job)(found(request).model_validate_json(text), work)
"""


@contextlib.contextmanager
def running(
    job: Callable[[Any, Work], object], request: BaseModel
) -> Iterator[subprocess.Popen[str]]:
    """The job in a process group of its own, which is killed at the end of the block."""
    kind = type(request)
    names = [f"{each.__module__}:{each.__qualname__}" for each in (job, kind)]
    arguments = [sys.executable, "-c", _CODE, *names, request.model_dump_json()]
    process = subprocess.Popen(
        arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until it holds or the process has ended."""
    until = time.monotonic() + PATIENCE_S
    while not condition() and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.002)
