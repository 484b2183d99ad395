"""Writing prepared videos in the format that pipelines.io.packed reads.

A PackWriter can be killed at any moment: what it had committed stays, a half-written video is cut
off, and the finished files are the same bytes as without the interruption.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from pipelines.datasets.base import SPLITS
from pipelines.events import UserError
from pipelines.files import atomic_writer, write_json, write_text
from pipelines.io.flow_pack import FLOW_STEPS, FLOW_UNKNOWN
from pipelines.io.jpeg_frames import JpegFrames
from pipelines.io.packed import FORMAT, FORMAT_VERSIONS

SHARD_BYTES = 2**31
"""A data file is closed before it grows larger, unless a single video is larger."""

_BLOCK_BYTES = 2**20
_NPY_HEADER_BYTES = 256
_NO_LIMIT = 2**62
_FRAME_FILES = {"frames": "u8", "jpegs": "jpegs", "ends": "ends.i64"}

Row = dict[str, Any]
"""A VideoRow as plain JSON values."""

Kind = tuple[str, tuple[int, ...]]


class PackWriter:
    """Packs videos one after another into a folder that becomes a variant when it is finished.

    Each raw video ends with `commit`; `entries` are the commits so far, also those of an earlier
    process that was killed. size_px, channels: of every frame.  storage: raw, jpeg or none.
    """

    def __init__(
        self,
        folder: Path,
        *,
        size_px: int,
        channels: int,
        storage: str = "raw",
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.size_px, self.channels, self.storage = size_px, channels, storage
        self._shard_bytes = shard_bytes
        self._streams: dict[str, _Stream] = {}
        self.entries: list[dict[str, Any]] = []
        self._resume()
        self._journal = (folder / "journal.jsonl").open("a", encoding="utf-8")

    def __enter__(self) -> PackWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()
        for stream in self._streams.values():
            stream.close()

    def add(
        self,
        row: Row,
        frames: np.ndarray | JpegFrames,
        *,
        flow: Mapping[int, np.ndarray] | None = None,
        extra: Mapping[str, np.ndarray] | None = None,
    ) -> Row:
        """Pack one video; returns the row with its place filled in, to be committed.

        row: id, source, group, fps, original_size, labels, and a split where it is fixed.
        frames: uint8 [T H W C], encoded where they are kept as JPEG, with no channels where none
        are kept.  flow: lag -> int16 [n 2 H W] as encode_flow makes it, n <= T.
        extra: name -> [T ...].  Raises ValueError where an extra array differs in kind from the
        same array of an earlier video.
        """
        self._check_frames(frames)
        flows = {f"flow_truth-{lag}": values for lag, values in (flow or {}).items()}
        extras = {f"extra/{name}": values for name, values in (extra or {}).items()}
        for name, values in (flows | extras).items():
            self._check_kind(name, values)
        shard, offset, crc32 = self._append_frames(frames)
        places = {}
        for lag, (name, values) in zip(flow or {}, flows.items(), strict=True):
            at = self._stream(name, values).append(values)
            places[str(lag)] = [at[0], at[1], len(values)]
        starts = {
            name.removeprefix("extra/"): self._stream(name, values).append(values)[1]
            for name, values in extras.items()
        }
        place = {"num_frames": len(frames), "shard": shard, "offset": offset, "crc32": crc32}
        return row | place | {"flow": places, "extra": starts}

    def commit(self, entry: dict[str, Any]) -> None:
        """Keep what was added since the last commit, with a note of what it is (`rows`, ...)."""
        for stream in self._streams.values():
            stream.flush()
        ends = {name: stream.end for name, stream in self._streams.items()}
        self._journal.write(json.dumps({"entry": entry, "ends": ends}) + "\n")
        self._journal.flush()
        self.entries.append(entry)

    def finish(self, rows: Sequence[Row], facts: Mapping[str, object]) -> None:
        """Write the index over all rows (each with a split); index.json appears last.

        facts: what else index.json should say.
        """
        for stream in self._streams.values():
            stream.seal()
        lags = sorted(int(name[11:]) for name in self._streams if name.startswith("flow_truth-"))
        extras = sorted(name[6:] for name in self._streams if name.startswith("extra/"))
        frame_bytes = self.size_px * self.size_px * self.channels
        index = {
            "format": FORMAT,
            "version": FORMAT_VERSIONS[self.storage],
            **facts,
            "storage": self.storage,
            "size_px": self.size_px,
            "channels": self.channels,
            "num_videos": len(rows),
            "num_frames": sum(row["num_frames"] for row in rows),
            "splits": {name: _count(rows, name) for name in SPLITS},
            "flow_truth": lags,
            "extra": extras,
            "files": _hashes(self.folder, rows, frame_bytes),
        }
        lines = (json.dumps({key: row[key] for key in _ROW_KEYS}) + "\n" for row in rows)
        write_text(self.folder / "videos.jsonl", "".join(lines))
        with atomic_writer(self.folder / "rows.npz", "wb") as file:
            np.savez(file, **_columns(rows, lags, extras))
        write_json(self.folder / "index.json", index)

    def _check_frames(self, frames: np.ndarray | JpegFrames) -> None:
        expected = (self.size_px, self.size_px, self.channels)
        if isinstance(frames, JpegFrames) != (self.storage == "jpeg"):
            raise ValueError(f"frames are {type(frames).__name__}, to be stored {self.storage}")
        if isinstance(frames, np.ndarray) and (
            frames.dtype != np.uint8 or frames.shape[1:] != expected
        ):
            raise ValueError(f"frames are {frames.dtype} {frames.shape}, not uint8 T {expected}")

    def _append_frames(self, frames: np.ndarray | JpegFrames) -> tuple[int, int, int]:
        """Write a video's frames; returns shard, offset in frames, and their CRC-32."""
        if isinstance(frames, JpegFrames):
            data, ends = self._stream("jpegs", frames.data), self._stream("ends", frames.ends)
            shard, start, crc32 = data.append(frames.data)
            if ends.shard != shard:
                ends.begin_next()
            return shard, ends.append(start + np.asarray(frames.ends, np.int64))[1], crc32
        if self.storage == "none":
            return 0, 0, 0
        return self._stream("frames", frames).append(frames)

    def _check_kind(self, name: str, values: np.ndarray) -> None:
        kind = _kind(values)
        if name in self._streams and self._streams[name].kind != kind:
            raise ValueError(f"{name} is {kind} here but {self._streams[name].kind} before")

    def _stream(self, name: str, values: np.ndarray) -> _Stream:
        if name not in self._streams:
            limit = self._limit(name)
            self._streams[name] = _Stream(self.folder, name, _kind(values), limit)
        return self._streams[name]

    def _limit(self, name: str) -> int | None:
        """Bytes of one file of a stream; the ends of JPEG frames follow the frames' files."""
        if name.startswith("extra/"):
            return None
        return _NO_LIMIT if name == "ends" else self._shard_bytes

    def _resume(self) -> None:
        """Take up the commits in the folder and cut off everything after the last one."""
        journal = self.folder / "journal.jsonl"
        if not journal.exists():
            return
        commits, size = _whole_lines(journal)
        os.truncate(journal, size)
        ends = commits[-1]["ends"] if commits else {}
        try:
            for name, (shard, count, *kind) in ends.items():
                kept = (kind[0], tuple(kind[1]))
                limit = self._limit(name)
                self._streams[name] = _Stream(
                    self.folder, name, kept, limit, shard=shard, count=count
                )
        except _TooShort:  # the machine went down before the data reached the disk
            self._streams = {}
            journal.unlink()
            return
        self.entries = [commit["entry"] for commit in commits]


