"""Shards: parts of a job's items that are done by calls of their own, on any number of machines."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pipelines.engines.config import shard_of

Item = TypeVar("Item")

_PATIENCE_S, _POLL_S = 30.0, 0.2


def own_items(items: Sequence[Item], shard: str | None) -> list[Item]:
    """Every n-th item from number i on, for the shard 'i/n'; all for None."""
    if shard is None:
        return list(items)
    first, count = shard_of(shard)
    return list(items[first::count])


@contextmanager
def held_together(folder: Path, begin: Callable[[bool], None]) -> Iterator[bool]:
    """Hold a folder together with other shards; yields False when someone holds it alone.

    begin: prepares the folder; called with True where nobody else holds it, and with False where
    another shard has prepared it already.
    """
    with (folder / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not _shared(handle.fileno()):
                yield False
                return
            begin(False)
        else:
            begin(True)
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield True


def _shared(handle: int) -> bool:
    """Take a lock that others may have too; another shard that is preparing is waited for."""
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(_POLL_S)
        else:
            return True
