"""What the processes of a training but the first one say: nothing but how they end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.events import Work


class PartDone(BaseException):
    """All steps are made: what a training still does is the first process's alone."""


class OtherWork(Work):
    """The line of another process than the first: its record is that of the first one."""

    @contextmanager
    def stops_at_boundaries(self) -> Iterator[None]:
        """As in Work, but the block's orderly end is the end of this process's part."""
        with super().stops_at_boundaries():
            yield
        raise PartDone

    def _emit(self, event: str, keep: bool = True, **fields: object) -> None:
        if event in ("error", "done"):
            super()._emit(event, keep, **fields)
