"""Work spread over processes that end with their starter, however it ends.

Unlike concurrent.futures: a process that crashes costs its own task only, tasks report how far they
are, and no process is left behind when the starter is killed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, TypeVar

from pipelines.engines.config import Engine
from pipelines.events import Interrupted, UserError

Task = TypeVar("Task")

REPORT_S = 0.2
_STOP_S = 3.0


Progress = Callable[[float], None]
"""Called with the part of a task that is done, 0..1."""


@dataclass(frozen=True)
class Ended(Generic[Task]):
    """A task that has ended. crash: how its process died on it, if it did."""

    task: Task
    crash: str | None = None


def run(
    function: Callable[[Task, Progress], None] | Sequence[Callable[[Task, Progress], None]],
    tasks: Iterable[Task],
    *,
    jobs: int,
    on_progress: Callable[[Task, float], None],
) -> Generator[Ended[Task], None, None]:
    """Call function(task, progress) for every task, in `jobs` processes; yields them as they end.

    function must be importable (or one such for each process, where they differ in what they work
    on); with one job it runs in this process. What it raises is raised here.
    on_progress: called with a task and the part of it that is done.
    Close the iterator to end the processes early. Raises Interrupted when a process was told to
    stop, UserError when one was killed (most likely by the system, for lack of memory).
    """
    functions = list(function)[:jobs] if isinstance(function, Sequence) else [function] * jobs
    if jobs > 1:
        yield from _in_processes(functions, iter(tasks), on_progress)
        return
    for task in tasks:
        functions[0](task, partial(on_progress, task))
        yield Ended(task)


def spread(
    function: Callable[[Task, Progress], None] | Sequence[Callable[[Task, Progress], None]],
    tasks: Sequence[Task],
    *,
    engine: Engine,
    jobs: int,
    folder: Path,
    on_progress: Callable[[Task, float], None],
    num_gpus: int = 0,
) -> Generator[Ended[Task], None, None]:
    """The same as `run` on this machine, on a Ray cluster, or as an array job of SLURM.

    What the function writes must lie in a folder that all machines share. jobs: processes here,
    members of the array.  folder: for the array's files.  num_gpus: of each process elsewhere.
    """
    if engine == "local":
        yield from run(function, tasks, jobs=jobs, on_progress=on_progress)
        return
    from pipelines.engines.spread import run_on_ray, run_on_slurm

    one = function[0] if isinstance(function, Sequence) else function
    if engine == "ray":
        ended = run_on_ray(one, tasks, num_gpus=num_gpus)
    else:
        ended = run_on_slurm(one, tasks, num_shards=jobs, folder=folder, num_gpus=num_gpus)
    with contextlib.closing(ended):
        for task, crash in ended:
            yield Ended(task, crash)


def _in_processes(
    functions: Sequence[Callable[[Task, Progress], None]],
    tasks: Iterator[Task],
    on_progress: Callable[[Task, float], None],
) -> Generator[Ended[Task], None, None]:
    workers: dict[object, _Worker] = {}
    try:
        for function, task in zip(functions, tasks, strict=False):
            _start(function, task, workers)
        while workers:
            for pipe in wait([worker.pipe for worker in workers.values()]):
                worker = workers[pipe]
                news = worker.news()
                if isinstance(news, float):
                    on_progress(worker.task, news)
                    continue
                following = next(tasks, None)
                if following is None or news.crash:
                    worker.end()
                    del workers[pipe]
                    if following is not None:
                        _start(worker.function, following, workers)
                else:
                    worker.give(following)
                yield news
    finally:
        _end_all(workers.values())


def _start(function: Callable[..., None], task: object, workers: dict[object, _Worker]) -> None:
    worker = _Worker(function)
    workers[worker.pipe] = worker
    worker.give(task)


class _Worker:
    """A process that does one task after another. pipe: our end of the line to it."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(function, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.task: Any = None

    def give(self, task: object) -> None:
        """Start a task."""
        self.task = task
        with contextlib.suppress(ConnectionError):  # a process that has died shows in `news`
            self.pipe.send(task)

    def news(self) -> float | Ended[Any]:
        """How far the process is, or that its task has ended."""
        try:
            message = self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            return Ended(self.task, crash=_explain_exit(self.process.exitcode))
        if isinstance(message, float):
            return message
        if message is not None:
            raise message
        return Ended(self.task)

    def end(self) -> None:
        """Let the idle process go."""
        self.pipe.close()
        self.process.join()


def _end_all(workers: Iterable[_Worker]) -> None:
    started = list(workers)
    for worker in started:
        worker.process.terminate()
    until = time.monotonic() + _STOP_S
    for worker in started:
        worker.process.join(max(0.0, until - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.pipe.close()


def _explain_exit(code: int | None) -> str:
    if code is None or code >= 0:  # it could not even start to work
        raise RuntimeError(f"a process of the job ended with exit code {code}")
    number = -code
    if number in (signal.SIGTERM, signal.SIGINT):
        raise Interrupted
    if number == signal.SIGKILL:
        raise UserError(
            "a process was killed, most likely because memory ran out",
            {"to fix": "run the same command again with fewer --jobs; it goes on from here"},
        )
    return f"the process that read it died ({signal.Signals(number).name})"


def _serve(function: Callable[..., None], pipe: Connection) -> None:
    """The life of a process: tasks until the line is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the starter, which ends us
    threading.Thread(target=_die_with_starter, name="starter-watch", daemon=True).start()
    last = 0.0

    def progress(part: float) -> None:
        nonlocal last
        if time.monotonic() - last >= REPORT_S:
            last = time.monotonic()
            pipe.send(min(0.99, float(part)))

    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            function(task, progress)
        except Exception as problem:
            print(traceback.format_exc(), file=sys.stderr, flush=True)
            pipe.send(_sendable(problem))
        else:
            pipe.send(None)


def _sendable(problem: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(problem))
    except Exception:
        return RuntimeError("".join(traceback.format_exception_only(problem)).strip())
    return problem


def _die_with_starter() -> None:
    starter = multiprocessing.parent_process()
    assert starter is not None
    wait([starter.sentinel])
    os._exit(1)
