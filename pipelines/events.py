"""What a worker says while it works: one JSON object per line on a pipe of its own.

Light: standard library only. Kinds of events and their fields:
  progress  task, done, total (or null), unit      many per second are thinned out here
  metric    step, values {name: number}            also kept in events.jsonl
  log       text                                   "
  artifact  path, kind                             "
  warning   message                                "
  address   url                                    shown, never kept: it may hold a key
  error     message, details, exit_code            "
  done      result                                 "
Every event has `event` and `time` (seconds since 1970).
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_ENVIRONMENT, EXIT_NO_DATA = 0, 1, 2, 3, 4
EXIT_INTERRUPTED = 130

_PROGRESS_INTERVAL_S = 0.1


class UserError(Exception):
    """Something the user can put right: what happened, where, and what to do.

    message: one line, no full stop.  details: label -> text, printed in order as aligned lines, the
    last of them a remedy, such as {"looked in": "data/x", "run first": "i2v extract-frames x"}.
    exit_code: 1 the job failed, 2 wrong usage or config, 3 environment, 4 input data missing.
    """

    def __init__(
        self,
        message: str,
        details: Mapping[str, object] | None = None,
        exit_code: int = EXIT_FAILED,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = {key: str(value) for key, value in (details or {}).items()}
        self.exit_code = exit_code


class Interrupted(BaseException):
    """The user or the system asked the worker to stop."""


class Work:
    """A running job's line to the outside: reports progress and says when to stop.

    A stop (Ctrl-C, SIGTERM, the parent gone) raises Interrupted where the work happens to be,
    except inside `stops_at_boundaries`, where the code asks `stopping` where it suits it.
    """

    def __init__(self, stream: IO[str] | None = None, record: Path | None = None) -> None:
        self._stream = stream
        self._record = record.open("a", encoding="utf-8") if record else None
        self._last_progress: dict[str, float] = {}
        self._deferring = False
        self.stopping = False

    def progress(self, task: str, done: float, total: float | None = None, unit: str = "") -> None:
        """Say how far `task` is; the last call of a task should have done == total."""
        now = time.monotonic()
        finished = total is not None and done >= total
        if not finished and now - self._last_progress.get(task, -1.0) < _PROGRESS_INTERVAL_S:
            return
        self._last_progress[task] = now
        self._emit("progress", keep=False, task=task, done=done, total=total, unit=unit)

    def metric(self, step: int, values: Mapping[str, float]) -> None:
        """Record scalar values at a step; a value that is not finite is recorded as null."""
        clean = {k: float(v) if math.isfinite(v) else None for k, v in values.items()}
        self._emit("metric", step=step, values=clean)

    def log(self, text: str) -> None:
        """Say one line that a user wants to see and that belongs into the record."""
        self._emit("log", text=text)

    def artifact(self, path: Path, kind: str) -> None:
        """Name a file or folder that the job made (kind: video, grid, report, checkpoint, ...)."""
        self._emit("artifact", path=str(path), kind=kind)

    def warning(self, message: str) -> None:
        """Say something the user should know although the work goes on."""
        self._emit("warning", message=message)

    def address(self, url: str) -> None:
        """Say where a page is open; nothing is kept of it, since it may hold a key."""
        self._emit("address", keep=False, url=url)

    def error(self, error: UserError) -> None:
        """Report the failure that ends the job."""
        self._emit("error", message=error.message, details=error.details, exit_code=error.exit_code)

    def done(self, result: Mapping[str, Any]) -> None:
        """Report the result that ends the job."""
        self._emit("done", result=result)

    @contextmanager
    def stops_at_boundaries(self) -> Iterator[None]:
        """Within this block a stop only sets `stopping`; leaving it raises if one was asked for."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self.stopping:
            raise Interrupted

    def ask_to_stop(self, *_: object) -> None:
        """Signal handler: the first call stops in order, a second one at once."""
        again, self.stopping = self.stopping, True
        if again or not self._deferring:
            raise Interrupted

    def install_signal_handlers(self) -> None:
        """Let Ctrl-C and SIGTERM stop this job in order."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.ask_to_stop)

    def close(self) -> None:
        """Close the record and the pipe."""
        for stream in (self._record, self._stream):
            if stream:
                stream.close()

    def _emit(self, event: str, keep: bool = True, **fields: object) -> None:
        line = json.dumps({"event": event, "time": round(time.time(), 3), **fields}, default=str)
        if keep and self._record:
            self._record.write(line + "\n")
            self._record.flush()
        if self._stream:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (
                BrokenPipeError
            ):  # the program that started us is gone: nobody waits for the result
                self._stream = None
                # to the main thread by name: another one would take the signal and stop nothing
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a record, oldest first; a torn line (the machine went down) is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue
