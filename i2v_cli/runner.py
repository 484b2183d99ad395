"""Runs a job: starts its worker, shows its events, passes Ctrl-C on, says why a worker died."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from i2v_cli import console, environments, jobs, locations
from i2v_cli.console import short
from i2v_cli.progress import Display, DisplayReporter, make_display
from pipelines.events import (
    EXIT_DONE,
    EXIT_ENVIRONMENT,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    UserError,
)
from pipelines.files import read_json

POLL_S = 0.2
STOP_GRACE_S = 20.0
"""Time for a worker to end after Ctrl-C: enough to write a large checkpoint."""
EXIT_GRACE_S = 10.0
"""Time for a worker to leave after it has said its last word."""
GROUP_GRACE_S = 1.0
"""Time for processes that a worker left behind to follow SIGTERM."""
TAIL_LINES, LONG_TAIL_LINES = 10, 60

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def carry_out(plan: jobs.Plan, display: Display | None = None) -> dict[str, Any]:
    """Do a planned job in its environment, which is made first if need be; returns its result.

    display: shows its events; the one that fits standard error when not given.
    Raises UserError when an input is missing, when it fails, and (exit code 130) when interrupted.
    """
    jobs.check_inputs(plan)
    interpreter = _ensure_environment(plan.target.env)
    job_path = jobs.write(plan)
    display = display or make_display()
    display.start(plan.title)
    try:
        return run_worker(job_path, interpreter, display, environment=plan.target.env)
    except UserError as problem:
        if problem.exit_code == EXIT_INTERRUPTED:
            details = plan.after_stop or {"kept": "what was finished before"}
            raise UserError(problem.message, details, EXIT_INTERRUPTED) from problem
        raise
    finally:
        display.close()


def dry_run(plan: jobs.Plan) -> console.Outcome:
    """What carry_out would do, without doing it."""
    state = environments.status(plan.target.env).state
    is_there = state in ("ready", "adopted")
    return jobs.describe(plan, state if is_there else jobs.environment_cost(plan.target.env))


def _ensure_environment(name: str) -> Path:
    reporter = DisplayReporter()
    try:
        return environments.ensure(name, reporter)
    finally:
        reporter.close()


def run_worker(
    job_path: Path, interpreter: Path, display: Display, *, environment: str = ""
) -> dict[str, Any]:
    """Start a worker on a job file and follow it to its end; returns its result.

    However this ends, no process of the worker is left. Raises UserError with the worker's own
    exit code, or with one that explains how it died.
    """
    log_path = job_path.parent / jobs.LOG_NAME
    with StopRequests() as stops, log_path.open("ab") as log:
        log_start = log.tell()
        worker = Worker(job_path, interpreter, log.fileno(), environment)
        try:
            worker.follow(display, stops)
        finally:
            worker.end_group()
    return _result(worker, stops, Log(log_path, log_start), environment)


class StopRequests:
    """Counts Ctrl-C, SIGTERM and a closed terminal instead of dying of them, within its block."""

    def __init__(self) -> None:
        self.count = 0
        self._former: dict[int, Any] = {}

    def __enter__(self) -> StopRequests:
        self._former = {number: signal.signal(number, self._note) for number in _STOP_SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1


class Log:
    """What a worker printed, from a position on (a continued run keeps its older log)."""

    def __init__(self, path: Path, start: int = 0) -> None:
        self.path = path
        self._start = start

    def tail(self, num_lines: int) -> str:
        """The last lines, without blank ones and, unless --verbose, without a traceback."""
        lines = self._lines()
        if not console.settings.is_verbose:
            lines = _without_traceback(lines)
        return "\n".join(lines[-num_lines:])

    def last_line(self) -> str:
        """The very last line; of a traceback, the one that names the error."""
        return (self._lines() or [""])[-1]

    def _lines(self) -> list[str]:
        try:
            with self.path.open("rb") as stream:
                end = stream.seek(0, os.SEEK_END)
                stream.seek(max(self._start, end - 65536))
                text = stream.read().decode("utf-8", "replace")
        except OSError:
            return []
        return [line.rstrip() for line in text.splitlines() if line.strip()]


class Worker:
    """A worker process, its pipe of events, and everything it started, as one group."""

    def __init__(self, job_path: Path, interpreter: Path, log_fd: int, environment: str) -> None:
        self.done: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self._rest = b""
        self._deadline = float("inf")
        self._stops_passed_on = 0
        self._events, write_end = os.pipe()
        worker_path = str(locations.worker_path())
        command = [str(interpreter), "-I", worker_path, str(job_path), str(write_end)]
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log_fd,
                stderr=log_fd,
                pass_fds=(write_end,),
                cwd=job_path.parent,
                env=environments.worker_environment(),
                start_new_session=True,
            )
        except OSError as error:
            os.close(self._events)
            raise _broken_environment(environment, error.strerror or str(error)) from error
        finally:
            os.close(write_end)

    def follow(self, display: Display, stops: StopRequests) -> None:
        """Show events and pass stops on until the worker has ended."""
        is_open = True
        while self.process.poll() is None:
            if is_open:
                is_open = self._read(display, POLL_S)
            else:
                time.sleep(POLL_S)
            self._heed(stops, display)
            if time.monotonic() > self._deadline:
                self._kill()
        while is_open and self._read(display, 0.0):
            pass

    def end_group(self) -> None:
        """See to it that nothing of the worker's group is left."""
        if self.process.poll() is None:
            self._kill()
            self.process.wait()
        os.close(self._events)
        end = time.monotonic() + GROUP_GRACE_S
        is_left = self._signal_group(signal.SIGTERM)
        while is_left and time.monotonic() < end:
            time.sleep(0.02)
            is_left = self._signal_group(0)
        if is_left:
            self._signal_group(signal.SIGKILL)

    def _read(self, display: Display, timeout_s: float) -> bool:
        """Take what is on the pipe, after at most so long; False when nothing will come."""
        ready, _, _ = select.select([self._events], [], [], timeout_s)
        if not ready:
            return timeout_s > 0
        chunk = os.read(self._events, 65536)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            event = parse_event(line)
            if event is not None:
                self._take(event)
                display.show(event)
        return bool(chunk)

    def _take(self, event: dict[str, Any]) -> None:
        if event["event"] == "done":
            self.done = event["result"]
        elif event["event"] == "error":
            self.error = event
        else:
            return
        self._deadline = min(self._deadline, time.monotonic() + EXIT_GRACE_S)

    def _heed(self, stops: StopRequests, display: Display) -> None:
        if stops.count == self._stops_passed_on:
            return
        is_first, self._stops_passed_on = self._stops_passed_on == 0, stops.count
        if is_first:
            display.notice("stopping in order; press Ctrl-C again to end at once")
            self._deadline = min(self._deadline, time.monotonic() + STOP_GRACE_S)
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGINT)
        else:
            self._kill()

    def _kill(self) -> None:
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: int) -> bool:
        """Signal every process of the group; False when there is none (0 only asks)."""
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True


