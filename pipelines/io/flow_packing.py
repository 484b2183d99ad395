"""Writing estimated flow in the format that pipelines.io.flow_pack reads.

Every video's place is known before anything is estimated, so processes write theirs in any order,
straight into the files. A video is done when its report is there; `finish` compares what the disk
gives back with the reports. Killed at any moment and run again, the bytes are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from pipelines.events import UserError
from pipelines.files import atomic_writer, write_json
from pipelines.io.flow_pack import FLOW_FORMAT, FLOW_VERSION, PERCENTILES, data_name, mask_bytes
from pipelines.io.packing import SHARD_BYTES, encode_flow

_BLOCK_BYTES = 2**20
_PAIR_COLUMNS = {
    "is_valid": np.bool_,
    "max_norm": np.float32,
    "min_norm": np.float32,
    "mean_norm": np.float32,
    "reliable_part": np.float32,
}


@dataclass(frozen=True)
class Place:
    """Where the pairs of a video go: entries offset ... offset + count - 1 of a shard."""

    shard: int
    offset: int
    count: int


@dataclass(frozen=True)
class FlowLayout:
    """Where everything goes, decided by the numbers of pairs alone.

    size_px: of the stored flow.  places: of each video.  is_checked: with a bit per pixel.
    """

    size_px: int
    places: tuple[Place, ...]
    is_checked: bool

    @property
    def num_pairs(self) -> int:
        """Of all videos."""
        return sum(place.count for place in self.places)

    @property
    def pair_bytes(self) -> dict[str, int]:
        """Bytes of a pair in each kind of data file."""
        masks = {"reliable": mask_bytes(self.size_px)} if self.is_checked else {}
        return {"flow": 4 * self.size_px**2, **masks}

    @property
    def shard_counts(self) -> dict[int, int]:
        """Pairs in each shard."""
        counts: dict[int, int] = {}
        for place in self.places:
            if place.count:
                counts[place.shard] = counts.get(place.shard, 0) + place.count
        return counts

    def files(self) -> dict[str, int]:
        """Every data file and its size in bytes."""
        return {
            data_name(kind, shard): count * size
            for kind, size in self.pair_bytes.items()
            for shard, count in self.shard_counts.items()
        }


def lay_out(
    counts: Sequence[int], size_px: int, *, is_checked: bool, shard_bytes: int = SHARD_BYTES
) -> FlowLayout:
    """Places for videos with so many pairs; a video never spans two files."""
    limit = max(1, shard_bytes // (4 * size_px**2))
    shard = filled = 0
    places = []
    for count in counts:
        if filled and filled + count > limit:
            shard, filled = shard + 1, 0
        places.append(Place(shard, filled, count))
        filled += count
    return FlowLayout(size_px, tuple(places), is_checked)


def make_files(folder: Path, layout: FlowLayout) -> None:
    """Data files of their full size; those of an interrupted run stay as they are."""
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    for name, size in layout.files().items():
        with (folder / name).open("ab") as file:
            if file.tell() != size:
                file.truncate(size)


def is_done(folder: Path, row: int) -> bool:
    """Whether an earlier process has finished this video."""
    return _report_path(folder, row).exists()


class VideoWriter:
    """Writes the pairs of one video to their place, in order; the report comes last."""

    def __init__(self, folder: Path, row: int, place: Place, pair_bytes: Mapping[str, int]) -> None:
        """row: of the video.  place, pair_bytes: of it in the layout."""
        self._folder, self._row, self._place = folder, row, place
        self._pair_bytes = pair_bytes
        self._files: dict[str, IO[bytes]] = {}
        self._crc32 = dict.fromkeys(pair_bytes, 0)
        self._columns: dict[str, list[np.ndarray]] = {name: [] for name in _PAIR_COLUMNS}

    def __enter__(self) -> VideoWriter:
        for kind, size in self._pair_bytes.items():
            file = (self._folder / data_name(kind, self._place.shard)).open("r+b")
            file.seek(self._place.offset * size)
            self._files[kind] = file
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files.values():
            file.close()

    def add(
        self,
        flow: np.ndarray,
        *,
        reliable: np.ndarray | None = None,
        is_valid: np.ndarray | None = None,
    ) -> None:
        """Write the next pairs. flow: float32 [n 2 S S] pixels, nan where it is not known.

        reliable: bool [n S S], needed where the layout is checked.  is_valid: bool [n], all of
        them when not given; a pair with no known pixel never is.
        """
        self._write("flow", encode_flow(flow))
        parts = np.ones(len(flow), np.float32)
        if reliable is not None:
            self._write("reliable", np.packbits(reliable.reshape(len(flow), -1), axis=1))
            parts = reliable.reshape(len(flow), -1).mean(axis=1, dtype=np.float64)
        norms = np.sqrt(np.square(flow[:, 0]) + np.square(flow[:, 1])).reshape(len(flow), -1)
        is_known = ~np.isnan(norms)
        valid = is_known.any(axis=1) & (True if is_valid is None else is_valid)
        known_count = np.maximum(1, is_known.sum(axis=1))
        zeroed = np.where(is_known, norms, 0)
        columns: dict[str, np.ndarray] = {
            "is_valid": valid,
            "max_norm": zeroed.max(axis=1),
            "min_norm": np.where(is_known.any(axis=1), np.where(is_known, norms, np.inf).min(1), 0),
            "mean_norm": zeroed.sum(axis=1, dtype=np.float64) / known_count,
            "reliable_part": parts,
        }
        for name, values in columns.items():
            self._columns[name].append(values.astype(_PAIR_COLUMNS[name]))

    def finish(self, notes: Mapping[str, object]) -> None:
        """Leave the report, which says that this video is done. notes: JSON values kept in it."""
        for file in self._files.values():
            file.flush()
        columns: dict[str, np.ndarray] = {
            name: _joined(name, parts) for name, parts in self._columns.items()
        }
        if len(columns["is_valid"]) != self._place.count:
            raise ValueError(f"{len(columns['is_valid'])} pairs, not {self._place.count}")
        facts = json.dumps({"crc32": self._crc32, "notes": dict(notes)})
        path = _report_path(self._folder, self._row)
        temporary = path.with_suffix(".part")
        with temporary.open("wb") as file:
            np.savez(file, facts=np.array(facts), **columns)  # type: ignore[arg-type]
        os.replace(temporary, path)

    def _write(self, kind: str, values: np.ndarray) -> None:
        block = np.ascontiguousarray(values).data
        self._crc32[kind] = zlib.crc32(block, self._crc32[kind])
        self._files[kind].write(block)


@dataclass(frozen=True)
class Report:
    """What is known of a finished video. columns: one entry per pair.  notes: as given."""

    crc32: Mapping[str, int]
    columns: Mapping[str, np.ndarray]
    notes: Mapping[str, Any]


def no_pairs(layout: FlowLayout) -> Report:
    """The report of a video that is too short."""
    columns: dict[str, np.ndarray] = {
        name: np.zeros(0, kind) for name, kind in _PAIR_COLUMNS.items()
    }
    return Report(dict.fromkeys(layout.pair_bytes, 0), columns, {})


def read_report(folder: Path, row: int) -> Report:
    """The report of a finished video."""
    with np.load(_report_path(folder, row), allow_pickle=False) as stored:
        facts = json.loads(str(stored["facts"]))
        columns = {name: stored[name] for name in _PAIR_COLUMNS}
    return Report(facts["crc32"], columns, facts["notes"])


def finish(
    folder: Path, layout: FlowLayout, reports: Sequence[Report], facts: Mapping[str, object]
) -> None:
    """Write pairs.npz and index.json over all videos (one report each); index.json is last.

    facts: what else index.json should say. Raises UserError when the disk does not give back what
    was written; the next run does these videos again.
    """
    files = _hashes(folder, layout, reports)
    columns = {
        name: _joined(name, [report.columns[name] for report in reports]) for name in _PAIR_COLUMNS
    }
    places = {
        name: np.array([getattr(place, name) for place in layout.places], np.int64)
        for name in ("shard", "offset", "count")
    }
    with atomic_writer(folder / "pairs.npz", "wb") as file:
        np.savez(file, **places, **columns)  # type: ignore[arg-type]
    index = {
        "format": FLOW_FORMAT,
        "version": FLOW_VERSION,
        **facts,
        "size_px": layout.size_px,
        "is_checked": layout.is_checked,
        "num_videos": len(layout.places),
        "num_pairs": layout.num_pairs,
        "num_valid": int(columns["is_valid"].sum()),
        "statistics": statistics(columns),
        "files": files,
    }
    write_json(folder / "index.json", index)


def statistics(columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The published numbers over the valid pairs, in pixels: see FlowPack.statistics."""
    is_valid = columns["is_valid"]
    if not is_valid.any():
        return {"max_norm": None, "min_norm": None, "mean_norm": None, "percentiles": {}}
    largest = columns["max_norm"][is_valid].astype(np.float64)
    found = np.percentile(largest, PERCENTILES)
    return {
        "max_norm": _short(largest.max()),
        "min_norm": _short(columns["min_norm"][is_valid].min()),
        "mean_norm": _short(columns["mean_norm"][is_valid].mean(dtype=np.float64)),
        "percentiles": {
            str(part): _short(value) for part, value in zip(PERCENTILES, found, strict=True)
        },
    }