def encode_flow(flow: np.ndarray) -> np.ndarray:
    """Motion in pixels (float, nan where unknown) as stored: int16, 1/64 pixel, +-511 pixels."""
    steps = np.clip(np.round(np.nan_to_num(flow) * FLOW_STEPS), -32767, 32767).astype(np.int16)
    return np.where(np.isnan(flow), np.int16(FLOW_UNKNOWN), steps)


_ROW_KEYS = (
    *("id", "source", "group", "split", "num_frames", "shard", "offset", "fps"),
    *("original_size", "labels", "crc32", "flow", "extra"),
)


class _TooShort(Exception):
    """A data file is shorter than the journal says."""


class _Stream:
    """One growing array in one or more files.

    kind: dtype and shape of an entry.  limit: bytes of a file; None for a single .npy file.
    shard, count: the file to go on in, and the entries that it holds already.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        kind: Kind,
        limit: int | None,
        *,
        shard: int = 0,
        count: int = 0,
    ) -> None:
        self.kind = kind
        self._folder, self._name, self._limit = folder, name, limit
        self._entry_bytes = np.dtype(kind[0]).itemsize * math.prod(kind[1])
        self._header_bytes = _NPY_HEADER_BYTES if limit is None else 0
        self.shard, self._count = shard, count
        self._file = self._opened()

    @property
    def end(self) -> list[Any]:
        """Where it ends now, as JSON values."""
        return [self.shard, self._count, self.kind[0], list(self.kind[1])]

    @property
    def path(self) -> Path:
        """The file that grows now."""
        if self._limit is None:
            return self._folder / f"{self._name}.npy"
        if self._name in _FRAME_FILES:
            return self._folder / f"frames-{self.shard:03d}.{_FRAME_FILES[self._name]}"
        return self._folder / f"{self._name}-{self.shard:03d}.i16"

    def append(self, values: np.ndarray) -> tuple[int, int, int]:
        """Write entries that stay together; returns shard, offset in entries, and their CRC-32."""
        size = len(values) * self._entry_bytes
        if self._limit and self._count and self._count * self._entry_bytes + size > self._limit:
            self.begin_next()
        start, crc32 = self._count, 0
        at_once = max(1, _BLOCK_BYTES // max(1, self._entry_bytes))
        for first in range(0, len(values), at_once):
            block = np.ascontiguousarray(values[first : first + at_once]).data
            crc32 = zlib.crc32(block, crc32)
            self._file.write(block)
            _let_go(values)
        self._count += len(values)
        return self.shard, start, crc32

    def begin_next(self) -> None:
        """Close the file for good and go on in the next."""
        self.seal()
        self.shard, self._count = self.shard + 1, 0
        self._file = self._opened()

    def flush(self) -> None:
        """Hand everything to the operating system, where it outlives this process."""
        self._file.flush()

    def seal(self) -> None:
        """Close the file for good, on the disk."""
        if self._limit is None:
            self._file.seek(0)
            self._file.write(_npy_header(self.kind, self._count))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def close(self) -> None:
        """Close the file as it is."""
        self._file.close()

    def _opened(self) -> IO[bytes]:
        self.path.parent.mkdir(exist_ok=True)
        size = self._header_bytes + self._count * self._entry_bytes
        if self._count and (not self.path.exists() or self.path.stat().st_size < size):
            raise _TooShort
        file = self.path.open("r+b" if self._count else "wb")
        file.truncate(size)
        file.seek(size)
        return file


def _let_go(values: np.ndarray) -> None:
    """Give the pages of a mapped file back, so that memory does not grow with a video's length."""
    mapped = getattr(values, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _kind(values: np.ndarray) -> Kind:
    return values.dtype.str, values.shape[1:]


def _npy_header(kind: Kind, count: int) -> bytes:
    """A header of fixed length, so that it can be written when the count is known."""
    text = f"{{'descr': {kind[0]!r}, 'fortran_order': False, 'shape': {(count, *kind[1])}, }}"
    start = b"\x93NUMPY\x01\x00" + (_NPY_HEADER_BYTES - 10).to_bytes(2, "little")
    return start + text.encode().ljust(_NPY_HEADER_BYTES - 11) + b"\n"


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The JSON lines of a file up to the first that is torn, and their size in bytes."""
    values, size = [], 0
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            values.append(json.loads(line))
        except ValueError:
            break
        if not line.endswith(b"\n"):
            values.pop()
            break
        size += len(line)
    return values, size


def _hashes(folder: Path, rows: Sequence[Row], frame_bytes: int) -> dict[str, dict[str, object]]:
    """Size and SHA-256 of every data file; each video is compared with what was written."""
    per_shard: dict[int, list[Row]] = {}
    for row in rows:
        per_shard.setdefault(row["shard"], []).append(row)
    found = {}
    for path in _data_files(folder):
        videos = []
        if path.suffix in (".u8", ".jpegs"):
            videos = sorted(per_shard[int(path.stem[7:])], key=lambda row: row["offset"])
        digest = hashlib.sha256()
        with path.open("rb") as file:
            for row, size in zip(videos, _frame_bytes(path, videos, frame_bytes), strict=True):
                if _crc32(file, size, digest) != row["crc32"]:
                    raise _lost(folder, row)
            _crc32(file, None, digest)
        name = path.relative_to(folder).as_posix()
        found[name] = {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}
    return found


def _data_files(folder: Path) -> list[Path]:
    patterns = ("*.u8", "*.jpegs", "*.i64", "*.i16", "extra/*.npy")
    return sorted(path for pattern in patterns for path in folder.glob(pattern))


def _frame_bytes(path: Path, videos: Sequence[Row], frame_bytes: int) -> list[int]:
    """Bytes of each video in a file of frames."""
    if path.suffix != ".jpegs":
        return [row["num_frames"] * frame_bytes for row in videos]
    ends = np.fromfile(path.with_suffix(".ends.i64"), np.int64)
    lasts = [int(ends[row["offset"] + row["num_frames"] - 1]) for row in videos]
    return [last - before for last, before in zip(lasts, [0, *lasts], strict=False)]


def _crc32(file: IO[bytes], size: int | None, digest: Any) -> int:
    """CRC-32 of the next `size` bytes (None: of the rest), which also go into the digest."""
    crc32, left = 0, size
    while block := file.read(_BLOCK_BYTES if left is None else min(left, _BLOCK_BYTES)):
        crc32 = zlib.crc32(block, crc32)
        digest.update(block)
        left = None if left is None else left - len(block)
    return crc32


def _lost(folder: Path, row: Row) -> UserError:
    return UserError(
        "the disk does not give back the frames that were written",
        {
            "folder": folder,
            "video": row["id"],
            "to fix": "check the disk, delete the folder, run the same command again",
        },
    )


def _columns(rows: Sequence[Row], lags: Sequence[int], extras: Sequence[str]) -> dict[str, Any]:
    """What PackedVideos needs of every row, as arrays."""

    def column(values: Iterable[int]) -> np.ndarray:
        return np.fromiter(values, np.int64, len(rows))

    ids = "\n".join(row["id"] for row in rows).encode("utf-8")
    columns = {
        "ids": np.frombuffer(ids, np.uint8),
        "split": column(SPLITS.index(row["split"]) for row in rows),
        **{name: column(row[name] for row in rows) for name in ("num_frames", "shard", "offset")},
    }
    for lag in lags:
        places = [row["flow"].get(str(lag), (0, 0, 0)) for row in rows]
        for number, name in enumerate(("shard", "offset", "count")):
            columns[f"flow_{lag}_{name}"] = column(place[number] for place in places)
    for name in extras:
        columns[f"extra_{name}"] = column(row["extra"].get(name, -1) for row in rows)
    return columns


def _count(rows: Sequence[Row], split: str) -> dict[str, int]:
    chosen = [row["num_frames"] for row in rows if row["split"] == split]
    return {"videos": len(chosen), "frames": sum(chosen)}
