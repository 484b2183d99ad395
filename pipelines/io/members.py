"""What the readers of archives offer to `pipelines.io.archives`, and their two ways to fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class Member:
    """One entry. read: its unpacked content in pieces, to be used before the next entry is got."""

    name: str
    is_folder: bool
    size: int
    read: Callable[[], Iterator[bytes]]


class Archive(Protocol):
    """An open archive. packed_bytes: its size on disk; total_bytes: unpacked, when it says so."""

    packed_bytes: int
    total_bytes: int | None

    def members(self) -> Iterator[Member]:
        """The entries, in the order of the file. Raises Damaged or Refused."""
        ...


class Damaged(Exception):
    """The archive cannot be read to its end; the text says what is wrong."""


class Refused(Exception):
    """The archive can be read, but holds something that must not be unpacked."""