def _hashes(
    folder: Path, layout: FlowLayout, reports: Sequence[Report]
) -> dict[str, dict[str, object]]:
    """Size and SHA-256 of every data file; each video is compared with its report."""
    rows_of: dict[int, list[int]] = {}
    for row, place in enumerate(layout.places):
        if place.count:
            rows_of.setdefault(place.shard, []).append(row)
    found = {}
    for kind, size in layout.pair_bytes.items():
        for shard, rows in rows_of.items():
            path = folder / data_name(kind, shard)
            digest = hashlib.sha256()
            with path.open("rb") as file:
                for row in rows:
                    crc32 = _digest(file, layout.places[row].count * size, digest)
                    if crc32 != reports[row].crc32[kind]:
                        _report_path(folder, row).unlink()
                        raise _lost(folder)
                os.fsync(file.fileno())
            found[path.name] = {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}
    return found


def _digest(file: IO[bytes], size: int, digest: Any) -> int:
    """CRC-32 of the next `size` bytes, which also go into the digest."""
    crc32 = 0
    while size and (block := file.read(min(size, _BLOCK_BYTES))):
        crc32 = zlib.crc32(block, crc32)
        digest.update(block)
        size -= len(block)
    return crc32


def _lost(folder: Path) -> UserError:
    return UserError(
        "the disk does not give back the flow that was written",
        {"folder": folder, "to fix": "check the disk, then run the same command again"},
    )


def _joined(name: str, parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, _PAIR_COLUMNS[name]), *parts])


def _short(value: float) -> float:
    return round(float(value), 6)


def _report_path(folder: Path, row: int) -> Path:
    return folder / "videos" / f"{row:07d}.npz"
