"""Writing files of a run while its training goes on, one piece of work at a time for each run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class _Writer:
    """What is being written for a run, and the error that a caller has not heard of yet."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, work: Callable[[], object]) -> None:
        self.finish()
        self._thread = threading.Thread(target=self._do, args=(work,), name="background-writer")
        self._thread.start()

    def finish(self) -> None:
        if self._thread is threading.current_thread():
            return
        if self._thread is not None:
            self._thread.join()
        self._thread, error, self._error = None, self._error, None
        if error is not None:
            raise error

    def _do(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            self._error = error


_writers: dict[Path, _Writer] = {}


@contextmanager
def writing(run_dir: Path) -> Iterator[None]:
    """Within this block `start` may write for this run; all is written when the block ends.

    What goes wrong then is raised, unless the block ends with another error.
    """
    writer = _writers[run_dir] = _Writer()
    try:
        yield
        writer.finish()
    except BaseException:
        try:
            writer.finish()
        except Exception as error:  # the first error is the one to tell
            print(f"while the training ended: {error}", flush=True)
        raise
    finally:
        del _writers[run_dir]


def is_open(run_dir: Path) -> bool:
    """Whether `start` may be called for a run."""
    return run_dir in _writers


def start(run_dir: Path, work: Callable[[], object]) -> None:
    """Do work in a thread after what is under way for this run; its error is raised by the next
    `start` or `finish`.
    """
    _writers[run_dir].start(work)


def finish(run_dir: Path) -> None:
    """Wait until nothing is being written for a run. Raises what went wrong."""
    if run_dir in _writers:
        _writers[run_dir].finish()
