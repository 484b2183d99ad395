"""The features of a set of videos: all of them while they are few, their moments in any case.

Memory does not grow with the number of videos: beyond a limit the rows are folded into a mean and
a covariance, and of the videos themselves only a sample is kept, the one whose hashed names are
smallest, so that it depends neither on the order of videos nor on how they were split into shards.
Shapes: R rows of one video (1, or one per frame), D feature size.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from pipelines.events import UserError
from pipelines.files import atomic_writer

KEPT_BYTES = 96 * 2**20
"""Features that are kept as they are: of FVD those of 60,000 videos."""
_BLOCK_ROWS = 1024

Rows = NDArray[np.float32]
Array = NDArray[np.float64]


@dataclass
class Moments:
    """Sums from which mean and covariance follow, about a shift that keeps them accurate.

    total: D.  products: D D, of rows minus shift.
    """

    count: int
    shift: Array
    total: Array
    products: Array

    @classmethod
    def empty(cls, shift: Array) -> Moments:
        """Of no rows yet. shift: D, near the rows to come."""
        size = len(shift)
        return cls(0, shift, np.zeros(size), np.zeros((size, size)))

    def add(self, rows: NDArray[np.floating]) -> None:
        """rows: R D."""
        for start in range(0, len(rows), _BLOCK_ROWS):
            centred = rows[start : start + _BLOCK_ROWS].astype(np.float64) - self.shift
            self.count += len(centred)
            self.total += centred.sum(axis=0)
            self.products += centred.T @ centred

    def merge(self, other: Moments) -> None:
        """Take over another's rows."""
        offset = other.shift - self.shift
        cross = np.outer(other.total, offset)
        self.products += other.products + cross + cross.T + other.count * np.outer(offset, offset)
        self.total += other.total + other.count * offset
        self.count += other.count

    def mean(self) -> Array:
        """D."""
        return np.asarray(self.shift + self.total / self.count)

    def covariance(self, *, is_biased: bool = False) -> Array:
        """D D; of two rows at least."""
        centred = self.products - np.outer(self.total, self.total) / self.count
        return np.asarray(centred / (self.count - (0 if is_biased else 1)))


