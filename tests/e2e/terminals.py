"""A terminal for tests: a program that believes a person is looking at it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

PATIENCE_S = 60.0


class Terminal:
    """A program on a terminal of its own. text: everything it has shown so far."""

    def __init__(self, command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self.text = ""
        self._read = 0
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env={**variables, "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(theirs)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def read_until(self, words: str) -> None:
        """Wait until words are shown that were not there at the last call."""
        end = time.monotonic() + PATIENCE_S
        while words not in self.text[self._read :]:
            assert self._take() and time.monotonic() < end, f"no {words!r} in {self.text}"
        self._read = self.text.index(words, self._read) + len(words)

    def type(self, line: str) -> None:
        """Type a line. A hidden question throws away what was typed before it is shown."""
        os.write(self._ours, line.encode() + b"\n")

    def wait(self) -> int:
        """Read to the end; returns the exit status."""
        while self._take():
            pass
        return self._process.wait(PATIENCE_S)

    def _take(self) -> bool:
        ready, _, _ = select.select([self._ours], [], [], PATIENCE_S)
        assert ready, f"nothing is shown any more: {self.text}"
        try:
            shown = os.read(self._ours, 65536)
        except OSError:  # how Linux says that nobody has the other end any more
            return False
        self.text += shown.decode("utf-8", "replace")
        return bool(shown)


def _take_terminal() -> None:
    import fcntl

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
