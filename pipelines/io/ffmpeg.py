"""Running the ffmpeg program that comes with imageio-ffmpeg; `ffmpeg-python` builds its arguments.

A video is handed over as an open file (`fd:`), so that no name, however odd, is ever read as an
option or shows up in what ffmpeg prints.
"""

from __future__ import annotations

import contextlib
import functools
import subprocess
import threading
from collections import deque
from typing import IO, Any

import ffmpeg
import imageio_ffmpeg
import numpy as np

from pipelines.events import EXIT_ENVIRONMENT, UserError

KEPT_MESSAGES = 1000
PIPE_BYTES = 2**20


@functools.cache
def program() -> str:
    """Path of the ffmpeg program. Raises UserError with exit code 3 when there is none."""
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as problem:
        raise UserError(
            "ffmpeg is missing from this environment",
            {"reason": problem, "to fix": "i2v env check"},
            EXIT_ENVIRONMENT,
        ) from problem


def command(stream: Any, *flags: str, loglevel: str = "warning") -> list[str]:
    """The argument list for a stream built with ffmpeg-python.

    Never reads from the terminal, and writes without asking.
    """
    start = [program(), "-hide_banner", "-nostdin", "-nostats", "-y", "-v", loglevel, *flags]
    return [str(argument) for argument in ffmpeg.compile(stream, cmd=start)]


def _widen(pipe: IO[bytes] | None) -> None:
    """Ask for a larger pipe, so that both sides wait less; the system may refuse."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        if pipe:
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)


class Process:
    """A running ffmpeg. Leaving the block kills it if it still runs, and keeps its last messages.

    It gets a process group of its own: Ctrl-C reaches only us, so an interruption never looks like
    a damaged video.
    """

    def __init__(
        self,
        arguments: list[str],
        *,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
    ) -> None:
        self._process = subprocess.Popen(
            arguments, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, process_group=0
        )
        _widen(self._process.stdin or self._process.stdout)
        self._messages: deque[str] = deque(maxlen=KEPT_MESSAGES)
        self._listener = threading.Thread(target=self._listen, name="ffmpeg-log", daemon=True)
        self._listener.start()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(OSError):  # what it had not read yet is lost with it
                    pipe.close()
        self._listener.join()
        if self._process.stderr:
            self._process.stderr.close()

    def read_into(self, buffer: np.ndarray) -> int:
        """Fill a flat uint8 array from its output; returns the bytes read, fewer at the end."""
        assert self._process.stdout is not None
        view, filled = buffer.data, 0
        while filled < len(view):
            count = self._process.stdout.readinto(view[filled:])  # type: ignore[attr-defined]
            if not count:
                break
            filled += count
        return filled

    def write(self, data: np.ndarray) -> None:
        """Give it bytes. Raises BrokenPipeError when it has ended early."""
        assert self._process.stdin is not None
        self._process.stdin.write(np.ascontiguousarray(data).data)

    def read_text(self) -> str:
        """All of its output, for outputs known to be small."""
        assert self._process.stdout is not None
        return self._process.stdout.read().decode("utf-8", "replace")

    def finish(self) -> int:
        """Close its input, wait for it to end, return its exit status."""
        if self._process.stdin:
            self._process.stdin.close()
        status = self._process.wait()
        self._listener.join()
        return status

    @property
    def messages(self) -> list[str]:
        """The last lines it printed."""
        return list(self._messages)

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._messages.append(line.decode("utf-8", "replace").rstrip())