class FeatureSet:
    """See the head of this file."""

    def __init__(self, *, kept_bytes: int = KEPT_BYTES) -> None:
        self._limit = kept_bytes
        self._rows: dict[str, Rows] = {}
        self._bytes = 0
        self._moments: Moments | None = None
        self._first_left_out: bytes | None = None
        self.num_videos = 0
        self.num_rows = 0

    def add(self, name: str, rows: Rows) -> None:
        """name: of the video, each once.  rows: R D."""
        if name in self._rows:
            raise UserError(
                f"the video '{name}' is there twice",
                {"to fix": "leave one of them out"},
            )
        self.num_videos += 1
        self.num_rows += len(rows)
        if self._moments is not None:
            self._moments.add(rows)
        self._keep(name, rows)

    @property
    def is_complete(self) -> bool:
        """Whether the rows of all videos are kept."""
        return self._moments is None

    @property
    def names(self) -> list[str]:
        """The videos that are kept, in alphabetical order."""
        return sorted(self._rows)

    @property
    def size(self) -> int:
        """D; 0 for an empty set."""
        return next((rows.shape[1] for rows in self._rows.values()), 0)

    def rows(self, names: Sequence[str] | None = None) -> Rows:
        """Rows of kept videos one below another; of all of them, by name, when none are named."""
        chosen = self.names if names is None else names
        return np.concatenate([self._rows[name] for name in chosen])

    def rows_of(self, name: str) -> Rows:
        """Rows of one kept video."""
        return self._rows[name]

    def moments(self) -> Moments:
        """Of all rows, kept or not."""
        return self._moments if self._moments is not None else self._folded()

    def only(self, names: Iterable[str]) -> FeatureSet:
        """A part of a complete set."""
        part = FeatureSet(kept_bytes=self._limit)
        for name in names:
            part.add(name, self._rows[name])
        return part

    def merge(self, other: FeatureSet) -> None:
        """Take over another's videos, which are others than these."""
        self.num_videos += other.num_videos
        self.num_rows += other.num_rows
        if self._moments is not None or other._moments is not None:
            mine = self.moments() if self._rows else Moments.empty(other.moments().shift)
            if other._rows:
                mine.merge(other.moments())
            self._moments = mine
        self._leave_out_from(other._first_left_out)
        for name in other.names:
            self._keep(name, other._rows[name])

    def save(self, path: Path, facts: Mapping[str, str]) -> None:
        """Write an .npz; facts are texts that come back with `load`."""
        names = self.names
        arrays: dict[str, NDArray[np.generic]] = {
            "names": np.array(names, dtype=np.str_),
            "lengths": np.array([len(self._rows[name]) for name in names], np.int64),
            "rows": self.rows() if names else np.zeros((0, 0), np.float32),
            "counts": np.array([self.num_videos, self.num_rows], np.int64),
            "facts": np.array([f"{key}={value}" for key, value in facts.items()], dtype=np.str_),
        }
        if self._moments is not None:
            arrays |= {
                "moment_count": np.array(self._moments.count),
                "first_left_out": np.frombuffer(self._first_left_out or b"", np.uint8),
                "shift": self._moments.shift,
                "total": self._moments.total,
                "products": self._moments.products,
            }
        with atomic_writer(path, "wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> tuple[FeatureSet, dict[str, str]]:
        """A set and its facts. Raises UserError when the file is not one."""
        try:
            with path.open("rb") as stream:
                return cls.read(stream)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                "a file of features cannot be read",
                {"file": path, "reason": error, "to fix": "remove it and measure again"},
            ) from error

    @classmethod
    def read(cls, stream: IO[bytes]) -> tuple[FeatureSet, dict[str, str]]:
        """A set and its facts from an open file; ValueError or KeyError when it is another."""
        with np.load(stream, allow_pickle=False) as stored:
            found = cls()
            places = np.concatenate([[0], np.cumsum(stored["lengths"])])
            rows = stored["rows"]
            if "products" in stored:
                found._moments = Moments(
                    int(stored["moment_count"]), stored["shift"], stored["total"],
                    stored["products"],
                )  # fmt: skip
                found._leave_out_from(stored["first_left_out"].tobytes() or None)
            for number, name in enumerate(stored["names"].tolist()):
                found._keep(name, rows[places[number] : places[number + 1]])
            found.num_videos, found.num_rows = (int(each) for each in stored["counts"])
            facts = dict(text.split("=", 1) for text in stored["facts"].tolist())
        return found, facts

    def _keep(self, name: str, rows: Rows) -> None:
        if self._first_left_out is not None and _hashed(name) >= self._first_left_out:
            return
        self._rows[name] = np.asarray(rows, np.float32)
        self._bytes += rows.nbytes
        if self._bytes <= self._limit:
            return
        if self._moments is None:
            self._moments = self._folded()
        by_hash = sorted(self._rows, key=_hashed)
        kept, most = 0, self._limit * 3 // 4
        for number, each in enumerate(by_hash):
            kept += self._rows[each].nbytes
            if kept > most and number >= 2:
                self._leave_out_from(_hashed(each))
                return

    def _leave_out_from(self, first: bytes | None) -> None:
        """Keep no video whose hashed name is this or comes later."""
        if first is None:
            return
        if self._first_left_out is not None:
            first = min(first, self._first_left_out)
        self._first_left_out = first
        for name in [each for each in self._rows if _hashed(each) >= first]:
            self._bytes -= self._rows.pop(name).nbytes

    def _folded(self) -> Moments:
        rows = [self._rows[name] for name in self.names]
        moments = Moments.empty(rows[0][0].astype(np.float64))
        for each in rows:
            moments.add(each)
        return moments


def _hashed(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
