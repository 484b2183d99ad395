"""Files behind a log-in that no program should automate: a person gets them, we take them over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.events import EXIT_NO_DATA
from pipelines.io.download import Fetched, Meter, SourceClosed, Wanted


class ByHandFetcher:
    """Says what to get and where to put it.

    url: the page to open.  how: one line on what to do there.  folder: where the files may be put.
    command: what to type afterwards.
    """

    max_parallel = 1

    def __init__(
        self, url: str, wanted: Sequence[Wanted], *, how: str, folder: Path, command: str
    ) -> None:
        self.url = url
        self._wanted = list(wanted)
        self._how = how
        self._folder = folder
        self._command = command

    def list_files(self) -> list[Wanted]:
        """The files by name."""
        return self._wanted

    def measure(self, wanted: Wanted) -> Wanted:
        """The file as it is: nobody is asked."""
        return wanted

    def fetch(self, wanted: Wanted, destination: Path, meter: Meter) -> Fetched:
        """Always raises: the remedy is in the error."""
        problem = SourceClosed(
            f"'{wanted.name}' has to be got by hand",
            {
                "open": self.url,
                "what to do": self._how,
                "files": ", ".join(each.name for each in self._wanted),
                "put them into": self._folder,
                "then run": self._command,
            },
        )
        problem.exit_code = EXIT_NO_DATA
        raise problem
