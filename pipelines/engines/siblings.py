"""The other processes of a training on several devices of this machine (`--devices`).

This process becomes number 0 of them; each other one is the same worker on the same job. Whoever
fails first says why, and none is left behind.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pipelines.engines.config import DEVICE_VARIABLE
from pipelines.events import UserError

_GRACE_S = 20.0
"""Time for this process to notice by itself that another one is gone."""


@contextmanager
def siblings(job_path: Path, devices: Sequence[str]) -> Iterator[None]:
    """Start a process for each device but the first, which is this one's; end them with the block.

    Raises UserError with the words of the process that failed first, when one did.
    """
    if len(devices) < 2:
        yield
        return
    shared = {
        "WORLD_SIZE": str(len(devices)),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
    }
    others = [
        _Sibling(job_path, shared | _own(rank, device))
        for rank, device in enumerate(devices)
        if rank
    ]
    os.environ.update(shared | _own(0, devices[0]))
    try:
        yield
    except Exception as problem:
        first = next((each.failure() for each in others if each.failure()), None)
        if first is not None and not isinstance(problem, UserError):
            raise first from problem
        raise
    finally:
        for each in others:
            each.end()


class _Sibling:
    """Another process of this training, and what it says at its end."""

    def __init__(self, job_path: Path, variables: dict[str, str]) -> None:
        self._rank = variables["RANK"]
        self._error: UserError | None = None
        self._is_ending = False
        read_end, write_end = os.pipe()
        worker_path = Path(__file__).resolve().parents[1] / "worker.py"
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(worker_path), str(job_path), str(write_end)],
            stdin=subprocess.DEVNULL,
            pass_fds=(write_end,),
            env={**os.environ, **variables},
        )
        os.close(write_end)
        self._watch = threading.Thread(target=self._follow, args=(read_end,), daemon=True)
        self._watch.start()

    def failure(self) -> UserError | None:
        """Why it ended, when it was not told to."""
        self._watch.join(2.0)
        return self._error

    def end(self) -> None:
        """See to it that it is gone."""
        self._is_ending = True
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S if self._process.poll() is None else 0)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _follow(self, read_end: int) -> None:
        found = None
        with os.fdopen(read_end, encoding="utf-8") as stream:
            for line in stream:
                with suppress(ValueError):
                    event = json.loads(line)
                    found = event if event.get("event") == "error" else found
        status = self._process.wait()
        if status == 0 or self._is_ending:
            return
        if found:
            self._error = UserError(found["message"], found["details"], found["exit_code"])
        else:
            how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            self._error = UserError(
                f"process {self._rank} of the training ended ({how})",
                {"to fix": "see the log; if memory ran out, lower batch_size"},
            )


def _own(rank: int, device: str) -> dict[str, str]:
    return {"RANK": str(rank), "LOCAL_RANK": str(rank), DEVICE_VARIABLE: device}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