def parse_event(line: bytes) -> dict[str, Any] | None:
    """The event in a line, or None.

    A worker that is stopped in the middle of a line leaves half of it before the next event; that
    next one is still understood.
    """
    start = line.rfind(b'{"event": ')
    with contextlib.suppress(ValueError):
        event = json.loads(line[start:] if start > 0 else line)
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            return event
    return None


def _result(worker: Worker, stops: StopRequests, log: Log, environment: str) -> dict[str, Any]:
    done, error = worker.done, worker.error
    if done is None and error is None:
        done, error = _read_result(log.path.parent / jobs.RESULT_NAME)
    if done is not None:
        return done
    if error is not None:
        raise _explain_error(error, log)
    if stops.count or worker.process.returncode == EXIT_INTERRUPTED:
        raise UserError("the job was interrupted", exit_code=EXIT_INTERRUPTED)
    raise explain_death(worker.process.returncode, log, environment)


def _read_result(path: Path) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """What the worker wrote when its last event did not come through."""
    try:
        report = read_json(path)
    except (OSError, ValueError):
        return None, None
    if report["exit_code"] == EXIT_DONE:
        return report["result"], None
    return None, {**report["error"], "exit_code": report["exit_code"]}


def _explain_error(error: Mapping[str, Any], log: Log) -> UserError:
    details = dict(error["details"])
    if error["exit_code"] == EXIT_FAILED:
        is_known = "to fix" in details
        details |= _log_details(log, with_tail=not is_known or console.settings.is_verbose)
    return UserError(error["message"], details, error["exit_code"])


def explain_death(returncode: int, log: Log, environment: str) -> UserError:
    """The error for a worker that ended without a last word, from its exit status and its log."""
    if returncode == -signal.SIGKILL:
        return UserError(
            "the worker was killed by the system, most likely because memory ran out",
            {
                "to fix": "lower batch_size, size_px or --jobs, or close other programs",
                **_log_details(log, with_tail=False),
            },
        )
    if returncode < 0:
        name = _signal_name(-returncode)
        return UserError(
            f"the worker crashed ({name})",
            {**_log_details(log, with_tail=True), "to fix": f"i2v env check {environment}".strip()},
        )
    last = log.last_line()
    if last.startswith(("ModuleNotFoundError", "ImportError")):
        return _broken_environment(environment, last)
    return UserError(
        f"the worker ended without a result (exit status {returncode})",
        _log_details(log, with_tail=True),
    )


def _broken_environment(environment: str, reason: str) -> UserError:
    return UserError(
        f"the environment '{environment}' does not work",
        {"reason": reason, "to fix": f"i2v env check {environment}".strip()},
        EXIT_ENVIRONMENT,
    )


def _log_details(log: Log, *, with_tail: bool) -> dict[str, str]:
    num_lines = LONG_TAIL_LINES if console.settings.is_verbose else TAIL_LINES
    tail = log.tail(num_lines) if with_tail else ""
    return {**({"last lines": tail} if tail else {}), "full log": short(log.path)}


def _without_traceback(lines: list[str]) -> list[str]:
    """The lines before the trace of calls that ends a log; a user has no use for that."""
    starts = ("Traceback (most recent call", "Current thread 0x", "Thread 0x")
    for number, line in enumerate(lines):
        if line.startswith(starts):
            return lines[:number]
    return lines


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
